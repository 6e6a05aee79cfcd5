//! Workflows: created, listed, changed and deleted by their owners; public ones can be read and run by everybody.

mod model;
mod pages;
mod store;

use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

pub use model::{NAME_LENGTH, Workflow, WorkflowChange, WorkflowDraft, WorkflowFilter, check_limits, etag_of};

use super::{
    action::{ActionCatalog, StepAction},
    definition::{ExecutionPlan, WorkflowDefinition},
    error::{OrchestrationError, Result},
    guard::{AdmissionRequest, GuardedResource, PolicyGuard},
};
use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::{StepId, WorkflowId},
    validation::within,
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    kept_list::{ListPage, ListedTable},
    principal::Principal,
};

/// Maximum number of cached compiled workflows.
const MAX_CACHED_PLANS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(512).unwrap();

/// Service for workflows. Cheap to clone.
#[derive(Clone)]
pub struct WorkflowService {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    names: ActionCatalog,
    guard: PolicyGuard,
    plans: Arc<Mutex<LruCache<[u8; 32], CompiledWorkflow>>>,
}

/// A compiled workflow: its plan, and the ids of its rows in `agent_steps`.
#[derive(Clone)]
pub struct CompiledWorkflow {
    /// Compiled plan of the workflow.
    pub plan: Arc<ExecutionPlan>,
    /// Id of the row of each step.
    pub step_ids: Arc<[StepId]>,
}

/// Whether a workflow has the wanted version, by its ETag.
pub type VersionCheck = Box<dyn FnOnce(&str) -> bool + Send>;

/// A change of a workflow that was checked and compiled, for [`WorkflowService::update_in`].
pub struct PreparedChange {
    owner: Principal,
    change: WorkflowChange,
    /// The workflow with the change.
    wanted: Workflow,
    /// Its plan; `None`: the definition stays as it is.
    plan: Option<ExecutionPlan>,
}

impl WorkflowService {
    /// Create the service on `db`; actions may refer to `names`, and `guard` checks the policies.
    pub fn new(
        db: Database,
        clock: Clock,
        ids: IdGenerator,
        audit: AuditLog,
        names: ActionCatalog,
        guard: PolicyGuard,
    ) -> Self {
        Self { db, clock, ids, audit, names, guard, plans: Arc::new(Mutex::new(LruCache::new(MAX_CACHED_PLANS))) }
    }

    /// Return the names that actions may refer to.
    pub fn names(&self) -> &ActionCatalog {
        &self.names
    }

    /// Validate `draft` and store it for `owner`.
    ///
    /// # Errors
    /// [`OrchestrationError::Invalid`] with every fault; [`OrchestrationError::Refused`].
    #[boxed]
    pub async fn create(
        &self,
        owner: &Principal,
        draft: WorkflowDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Workflow>> {
        draft.check().map_err(OrchestrationError::Invalid)?;
        let definition = WorkflowDefinition::new(draft.steps.clone(), draft.dependencies.clone());
        let plan = definition.checked(&self.names).await?;
        check_ceilings(&plan, &self.names)?;
        let mut workflow = draft.into_workflow(owner, Timestamp(self.clock.now()))?;
        let asked = AdmissionRequest {
            resource: GuardedResource::Workflow,
            caller: owner,
            workflow_id: None,
            execution_id: None,
        };
        if let Err(refusal) = self.guard.admit(&asked, workflow.terms(), &plan, None).await {
            // The response to a repeated request does not depend on policies set since.
            return self.db.answered(&self.clock, once.as_ref()).await?.ok_or(refusal);
        }
        loop {
            workflow.id = self.ids.next("agent_", 8).into();
            let mut rows = store::insert_rows(&workflow, &plan, &self.ids);
            let entry = audit_entry(EventType::WorkflowCreated, "created", owner, &workflow, workflow.created_at);
            self.audit.add_entry_rows(&mut rows, [entry.change(None, Some(workflow.state()))]);
            let done = match &once {
                None => self.db.insert(rows, || {}).await.map(|()| IdempotentResult::fresh(workflow.clone())),
                Some(_) => {
                    let workflow = workflow.clone();
                    let work = async move |tx: &mut Tx| rows.execute(tx).await.map(|()| workflow);
                    self.db.write_idempotent(&self.clock, once.clone(), work).await
                }
            };
            match done {
                // Ids have eight digits, so two can collide.
                Err(am_db::DatabaseError::Duplicate(_)) => self.ids.reseed_sequence(),
                done => return Ok(done?),
            }
        }
    }

    /// Return a workflow that `reader` may see.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], for another owner's private one too.
    #[boxed]
    pub async fn get(&self, reader: &Principal, id: &WorkflowId) -> Result<Workflow> {
        visible(reader, store::get(&mut *self.db.read().await?, id).await?)
    }

    /// Return a page of the workflows visible to `reader`, newest first, and their total number.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn list(&self, reader: &Principal, filter: &WorkflowFilter) -> Result<ListPage<Workflow>> {
        pages::list(&self.db, reader, filter).await
    }

    /// Apply `change` if the current version satisfies `expected` (the ETag condition).
    ///
    /// # Errors
    /// [`OrchestrationError::Forbidden`] for another owner's public one, [`OrchestrationError::NotFound`] for a private one; [`OrchestrationError::VersionMismatch`]; [`OrchestrationError::Invalid`];
    /// [`OrchestrationError::Refused`].
    pub async fn update(
        &self,
        owner: &Principal,
        id: &WorkflowId,
        change: WorkflowChange,
        expected: impl FnOnce(&str) -> bool + Send + 'static,
    ) -> Result<Workflow> {
        let prepared = self.prepare_update(owner, id, change).await?;
        let me = self.clone();
        self.db.write(async move |tx: &mut Tx| me.update_in(tx, prepared, Box::new(expected)).await).await
    }

    /// Check a change, and compile what it makes of the workflow, before the transaction that makes it, which occupies the only writer.
    ///
    /// # Errors
    /// As [`WorkflowService::update`].
    #[boxed]
    pub async fn prepare_update(
        &self,
        owner: &Principal,
        id: &WorkflowId,
        change: WorkflowChange,
    ) -> Result<PreparedChange> {
        let mut wanted = changeable(owner, Some(self.get(owner, id).await?))?;
        let plan = match change.clone().apply(&mut wanted).map_err(OrchestrationError::Invalid)? {
            true => Some(wanted.definition()?.checked(&self.names).await?),
            false => None,
        };
        if let Some(plan) = &plan {
            check_ceilings(plan, &self.names)?;
        }
        if self.guard.policies().bind(wanted.terms().security) {
            let known = match &plan {
                Some(plan) => Arc::new(plan.clone()),
                None => self.compiled(&wanted).await?.plan,
            };
            let asked = AdmissionRequest {
                resource: GuardedResource::Workflow,
                caller: owner,
                workflow_id: Some(id),
                execution_id: None,
            };
            self.guard.admit(&asked, wanted.terms(), &known, None).await?;
        }
        Ok(PreparedChange { owner: owner.clone(), change, wanted, plan })
    }

    /// Make a prepared change in the caller's transaction, if the current version satisfies `expected` (the ETag condition).
    ///
    /// # Errors
    /// As [`WorkflowService::update`]; [`OrchestrationError::Conflict`] where the workflow has changed since.
    #[boxed]
    pub async fn update_in(&self, tx: &mut Tx, prepared: PreparedChange, expected: VersionCheck) -> Result<Workflow> {
        let PreparedChange { owner, change, wanted, plan } = prepared;
        let now = Timestamp(self.clock.now());
        let mut workflow = changeable(&owner, store::get(tx.conn().await?, &wanted.id).await?)?;
        if !expected(&workflow.etag()) {
            return Err(OrchestrationError::VersionMismatch);
        }
        let before = workflow.state();
        change.apply(&mut workflow).map_err(OrchestrationError::Invalid)?;
        // Two changes within a microsecond still get different versions.
        workflow.updated_at = now.max(Timestamp(workflow.updated_at.0 + chrono::Duration::microseconds(1)));
        if let Some(plan) = plan {
            if !workflow.has_same_definition(&wanted) {
                return Err(OrchestrationError::Conflict("the workflow changed at the same moment; try again".into()));
            }
            store::replace_steps(tx, &workflow, &plan, &self.ids).await?;
        }
        store::update(tx, &workflow).await?;
        let entry = audit_entry(EventType::WorkflowUpdated, "updated", &owner, &workflow, now);
        self.audit.append(tx, vec![entry.change(Some(before), Some(workflow.state()))]).await?;
        Ok(workflow)
    }

    /// Delete a workflow. Its executions stay, and those of this service go on: each has the definition it began with.
    ///
    /// # Errors
    /// [`OrchestrationError::Conflict`] while the coordinator executes it; [`OrchestrationError::Forbidden`], [`OrchestrationError::VersionMismatch`].
    pub async fn delete(
        &self,
        owner: &Principal,
        id: &WorkflowId,
        expected: impl FnOnce(&str) -> bool + Send + 'static,
    ) -> Result<()> {
        let (owner, id) = (owner.clone(), id.clone());
        let (now, audit) = (Timestamp(self.clock.now()), self.audit.clone());
        // What the coordinator ended is no longer open in the list.
        self.db.follow_list(&mut *self.db.read_list().await?, ListedTable::Executions, true).await?;
        let listed = self.db.list_place(ListedTable::Executions);
        self.db
            .write(async move |tx: &mut Tx| {
                let workflow = changeable(&owner, store::get(tx.conn().await?, &id).await?)?;
                if !expected(&workflow.etag()) {
                    return Err(OrchestrationError::VersionMismatch);
                }
                let open = store::open_executions(tx.conn().await?, &id, listed).await?;
                if open > 0 {
                    return Err(OrchestrationError::Conflict(format!(
                        "{open} executions of this workflow by the coordinator have not ended; cancel them first"
                    )));
                }
                store::delete(tx, &id).await?;
                let entry = audit_entry(EventType::WorkflowDeleted, "deleted", &owner, &workflow, now);
                Ok(audit.append(tx, vec![entry.change(Some(workflow.state()), None)]).await?)
            })
            .await
    }

    /// Return the compiled plan of `workflow`, cached by version.
    ///
    /// # Errors
    /// [`OrchestrationError::Invalid`]: the coordinator stores workflows without validation.
    pub async fn compiled(&self, workflow: &Workflow) -> Result<CompiledWorkflow> {
        let key = workflow.definition_key();
        if let Some(found) = self.plans.lock().get(&key) {
            return Ok(found.clone());
        }
        let plan = Arc::new(workflow.definition()?.checked(&self.names).await?);
        let step_ids = store::step_ids(&mut *self.db.read().await?, &workflow.id, &plan).await?;
        let compiled = CompiledWorkflow { plan, step_ids };
        self.plans.lock().put(key, compiled.clone());
        Ok(compiled)
    }
}

/// A workflow as `reader` sees it: another owner's private one is not there.
fn visible(reader: &Principal, found: Option<Workflow>) -> Result<Workflow> {
    found
        .filter(|workflow| workflow.is_public || reader.owns(&workflow.owner_id))
        .ok_or(OrchestrationError::NotFound("Workflow"))
}

/// A workflow that `owner` may change.
fn changeable(owner: &Principal, found: Option<Workflow>) -> Result<Workflow> {
    let workflow = visible(owner, found)?;
    if owner.owns(&workflow.owner_id) { Ok(workflow) } else { Err(OrchestrationError::Forbidden) }
}

/// Check that no command asks for more than the operator allows. What was stored before runs with what is allowed.
fn check_ceilings(plan: &ExecutionPlan, names: &ActionCatalog) -> Result<()> {
    let mut found = Vec::new();
    for step in &plan.steps {
        if let StepAction::Command(command) = &step.action
            && let Err(violations) = command.check_ceilings(&names.ceilings)
        {
            found.extend(within("steps", within(&step.key, violations)));
        }
    }
    if found.is_empty() { Ok(()) } else { Err(OrchestrationError::Invalid(found)) }
}

/// Build the audit entry of a change.
fn audit_entry(event: EventType, action: &str, owner: &Principal, workflow: &Workflow, now: Timestamp) -> AuditEntry {
    AuditEntry::new(event, now)
        .of("workflow", action)
        .by(owner)
        .workflow(workflow.id.as_str())
        .level(workflow.terms().security)
}
