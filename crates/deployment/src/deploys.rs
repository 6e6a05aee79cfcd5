//! Revisions rolled out and rolled back, and the number of instances.

use am_core::{boxed, ids::WorkflowId};
use am_db::{
    Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::{
    Actor, DeploymentError, DeploymentService, Result,
    configs::own_deployment,
    draft::{DeploymentDraft, is_name, name_fault},
    instances,
    model::{DeploymentDocument, DeploymentRecord, DeploymentStatus, InstanceDocument, WorkflowSnapshot},
    rollout::{Rollout, RolloutPhase, RolloutStrategy},
    standing::{end_rollout, stand_as_before},
    store,
};

/// A rollout that has begun.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentDeployAnswer)]
pub struct DeployAnswer {
    /// Id of the deployment.
    pub deployment_id: String,
    /// Where it is deployed.
    pub environment: String,
    /// Where it stands: `deploying`, until all instances are healthy.
    pub status: DeploymentStatus,
    /// Revision that is rolled out.
    pub revision: i64,
    /// How it is rolled out.
    pub strategy: RolloutStrategy,
    /// When it is undone if it has not ended by then.
    pub deadline: Timestamp,
    /// Instances that there are now; those of the new revision follow.
    pub instances: Vec<InstanceDocument>,
    /// When the rollout began.
    pub deployment_time: Timestamp,
}

/// A rollback that has begun, or a rollout that was undone.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentRollbackAnswer)]
pub struct RollbackAnswer {
    /// Id of the deployment.
    pub deployment_id: String,
    /// `rolling_back`: a rollout of the earlier revision's content has begun; `rollout_undone`: one that was under way is undone.
    pub rollback_status: String,
    /// Revision whose content serves, or will.
    pub restored_revision: i64,
    /// Revision that is rolled out for it; null: none is needed.
    pub revision: Option<i64>,
    /// Where the deployment stands.
    pub status: DeploymentStatus,
    /// When the rollback began.
    pub rolled_back_at: Timestamp,
}

/// Another number of instances.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentScaleAnswer)]
pub struct ScaleAnswer {
    /// Id of the deployment.
    pub deployment_id: String,
    /// Instances that were wanted before.
    pub current_instances: i64,
    /// Instances that are wanted now.
    pub target_instances: i64,
    /// `scale_up`, `scale_down` or `no_change`.
    pub scaling_action: String,
    /// Where the deployment stands.
    pub status: DeploymentStatus,
    /// When it was set.
    pub scaled_at: Timestamp,
}

fn under_way(record: &DeploymentRecord) -> DeploymentError {
    let revision = record.document.rollout.as_ref().map_or(0, |rollout| rollout.target);
    let text = format!("A rollout of revision {revision} is under way; roll it back or wait for its end");
    DeploymentError::Conflict("rollout_under_way", text)
}

/// Make a revision and begin its rollout.
async fn begin_rollout(
    tx: &mut Tx,
    record: &mut DeploymentRecord,
    snapshot: &WorkflowSnapshot,
    strategy: RolloutStrategy,
    (reason, now): (&str, Timestamp),
) -> Result<()> {
    let number = record.last_revision + 1;
    let document = &mut record.document;
    store::insert_revision(tx, &document.id, number, (snapshot, &document.settings), (reason, now)).await?;
    let (least, most) = (document.settings.min_instances.max(1), document.settings.max_instances.max(1));
    document.rollout = Some(Rollout {
        strategy,
        phase: RolloutPhase::Starting,
        target: number,
        previous: Some(document.revision).filter(|revision| *revision > 0),
        started_at: now,
        deadline: Timestamp(now.0 + TimeDelta::seconds(document.settings.deployment_timeout)),
        trial: None,
    });
    document.desired_instances = document.desired_instances.max(least).min(most);
    (document.status, document.error, document.updated_at) = (DeploymentStatus::Deploying, None, now);
    (record.last_revision, record.live) = (number, true);
    store::update_deployment(tx, record).await?;
    let id = record.document.id.clone();
    Ok(store::note_change(tx, &id, "deploy", Some(number), (reason, now)).await?)
}

impl DeploymentService {
    /// Check that instances can be started here.
    fn check_host(&self) -> Result<()> {
        self.0.parts.supervisor.check_host().map_err(DeploymentError::Unsupported)
    }

    fn check_environment(record: &DeploymentDocument, environment: &str) -> Result<()> {
        let known = &record.settings.target_environments;
        if !is_name(environment) {
            return Err(DeploymentError::query("target_environment", name_fault(environment)));
        }
        if !known.is_empty() && !known.iter().any(|name| name == environment) {
            let text = format!("is none of the deployment's: {}", known.join(", "));
            return Err(DeploymentError::query("target_environment", text));
        }
        Ok(())
    }

    /// Deploy the workflow as it is now: a new revision, whose rollout begins.
    ///
    /// # Errors
    /// [`DeploymentError::NotFound`]; [`DeploymentError::InvalidQuery`] for the environment; [`DeploymentError::Conflict`] while a rollout is
    /// under way, and where the workflow is gone; [`DeploymentError::Unsupported`].
    #[boxed]
    pub async fn deploy(
        &self,
        caller: &Principal,
        id: &str,
        environment: String,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<DeployAnswer>> {
        if let Some(done) = self.db().answered(&self.0.parts.clock, once.as_ref()).await? {
            return Ok(done);
        }
        let found = self.deployment(caller, id).await?;
        Self::check_environment(&found, &environment)?;
        self.check_host()?;
        let snapshot = self.0.parts.workflows.snapshot(caller, &found.workflow_id).await;
        let snapshot = snapshot.map_err(|message| {
            let text = format!("workflow_id: {} {message}", found.workflow_id);
            DeploymentError::Conflict("workflow_unavailable", text)
        })?;
        let (me, by, id) = (self.clone(), caller.clone(), id.to_owned());
        let work = async move |tx: &mut Tx| {
            let mut record = own_deployment(tx.conn().await?, &by, &id).await?;
            let answer = me.begin_deploy(tx, &mut record, environment, &snapshot).await?;
            let entry = me.entry(Actor::Caller(&by), "deployed", &id, answer.deployment_time);
            me.0.parts.audit.append(tx, vec![entry.data("revision", json!(answer.revision))]).await?;
            Ok(answer)
        };
        self.db().write_idempotent(&self.0.parts.clock, once, work).await
    }

    async fn begin_deploy(
        &self,
        tx: &mut Tx,
        record: &mut DeploymentRecord,
        environment: String,
        snapshot: &WorkflowSnapshot,
    ) -> Result<DeployAnswer> {
        if record.document.rollout.is_some() {
            return Err(under_way(record));
        }
        let moves = record.document.environment.as_ref().is_some_and(|before| *before != environment);
        if moves && record.live {
            let text = "It has instances in another environment; end them first";
            return Err(DeploymentError::Conflict("other_environment", text.to_owned()));
        }
        record.document.environment = Some(environment.clone());
        let strategy = RolloutStrategy::from_value(&record.document.settings.rollout_strategy);
        let (strategy, now) = (strategy.unwrap_or(RolloutStrategy::Rolling), self.now());
        let reason = format!("deployed by its owner, workflow version {}", snapshot.etag);
        begin_rollout(tx, record, snapshot, strategy, (&reason, now)).await?;
        self.wake_after(tx);
        let instances = instances::store::shown_instances(tx.conn().await?, &record.document.id).await?;
        let deadline = record.document.rollout.as_ref().map_or(now, |rollout| rollout.deadline);
        Ok(DeployAnswer {
            deployment_id: record.document.id.clone(),
            environment,
            status: record.document.status,
            revision: record.last_revision,
            strategy,
            deadline,
            instances,
            deployment_time: now,
        })
    }

    /// Make a deployment and deploy it, in one step.
    ///
    /// # Errors
    /// As [`DeploymentService::create`] and [`DeploymentService::deploy`]; then neither is done.
    #[boxed]
    pub async fn create_and_deploy(
        &self,
        caller: &Principal,
        (workflow, name): (WorkflowId, String),
        (draft, environment): (DeploymentDraft, String),
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<DeployAnswer>> {
        if let Some(done) = self.db().answered(&self.0.parts.clock, once.as_ref()).await? {
            return Ok(done);
        }
        let (checked, snapshot) = self.checked_new(caller, &workflow, &name, draft).await?;
        self.check_host()?;
        let (me, by) = (self.clone(), caller.clone());
        let work = async move |tx: &mut Tx| {
            let mut record = me.insert_new(tx, &by, (workflow, name), checked).await?;
            Self::check_environment(&record.document, &environment)?;
            let answer = me.begin_deploy(tx, &mut record, environment, &snapshot).await?;
            let entry = me.entry(Actor::Caller(&by), "deployed", &answer.deployment_id, answer.deployment_time);
            me.0.parts.audit.append(tx, vec![entry.data("revision", json!(answer.revision))]).await?;
            Ok(answer)
        };
        self.db().write_idempotent(&self.0.parts.clock, once, work).await
    }

    /// Go back: a rollout that is under way is undone at once; else the content of the revision that served before is rolled out, all
    /// instances at a time.
    ///
    /// # Errors
    /// [`DeploymentError::NotFound`]; [`DeploymentError::Conflict`] where it is not allowed or there is nothing to go back to.
    #[boxed]
    pub async fn rollback(
        &self,
        caller: &Principal,
        id: &str,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<RollbackAnswer>> {
        let (me, by, id, now) = (self.clone(), caller.clone(), id.to_owned(), self.now());
        let work = async move |tx: &mut Tx| {
            let mut record = own_deployment(tx.conn().await?, &by, &id).await?;
            if !record.document.settings.rollback_enabled {
                let text = "Its configuration has rollback_enabled false".to_owned();
                return Err(DeploymentError::Conflict("rollback_disabled", text));
            }
            let answer = match record.document.rollout.is_some() {
                true => me.undo_by_hand(tx, &mut record, now).await?,
                false => me.restore(tx, &mut record, now).await?,
            };
            let entry = me.entry(Actor::Caller(&by), "rolled_back", &id, now);
            let entry = entry.data("restored_revision", json!(answer.restored_revision));
            me.0.parts.audit.append(tx, vec![entry]).await?;
            me.wake_after(tx);
            Ok(answer)
        };
        self.db().write_idempotent(&self.0.parts.clock, once, work).await
    }

    /// Undo the rollout that is under way.
    async fn undo_by_hand(&self, tx: &mut Tx, record: &mut DeploymentRecord, now: Timestamp) -> Result<RollbackAnswer> {
        let target = record.document.rollout.as_ref().map(|rollout| rollout.target);
        end_rollout(tx, record, now).await?;
        let reason = "rolled back by its owner";
        stand_as_before(&mut record.document, reason, now);
        store::update_deployment(tx, record).await?;
        let id = record.document.id.clone();
        store::note_change(tx, &id, "undo", target, (reason, now)).await?;
        Ok(RollbackAnswer {
            deployment_id: id,
            rollback_status: "rollout_undone".to_owned(),
            restored_revision: record.document.revision,
            revision: None,
            status: record.document.status,
            rolled_back_at: now,
        })
    }

    /// Roll out what served before.
    async fn restore(&self, tx: &mut Tx, record: &mut DeploymentRecord, now: Timestamp) -> Result<RollbackAnswer> {
        let serving = record.document.revision;
        let id = record.document.id.clone();
        let before = match serving {
            0 => None,
            serving => store::revision_before(tx.conn().await?, &id, serving).await?,
        };
        let Some(before) = before else {
            let text = "There is no earlier revision that has served".to_owned();
            return Err(DeploymentError::Conflict("no_previous_revision", text));
        };
        let workflow =
            before.workflow.parse().map_err(|error| am_db::DatabaseError::InvalidValue(error.to_string()))?;
        let snapshot = WorkflowSnapshot { workflow: workflow.unwrap_or_default(), etag: before.workflow_etag };
        let reason = format!("rolled back by its owner from revision {serving} to the content of {}", before.number);
        begin_rollout(tx, record, &snapshot, RolloutStrategy::BlueGreen, (&reason, now)).await?;
        Ok(RollbackAnswer {
            deployment_id: id,
            rollback_status: "rolling_back".to_owned(),
            restored_revision: before.number,
            revision: Some(record.last_revision),
            status: record.document.status,
            rolled_back_at: now,
        })
    }

    /// Set the number of instances, within the configured bounds.
    ///
    /// # Errors
    /// [`DeploymentError::NotFound`]; [`DeploymentError::InvalidQuery`] for a number out of bounds; [`DeploymentError::Conflict`] while a
    /// rollout is under way, and where nothing is deployed.
    #[boxed]
    pub async fn scale(
        &self,
        caller: &Principal,
        id: &str,
        wanted: i64,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<ScaleAnswer>> {
        let (me, by, id, now) = (self.clone(), caller.clone(), id.to_owned(), self.now());
        let work = async move |tx: &mut Tx| {
            let mut record = own_deployment(tx.conn().await?, &by, &id).await?;
            let (least, most) = (record.document.settings.min_instances, record.document.settings.max_instances);
            if !(least..=most).contains(&wanted) {
                let text = format!("must be from {least} to {most}, as the deployment's configuration says");
                return Err(DeploymentError::query("target_instances", text));
            }
            if record.document.rollout.is_some() {
                return Err(under_way(&record));
            }
            if record.document.status != DeploymentStatus::Deployed {
                let text = format!("It is {}: there is nothing to scale", record.document.status);
                return Err(DeploymentError::Conflict("not_deployed", text));
            }
            let before = record.document.desired_instances;
            me.set_desired(tx, &mut record, wanted, ("set by its owner", now)).await?;
            let entry = me.entry(Actor::Caller(&by), "scaled", &id, now);
            me.0.parts.audit.append(tx, vec![entry.data("instances", json!(wanted))]).await?;
            let action = match wanted.cmp(&before) {
                std::cmp::Ordering::Greater => "scale_up",
                std::cmp::Ordering::Less => "scale_down",
                std::cmp::Ordering::Equal => "no_change",
            };
            Ok(ScaleAnswer {
                deployment_id: id,
                current_instances: before,
                target_instances: wanted,
                scaling_action: action.to_owned(),
                status: record.document.status,
                scaled_at: now,
            })
        };
        self.db().write_idempotent(&self.0.parts.clock, once, work).await
    }
}
