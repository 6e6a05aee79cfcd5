//! Plans: a task is split into sub-tasks, those are put into stages and planned for agents; executed, a plan is a run of the
//! engine whose steps agents do.

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

/// The plans. Cheap to clone.
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

/// What was done to a plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// The plan.
    pub plan_id: String,
    /// Its run, if it has one.
    pub execution_id: Option<String>,
    /// Where it stands now.
    pub status: PlanStatus,
}

/// A plan with how its sub-tasks stand.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// The plan.
    #[serde(flatten)]
    pub plan: Plan,
    /// Percent of its sub-tasks that are done.
    pub progress: f64,
    /// How its sub-tasks stand, in the plan's order.
    pub sub_task_status: Vec<SubTaskStatus>,
}

/// What plans are built on.
pub struct Parts {
    /// Where they are kept.
    pub db: Database,
    /// The time.
    pub clock: Clock,
    /// Ids.
    pub ids: Ids,
    /// What is told of every change.
    pub audit: Audit,
    /// Whom they are planned for.
    pub registry: Registry,
    /// What runs them.
    pub executions: Executions,
    /// What actions may name.
    pub names: Names,
    /// Limits.
    pub settings: AgentsConfig,
}

impl Plans {
    /// Of these parts.
    pub fn new(parts: Parts) -> Self {
        let Parts { db, clock, ids, audit, registry, executions, names, settings } = parts;
        Self { db, clock, ids, audit, registry, executions, names, settings }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }

    /// Split a task, plan it for the agents that are there, and store the plan. Nothing is run.
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
        // Compiled now, so that what is wrong is told now.
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

    /// One of `caller`'s plans.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn get(&self, caller: &Principal, id: &str) -> Result<Plan> {
        let plan = store::get(&mut *self.db.read().await?, id).await?.ok_or(Error::NotFound("Plan"))?;
        if caller.owns(&plan.owner_id) { Ok(plan) } else { Err(Error::Forbidden) }
    }

    /// `caller`'s plans, newest first, and how many match.
    ///
    /// # Errors
    /// As the database.
    pub async fn list(&self, caller: &Principal, filter: &Filter) -> Result<(Vec<Plan>, i64)> {
        store::list(&mut *self.db.read().await?, caller, filter).await
    }

    /// Run a plan. It is run once: asked again it answers the same run.
    ///
    /// # Errors
    /// [`Error::Conflict`] when no agent is registered that could do a sub-task, unless `wait_for_agents`, and when as many
    /// plans run as may; [`Error::State`] when it is cancelled, or its deadline is over; [`Error::Refused`].
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
        // Under the plan's own name, so that two that ask at once, or again after a crash, get the same run.
        let name = Once { scope: "plan".into(), key: plan.id.clone(), fingerprint: plan.id.clone() };
        match self.executions.begin(start, Some(name)).await {
            Ok(done) => self.kept(done, once).await,
            Err(error) => {
                self.let_go(caller, &plan.id, &error).await?;
                Err(error)
            }
        }
    }

    /// The run that a plan begins with, admitted by the security policies.
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

    /// Keep an answer under the client's own key as well.
    async fn kept(&self, done: Done<Execution>, once: Option<Once>) -> Result<Done<Execution>> {
        if once.is_none() {
            return Ok(done);
        }
        let (execution, replayed) = (done.value, done.replayed);
        let kept = self.db.write_once(&self.clock, once, async move |_: &mut Tx| Ok::<_, Error>(execution)).await?;
        Ok(Done { replayed: kept.replayed || replayed, ..kept })
    }

    /// Seconds until the deadline; 0: there is none.
    fn seconds_left(&self, plan: &Plan) -> Result<i64> {
        let Some(deadline) = plan.document.deadline else { return Ok(0) };
        let left = deadline.seconds_since(self.now());
        if left <= 0.0 {
            return Err(Error::State(format!("Plan cannot be executed: its deadline {deadline} is over")));
        }
        Ok(left.ceil() as i64)
    }

    /// Is somebody registered, online or not, for each sub-task?
    async fn someone_for_each(&self, plan: &Plan) -> Result<()> {
        let agents = registry::store::all(&mut *self.db.read().await?, self.registry.cutoff(self.now())).await?;
        if agents.is_empty() {
            return Err(Error::Conflict("no agent is registered: there is nobody to do the plan".into()));
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

    /// Stop a plan: what its agents do is taken back, and they have room again. One that was not executed never will be.
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
                    return Err(Error::State("Plan cannot be cancelled: it changed at this moment, or is so".into()));
                }
                audit.append(tx, vec![entry]).await?;
                Ok(Changed { plan_id: id, execution_id: None, status: PlanStatus::Cancelled })
            })
            .await
    }

    /// Run a failed plan on from the sub-task that failed; what ended well is not done again.
    ///
    /// # Errors
    /// [`Error::State`] when it has not failed; [`Error::Conflict`] when as many plans run as may.
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

    /// How a plan stands, sub-task by sub-task.
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
        // After a retry a step has several, of which the last counts; what became of all is told.
        let mut by_step = BTreeMap::<String, Vec<Assignment>>::new();
        for one in assignments::of_execution(&mut conn, execution).await? {
            by_step.entry(one.step_key.clone()).or_default().push(one);
        }
        let attempts = assignments::attempts(&mut conn, execution).await?;
        Ok(standing::of(plan, &states, by_step, &attempts))
    }

    /// What became of `caller`'s plans, by strategy.
    ///
    /// # Errors
    /// As the database.
    pub async fn measured(&self, caller: &Principal) -> Result<Vec<Measured>> {
        store::measured(&mut *self.db.read().await?, caller).await
    }
}

/// What the audit log gets to know of a change.
fn entry(action: &str, id: &str, now: Timestamp) -> Entry {
    Entry::new(EventType::WorkflowUpdated, now).of("plan", action).workflow(id)
}
