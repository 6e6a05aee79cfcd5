//! The engine: durable execution of workflows. It claims ready runs, drives them under a lease with a fence, takes over
//! runs of dead workers, and releases its runs in an orderly stop.

mod action_executor;
mod agent_action;
mod audit_entries;
mod checkpoint;
mod claim;
mod command_action;
mod costs;
mod driver;
mod external_tasks;
mod failures;
mod first_save;
mod http_action;
mod invocation;
mod jq_action;
mod late_costs;
mod lease;
mod metrics;
pub(crate) mod repeat;
mod response_body;
mod store;
#[cfg(test)]
mod takeover_tests;
mod value_memory;

use std::{collections::HashMap, sync::Arc, time::Duration};

use lru::LruCache;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

pub use action_executor::ActionExecutor;
pub(crate) use claim::store::stop_steps;
pub use first_save::StartCondition;
pub(crate) use store::count_active;

use checkpoint::{NewExecution, Ownership, RunCheckpoint};
use claim::DriverSlot;
use driver::{DriverHandle, RunDriver};
use first_save::FirstSave;
use lease::EngineWorker;
use store::SaveOutcome;
use value_memory::{MemoryShare, ValueMemory};

use super::{
    action::ActionCatalog,
    assignments::AssignmentService,
    error::{OrchestrationError, Result},
    model::{ExecutionStatus, VerificationLevel},
    run::{Execution, RunLimits, RunState, StepRun},
    workflows::CompiledWorkflow,
};
use am_audit::{AuditLog, SecurityLevel};
use am_core::{
    ambient::{Clock, IdGenerator},
    blocking::in_place,
    boxed,
    config::EngineConfig,
    crypto::Signer,
    fair::{FairPlace, FairPlaces, PlaceLimits},
    ids::{ExecutionId, PrincipalId, TraceId, WorkflowId},
    money::Money,
    supervisor::BackgroundTask,
    validation::Violation,
    value_budget::{ByteLimit, SizedValue},
};
use am_db::{
    Database, Tx,
    codec::{JsonText, Timestamp},
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};
use am_events::StreamHub;
use am_jobs::JobQueue;
use am_ledger::LedgerService;
use am_rl::runs::TrainingRuns;
use am_security::policies::SecurityPolicies;

/// Seconds for which a definition counts as stored once it was written. Retention leaves those that were written in the last two
/// hours.
const KNOWN_DEFINITION_SECONDS: f64 = 3600.0;

/// Engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<EngineInner>);

pub(crate) struct EngineInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    ledger: LedgerService,
    config: EngineConfig,
    names: ActionCatalog,
    policies: SecurityPolicies,
    performer: Arc<ActionExecutor>,
    signer: Arc<Signer>,
    hub: StreamHub,
    worker: EngineWorker,
    /// Places of runs that work, by client. One is taken before a run is claimed, so that every held run is driven.
    places: FairPlaces<PrincipalId>,
    /// Places of runs that only wait, by client.
    parked: FairPlaces<PrincipalId>,
    /// Memory of the values of all driven runs.
    memory: ValueMemory,
    driven: Mutex<HashMap<ExecutionId, Arc<DriverHandle>>>,
    /// Hashes of definitions known to be stored, and since when.
    stored_definitions: Mutex<LruCache<String, Timestamp>>,
    work: Notify,
    /// First stage of a stop: begin nothing more.
    stop: CancellationToken,
    /// Second stage of a stop: abandon what is in progress.
    kill: CancellationToken,
    tasks: TaskTracker,
    /// Ends the heartbeats, which continue while runs are released.
    left: CancellationToken,
    beating: TaskTracker,
    metrics: metrics::EngineMetrics,
}

/// Dependencies of the engine.
pub struct EngineParts {
    /// Database of the runs.
    pub db: Database,
    /// Source of the time.
    pub clock: Clock,
    /// Source of ids and randomness.
    pub ids: IdGenerator,
    /// Audit log of all changes.
    pub audit: AuditLog,
    /// Ledger in which costs are posted, and whose budgets bind runs.
    pub ledger: LedgerService,
    /// Settings of the engine.
    pub config: EngineConfig,
    /// Names that actions may refer to.
    pub names: ActionCatalog,
    /// Security policies that bind runs.
    pub policies: SecurityPolicies,
    /// Executor of actions.
    pub performer: ActionExecutor,
    /// Signer of receipts.
    pub signer: Arc<Signer>,
    /// Hub that wakes followers of runs.
    pub hub: StreamHub,
}

/// A run to be started.
pub struct RunRequest {
    /// Id of the workflow, network or plan.
    pub workflow_id: WorkflowId,
    /// Principal of the client.
    pub client: Principal,
    /// Compiled workflow to run.
    pub compiled: CompiledWorkflow,
    /// Inputs, visible as `$.inputs`.
    pub inputs: Value,
    /// Verification level of the run.
    pub level: VerificationLevel,
    /// Security level of the run.
    pub security: SecurityLevel,
    /// Time limit in seconds; 0: no limit.
    pub max_execution_time: i64,
    /// Cost limit; 0: no limit.
    pub max_cost_budget: Money,
    /// W3C trace id of the request.
    pub trace_id: Option<TraceId>,
    /// What must hold when the run is stored, and what is stored with it; `None`: nothing.
    pub condition: Option<Arc<dyn StartCondition>>,
}

impl Engine {
    /// Enlist as a worker and take over what dead workers left. Nothing runs before [`Engine::background_tasks`] do.
    ///
    /// # Errors
    /// When the lock file or the database cannot be written.
    #[boxed]
    pub async fn open(parts: EngineParts) -> Result<Self> {
        let worker = EngineWorker::register(&parts.db, &parts.clock, &parts.ids, parts.config.lease).await?;
        let places = FairPlaces::new(PlaceLimits::with_reserve(parts.config.max_active));
        let parked = FairPlaces::new(PlaceLimits::with_reserve(parts.config.max_parked));
        let memory = ValueMemory::new(parts.config.memory_mb);
        let stored = std::num::NonZeroUsize::new(4096).unwrap_or(std::num::NonZeroUsize::MIN);
        let inner = EngineInner {
            db: parts.db,
            clock: parts.clock,
            ids: parts.ids,
            audit: parts.audit,
            ledger: parts.ledger,
            config: parts.config,
            names: parts.names,
            policies: parts.policies,
            performer: Arc::new(parts.performer),
            signer: parts.signer,
            hub: parts.hub,
            worker,
            places,
            parked,
            memory,
            driven: Mutex::default(),
            stored_definitions: Mutex::new(LruCache::new(stored)),
            work: Notify::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            tasks: TaskTracker::new(),
            left: CancellationToken::new(),
            beating: TaskTracker::new(),
            metrics: metrics::EngineMetrics::default(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The engine's own tasks: heartbeat, claiming runs, watching jobs, letting in what waits for budgets. They end with
    /// [`Engine::stop`].
    pub fn background_tasks(&self) -> [BackgroundTask; 4] {
        let inner = &self.0;
        let (jobs, stop) = (inner.performer.jobs.clone(), inner.stop.clone());
        [
            BackgroundTask::new("engine.heartbeat", inner.beating.track_future(inner.clone().beat())),
            BackgroundTask::new("engine.claims", inner.tasks.track_future(inner.clone().claim_loop())),
            BackgroundTask::new("engine.budgets", inner.tasks.track_future(inner.clone().admission_loop())),
            BackgroundTask::new("engine.jobs", inner.tasks.track_future(jobs.watch(stop))),
        ]
    }

    /// Start a run. Its pure steps are executed for a short time; then it is saved and returned, and continues in the
    /// background.
    ///
    /// # Errors
    /// [`OrchestrationError::Invalid`] when the inputs exceed the limits of values; [`OrchestrationError::QuotaReached`];
    /// [`OrchestrationError::Stopping`] during a stop; database errors.
    #[boxed]
    pub async fn start(&self, start: RunRequest, once: Option<IdempotencyKey>) -> Result<IdempotentResult<Execution>> {
        if self.0.stop.is_cancelled() {
            return Err(OrchestrationError::Stopping);
        }
        let counted = self.0.check_open(&start.client.id()).await?;
        let (tell, told) = oneshot::channel();
        let inner = self.0.clone();
        let client = start.client.clone();
        let mut first = FirstSave { once, condition: start.condition.clone(), counted, bound: None };
        let run = inner.new_run(start)?;
        first.bound = inner.run_bound(&run);
        let workflow_id = run.workflow_id.clone();
        // A separate task: if the client disconnects, a saved run must still be driven.
        self.0.tasks.spawn(async move {
            let mut share = MemoryShare::default();
            let has_memory = inner.memory.try_grow(&mut share, run.memory());
            // One that budgets bind does nothing before they have let it in.
            let place = if first.bound.is_none() { inner.places.try_acquire(&run.client_id) } else { None };
            match place {
                Some(place) if has_memory => inner.start_driver(run, share, first, place, tell).await,
                _ => drop(tell.send(inner.queue(run, first).await)),
            }
        });
        let started = told.await.map_err(|_| OrchestrationError::Stopping)?;
        if let Err(OrchestrationError::Ledger(error)) = &started {
            let subject = ("workflow", workflow_id.as_str());
            self.0.ledger.record_refusal(&client, subject, "start", &error.to_string()).await;
        }
        started
    }

    /// Notify the run's driver in this process, if any, that the run was cancelled.
    pub fn cancelled(&self, id: &ExecutionId) {
        self.0.metrics.ended(ExecutionStatus::Cancelled);
        if let Some(handle) = self.0.handle(id) {
            handle.lost.cancel();
        }
    }

    /// Return since when a run that this process drives has asked for a place to go on; `None`: it has not, or another process drives
    /// it.
    pub(crate) fn waits_for_place(&self, id: &ExecutionId) -> Option<Timestamp> {
        *self.0.handle(id)?.asked_at.lock()
    }

    /// Notify the run's driver, or the claim loop, that the run has changed.
    pub fn look(&self, id: &ExecutionId) {
        match self.0.handle(id) {
            Some(handle) => handle.look.notify_one(),
            None => self.0.work.notify_one(),
        }
    }

    /// First stage of a stop: begin nothing, and finish or release what is in progress until `grace` has passed; then
    /// release the rest.
    #[boxed]
    pub async fn stop(&self, grace: Duration) {
        let inner = &self.0;
        inner.stop.cancel();
        inner.work.notify_one();
        inner.tasks.close();
        if tokio::time::timeout(grace, inner.tasks.wait()).await.is_err() {
            inner.kill.cancel();
            let _ = tokio::time::timeout(Duration::from_secs(5), inner.tasks.wait()).await;
        }
        // Deregister only after everything is released: otherwise another process would take over runs that are being
        // finished.
        inner.left.cancel();
        inner.beating.close();
        let _ = tokio::time::timeout(Duration::from_secs(5), inner.beating.wait()).await;
        if let Err(error) = inner.worker.leave(&inner.db).await {
            tracing::warn!(%error, "could not deregister this worker; the next start will");
        }
    }

    /// Return whether this process will do nothing more for the run; true only during a stop.
    pub fn has_left(&self, id: &ExecutionId) -> bool {
        self.0.stop.is_cancelled() && self.0.handle(id).is_none()
    }

    /// Return the source of the ids of runs and their steps.
    pub(super) fn ids(&self) -> &IdGenerator {
        &self.0.ids
    }

    /// Return the queue in which steps' jobs wait.
    pub(super) fn jobs(&self) -> &JobQueue {
        &self.0.performer.jobs
    }

    /// Return whether the engine's background tasks are running, for readiness.
    pub fn is_running(&self) -> bool {
        !self.0.stop.is_cancelled() && !self.0.tasks.is_empty()
    }

    /// Register the metrics of the engine.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(&self.0.performer.jq, registry);
    }
}

impl EngineInner {
    /// Limits of a run with these two of its own.
    fn limits(&self, seconds: i64, budget: Money) -> RunLimits {
        RunLimits {
            seconds,
            budget,
            value: ByteLimit { name: "ENGINE_VALUE_BYTES", bytes: self.config.value_bytes },
            values: ByteLimit { name: "ENGINE_RUN_BYTES", bytes: self.config.run_bytes },
        }
    }

    fn new_run(&self, start: RunRequest) -> Result<RunState> {
        let now = Timestamp(self.clock.now());
        let limits = self.limits(start.max_execution_time, start.max_cost_budget);
        let smaller = if limits.value.bytes < limits.values.bytes { limits.value } else { limits.values };
        let inputs = SizedValue::measure(start.inputs, smaller).map_err(|exceeded| {
            OrchestrationError::Invalid(vec![Violation::new("inputs", format!("have {exceeded}"))])
        })?;
        let steps = start.compiled.step_ids.iter().map(|id| StepRun::new(id.clone())).collect();
        let mut run = RunState {
            id: ExecutionId::default(),
            workflow_id: start.workflow_id,
            client_id: start.client.id(),
            plan: start.compiled.plan,
            inputs,
            limits,
            level: start.level,
            security: start.security,
            origin: start.client.origin,
            trace_id: start.trace_id,
            fence: 1,
            status: ExecutionStatus::Pending,
            steps,
            total_cost: Money::ZERO,
            posted_cost: Money::ZERO,
            is_bound: false,
            created_at: now,
            started_at: None,
            completed_at: None,
            error: None,
            failed_step: None,
            final_result: JsonText::none(),
            receipt: JsonText::none(),
            proof: JsonText::none(),
            active_before: 0.0,
            claimed_at: now,
            is_new: true,
            events: Vec::new(),
        };
        run.name(&self.ids);
        Ok(run)
    }

    /// Save a run for any worker, because no place is free here.
    async fn queue(self: &Arc<Self>, mut run: RunState, first: FirstSave) -> Result<IdempotentResult<Execution>> {
        loop {
            let now = Timestamp(self.clock.now());
            let (new, save) = in_place(run.size().bytes, || {
                let new = NewExecution::from_run(&run);
                (new, RunCheckpoint::from_run(&mut run, Ownership::Ready, &self.worker.id, now))
            });
            match self.save_first(Arc::new(save), &new, first.clone()).await {
                Err(OrchestrationError::Db(am_db::DatabaseError::Duplicate(_))) => run.reset(&self.ids),
                answer => {
                    self.work.notify_one();
                    return answer;
                }
            }
        }
    }

    async fn start_driver(
        self: Arc<Self>,
        run: RunState,
        share: MemoryShare,
        first: FirstSave,
        place: FairPlace<PrincipalId>,
        tell: oneshot::Sender<Result<IdempotentResult<Execution>>>,
    ) {
        let handle = Arc::<DriverHandle>::default();
        let mut driver = RunDriver::new(self.clone(), run, share, handle.clone(), place);
        let span = driver.span();
        let saved = driver.save_first(first).instrument(span).await;
        let slot = match &saved {
            Ok(IdempotentResult { value, replayed: false }) if value.status.is_final() => {
                self.metrics.ended(value.status);
                None
            }
            Ok(IdempotentResult { value, replayed: false }) => {
                Some(DriverSlot::occupy(&self, value.id.clone(), handle))
            }
            _ => None,
        };
        let _ = tell.send(saved);
        if let Some(slot) = slot {
            slot.finish(driver).await;
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, HashMap<ExecutionId, Arc<DriverHandle>>> {
        self.driven.lock()
    }

    fn handle(&self, id: &ExecutionId) -> Option<Arc<DriverHandle>> {
        self.lock().get(id).cloned()
    }

    /// Whether a definition is known to be stored. Only for a while: one that no run refers to is deleted some hours after it was
    /// stored last.
    fn knows_definition(&self, hash: &str, now: Timestamp) -> bool {
        let stored = self.stored_definitions.lock().get(hash).copied();
        stored.is_some_and(|stored| stored.seconds_since(now).abs() < KNOWN_DEFINITION_SECONDS)
    }

    fn note_definition(&self, hash: &str, now: Timestamp) {
        self.stored_definitions.lock().put(hash.to_owned(), now);
    }

    /// Return a closure that wakes waiters of the run after the commit.
    fn wake(&self, save: &RunCheckpoint) -> impl FnOnce() + Send + 'static {
        let (hub, stream) = (self.hub.clone(), save.run.id.clone());
        let trains = save.orders.iter().any(|order| matches!(order, external_tasks::ExternalTask::Training(_)));
        let assigns = save.orders.iter().any(|order| matches!(order, external_tasks::ExternalTask::Agent(_)));
        let assigns = (assigns || !save.take_back.is_empty()).then(|| self.performer.assignments.clone());
        let training = trains.then(|| self.performer.training.clone());
        move || {
            hub.wake(&stream);
            training.iter().for_each(TrainingRuns::wake);
            assigns.iter().for_each(AssignmentService::wake);
        }
    }

    async fn save(&self, save: Arc<RunCheckpoint>) -> Result<SaveOutcome> {
        let ended = (save.hold == Ownership::Ended).then_some(save.run.status);
        let (wake, mut trail, ledger) = (self.wake(&save), self.audit.rows(&save.trail), self.ledger.clone());
        ledger.add_entry_rows(&mut trail, &save.cost_entry())?;
        let work = async move |tx: &mut Tx| {
            am_core::crash_point!("engine.before_save");
            let saved = store::save_run(tx, &save, trail).await?;
            Self::settle_run(&ledger, tx, &save).await?;
            tx.after_commit(wake);
            Ok::<_, OrchestrationError>(saved)
        };
        let saved = self.db.write(work).await?;
        ended.into_iter().for_each(|status| self.metrics.ended(status));
        Ok(saved)
    }
}
