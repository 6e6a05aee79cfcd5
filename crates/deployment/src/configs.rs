//! Deployments: made, listed, read, and removed.

use am_core::{
    boxed,
    ids::WorkflowId,
    validation::{Violation, Violations},
};
use am_db::{
    Connection, Tx,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};
use serde_json::json;

use crate::{
    Actor, DeploymentError, DeploymentService, Result,
    draft::{CheckedDraft, DeploymentDraft, is_name, name_fault},
    instances,
    model::{
        ChangeDocument, DeploymentDocument, DeploymentRecord, DeploymentStatus, InstanceDocument, RevisionDocument,
        WorkflowSnapshot,
    },
    ports::free_ports,
    standing::end_rollout,
    store,
};

pub(crate) fn no_deployment(id: &str) -> DeploymentError {
    DeploymentError::NotFound(format!("No deployment {id}"))
}

/// A deployment that the caller has made.
pub(crate) async fn own_deployment(conn: &mut Connection, caller: &Principal, id: &str) -> Result<DeploymentRecord> {
    let found = store::deployment(conn, id).await?;
    caller.own(found, |record| record.document.owner_id.as_str()).ok_or_else(|| no_deployment(id))
}

impl DeploymentService {
    /// Make a deployment of a workflow. Nothing is started.
    ///
    /// # Errors
    /// [`DeploymentError::InvalidQuery`] for a workflow that is gone or that the caller may not run, and for the name;
    /// [`DeploymentError::Invalid`] with all faults of the draft; [`DeploymentError::Conflict`] where the name is taken.
    #[boxed]
    pub async fn create(
        &self,
        caller: &Principal,
        (workflow, name): (WorkflowId, String),
        draft: DeploymentDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<DeploymentDocument>> {
        let (checked, _) = self.checked_new(caller, &workflow, &name, draft).await?;
        let (me, by) = (self.clone(), caller.clone());
        let work = async move |tx: &mut Tx| {
            let record = me.insert_new(tx, &by, (workflow, name), checked).await?;
            let now = record.document.created_at;
            let entry = me.entry(Actor::Caller(&by), "created", &record.document.id, now);
            me.0.parts.audit.append(tx, vec![entry]).await?;
            Ok(record.document)
        };
        self.db().write_idempotent(&self.0.parts.clock, once, work).await
    }

    /// Check all that a new deployment is made of, and take the workflow as it is.
    pub(crate) async fn checked_new(
        &self,
        caller: &Principal,
        workflow: &WorkflowId,
        name: &str,
        draft: DeploymentDraft,
    ) -> Result<(CheckedDraft, WorkflowSnapshot)> {
        let mut query = Violations::default();
        query.require(is_name(name), "deployment_name", name_fault(name));
        let snapshot = match self.0.parts.workflows.snapshot(caller, workflow).await {
            Ok(snapshot) => Some(snapshot),
            Err(message) => {
                query.add("workflow_id", message);
                None
            }
        };
        let snapshot = query.finish_with(snapshot).map_err(DeploymentError::InvalidQuery)?;
        let checked = draft.check(self.0.parts.settings.ports).map_err(DeploymentError::Invalid)?;
        let mut conn = self.db().read().await?;
        let taken = instances::store::taken_ports(&mut conn, checked.ports.low, checked.ports.high).await?;
        drop(conn);
        let needed = usize::try_from(checked.settings.max_instances).unwrap_or(usize::MAX);
        let free = free_ports(checked.ports, &taken, needed).len();
        if free < needed {
            let text = format!("is in use: {free} of its ports are free, and {needed} are needed");
            return Err(DeploymentError::Invalid(vec![Violation::new("port_range", text)]));
        }
        Ok((checked, snapshot))
    }

    /// Store a new deployment.
    pub(crate) async fn insert_new(
        &self,
        tx: &mut Tx,
        by: &Principal,
        (workflow_id, deployment_name): (WorkflowId, String),
        checked: CheckedDraft,
    ) -> Result<DeploymentRecord> {
        let (owner, now) = (by.id(), self.now());
        if store::has_name(tx.conn().await?, &owner, &deployment_name).await? {
            let text = format!("You have a deployment named {deployment_name} already");
            return Err(DeploymentError::Conflict("name_taken", text));
        }
        let most = self.0.parts.settings.most_of_owner;
        if store::count_of_owner(tx.conn().await?, &owner).await? >= most {
            let text = format!("You have {most} deployments, which is as many as may be");
            return Err(DeploymentError::Conflict("too_many_deployments", text));
        }
        let document = DeploymentDocument {
            id: self.0.parts.ids.next("deploy_", 12),
            workflow_id,
            deployment_name,
            settings: checked.settings,
            status: DeploymentStatus::Pending,
            deployment_time: None,
            last_health_check: None,
            created_at: now,
            updated_at: now,
            owner_id: owner,
            environment: None,
            revision: 0,
            desired_instances: 0,
            port_range: [checked.ports.low, checked.ports.high],
            alert_thresholds: checked.thresholds.unwrap_or_default(),
            rollout: None,
            error: None,
        };
        store::insert_deployment(tx, &document, checked.ports, checked.thresholds.as_ref()).await?;
        Ok(DeploymentRecord { document, last_revision: 0, live: false })
    }

    /// A deployment of the caller's.
    ///
    /// # Errors
    /// [`DeploymentError::NotFound`].
    #[boxed]
    pub async fn deployment(&self, caller: &Principal, id: &str) -> Result<DeploymentDocument> {
        Ok(own_deployment(&mut *self.db().read().await?, caller, id).await?.document)
    }

    /// A page of the caller's deployments, the newest first, and how many there are.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn list(
        &self,
        caller: &Principal,
        (workflow, status): (Option<&WorkflowId>, Option<DeploymentStatus>),
        page: &PageRequest,
    ) -> Result<(Vec<DeploymentDocument>, i64)> {
        let mut conn = self.db().read_list().await?;
        Ok(store::list_deployments(&mut conn, &caller.id(), (workflow, status), page).await?)
    }

    /// Up to `most` revisions of a deployment below the number `before`, the newest first.
    ///
    /// # Errors
    /// [`DeploymentError::NotFound`].
    #[boxed]
    pub async fn revisions(
        &self,
        caller: &Principal,
        id: &str,
        (before, most): (Option<i64>, u32),
    ) -> Result<Vec<RevisionDocument>> {
        let mut conn = self.db().read_list().await?;
        own_deployment(&mut conn, caller, id).await?;
        Ok(store::list_revisions(&mut conn, id, before.unwrap_or(i64::MAX), i64::from(most)).await?)
    }

    /// Up to `most` changes of a deployment below the number `before`, the newest first, each with its reason.
    ///
    /// # Errors
    /// [`DeploymentError::NotFound`].
    #[boxed]
    pub async fn changes(
        &self,
        caller: &Principal,
        id: &str,
        (before, most): (Option<i64>, u32),
    ) -> Result<Vec<ChangeDocument>> {
        let mut conn = self.db().read_list().await?;
        own_deployment(&mut conn, caller, id).await?;
        Ok(store::list_changes(&mut conn, id, before.unwrap_or(i64::MAX), i64::from(most)).await?)
    }

    /// A page of the caller's instances, the newest first, and how many there are.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn instances(
        &self,
        caller: &Principal,
        filter: (Option<&str>, Option<&str>, Option<DeploymentStatus>),
        page: &PageRequest,
    ) -> Result<(Vec<InstanceDocument>, i64)> {
        let mut conn = self.db().read_list().await?;
        Ok(instances::store::list_instances(&mut conn, &caller.id(), filter, page).await?)
    }

    /// An instance of the caller's, by its id or its name.
    ///
    /// # Errors
    /// [`DeploymentError::NotFound`].
    #[boxed]
    pub async fn instance(&self, caller: &Principal, name: &str) -> Result<InstanceDocument> {
        let found = instances::store::instance(&mut *self.db().read().await?, &caller.id(), name).await?;
        found.ok_or_else(|| DeploymentError::NotFound(format!("No instance {name}")))
    }

    /// End a deployment: its instances answer the calls under way and end. Its record stays.
    ///
    /// # Errors
    /// [`DeploymentError::NotFound`].
    #[boxed]
    pub async fn terminate(
        &self,
        caller: &Principal,
        id: &str,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<DeploymentDocument>> {
        let (me, by, id, now) = (self.clone(), caller.clone(), id.to_owned(), self.now());
        let work = async move |tx: &mut Tx| {
            let mut record = own_deployment(tx.conn().await?, &by, &id).await?;
            if record.document.status == DeploymentStatus::Terminated {
                return Ok(record.document);
            }
            end_rollout(tx, &mut record, now).await?;
            record.document.status = DeploymentStatus::Terminated;
            (record.document.desired_instances, record.document.updated_at) = (0, now);
            store::update_deployment(tx, &record).await?;
            store::note_change(tx, &id, "terminate", None, ("its owner has ended it", now)).await?;
            let entry = me.entry(Actor::Caller(&by), "terminated", &id, now);
            me.0.parts.audit.append(tx, vec![entry.data("name", json!(record.document.deployment_name))]).await?;
            me.wake_after(tx);
            Ok(record.document)
        };
        self.db().write_idempotent(&self.0.parts.clock, once, work).await
    }
}
