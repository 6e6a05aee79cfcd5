//! Runs held by this worker: claimed when a place is free, by client in turn, loaded from their last save, compared with the
//! database at each heartbeat, and released when they cannot be run.

pub(super) mod store;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use serde_json::Value;
use tracing::Instrument as _;

use store::{ClaimedStepRow, HeldRun};

use super::{
    EngineInner, costs,
    driver::{DriverHandle, RunDriver},
    value_memory::MemoryShare,
};
use crate::{
    definition::{CompiledStep, ExecutionPlan, WorkflowDefinition},
    error::{OrchestrationError, Result, corrupt_json_error},
    model::ExecutionStatus,
    run::{RunState, StepRun},
};
use am_core::{
    blocking::in_place,
    fair::FairPlace,
    ids::{ExecutionId, PrincipalId, StepExecutionId},
    money::Money,
    value_budget::SizedValue,
};
use am_db::{
    Tx,
    codec::{JsonText, Timestamp},
};

/// At this many claims without progress a run fails.
const MAX_CLAIMS: i64 = 3;
/// Clients with runs to claim that are looked up at once; the next look begins behind them.
const MAX_CLIENTS_PER_LOOK: i64 = 256;

/// Clients with runs to claim, each waiting for one place.
#[derive(Default)]
struct ClaimQueue {
    waiting: FuturesUnordered<BoxFuture<'static, (PrincipalId, FairPlace<PrincipalId>)>>,
    clients: HashSet<PrincipalId>,
    /// Client behind which the next look begins.
    after: PrincipalId,
}

/// What becomes of a claimed run that is not driven.
enum ClaimEnd {
    /// It fails for this reason.
    Failed(String),
    /// It could not be read this time; another worker may try.
    Released,
    /// This worker stops before it tried.
    Untried,
}

impl EngineInner {
    pub async fn beat(self: Arc<Self>) {
        let mut suspects = HashSet::new();
        loop {
            if !self.stop.is_cancelled() {
                match self.worker.reclaim_dead_workers(&self.db, &self.clock).await {
                    Ok(0) => {}
                    Ok(runs) => {
                        self.metrics.taken_over.inc_by(runs);
                        self.work.notify_one();
                    }
                    Err(error) => tracing::warn!(%error, "could not check for dead workers"),
                }
            }
            tokio::select! {
                () = self.left.cancelled() => return,
                () = tokio::time::sleep(self.config.lease / 3) => {}
            }
            if let Err(error) = self.worker.heartbeat(&self.db, &self.clock).await {
                tracing::warn!(%error, "could not write the heartbeat");
            }
            self.metrics.working.set(self.places.used() as i64);
            match self.waiting().await {
                Ok(waiting) => drop(self.metrics.waiting.set(waiting)),
                Err(error) => tracing::warn!(%error, "could not count waiting executions"),
            }
            match self.oldest_run_seconds().await {
                Ok(seconds) => drop(self.metrics.oldest.set(seconds)),
                Err(error) => tracing::warn!(%error, "could not read the age of the oldest execution"),
            }
            if let Err(error) = self.reconcile_held_runs(&mut suspects).await {
                tracing::warn!(%error, "could not read the executions held by this worker");
            }
            if let Err(error) = self.book_left_jobs().await {
                tracing::warn!(%error, "could not book the costs of jobs that ended after their executions; retrying");
            }
        }
    }

    async fn waiting(&self) -> Result<i64> {
        store::count_waiting(&mut *self.db.read_vital().await?).await
    }

    /// The age of the oldest run that has not ended, in seconds; 0: there is none.
    async fn oldest_run_seconds(&self) -> Result<i64> {
        let mut conn = self.db.read_vital().await?;
        let waiting = store::oldest_queued(&mut conn, "ready").await?;
        let driven = store::oldest_queued(&mut conn, "driven").await?;
        let oldest = waiting.into_iter().chain(driven).min();
        Ok(oldest.map_or(0, |oldest| (self.clock.now() - oldest.0).num_seconds().max(0)))
    }

    /// Compare the runs that the database assigns to this worker with those it drives. Another process may have
    /// cancelled or paused a run, or declared this worker dead; and a driver that failed has left its run behind.
    async fn reconcile_held_runs(&self, suspects: &mut HashSet<HeldRun>) -> Result<()> {
        // Taken before the query: a run enters the map only after it is in the database.
        let driven: Vec<(ExecutionId, Arc<DriverHandle>)> =
            self.lock().iter().map(|(id, handle)| (id.clone(), handle.clone())).collect();
        let held = store::list_held(&mut *self.db.read_vital().await?, &self.worker.id).await?;
        let paused: HashMap<&ExecutionId, bool> = held.iter().map(|state| (&state.run.id, state.paused)).collect();
        for (id, handle) in &driven {
            match paused.get(id) {
                None => handle.lost.cancel(),
                Some(true) => handle.look.notify_one(),
                Some(false) => {}
            }
        }
        let left = held.into_iter().map(|state| state.run).filter(|run| self.handle(&run.id).is_none());
        let left: HashSet<HeldRun> = left.collect();
        // Twice in a row: a run claimed just now has no driver yet.
        for run in left.intersection(suspects).cloned() {
            tracing::warn!(execution = %run.id, "an execution was held without a driver; releasing it");
            self.db.write(async move |tx: &mut Tx| store::release_run(tx, &run, true).await).await?;
            self.work.notify_one();
        }
        *suspects = left;
        Ok(())
    }

    pub async fn claim_loop(self: Arc<Self>) {
        let mut queue = ClaimQueue::default();
        loop {
            let found = self.look_for_clients(&mut queue).await;
            // Runs made ready by this process are notified; those left by another process are found by polling.
            let mut pause = self.config.lease / 3;
            if let Err(error) = found {
                tracing::warn!(%error, "could not look for executions to claim");
                pause = Duration::from_millis(200);
            }
            let poll = tokio::time::sleep(pause);
            tokio::pin!(poll);
            loop {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return,
                    () = self.work.notified() => break,
                    Some((client, place)) = queue.waiting.next() => match self.claim(&client, place).await {
                        Ok(true) => self.ask_for_place(&mut queue, client),
                        Ok(false) => drop(queue.clients.remove(&client)),
                        Err(error) => {
                            queue.clients.remove(&client);
                            tracing::warn!(%error, "could not claim an execution");
                            poll.as_mut().reset(tokio::time::Instant::now() + Duration::from_millis(200));
                        }
                    },
                    () = &mut poll => break,
                }
            }
        }
    }

    /// Ask for a place for each client that has a run to claim and waits for none yet.
    async fn look_for_clients(&self, queue: &mut ClaimQueue) -> Result<()> {
        let clients =
            store::list_claimable_clients(&mut *self.db.read_vital().await?, &queue.after, MAX_CLIENTS_PER_LOOK)
                .await?;
        let more = clients.len() as i64 == MAX_CLIENTS_PER_LOOK;
        queue.after = clients.last().filter(|_| more).cloned().unwrap_or_default();
        for client in clients {
            if queue.clients.insert(client.clone()) {
                self.ask_for_place(queue, client);
            }
        }
        Ok(())
    }

    /// Wait for a place for one run of the client.
    fn ask_for_place(&self, queue: &mut ClaimQueue, client: PrincipalId) {
        let place = self.places.acquire(&client);
        queue.waiting.push(Box::pin(async move { (client, place.await) }));
    }

    /// Claim the run of the client that has waited longest, and drive it. Returns whether there was one.
    async fn claim(self: &Arc<Self>, client: &PrincipalId, place: FairPlace<PrincipalId>) -> Result<bool> {
        let (worker, of) = (self.worker.id.clone(), client.clone());
        let claimed = self.db.write(async move |tx: &mut Tx| store::claim_next(tx, &worker, &of).await).await?;
        let Some(store::ClaimedRun { id, fence, claims }) = claimed else { return Ok(false) };
        let claimed = HeldRun { id, fence };
        if claims >= MAX_CLAIMS {
            // Before the crash point: what ends the process does so once it is driven.
            let why = format!(
                "given up: claimed {claims} times without progress, because the process ended or the save failed each time"
            );
            tracing::error!(execution = %claimed.id, claims, "an execution is given up: it never came on");
            self.end_claim(claimed, ClaimEnd::Failed(why)).await?;
            return Ok(true);
        }
        am_core::crash_point!("engine.after_claim");
        let slot = DriverSlot::occupy(self, claimed.id.clone(), Arc::default());
        drop(self.tasks.spawn(ClaimedSlot { slot, run: claimed }.take_up(place)));
        Ok(true)
    }

    /// Fail a run that cannot be loaded, because its definition or its state can't be understood; release one that could not
    /// be read this time.
    async fn fail_unloadable(&self, run: HeldRun, error: &OrchestrationError) -> Result<()> {
        tracing::warn!(execution = %run.id, %error, "a claimed execution cannot be run");
        let failed = matches!(
            error,
            OrchestrationError::Invalid(_)
                | OrchestrationError::NotFound(_)
                | OrchestrationError::Db(am_db::DatabaseError::InvalidValue(_))
        );
        let end = match error {
            _ if failed => ClaimEnd::Failed(error.to_string()),
            OrchestrationError::Stopping => ClaimEnd::Untried,
            _ => ClaimEnd::Released,
        };
        self.end_claim(run, end).await
    }

    /// Fail or release a claimed run that is not driven.
    async fn end_claim(&self, run: HeldRun, end: ClaimEnd) -> Result<()> {
        let (hub, audit, ledger) = (self.hub.clone(), self.audit.clone(), self.ledger.clone());
        let now = Timestamp(self.clock.now());
        if matches!(end, ClaimEnd::Failed(_)) {
            tracing::warn!(execution = %run.id, class = "unreadable", "execution failed");
        }
        self.db
            .write(async move |tx: &mut Tx| {
                match end {
                    ClaimEnd::Failed(why) => {
                        if let Some(entry) = store::fail_unloadable(tx, &run, &why, now).await? {
                            audit.append(tx, vec![entry]).await?;
                            costs::end_reservation(&ledger, tx, &run.id).await?;
                        }
                    }
                    ClaimEnd::Released => store::release_run(tx, &run, true).await?,
                    ClaimEnd::Untried => store::release_run(tx, &run, false).await?,
                }
                tx.after_commit(move || hub.wake(&run.id));
                Ok(())
            })
            .await
    }

    /// Load a claimed run when its values, whose memory is at least that of their texts, have their share.
    async fn load_within_memory(&self, claimed: &HeldRun) -> Result<(RunState, MemoryShare)> {
        let bytes = store::stored_bytes(&mut *self.db.read().await?, &claimed.id).await?;
        let mut share = MemoryShare::default();
        self.memory.grow(&mut share, usize::try_from(bytes).unwrap_or_default()).await;
        Ok((self.load(claimed).await?, share))
    }

    /// Load a claimed run from its last save.
    async fn load(&self, claimed: &HeldRun) -> Result<RunState> {
        let HeldRun { id, fence } = claimed;
        let (stored, rows) = {
            let mut conn = self.db.read().await?;
            let stored = store::load_claimed(&mut conn, id).await?.ok_or(OrchestrationError::NotFound("Execution"))?;
            (stored, store::load_steps(&mut conn, id).await?)
        };
        let parse = || WorkflowDefinition::from_snapshot(&stored.definition);
        let definition = in_place(stored.definition.len(), parse)
            .map_err(|error| corrupt_json_error("am_definitions.body", error))?;
        let plan = definition.compiled(&self.names.for_takeover()).await?;
        let bytes = rows.iter().map(ClaimedStepRow::bytes).sum();
        let steps = in_place(bytes, || restore_steps(&plan, &stored.step_states, &rows))?;
        Ok(RunState {
            id: id.clone(),
            workflow_id: stored.workflow_id,
            client_id: stored.client_id,
            plan: Arc::new(plan),
            inputs: SizedValue::accepted(stored.inputs),
            limits: self.limits(stored.max_execution_time, stored.max_cost_budget),
            level: stored.level,
            security: stored.security,
            origin: None,
            trace_id: stored.trace_id,
            fence: *fence,
            status: stored.status,
            steps,
            total_cost: stored.total_cost,
            posted_cost: stored.total_cost,
            is_bound: stored.is_bound,
            created_at: stored.created_at,
            started_at: stored.started_at,
            completed_at: None,
            error: None,
            failed_step: None,
            final_result: JsonText::none(),
            receipt: JsonText::none(),
            proof: JsonText::none(),
            active_before: stored.active_seconds,
            claimed_at: Timestamp(self.clock.now()),
            is_new: false,
            events: Vec::new(),
        })
    }
}

/// A claimed run whose state has not been loaded yet.
struct ClaimedSlot {
    slot: DriverSlot,
    run: HeldRun,
}

impl ClaimedSlot {
    /// Load the run once there is memory for its values, and drive it.
    async fn take_up(self, place: FairPlace<PrincipalId>) {
        let (engine, handle) = (self.slot.engine.clone(), self.slot.handle.clone());
        let loaded = tokio::select! {
            loaded = engine.load_within_memory(&self.run) => loaded,
            () = handle.lost.cancelled() => return,
            () = engine.stop.cancelled() => Err(OrchestrationError::Stopping),
        };
        match loaded {
            Ok((run, share)) => {
                let mut driver = RunDriver::new(engine, run, share, handle, place);
                driver.resume();
                self.slot.finish(driver).await;
            }
            Err(error) => {
                if let Err(error) = engine.fail_unloadable(self.run, &error).await {
                    tracing::warn!(%error, "could not release a claimed execution; it is released later");
                }
            }
        }
    }
}

/// Registration of a driver in the map of drivers, removed when the driver ends in any way.
pub struct DriverSlot {
    engine: Arc<EngineInner>,
    id: ExecutionId,
    handle: Arc<DriverHandle>,
}

impl DriverSlot {
    pub fn occupy(engine: &Arc<EngineInner>, id: ExecutionId, handle: Arc<DriverHandle>) -> Self {
        engine.lock().insert(id.clone(), handle.clone());
        engine.metrics.held.inc();
        Self { engine: engine.clone(), id, handle }
    }

    pub async fn finish(self, driver: RunDriver) {
        let span = driver.span();
        let driven = async {
            let end = driver.drive().await;
            tracing::debug!(execution = %self.id, ?end, "driver done");
        };
        driven.instrument(span).await;
    }
}

impl Drop for DriverSlot {
    fn drop(&mut self) {
        let mut driven = self.engine.lock();
        // A released run may have been claimed again by now.
        if driven.get(&self.id).is_some_and(|handle| Arc::ptr_eq(handle, &self.handle)) {
            driven.remove(&self.id);
        }
        drop(driven);
        self.engine.metrics.held.dec();
        // The released run may be ready again already: a resume in the meantime was sent to this driver.
        self.engine.work.notify_one();
    }
}

/// Restore the steps of a run.
fn restore_steps(plan: &ExecutionPlan, states: &JsonText, rows: &[ClaimedStepRow]) -> Result<Vec<StepRun>> {
    let states: serde_json::Map<String, Value> =
        states.parse().map_err(|error| corrupt_json_error("agent_executions.step_states", error))?.unwrap_or_default();
    let restore = |step: &CompiledStep| restore_step(states.get(&step.key).unwrap_or(&Value::Null), rows, &step.key);
    plan.steps.iter().map(restore).collect()
}

/// Restore a step from its state in the execution and its row.
pub fn restore_step(state: &Value, rows: &[ClaimedStepRow], key: &str) -> Result<StepRun> {
    /// Read a member of the state document.
    fn member<T: serde::de::DeserializeOwned>(state: &Value, name: &str) -> Result<Option<T>> {
        let value = state.get(name).cloned().unwrap_or(Value::Null);
        serde_json::from_value(value).map_err(|error| corrupt_json_error("agent_executions.step_states", error))
    }
    let row_id: StepExecutionId = member(state, "step_execution_id")?.unwrap_or_default();
    let row = rows
        .iter()
        .find(|row| row.row_id == row_id)
        .ok_or_else(|| corrupt_json_error("agent_step_executions", format!("no row of step {key:?}")))?;
    let document = |doc: &JsonText| {
        doc.parse::<Value>()
            .map(|value| value.map(SizedValue::accepted))
            .map_err(|error| corrupt_json_error("agent_step_executions", error))
    };
    // States were saved when an amount could still be any number.
    let amount = |name: &str| member::<f64>(state, name).map(|amount| amount.map_or(Money::ZERO, Money::from_f64));
    let status: ExecutionStatus = member(state, "status")?.unwrap_or(ExecutionStatus::Pending);
    let attempts = member(state, "attempts")?.unwrap_or(0);
    Ok(StepRun {
        row_id,
        step_id: row.step_id.clone(),
        status,
        attempts,
        attempts_before: member(state, "attempts_before")?.unwrap_or(0),
        // Either may be null; attempts and status show whether it exists.
        input: document(&row.input)?.or_else(|| (attempts > 0).then(SizedValue::default)),
        output: document(&row.output)?.or_else(|| (status == ExecutionStatus::Completed).then(SizedValue::default)),
        cost: amount("cost")?,
        reserved: amount("reserved")?,
        seconds: member(state, "execution_time")?.unwrap_or(0.0),
        memory_mb: row.memory_mb,
        gpu: row.gpu,
        started_at: member(state, "started_at")?,
        completed_at: member(state, "completed_at")?,
        error: member(state, "error")?,
        job_id: member(state, "job_id")?,
        retry_at: member(state, "retry_at")?,
        miner_receipt: member(state, "miner_receipt")?,
        repeat_call: member(state, "repeat_call")?,
        verification: row
            .verification
            .parse()
            .map_err(|error| corrupt_json_error("agent_step_executions.step_proof", error))?,
        dirty: false,
    })
}
