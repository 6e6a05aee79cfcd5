//! Plans: a task is decomposed into sub-tasks, which are ordered in stages and matched with agents; an executed plan is
//! a run of the engine whose steps are done by agents.

mod compose;
mod decompose;
mod estimate;
mod model;
mod plan_document;
mod plan_status;
mod start;
mod store;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use model::{
    ConfidenceSource, DecompositionStrategy, PlanDocument, PlanDraft, PlanFilter, PlanPriority, PlanStatus,
    PlannedAssignment, SplitBy, StrategyStats, SubTask, SubTaskDraft, SubTaskStatus, TaskPlan,
};

use super::{
    action::ActionCatalog,
    agents,
    assignments::{self, Assignment},
    definition::CompileError,
    engine::RunRequest,
    error::{OrchestrationError, Result},
    executions::{ExecutionService, Observed},
    guard::ExecutionConstraints,
    model::VerificationLevel,
    registry::AgentRegistry,
    run::Execution,
    workflows::CompiledWorkflow,
};
use am_audit::{AuditEntry, AuditLog, EventType, SecurityLevel};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    config::AgentsConfig,
    ids::{ExecutionId, PlanId, TraceId},
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};

/// Service for plans. Cheap to clone.
#[derive(Clone)]
pub struct PlanService {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    registry: AgentRegistry,
    executions: ExecutionService,
    names: ActionCatalog,
    settings: AgentsConfig,
}

/// Request for executing a plan.
#[derive(Clone, Debug, Default)]
pub struct PlanExecution {
    /// Whether to start although no registered agent can do some sub-task, which then waits for one.
    pub wait_for_agents: bool,
    /// W3C trace id of the request.
    pub trace_id: Option<TraceId>,
    /// Time for which the answer waits for the end of the execution; `None`: not at all.
    pub wait: Option<Duration>,
}

/// Result of a change to a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanChange {
    /// Id of the plan.
    pub plan_id: PlanId,
    /// Id of its execution; null before it was executed.
    pub execution_id: Option<ExecutionId>,
    /// Status after the change.
    pub status: PlanStatus,
}

/// A plan with the state of its sub-tasks.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PlanStanding)]
pub struct PlanStanding {
    /// The plan as stored.
    #[serde(flatten)]
    pub plan: TaskPlan,
    /// Share of completed sub-tasks, in percent.
    pub progress: f64,
    /// State of the sub-tasks, in the plan's order.
    pub sub_task_status: Vec<SubTaskStatus>,
}

/// Dependencies of the service for plans.
pub struct PlanServiceParts {
    /// Database of the plans.
    pub db: Database,
    /// Source of the time.
    pub clock: Clock,
    /// Source of ids.
    pub ids: IdGenerator,
    /// Audit log of all changes.
    pub audit: AuditLog,
    /// Registry of the agents that plans are made for.
    pub registry: AgentRegistry,
    /// Service that runs plans.
    pub executions: ExecutionService,
    /// Names that actions may refer to.
    pub names: ActionCatalog,
    /// Limits of plans.
    pub settings: AgentsConfig,
}

impl PlanService {
    /// Create the service.
    pub fn new(parts: PlanServiceParts) -> Self {
        let PlanServiceParts { db, clock, ids, audit, registry, executions, names, settings } = parts;
        Self { db, clock, ids, audit, registry, executions, names, settings }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }

    /// Decompose a task, match it with the present agents, and store the plan without running it.
    ///
    /// # Errors
    /// [`OrchestrationError::Invalid`] with every fault.
    #[boxed]
    pub async fn create(
        &self,
        owner: &Principal,
        draft: PlanDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<TaskPlan>> {
        let now = self.now();
        plan_document::check_draft(&draft, now)?;
        let split = decompose::split_task(&draft).map_err(OrchestrationError::Invalid)?;
        let (known, ended) = {
            let mut conn = self.db.read().await?;
            let known = estimate::PlanningInput {
                agents: agents::store::list_all(&mut conn, self.registry.cutoff(now)).await?,
                fastest: agents::store::fastest_mean_seconds(&mut conn).await?,
                usual: agents::store::average_seconds(&mut conn).await?,
            };
            (known, store::count_ended(&mut conn, split.strategy).await?)
        };
        let document = plan_document::build_document(draft, &split, &known, ended, now);
        // Compiled now, so that faults are reported to the client at once.
        self.compiled(&document).await?;
        let id = PlanId::from(self.ids.next("plan_", 12));
        let plan = TaskPlan {
            id,
            owner_id: owner.id(),
            status: PlanStatus::Created,
            execution_id: None,
            document,
            created_at: now,
            started_at: None,
            completed_at: None,
            total_cost: None,
            total_execution_time: None,
            error_message: None,
        };
        let audit = self.audit.clone();
        let entry =
            AuditEntry::new(EventType::WorkflowCreated, now).of("plan", "created").by(owner).workflow(plan.id.as_str());
        let state =
            json!({"name": plan.document.name, "strategy": plan.document.strategy, "stages": plan.document.stages});
        let entry = entry.change(None, Some(state));
        self.db
            .write_idempotent(&self.clock, once, async move |tx: &mut Tx| {
                store::insert(tx, &plan).await?;
                audit.append(tx, vec![entry]).await?;
                Ok(plan)
            })
            .await
    }

    async fn compiled(&self, document: &PlanDocument) -> Result<CompiledWorkflow> {
        let compiled = compose::compose_definition(document).checked(&self.names).await;
        let plan = compiled.map_err(|error| match error {
            CompileError::Faults(faults) => OrchestrationError::Invalid(
                faults.into_iter().map(|fault| compose::fault_in_plan(document, fault)).collect(),
            ),
            other => other.into(),
        })?;
        let step_ids = plan.steps.iter().map(|step| step.key.as_str().into()).collect();
        Ok(CompiledWorkflow { plan: Arc::new(plan), step_ids })
    }

    /// Return a plan of `caller`.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], for another owner's too.
    #[boxed]
    pub async fn get(&self, caller: &Principal, id: &PlanId) -> Result<TaskPlan> {
        let found = store::get(&mut *self.db.read().await?, id).await?;
        caller.own(found, |plan| &plan.owner_id).ok_or(OrchestrationError::NotFound("Plan"))
    }

    /// Return a page of `caller`'s plans, newest first, and the number of matching ones.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn list(&self, caller: &Principal, filter: &PlanFilter) -> Result<(Vec<TaskPlan>, i64)> {
        store::list(&mut *self.db.read_list().await?, caller, filter).await
    }

    /// Execute a plan, and answer with the execution as a client observes it. A plan is executed once: a repeated request
    /// returns the same execution.
    ///
    /// # Errors
    /// [`OrchestrationError::Conflict`] when no registered agent can do a sub-task, unless `wait_for_agents`, and when the maximum
    /// number of plans is running; [`OrchestrationError::InvalidState`] when it is cancelled or its deadline has passed;
    /// [`OrchestrationError::Refused`].
    #[boxed]
    pub async fn execute(
        &self,
        caller: &Principal,
        id: &PlanId,
        request: PlanExecution,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Observed>> {
        let wait = request.wait;
        let begun = match self.executions.started(once.as_ref()).await? {
            Some(started) => started,
            None => self.begin(caller, id, request, once).await?,
        };
        self.executions.observe_begun(caller, begun, wait).await
    }

    async fn begin(
        &self,
        caller: &Principal,
        id: &PlanId,
        request: PlanExecution,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Execution>> {
        let plan = self.get(caller, id).await?;
        if let Some(execution) = &plan.execution_id {
            let execution = self.executions.get(caller, execution).await?;
            return Ok(IdempotentResult { value: execution, replayed: true });
        }
        if plan.status == PlanStatus::Cancelled {
            return Err(OrchestrationError::InvalidState("Plan cannot be executed: it is cancelled".into()));
        }
        let seconds = self.seconds_to_deadline(&plan)?;
        if !request.wait_for_agents {
            self.check_agents_exist(&plan).await?;
        }
        let mut start = self.start(caller, &plan, seconds, request.trace_id).await?;
        start.condition = Some(Arc::new(start::PlanStart {
            id: plan.id.clone(),
            caller: caller.clone(),
            most: self.settings.plans_max_running,
            now: self.now(),
            audit: self.audit.clone(),
            once: once.clone(),
        }));
        // The plan's own idempotency key makes concurrent requests, and requests repeated after a crash, return the
        // same execution.
        let name = IdempotencyKey { scope: "plan".into(), key: plan.id.to_string(), fingerprint: plan.id.to_string() };
        let done = self.executions.begin(start, Some(name)).await?;
        if done.replayed { self.kept(done, once).await } else { Ok(done) }
    }

    /// Build the execution request of a plan, checked against the security policies.
    async fn start(
        &self,
        caller: &Principal,
        plan: &TaskPlan,
        max_execution_time: i64,
        trace_id: Option<TraceId>,
    ) -> Result<RunRequest> {
        let compiled = self.compiled(&plan.document).await?;
        let (level, security) = (VerificationLevel::Basic, SecurityLevel::Internal);
        let limit =
            self.executions.time_limit(security).filter(|limit| max_execution_time == 0 || *limit < max_execution_time);
        let max_execution_time = limit.unwrap_or(max_execution_time);
        let budget = plan.document.max_cost_budget;
        let limit = self.executions.cost_limit(security).filter(|limit| !budget.is_positive() || *limit < budget);
        let max_cost_budget = limit.unwrap_or(budget);
        let requires_verification = true;
        let terms =
            ExecutionConstraints { security, level, requires_verification, max_execution_time, max_cost_budget };
        let inputs = Value::Object(plan.document.inputs.clone());
        self.executions.admit(caller, &plan.id.as_str().into(), terms, &compiled.plan, &inputs).await?;
        Ok(RunRequest {
            workflow_id: plan.id.as_str().into(),
            client: caller.clone(),
            compiled,
            inputs,
            level,
            security,
            max_execution_time,
            max_cost_budget,
            trace_id,
            condition: None,
        })
    }

    /// Record the response of an earlier request under this request's key too.
    async fn kept(
        &self,
        done: IdempotentResult<Execution>,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Execution>> {
        if once.is_none() {
            return Ok(done);
        }
        let (execution, replayed) = (done.value, done.replayed);
        let kept = self
            .db
            .write_idempotent(&self.clock, once, async move |_: &mut Tx| Ok::<_, OrchestrationError>(execution))
            .await?;
        Ok(IdempotentResult { replayed: kept.replayed || replayed, ..kept })
    }

    /// Return the seconds until the deadline; 0: no deadline.
    fn seconds_to_deadline(&self, plan: &TaskPlan) -> Result<i64> {
        let Some(deadline) = plan.document.deadline else { return Ok(0) };
        let left = deadline.seconds_since(self.now());
        if left <= 0.0 {
            return Err(OrchestrationError::InvalidState(format!(
                "Plan cannot be executed: its deadline {deadline} has passed"
            )));
        }
        Ok(left.ceil() as i64)
    }

    /// Check that for each sub-task a suitable agent is registered, online or not.
    async fn check_agents_exist(&self, plan: &TaskPlan) -> Result<()> {
        let agents = agents::store::list_all(&mut *self.db.read().await?, self.registry.cutoff(self.now())).await?;
        if agents.is_empty() {
            return Err(OrchestrationError::Conflict("no agent is registered that could do the plan".into()));
        }
        let nobody = plan.document.sub_tasks.iter().filter_map(|sub_task| {
            let need = sub_task.need();
            let mut why = agents.iter().map(|agent| need.incompatibility(agent));
            why.all(|why| why.is_some()).then(|| format!("{} ({})", sub_task.key, sub_task.task_type))
        });
        let nobody: Vec<String> = nobody.collect();
        if nobody.is_empty() {
            return Ok(());
        }
        Err(OrchestrationError::Conflict(format!("no registered agent can do {}", nobody.join(", "))))
    }

    /// Cancel a plan: its assignments are cancelled, and the agents have capacity again. A plan that was not executed
    /// can no longer be.
    ///
    /// # Errors
    /// [`OrchestrationError::InvalidState`] when it has ended.
    #[boxed]
    pub async fn cancel(
        &self,
        caller: &Principal,
        id: &PlanId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<PlanChange>> {
        if let Some(done) = self.db.answered(&self.clock, once.as_ref()).await? {
            return Ok(done);
        }
        let (this, caller, id) = (self.clone(), caller.clone(), id.clone());
        self.db
            .write_idempotent(&self.clock, once, async move |tx: &mut Tx| {
                let plan = start::read_plan(tx, &caller, &id).await?;
                let now = this.now();
                if let Some(execution) = &plan.execution_id {
                    this.executions.cancel_in(tx, &caller, execution).await?;
                } else if store::cancel(tx, &id, now).await? {
                    this.audit.append(tx, vec![audit_entry("cancelled", &id, now).by(&caller)]).await?;
                } else {
                    return Err(OrchestrationError::InvalidState(
                        "Plan cannot be cancelled: it is cancelled already".into(),
                    ));
                }
                Ok(PlanChange { plan_id: id, execution_id: plan.execution_id, status: PlanStatus::Cancelled })
            })
            .await
    }

    /// Retry a failed plan from the failed sub-task; completed sub-tasks are not repeated.
    ///
    /// # Errors
    /// [`OrchestrationError::InvalidState`] when it has not failed; [`OrchestrationError::Conflict`] when the maximum number of plans is running.
    #[boxed]
    pub async fn retry(
        &self,
        caller: &Principal,
        id: &PlanId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<PlanChange>> {
        if let Some(done) = self.db.answered(&self.clock, once.as_ref()).await? {
            return Ok(done);
        }
        let (this, by, plan_id) = (self.clone(), caller.clone(), id.clone());
        let retried = self.db.write_idempotent(&self.clock, once, async move |tx: &mut Tx| {
            let plan = start::read_plan(tx, &by, &plan_id).await?;
            let Some(execution) = plan.execution_id.filter(|_| plan.status == PlanStatus::Failed) else {
                return Err(OrchestrationError::InvalidState(format!("Plan cannot be retried: it is {}", plan.status)));
            };
            let now = this.now();
            start::take_slot(tx, &plan_id, this.settings.plans_max_running, now).await?;
            this.audit.append(tx, vec![audit_entry("retried", &plan_id, now).by(&by)]).await?;
            this.executions.retry_in(tx, &by, &execution, None).await?;
            Ok(PlanChange { plan_id, execution_id: Some(execution), status: PlanStatus::Running })
        });
        match retried.await {
            Err(error @ OrchestrationError::Refused(_)) => match self.get(caller, id).await?.execution_id {
                Some(execution) => Err(self.executions.audit_refusal(caller, &execution, error).await),
                None => Err(error),
            },
            retried => retried,
        }
    }

    /// Return a plan with the state of each sub-task.
    ///
    /// # Errors
    /// As [`PlanService::get`].
    #[boxed]
    pub async fn standing(&self, caller: &Principal, id: &PlanId) -> Result<PlanStanding> {
        let plan = self.get(caller, id).await?;
        let Some(execution) = &plan.execution_id else {
            return Ok(plan_status::plan_standing(plan, &Map::new(), BTreeMap::new(), &BTreeMap::new()));
        };
        let found = self.executions.get(caller, execution).await?;
        let states = found.step_states.parse()?.unwrap_or_default();
        let mut conn = self.db.read().await?;
        // After a retry a step has several assignments: the last one determines the state, and the attempts of all are
        // shown.
        let mut by_step = BTreeMap::<String, Vec<Assignment>>::new();
        for one in assignments::list_for_execution(&mut conn, execution).await? {
            by_step.entry(one.step_key.clone()).or_default().push(one);
        }
        let attempts = assignments::list_attempts(&mut conn, execution).await?;
        Ok(plan_status::plan_standing(plan, &states, by_step, &attempts))
    }

    /// Return statistics of `caller`'s plans, by strategy.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn measured(&self, caller: &Principal) -> Result<Vec<StrategyStats>> {
        store::strategy_stats(&mut *self.db.read_list().await?, caller).await
    }
}

/// Build the audit entry of a change.
fn audit_entry(action: &str, id: &PlanId, now: Timestamp) -> AuditEntry {
    AuditEntry::new(EventType::WorkflowUpdated, now).of("plan", action).workflow(id.as_str())
}
