//! Executions as their clients see them: started, followed, cancelled, paused, resumed, retried, with logs and receipt.
//! The engine drives them; what is asked for here is written to the database first and told to the engine then, so
//! that it holds whichever process drives the run, or none.

mod estimate;
mod model;
mod store;

use std::{sync::Arc, time::Duration};

pub use estimate::Estimate;
pub use model::{Execution, Filter, StepLog};
pub(super) use store::tell;

use super::{
    definition::Plan,
    engine::{Engine, Start, under_way},
    error::{Error, Result},
    guard::{Asked, Guard, Terms},
    model::{Status, VerificationLevel},
    workflows::{Workflow, Workflows, check_limits},
};
use am_audit::{Audit, Entry, SecurityLevel};
use am_core::ambient::Clock;
use am_db::{
    Connection, Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    principal::Principal,
};
use am_events::{Event, Follower, Hub, Source};
use estimate::Estimates;

/// The executions. Cheap to clone.
#[derive(Clone)]
pub struct Executions {
    db: Database,
    clock: Clock,
    audit: Audit,
    engine: Engine,
    guard: Guard,
    hub: Hub,
    estimates: Estimates,
}

/// What a client asks a run to be.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// `$.inputs`.
    pub inputs: serde_json::Map<String, serde_json::Value>,
    /// Default the workflow's.
    pub level: Option<VerificationLevel>,
    /// Seconds; default the workflow's.
    pub max_execution_time: Option<i64>,
    /// Cost; default the workflow's.
    pub max_cost_budget: Option<f64>,
    /// W3C trace id.
    pub trace_id: Option<String>,
}

impl Executions {
    /// Executions in `db`, driven by `engine`, that `guard` admits.
    pub fn new(db: Database, clock: Clock, audit: Audit, engine: Engine, guard: Guard, hub: Hub) -> Self {
        let estimates = Estimates::new(db.clone());
        Self { db, clock, audit, engine, guard, hub, estimates }
    }

    /// The run that was started for `once` before, if one was: its workflow may be gone by now.
    ///
    /// # Errors
    /// When the key was used for another request.
    pub async fn started(&self, once: Option<&Once>) -> Result<Option<Done<Execution>>> {
        Ok(self.db.answered(&self.clock, once).await?)
    }

    /// Start a run of `workflow`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for bad limits, or a definition that the coordinator stored unchecked; [`Error::Refused`].
    pub async fn start(
        &self,
        caller: &Principal,
        workflows: &Workflows,
        workflow: &Workflow,
        request: Request,
        once: Option<Once>,
    ) -> Result<Done<Execution>> {
        let seconds = request.max_execution_time.unwrap_or(workflow.max_execution_time);
        let budget = request.max_cost_budget.unwrap_or(workflow.max_cost_budget);
        let faults = check_limits(seconds, budget);
        if !faults.is_empty() {
            return Err(Error::Invalid(faults));
        }
        let level = request.level.unwrap_or(workflow.verification_level);
        // Who asks for less verification does not get away from the policies that bind the workflow.
        let security = workflow.terms().security.max(level.security_level(workflow.requires_verification));
        let terms = Terms { security, level, max_execution_time: seconds, ..workflow.terms() };
        let compiled = workflows.compiled(workflow).await?;
        let inputs = serde_json::Value::Object(request.inputs);
        self.admit(caller, &workflow.id, terms, &compiled.plan, &inputs).await?;
        let start = Start {
            workflow_id: workflow.id.clone(),
            client: caller.clone(),
            compiled,
            inputs,
            level,
            security,
            max_execution_time: seconds,
            max_cost_budget: budget,
            trace_id: request.trace_id,
        };
        self.begin(start, once).await
    }

    /// May this be run?
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub(super) async fn admit(
        &self,
        caller: &Principal,
        workflow_id: &str,
        terms: Terms,
        plan: &Plan,
        inputs: &serde_json::Value,
    ) -> Result<()> {
        let workflow_id = Some(workflow_id);
        let asked = Asked { resource: "execution", caller, workflow_id, execution_id: None };
        self.guard.admit(&asked, terms, plan, Some(inputs)).await
    }

    /// The seconds that policies leave a run of this level; none: no limit.
    pub(super) fn time_limit(&self, level: SecurityLevel) -> Option<i64> {
        self.guard.policies().time_limit(level).map(|(seconds, _)| seconds)
    }

    /// Begin a run that was admitted.
    ///
    /// # Errors
    /// [`Error::Refused`] when its client has too many under way.
    pub(super) async fn begin(&self, start: Start, once: Option<Once>) -> Result<Done<Execution>> {
        let (caller, workflow_id, level) = (start.client.clone(), start.workflow_id.clone(), start.security);
        match self.engine.start(start, once).await {
            Err(Error::Refused(refusal)) => {
                let workflow_id = Some(workflow_id.as_str());
                let asked = Asked { resource: "execution", caller: &caller, workflow_id, execution_id: None };
                Err(self.guard.refuse(&asked, level, refusal).await)
            }
            begun => begun,
        }
    }

    /// How many runs of this level `client` has under way.
    ///
    /// # Errors
    /// As the database.
    pub async fn under_way(&self, client: &Principal, level: SecurityLevel) -> Result<i64> {
        under_way(&mut *self.db.read().await?, &client.name, level).await
    }

    /// An execution of `caller`'s.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Forbidden`] for another's.
    pub async fn get(&self, caller: &Principal, id: &str) -> Result<Execution> {
        let execution = store::get(&mut *self.db.read().await?, id).await?.ok_or(Error::NotFound("Execution"))?;
        allowed(caller, execution)
    }

    /// The same, once it has ended or `wait` is over.
    ///
    /// # Errors
    /// As [`Executions::get`].
    pub async fn wait(&self, caller: &Principal, id: &str, wait: Duration) -> Result<Execution> {
        let deadline = tokio::time::Instant::now() + wait;
        // The place is taken before the first look, so that no end falls between the two.
        let mut subscription = self.hub.subscribe(id);
        loop {
            let execution = self.get(caller, id).await?;
            if execution.status.is_final() || self.engine.has_left(id) {
                return Ok(execution);
            }
            // Another process may drive it: then nothing wakes us, and looking now and then must do.
            let look_again = deadline.min(tokio::time::Instant::now() + Duration::from_secs(1));
            tokio::select! {
                () = subscription.woken() => {}
                () = tokio::time::sleep_until(look_again) => {
                    if look_again == deadline {
                        return self.get(caller, id).await;
                    }
                }
            }
        }
    }

    /// A page of `caller`'s executions, newest first, and how many there are in all.
    ///
    /// # Errors
    /// As the database.
    pub async fn list(&self, caller: &Principal, filter: &Filter) -> Result<(Vec<Execution>, i64)> {
        store::list(&mut *self.db.read().await?, caller, filter).await
    }

    /// What a run of this workflow is likely to take, from those that have ended.
    ///
    /// # Errors
    /// As the database.
    pub async fn estimate(&self, workflow_id: &str, steps: i64) -> Result<Estimate> {
        self.estimates.of(workflow_id, steps).await
    }

    /// The steps of an execution, in order.
    ///
    /// # Errors
    /// As [`Executions::get`].
    pub async fn logs(&self, caller: &Principal, id: &str) -> Result<(Execution, Vec<StepLog>)> {
        let execution = self.get(caller, id).await?;
        let steps = store::steps(&mut *self.db.read().await?, &execution).await?;
        Ok((execution, steps))
    }

    /// Cancel: what runs is stopped, jobs that no miner has taken are taken back. Holds before the start as well.
    ///
    /// # Errors
    /// [`Error::State`] when it has ended already.
    pub async fn cancel(&self, caller: &Principal, id: &str, once: Option<Once>) -> Result<Done<Execution>> {
        let cancelled =
            self.change(caller, id, once, async |tx, execution, now| store::cancel(tx, execution, now).await).await?;
        if !cancelled.replayed {
            self.engine.cancelled(id);
        }
        Ok(cancelled)
    }

    /// Begin no further step until it is resumed; what is under way ends.
    ///
    /// # Errors
    /// [`Error::State`] when it has ended, or is paused already.
    pub async fn pause(&self, caller: &Principal, id: &str, once: Option<Once>) -> Result<Done<Execution>> {
        let paused =
            self.change(caller, id, once, async |tx, execution, now| store::pause(tx, execution, now).await).await?;
        self.engine.look(id);
        Ok(paused)
    }

    /// Go on after a pause.
    ///
    /// # Errors
    /// [`Error::State`] when it is not paused.
    pub async fn resume(&self, caller: &Principal, id: &str, once: Option<Once>) -> Result<Done<Execution>> {
        let resumed =
            self.change(caller, id, once, async |tx, execution, now| store::resume(tx, execution, now).await).await?;
        self.engine.look(id);
        Ok(resumed)
    }

    /// Run a failed execution on from the step that failed; steps that ended well are not run again.
    ///
    /// # Errors
    /// [`Error::State`] when it has not failed, or was run by the coordinator.
    pub async fn retry(&self, caller: &Principal, id: &str, once: Option<Once>) -> Result<Done<Execution>> {
        let policies = self.guard.policies().clone();
        let retry = async move |tx: &mut Tx, execution: Execution, now: Timestamp| {
            let level = store::security(tx.conn().await?, &execution.id).await?;
            if policies.bind(level) {
                let others = under_way(tx.conn().await?, &execution.client_id, level).await?;
                policies.check_concurrency(level, others).map_err(Error::Refused)?;
            }
            store::retry(tx, execution, now).await
        };
        let retried = match self.change(caller, id, once, retry).await {
            Err(Error::Refused(refusal)) => {
                let level = store::security(&mut *self.db.read().await?, id).await?;
                let asked = Asked { resource: "execution", caller, workflow_id: None, execution_id: Some(id) };
                return Err(self.guard.refuse(&asked, level, refusal).await);
            }
            retried => retried?,
        };
        self.engine.look(id);
        Ok(retried)
    }

    /// One change of an execution's state, in one transaction with its event and its entry in the audit log.
    async fn change<F>(&self, caller: &Principal, id: &str, once: Option<Once>, change: F) -> Result<Done<Execution>>
    where
        F: AsyncFnOnce(&mut Tx, Execution, Timestamp) -> Result<Entry> + Send + 'static,
    {
        let (caller, now, hub, stream) = (caller.clone(), Timestamp(self.clock.now()), self.hub.clone(), id.to_owned());
        let audit = self.audit.clone();
        self.db
            .write_once(&self.clock, once, async move |tx: &mut Tx| {
                let found = store::get(tx.conn().await?, &stream).await?.ok_or(Error::NotFound("Execution"))?;
                let found = allowed(&caller, found)?;
                let (workflow, level) = (found.workflow_id.clone(), store::security(tx.conn().await?, &stream).await?);
                let entry = change(tx, found, now).await?;
                audit.append(tx, vec![entry.by(&caller).workflow(workflow).execution(&stream).level(level)]).await?;
                let changed = store::get(tx.conn().await?, &stream).await?.ok_or(Error::NotFound("Execution"))?;
                tx.after_commit(move || hub.wake(&stream));
                Ok(changed)
            })
            .await
    }

    /// At most `limit` events of an execution after number `after`.
    ///
    /// # Errors
    /// As [`Executions::get`].
    pub async fn events(&self, caller: &Principal, id: &str, after: i64, limit: usize) -> Result<Vec<Event>> {
        self.get(caller, id).await?;
        Ok(am_events::read(&mut *self.db.read().await?, id, after, limit).await?)
    }

    /// Follow an execution's events after number `after` until it has ended.
    pub fn follow(&self, id: &str, after: i64) -> Follower<Self> {
        Follower::new(self.db.clone(), &self.hub, self.clone(), id, after)
    }
}

fn allowed(caller: &Principal, execution: Execution) -> Result<Execution> {
    if caller.owns(&execution.client_id) { Ok(execution) } else { Err(Error::Forbidden) }
}

impl Source for Executions {
    async fn has_ended(&self, conn: &mut Connection, id: &str) -> am_db::Result<bool> {
        store::has_ended(conn, id).await
    }

    fn is_stopping(&self) -> bool {
        !self.engine.is_running()
    }
}

/// Words for states that forbid an action.
fn forbids(status: Status, action: &str) -> Error {
    Error::State(format!("Execution cannot be {action}: it is {status}"))
}

/// Shared by the parts of the room.
type Shared<T> = Arc<std::sync::Mutex<T>>;
