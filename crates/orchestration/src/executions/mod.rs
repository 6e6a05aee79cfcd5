//! Executions for clients: start, status, cancel, pause, resume, retry, logs. Requests are written to the database
//! first and then passed to the engine, so that they take effect whichever process drives the run.

mod estimate;
mod model;
mod observation;
mod pages;
mod recorded;
mod redefinition;
mod replay;
mod retry;
mod store;
mod waiting;

use std::{sync::Arc, time::Duration};

pub use estimate::ExecutionEstimate;
pub use model::{ExecutionFilter, StepLog};
pub use observation::Observed;
pub use recorded::{RecordedRun, RecordedStep};
pub use replay::{PolicyQuestion, ReplayOutcome, ReplayTools};
pub use waiting::{WaitKind, WaitingFor};

use super::{
    definition::ExecutionPlan,
    engine::{Engine, RunRequest, count_active},
    error::{OrchestrationError, Result},
    guard::{AdmissionRequest, ExecutionConstraints, GuardedResource, PolicyGuard},
    model::{ExecutionStatus, VerificationLevel},
    run::Execution,
    workflows::{Workflow, WorkflowService, check_limits},
};
use am_audit::{AuditEntry, AuditLog, SecurityLevel};
use am_core::{
    ambient::Clock,
    boxed,
    ids::{ExecutionId, TraceId, WorkflowId},
    money::Money,
};
use am_db::{
    Connection, Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    kept_list::ListPage,
    principal::Principal,
};
use am_events::{StreamEvent, StreamFollower, StreamHub, StreamSource};
use estimate::ExecutionEstimator;

/// Service for executions. Cheap to clone.
#[derive(Clone)]
pub struct ExecutionService {
    db: Database,
    clock: Clock,
    audit: AuditLog,
    engine: Engine,
    guard: PolicyGuard,
    hub: StreamHub,
    estimates: ExecutionEstimator,
}

/// Request for an execution of a workflow.
#[derive(Clone, Debug, Default)]
pub struct ExecutionRequest {
    /// Inputs, visible as `$.inputs`.
    pub inputs: serde_json::Map<String, serde_json::Value>,
    /// Verification level; default the workflow's.
    pub level: Option<VerificationLevel>,
    /// Time limit in seconds; default the workflow's.
    pub max_execution_time: Option<i64>,
    /// Cost limit; default the workflow's.
    pub max_cost_budget: Option<Money>,
    /// W3C trace id of the request.
    pub trace_id: Option<TraceId>,
    /// Time for which the answer waits for the end of the execution; `None`: not at all.
    pub wait: Option<Duration>,
}

impl ExecutionService {
    /// Create the service on `db`; executions are checked by `guard` and driven by `engine`.
    pub fn new(
        db: Database,
        clock: Clock,
        audit: AuditLog,
        engine: Engine,
        guard: PolicyGuard,
        hub: StreamHub,
    ) -> Self {
        let estimates = ExecutionEstimator::new(db.clone());
        Self { db, clock, audit, engine, guard, hub, estimates }
    }

    /// Run the workflow `workflow_id`, at most once for `once`: the workflow of a run that was started before may be gone
    /// by now. Answers with the execution as [`ExecutionService::observe_begun`] has it.
    ///
    /// # Errors
    /// As [`WorkflowService::get`]; [`OrchestrationError::Invalid`] for bad limits, or a definition that the coordinator stored unchecked;
    /// [`OrchestrationError::Refused`].
    #[boxed]
    pub async fn execute(
        &self,
        caller: &Principal,
        workflows: &WorkflowService,
        workflow_id: &WorkflowId,
        request: ExecutionRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Observed>> {
        let wait = request.wait;
        let begun = match self.started(once.as_ref()).await? {
            Some(started) => started,
            None => {
                let workflow = workflows.get(caller, workflow_id).await?;
                self.start(caller, workflows, &workflow, request, once).await?
            }
        };
        self.observe_begun(caller, begun, wait).await
    }

    /// The run that was started for `once` before, if one was.
    ///
    /// # Errors
    /// When the key was used for a different request.
    pub(super) async fn started(&self, once: Option<&IdempotencyKey>) -> Result<Option<IdempotentResult<Execution>>> {
        Ok(self.db.answered(&self.clock, once).await?)
    }

    /// Run a workflow as it was at an earlier time, at most once for `once`. The caller says that it may be run: its row may have
    /// changed since, or be gone.
    ///
    /// # Errors
    /// As [`ExecutionService::execute`], but for the workflow's own row.
    #[boxed]
    pub async fn execute_snapshot(
        &self,
        caller: &Principal,
        workflows: &WorkflowService,
        workflow: &Workflow,
        request: ExecutionRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Observed>> {
        let wait = request.wait;
        let begun = match self.started(once.as_ref()).await? {
            Some(started) => started,
            None => self.start(caller, workflows, workflow, request, once).await?,
        };
        self.observe_begun(caller, begun, wait).await
    }

    async fn start(
        &self,
        caller: &Principal,
        workflows: &WorkflowService,
        workflow: &Workflow,
        request: ExecutionRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Execution>> {
        let seconds = request.max_execution_time.unwrap_or(workflow.max_execution_time);
        let budget = request.max_cost_budget.unwrap_or(workflow.max_cost_budget);
        check_limits(seconds, budget).finish().map_err(OrchestrationError::Invalid)?;
        let level = request.level.unwrap_or(workflow.verification_level);
        // A lower verification level in the request does not remove the policies that bind the workflow.
        let security = workflow.terms().security.max(level.security_level(workflow.requires_verification));
        let terms = ExecutionConstraints {
            security,
            level,
            max_execution_time: seconds,
            max_cost_budget: budget,
            ..workflow.terms()
        };
        let compiled = workflows.compiled(workflow).await?;
        let inputs = serde_json::Value::Object(request.inputs);
        self.admit(caller, &workflow.id, terms, &compiled.plan, &inputs).await?;
        let start = RunRequest {
            workflow_id: workflow.id.clone(),
            client: caller.clone(),
            compiled,
            inputs,
            level,
            security,
            max_execution_time: seconds,
            max_cost_budget: budget,
            trace_id: request.trace_id,
            condition: None,
        };
        self.begin(start, once).await
    }

    /// Check the run against the security policies.
    ///
    /// # Errors
    /// [`OrchestrationError::Refused`] when a policy forbids it.
    pub(super) async fn admit(
        &self,
        caller: &Principal,
        workflow_id: &WorkflowId,
        terms: ExecutionConstraints,
        plan: &ExecutionPlan,
        inputs: &serde_json::Value,
    ) -> Result<()> {
        let workflow_id = Some(workflow_id);
        let asked = AdmissionRequest { resource: GuardedResource::Execution, caller, workflow_id, execution_id: None };
        self.guard.admit(&asked, terms, plan, Some(inputs)).await
    }

    /// Return the time limit in seconds that policies set for runs of this level; `None`: no limit.
    pub(super) fn time_limit(&self, level: SecurityLevel) -> Option<i64> {
        self.guard.policies().time_limit(level).map(|(seconds, _)| seconds)
    }

    /// Return the limit of the cost that policies set for runs of this level; `None`: no limit.
    pub(super) fn cost_limit(&self, level: SecurityLevel) -> Option<Money> {
        self.guard.policies().cost_limit(level)
    }

    /// Start a run that has passed the policy check.
    ///
    /// # Errors
    /// [`OrchestrationError::Refused`] when the client has too many active runs.
    pub(super) async fn begin(
        &self,
        start: RunRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Execution>> {
        let (caller, workflow_id) = (start.client.clone(), start.workflow_id.clone());
        let level = start.security;
        match self.engine.start(start, once).await {
            Err(OrchestrationError::Refused(refusal)) => {
                let workflow_id = Some(&workflow_id);
                let asked = AdmissionRequest {
                    resource: GuardedResource::Execution,
                    caller: &caller,
                    workflow_id,
                    execution_id: None,
                };
                Err(self.guard.refuse(&asked, level, refusal).await)
            }
            begun => begun,
        }
    }

    /// Count the active runs of `client` at this security level.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub async fn under_way(&self, client: &Principal, level: SecurityLevel) -> Result<i64> {
        count_active(&mut *self.db.read().await?, &client.id(), level).await
    }

    /// Return an execution of `caller`.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], for another owner's too.
    #[boxed]
    pub async fn get(&self, caller: &Principal, id: &ExecutionId) -> Result<Execution> {
        own_execution(caller, store::get(&mut *self.db.read().await?, id).await?)
    }

    /// Return a page of `caller`'s executions, newest first, and their total number.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn list(&self, caller: &Principal, filter: &ExecutionFilter) -> Result<ListPage<Execution>> {
        pages::list(&self.db, caller, filter).await
    }

    /// Return the steps of an execution, in order.
    ///
    /// # Errors
    /// As [`ExecutionService::get`].
    #[boxed]
    pub async fn logs(&self, caller: &Principal, id: &ExecutionId) -> Result<(Execution, Vec<StepLog>)> {
        let execution = self.get(caller, id).await?;
        let steps = store::list_steps(&mut *self.db.read().await?, &execution).await?;
        Ok((execution, steps))
    }

    /// Cancel an execution: running steps are stopped, and jobs that no miner has taken are withdrawn. A queued run can
    /// be cancelled too.
    ///
    /// # Errors
    /// [`OrchestrationError::InvalidState`] when it has ended already.
    #[boxed]
    pub async fn cancel(
        &self,
        caller: &Principal,
        id: &ExecutionId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Execution>> {
        let engine = self.engine.clone();
        let cancel = async move |tx: &mut Tx, execution, now| cancel_execution(&engine, tx, execution, now).await;
        let cancelled = self.change(caller, id, once, cancel).await?;
        if !cancelled.replayed {
            self.engine.cancelled(id);
        }
        Ok(cancelled)
    }

    /// Cancel an execution within `tx`; the driver is told after the commit.
    pub(super) async fn cancel_in(&self, tx: &mut Tx, caller: &Principal, id: &ExecutionId) -> Result<()> {
        let engine = self.engine.clone();
        let cancel = async |tx: &mut Tx, execution, now| cancel_execution(&engine, tx, execution, now).await;
        self.change_in(tx, caller, id, cancel).await?;
        let id = id.clone();
        tx.after_commit(move || engine.cancelled(&id));
        Ok(())
    }

    /// Pause an execution: no further step begins until it is resumed; steps in progress continue to their end.
    ///
    /// # Errors
    /// [`OrchestrationError::InvalidState`] when it has ended, or is paused already.
    #[boxed]
    pub async fn pause(
        &self,
        caller: &Principal,
        id: &ExecutionId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Execution>> {
        let paused =
            self.change(caller, id, once, async |tx, execution, now| store::pause(tx, execution, now).await).await?;
        self.engine.look(id);
        Ok(paused)
    }

    /// Resume a paused execution.
    ///
    /// # Errors
    /// [`OrchestrationError::InvalidState`] when it is not paused.
    #[boxed]
    pub async fn resume(
        &self,
        caller: &Principal,
        id: &ExecutionId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Execution>> {
        let resumed =
            self.change(caller, id, once, async |tx, execution, now| store::resume(tx, execution, now).await).await?;
        self.engine.look(id);
        Ok(resumed)
    }

    /// Retry a failed execution from the failed step; steps that ended well are not repeated. Answers once it has ended
    /// or `wait` is over; `None`: at once.
    ///
    /// # Errors
    /// [`OrchestrationError::InvalidState`] when it has not failed, or was run by the coordinator.
    #[boxed]
    pub async fn retry(
        &self,
        caller: &Principal,
        id: &ExecutionId,
        wait: Option<Duration>,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Observed>> {
        let retried = self.retry_run(caller, id, once, None).await?;
        self.observe_begun(caller, retried, wait).await
    }

    async fn retry_run(
        &self,
        caller: &Principal,
        id: &ExecutionId,
        once: Option<IdempotencyKey>,
        redefinition: Option<redefinition::Redefinition>,
    ) -> Result<IdempotentResult<Execution>> {
        let (this, by, run) = (self.clone(), caller.clone(), id.clone());
        let work = async move |tx: &mut Tx| this.retry_in(tx, &by, &run, redefinition).await;
        match self.db.write_idempotent(&self.clock, once, work).await {
            Err(error) => Err(self.audit_refusal(caller, id, error).await),
            retried => retried,
        }
    }

    /// Apply one change to an execution's state, in one transaction with its event and its audit entry.
    async fn change<F>(
        &self,
        caller: &Principal,
        id: &ExecutionId,
        once: Option<IdempotencyKey>,
        change: F,
    ) -> Result<IdempotentResult<Execution>>
    where
        F: AsyncFnOnce(&mut Tx, Execution, Timestamp) -> Result<AuditEntry> + Send + 'static,
    {
        let (this, caller, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move |tx: &mut Tx| this.change_in(tx, &caller, &id, change).await;
        self.db.write_idempotent(&self.clock, once, work).await
    }

    /// The same within the transaction `tx` of a larger change.
    async fn change_in<F>(&self, tx: &mut Tx, caller: &Principal, id: &ExecutionId, change: F) -> Result<Execution>
    where
        F: AsyncFnOnce(&mut Tx, Execution, Timestamp) -> Result<AuditEntry>,
    {
        let found = own_execution(caller, store::get(tx.conn().await?, id).await?)?;
        let (workflow, level) = (found.workflow_id.clone(), store::security_level(tx.conn().await?, id).await?);
        let entry = change(tx, found, Timestamp(self.clock.now())).await?.by(caller).level(level);
        self.audit.append(tx, vec![entry.workflow(&workflow).execution(id)]).await?;
        let changed = own_execution(caller, store::get(tx.conn().await?, id).await?)?;
        let (hub, stream) = (self.hub.clone(), id.clone());
        tx.after_commit(move || hub.wake(&stream));
        Ok(changed)
    }

    /// Return at most `limit` events of an execution with numbers above `after`.
    ///
    /// # Errors
    /// As [`ExecutionService::get`].
    #[boxed]
    pub async fn events(
        &self,
        caller: &Principal,
        id: &ExecutionId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<StreamEvent>> {
        self.get(caller, id).await?;
        Ok(am_events::read_events(&mut *self.db.read().await?, id, after, limit).await?)
    }

    /// Follow an execution's events with numbers above `after` until it has ended.
    pub fn follow(&self, id: &ExecutionId, after: i64) -> StreamFollower<Self> {
        StreamFollower::new(self.db.clone(), &self.hub, self.clone(), id, after)
    }
}

/// Cancel an execution. What budgets reserve for it is set free.
async fn cancel_execution(engine: &Engine, tx: &mut Tx, execution: Execution, now: Timestamp) -> Result<AuditEntry> {
    let id = execution.id.clone();
    // What a call in progress costs is still to come: its driver sets the rest free when it lets go.
    let is_driven = engine.is_driven(tx, &id).await?;
    let entry = store::cancel(tx, execution, now).await?;
    if !is_driven {
        engine.end_reservation(tx, &id).await?;
    }
    Ok(entry)
}

fn own_execution(caller: &Principal, found: Option<Execution>) -> Result<Execution> {
    caller.own(found, |execution| &execution.client_id).ok_or(OrchestrationError::NotFound("Execution"))
}

impl StreamSource for ExecutionService {
    async fn has_ended(&self, conn: &mut Connection, id: &str) -> am_db::Result<bool> {
        store::has_ended(conn, &id.into()).await
    }

    fn is_stopping(&self) -> bool {
        !self.engine.is_running()
    }
}

/// Build the error for a state that does not allow an action.
fn wrong_state_error(status: ExecutionStatus, action: &str) -> OrchestrationError {
    OrchestrationError::InvalidState(format!("Execution cannot be {action}: it is {status}"))
}

/// Mutex shared by the parts of the service.
type SharedMutex<T> = Arc<parking_lot::Mutex<T>>;
