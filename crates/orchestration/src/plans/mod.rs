//! Plans: a task is decomposed into sub-tasks, which are ordered in stages and matched with agents; an executed plan is
//! a run of the engine whose steps are done by agents.

mod compose;
mod decompose;
mod estimate;
mod model;
mod standing;
mod store;
mod written;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use model::{
    Document, Draft, Filter, Measured, Plan, PlanStatus, Planned, Priority, SplitBy, Strategy, SubTask, SubTaskDraft,
    SubTaskStatus,
};

use super::{
    action::Names,
    assignments::{self, Assignment},
    engine::Start,
    error::{Error, Result},
    executions::{Execution, Executions},
    guard::Terms,
    model::VerificationLevel,
    registry::{self, Registry},
    workflows::Compiled,
};
use am_audit::{Audit, Entry, EventType, SecurityLevel};
use am_core::{
    ambient::{Clock, Ids},
    config::AgentsConfig,
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    principal::Principal,
};

/// Service for plans. Cheap to clone.
#[derive(Clone)]
pub struct Plans {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
    registry: Registry,
    executions: Executions,
    names: Names,
    settings: AgentsConfig,
}

/// Result of a change to a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// Id of the plan.
    pub plan_id: String,
    /// Id of its execution; null before it was executed.
    pub execution_id: Option<String>,
    /// Status after the change.
    pub status: PlanStatus,
}

/// A plan with the state of its sub-tasks.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = PlanStanding)]
pub struct Standing {
    /// The plan as stored.
    #[serde(flatten)]
    pub plan: Plan,
    /// Share of completed sub-tasks, in percent.
    pub progress: f64,
    /// State of the sub-tasks, in the plan's order.
    pub sub_task_status: Vec<SubTaskStatus>,
}

/// Dependencies of the service for plans.
pub struct Parts {
    /// Database of the plans.
    pub db: Database,
    /// Source of the time.
    pub clock: Clock,
    /// Source of ids.
    pub ids: Ids,
    /// Audit log of all changes.
    pub audit: Audit,
    /// Registry of the agents that plans are made for.
    pub registry: Registry,
    /// Service that runs plans.
    pub executions: Executions,
    /// Names that actions may refer to.
    pub names: Names,
    /// Limits of plans.
    pub settings: AgentsConfig,
}

impl Plans {
    /// Create the service.
    pub fn new(parts: Parts) -> Self {
        let Parts { db, clock, ids, audit, registry, executions, names, settings } = parts;
        Self { db, clock, ids, audit, registry, executions, names, settings }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }

    /// Decompose a task, match it with the present agents, and store the plan without running it.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault.
    pub async fn create(&self, owner: &Principal, draft: Draft, once: Option<Once>) -> Result<Done<Plan>> {
        let now = self.now();
        written::check(&draft, now)?;
        let split = decompose::split(&draft).map_err(Error::Invalid)?;
        let (known, ended) = {
            let mut conn = self.db.read().await?;
            let known = estimate::Known {
                agents: registry::store::all(&mut conn, self.registry.cutoff(now)).await?,
                fastest: registry::store::fastest(&mut conn).await?,
                usual: registry::store::usual(&mut conn).await?,
            };
            (known, store::ended(&mut conn, split.strategy).await?)
        };
        let document = written::document(draft, &split, &known, ended, now);
        // Compiled now, so that faults are reported to the client at once.
        self.compiled(&document).await?;
        let id = self.ids.next("plan_", 12);
        let plan = Plan {
            id,
            owner_id: owner.name.to_string(),
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
        let entry = Entry::new(EventType::WorkflowCreated, now).of("plan", "created").by(owner).workflow(&plan.id);
        let state =
            json!({"name": plan.document.name, "strategy": plan.document.strategy, "stages": plan.document.stages});
        let entry = entry.change(None, Some(state));
        self.db
            .write_once(&self.clock, once, async move |tx: &mut Tx| {
                store::insert(tx, &plan).await?;
                audit.append(tx, vec![entry]).await?;
                Ok(plan)
            })
            .await
    }

    async fn compiled(&self, document: &Document) -> Result<Compiled> {
        let compiled = compose::definition(document).compiled(&self.names).await;
        let plan = compiled.map_err(|faults| {
            Error::Invalid(faults.into_iter().map(|fault| compose::in_plan(document, fault)).collect())
        })?;
        let step_ids = plan.steps.iter().map(|step| step.key.clone()).collect();
        Ok(Compiled { plan: Arc::new(plan), step_ids })
    }

    /// Return a plan of `caller`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn get(&self, caller: &Principal, id: &str) -> Result<Plan> {
        let plan = store::get(&mut *self.db.read().await?, id).await?.ok_or(Error::NotFound("Plan"))?;
        if caller.owns(&plan.owner_id) { Ok(plan) } else { Err(Error::Forbidden) }
    }

    /// Return a page of `caller`'s plans, newest first, and the number of matching ones.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub async fn list(&self, caller: &Principal, filter: &Filter) -> Result<(Vec<Plan>, i64)> {
        store::list(&mut *self.db.read().await?, caller, filter).await
    }

    /// Execute a plan. A plan is executed once: a repeated request returns the same execution.
    ///
    /// # Errors
    /// [`Error::Conflict`] when no registered agent can do a sub-task, unless `wait_for_agents`, and when the maximum
    /// number of plans is running; [`Error::State`] when it is cancelled or its deadline has passed;
    /// [`Error::Refused`].
    pub async fn execute(
        &self,
        caller: &Principal,
        id: &str,
        wait_for_agents: bool,
        trace_id: Option<String>,
        once: Option<Once>,
    ) -> Result<Done<Execution>> {
        if let Some(done) = self.executions.started(once.as_ref()).await? {
            return Ok(done);
        }
        let plan = self.get(caller, id).await?;
        if let Some(execution) = &plan.execution_id {
            let execution = self.executions.get(caller, execution).await?;
            return Ok(Done { value: execution, replayed: true });
        }
        if plan.status == PlanStatus::Cancelled {
            return Err(Error::State("Plan cannot be executed: it is cancelled".into()));
        }
        let seconds = self.seconds_left(&plan)?;
        if !wait_for_agents {
            self.someone_for_each(&plan).await?;
        }
        let start = self.start(caller, &plan, seconds, trace_id).await?;
        self.hold(caller, &plan.id, "executed").await?;
        // The plan's own idempotency key makes concurrent requests, and requests repeated after a crash, return the
        // same execution.
        let name = Once { scope: "plan".into(), key: plan.id.clone(), fingerprint: plan.id.clone() };
        match self.executions.begin(start, Some(name)).await {
            Ok(done) => self.kept(done, once).await,
            Err(error) => {
                self.let_go(caller, &plan.id, &error).await?;
                Err(error)
            }
        }
    }

    /// Build the execution request of a plan, checked against the security policies.
    async fn start(
        &self,
        caller: &Principal,
        plan: &Plan,
        max_execution_time: i64,
        trace_id: Option<String>,
    ) -> Result<Start> {
        let compiled = self.compiled(&plan.document).await?;
        let (level, security) = (VerificationLevel::Basic, SecurityLevel::Internal);
        let limit =
            self.executions.time_limit(security).filter(|limit| max_execution_time == 0 || *limit < max_execution_time);
        let max_execution_time = limit.unwrap_or(max_execution_time);
        let terms = Terms { security, level, requires_verification: true, max_execution_time };
        let inputs = Value::Object(plan.document.inputs.clone());
        self.executions.admit(caller, &plan.id, terms, &compiled.plan, &inputs).await?;
        Ok(Start {
            workflow_id: plan.id.clone(),
            client: caller.clone(),
            compiled,
            inputs,
            level,
            security,
            max_execution_time,
            max_cost_budget: plan.document.max_cost_budget,
            trace_id,
        })
    }

    /// Record the response under the client's own key too.
    async fn kept(&self, done: Done<Execution>, once: Option<Once>) -> Result<Done<Execution>> {
        if once.is_none() {
            return Ok(done);
        }
        let (execution, replayed) = (done.value, done.replayed);
        let kept = self.db.write_once(&self.clock, once, async move |_: &mut Tx| Ok::<_, Error>(execution)).await?;
        Ok(Done { replayed: kept.replayed || replayed, ..kept })
    }

    /// Return the seconds until the deadline; 0: no deadline.
    fn seconds_left(&self, plan: &Plan) -> Result<i64> {
        let Some(deadline) = plan.document.deadline else { return Ok(0) };
        let left = deadline.seconds_since(self.now());
        if left <= 0.0 {
            return Err(Error::State(format!("Plan cannot be executed: its deadline {deadline} has passed")));
        }
        Ok(left.ceil() as i64)
    }

    /// Check that for each sub-task a suitable agent is registered, online or not.
    async fn someone_for_each(&self, plan: &Plan) -> Result<()> {
        let agents = registry::store::all(&mut *self.db.read().await?, self.registry.cutoff(self.now())).await?;
        if agents.is_empty() {
            return Err(Error::Conflict("no agent is registered that could do the plan".into()));
        }
        let nobody = plan.document.sub_tasks.iter().filter_map(|sub_task| {
            let need = sub_task.need();
            let mut why = agents.iter().map(|agent| need.misfit(agent));
            why.all(|why| why.is_some()).then(|| format!("{} ({})", sub_task.key, sub_task.task_type))
        });
        let nobody: Vec<String> = nobody.collect();
        if nobody.is_empty() {
            return Ok(());
        }
        Err(Error::Conflict(format!("no registered agent can do {}", nobody.join(", "))))
    }

    async fn hold(&self, caller: &Principal, id: &str, action: &'static str) -> Result<()> {
        let (id, now, most, audit) = (id.to_owned(), self.now(), self.settings.plans_max_running, self.audit.clone());
        let entry = entry(action, &id, now).by(caller);
        self.db
            .write(async move |tx: &mut Tx| {
                if let Some(others) = store::hold(tx, &id, most, now).await? {
                    return Err(Error::Conflict(format!("{others} plans are running; at most {most} may at once")));
                }
                audit.append(tx, vec![entry]).await?;
                Ok(())
            })
            .await
    }

    async fn let_go(&self, caller: &Principal, id: &str, why: &Error) -> Result<()> {
        let (id, audit) = (id.to_owned(), self.audit.clone());
        let entry = entry("not_started", &id, self.now()).by(caller).data("reason", json!(why.to_string()));
        self.db
            .write(async move |tx: &mut Tx| {
                store::let_go(tx, &id).await?;
                audit.append(tx, vec![entry]).await?;
                Ok(())
            })
            .await
    }

    /// Cancel a plan: its assignments are cancelled, and the agents have capacity again. A plan that was not executed
    /// can no longer be.
    ///
    /// # Errors
    /// [`Error::State`] when it has ended.
    pub async fn cancel(&self, caller: &Principal, id: &str, once: Option<Once>) -> Result<Done<Changed>> {
        if let Some(done) = self.db.answered(&self.clock, once.as_ref()).await? {
            return Ok(done);
        }
        let plan = self.get(caller, id).await?;
        if let Some(execution) = plan.execution_id {
            self.executions.cancel(caller, &execution, None).await?;
            let changed = Changed { plan_id: plan.id, execution_id: Some(execution), status: PlanStatus::Cancelled };
            return self.remember(changed, once).await;
        }
        let (id, now, audit) = (plan.id, self.now(), self.audit.clone());
        let entry = entry("cancelled", &id, now).by(caller);
        self.db
            .write_once(&self.clock, once, async move |tx: &mut Tx| {
                if !store::cancel(tx, &id, now).await? {
                    return Err(Error::State(
                        "Plan cannot be cancelled: it has just changed, or is cancelled already".into(),
                    ));
                }
                audit.append(tx, vec![entry]).await?;
                Ok(Changed { plan_id: id, execution_id: None, status: PlanStatus::Cancelled })
            })
            .await
    }

    /// Retry a failed plan from the failed sub-task; completed sub-tasks are not repeated.
    ///
    /// # Errors
    /// [`Error::State`] when it has not failed; [`Error::Conflict`] when the maximum number of plans is running.
    pub async fn retry(&self, caller: &Principal, id: &str, once: Option<Once>) -> Result<Done<Changed>> {
        if let Some(done) = self.db.answered(&self.clock, once.as_ref()).await? {
            return Ok(done);
        }
        let plan = self.get(caller, id).await?;
        let execution = plan.execution_id.filter(|_| plan.status == PlanStatus::Failed);
        let Some(execution) = execution else {
            return Err(Error::State(format!("Plan cannot be retried: it is {}", plan.status)));
        };
        self.hold(caller, &plan.id, "retried").await?;
        if let Err(error) = self.executions.retry(caller, &execution, None).await {
            self.let_go(caller, &plan.id, &error).await?;
            return Err(error);
        }
        let changed = Changed { plan_id: plan.id, execution_id: Some(execution), status: PlanStatus::Running };
        self.remember(changed, once).await
    }

    async fn remember(&self, changed: Changed, once: Option<Once>) -> Result<Done<Changed>> {
        if once.is_none() {
            return Ok(Done::fresh(changed));
        }
        self.db.write_once(&self.clock, once, async move |_: &mut Tx| Ok::<_, Error>(changed)).await
    }

    /// Return a plan with the state of each sub-task.
    ///
    /// # Errors
    /// As [`Plans::get`].
    pub async fn standing(&self, caller: &Principal, id: &str) -> Result<Standing> {
        let plan = self.get(caller, id).await?;
        let Some(execution) = &plan.execution_id else {
            return Ok(standing::of(plan, &Map::new(), BTreeMap::new(), &BTreeMap::new()));
        };
        let found = self.executions.get(caller, execution).await?;
        let states = found.step_states.parse()?.unwrap_or_default();
        let mut conn = self.db.read().await?;
        // After a retry a step has several assignments: the last one determines the state, and the attempts of all are
        // shown.
        let mut by_step = BTreeMap::<String, Vec<Assignment>>::new();
        for one in assignments::of_execution(&mut conn, execution).await? {
            by_step.entry(one.step_key.clone()).or_default().push(one);
        }
        let attempts = assignments::attempts(&mut conn, execution).await?;
        Ok(standing::of(plan, &states, by_step, &attempts))
    }

    /// Return statistics of `caller`'s plans, by strategy.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub async fn measured(&self, caller: &Principal) -> Result<Vec<Measured>> {
        store::measured(&mut *self.db.read().await?, caller).await
    }
}

/// Build the audit entry of a change.
fn entry(action: &str, id: &str, now: Timestamp) -> Entry {
    Entry::new(EventType::WorkflowUpdated, now).of("plan", action).workflow(id)
}
