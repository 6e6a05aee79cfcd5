//! The engine: runs executions durably. It claims what is ready, drives it under a lease with a fence, takes over
//! what a dead worker left, and lets go in an orderly way when the service stops.

mod actions;
mod agents;
mod claim;
mod commands;
mod context;
mod driver;
mod lease;
mod metrics;
pub(crate) mod orders;
mod run;
#[cfg(test)]
mod run_tests;
mod step;
mod store;
mod trail;
mod verify;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lru::LruCache;
use prometheus_client::registry::Registry;
use serde_json::Value;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use actions::Performer;
pub(crate) use claim::store::stop_steps;
pub(crate) use run::{Run, StepRun, round};
pub(crate) use store::{Save, under_way};

use claim::Place;
use driver::{Driver, Handle};
use lease::Worker;
use run::Limits;
use store::{NewRun, Saved};

use super::{
    action::Names,
    assignments::Assignments,
    error::{Error, Result},
    executions::Execution,
    model::{Status, VerificationLevel},
    workflows::Compiled,
};
use am_audit::{Audit, SecurityLevel};
use am_core::{
    ambient::{Clock, Ids},
    config::EngineConfig,
    crypto::Signer,
};
use am_db::{
    Database, Tx,
    codec::{Doc, Timestamp},
    once::{Done, Once},
    principal::Principal,
};
use am_events::Hub;
use am_rl::runs::Runs;
use am_security::policies::Policies;

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

pub(crate) struct Inner {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
    config: EngineConfig,
    names: Names,
    policies: Policies,
    performer: Arc<Performer>,
    signer: Arc<Signer>,
    hub: Hub,
    worker: Worker,
    /// A permit is had before a run is claimed, so that nothing is held that is not driven.
    permits: Arc<Semaphore>,
    driven: Mutex<HashMap<String, Arc<Handle>>>,
    /// Definitions that are known to be stored.
    stored_definitions: Mutex<LruCache<String, ()>>,
    work: Notify,
    /// First stage of a stop: begin nothing more.
    stop: CancellationToken,
    /// Second stage: leave what is under way.
    kill: CancellationToken,
    tasks: TaskTracker,
    /// Signs of life go on while runs are let go; they end with this.
    left: CancellationToken,
    beating: TaskTracker,
    metrics: metrics::Metrics,
}

/// What the engine is built on.
pub struct Parts {
    /// Where everything is kept.
    pub db: Database,
    /// The time.
    pub clock: Clock,
    /// Ids and randomness.
    pub ids: Ids,
    /// What is told of every change.
    pub audit: Audit,
    /// How runs are run.
    pub config: EngineConfig,
    /// What actions may name.
    pub names: Names,
    /// What binds runs.
    pub policies: Policies,
    /// What performs actions.
    pub performer: Performer,
    /// Signs receipts.
    pub signer: Arc<Signer>,
    /// Wakes who follows a run.
    pub hub: Hub,
}

/// A run to be started.
pub struct Start {
    /// The workflow's or network's id.
    pub workflow_id: String,
    /// Who starts it.
    pub client: Principal,
    /// What it is to do.
    pub compiled: Compiled,
    /// `$.inputs`.
    pub inputs: Value,
    /// How thoroughly it is verified.
    pub level: VerificationLevel,
    /// How sensitive it is.
    pub security: SecurityLevel,
    /// Seconds; 0: no limit.
    pub max_execution_time: i64,
    /// Cost; 0: no limit.
    pub max_cost_budget: f64,
    /// W3C trace id of the request.
    pub trace_id: Option<String>,
}

impl Engine {
    /// Enlist as a worker and take over what dead workers left. Nothing runs before [`Engine::spawn`].
    ///
    /// # Errors
    /// When the lock file or the database can't be written.
    pub async fn open(parts: Parts) -> Result<Self> {
        let worker = Worker::enlist(&parts.db, &parts.clock, &parts.ids, parts.config.lease).await?;
        let permits = Arc::new(Semaphore::new(parts.config.max_active));
        let stored = std::num::NonZeroUsize::new(4096).unwrap_or(std::num::NonZeroUsize::MIN);
        let inner = Inner {
            db: parts.db,
            clock: parts.clock,
            ids: parts.ids,
            audit: parts.audit,
            config: parts.config,
            names: parts.names,
            policies: parts.policies,
            performer: Arc::new(parts.performer),
            signer: parts.signer,
            hub: parts.hub,
            worker,
            permits,
            driven: Mutex::default(),
            stored_definitions: Mutex::new(LruCache::new(stored)),
            work: Notify::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            tasks: TaskTracker::new(),
            left: CancellationToken::new(),
            beating: TaskTracker::new(),
            metrics: metrics::Metrics::default(),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// Start the engine's own tasks: heartbeat, watching jobs, claiming.
    pub fn spawn(&self) {
        let inner = &self.0;
        inner.beating.spawn(inner.clone().beat());
        inner.tasks.spawn(inner.clone().claim_for_ever());
        let (jobs, stop) = (inner.performer.jobs.clone(), inner.stop.clone());
        inner.tasks.spawn(jobs.watch(stop));
    }

    /// Start a run: it is done as far as pure steps go, or for a moment, then saved and answered; the rest follows by itself.
    ///
    /// # Errors
    /// [`Error::Stopping`]; the database's.
    pub async fn start(&self, start: Start, once: Option<Once>) -> Result<Done<Execution>> {
        if self.0.stop.is_cancelled() {
            return Err(Error::Stopping);
        }
        let (tell, told) = oneshot::channel();
        let inner = self.0.clone();
        // A task of its own: a client that goes away must not leave a run that is saved and not driven.
        self.0.tasks.spawn(async move {
            let run = inner.new_run(start);
            match inner.permits.clone().try_acquire_owned() {
                Err(_) => drop(tell.send(inner.queue(run, once).await)),
                Ok(permit) => inner.drive_new(run, once, permit, tell).await,
            }
        });
        told.await.map_err(|_| Error::Stopping)?
    }

    /// The run was cancelled, whoever held it: its driver, if it is here, stops at once.
    pub fn cancelled(&self, id: &str) {
        self.0.metrics.ended(Status::Cancelled);
        if let Some(handle) = self.0.handle(id) {
            handle.lost.cancel();
        }
    }

    /// Something about the run has changed: its driver looks, or somebody claims it.
    pub fn look(&self, id: &str) {
        match self.0.handle(id) {
            Some(handle) => handle.look.notify_one(),
            None => self.0.work.notify_one(),
        }
    }

    /// First stage of a stop: begin nothing, finish or release what is under way, until `grace` has passed; then
    /// release the rest where it stands.
    pub async fn stop(&self, grace: Duration) {
        let inner = &self.0;
        inner.stop.cancel();
        inner.work.notify_one();
        inner.tasks.close();
        if tokio::time::timeout(grace, inner.tasks.wait()).await.is_err() {
            inner.kill.cancel();
            let _ = tokio::time::timeout(Duration::from_secs(5), inner.tasks.wait()).await;
        }
        // Not before everything is let go: another process would take what is still being ended for left behind.
        inner.left.cancel();
        inner.beating.close();
        let _ = tokio::time::timeout(Duration::from_secs(5), inner.beating.wait()).await;
        if let Err(error) = inner.worker.leave(&inner.db).await {
            tracing::warn!(%error, "could not leave in an orderly way; the next start takes over");
        }
    }

    /// Will this process do nothing more for the run? Known only while it stops.
    pub fn has_left(&self, id: &str) -> bool {
        self.0.stop.is_cancelled() && self.0.handle(id).is_none()
    }

    /// Are the engine's tasks running? For readiness.
    pub fn is_running(&self) -> bool {
        !self.0.stop.is_cancelled() && !self.0.tasks.is_empty()
    }

    /// Add the room's metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(&self.0.performer.jq, registry);
    }
}

impl Inner {
    fn new_run(&self, start: Start) -> Run {
        let now = Timestamp(self.clock.now());
        let steps = start.compiled.step_ids.iter().map(|id| StepRun::new(id.clone())).collect();
        let mut run = Run {
            id: String::new(),
            workflow_id: start.workflow_id,
            client_id: start.client.name.to_string(),
            plan: start.compiled.plan,
            inputs: Arc::new(start.inputs),
            limits: Limits { seconds: start.max_execution_time, budget: start.max_cost_budget },
            level: start.level,
            security: start.security,
            origin: start.client.origin,
            trace_id: start.trace_id,
            fence: 1,
            status: Status::Pending,
            steps,
            total_cost: 0.0,
            created_at: now,
            started_at: None,
            completed_at: None,
            error: None,
            failed_step: None,
            final_result: Doc::none(),
            receipt: Doc::none(),
            proof: Doc::none(),
            active_before: 0.0,
            claimed_at: now,
            is_new: true,
            events: Vec::new(),
        };
        run.name(&self.ids);
        run
    }

    /// There is no place to drive it now: save it for whoever claims it.
    async fn queue(self: &Arc<Self>, mut run: Run, once: Option<Once>) -> Result<Done<Execution>> {
        loop {
            let new = NewRun::of(&run);
            let save = Save::of(&mut run, store::Hold::Ready, &self.worker.id, Timestamp(self.clock.now()));
            match self.save_first(Arc::new(save), &new, once.clone()).await {
                Err(Error::Db(am_db::Error::Duplicate(_))) => run.begin_anew(&self.ids),
                answer => {
                    self.work.notify_one();
                    return answer;
                }
            }
        }
    }

    async fn drive_new(
        self: Arc<Self>,
        run: Run,
        once: Option<Once>,
        permit: OwnedSemaphorePermit,
        tell: oneshot::Sender<Result<Done<Execution>>>,
    ) {
        let handle = Arc::<Handle>::default();
        let mut driver = Driver::new(self.clone(), run, handle.clone());
        let saved = driver.first_save(once).await;
        let place = match &saved {
            Ok(Done { value, replayed: false }) if value.status.is_final() => {
                self.metrics.ended(value.status);
                None
            }
            Ok(Done { value, replayed: false }) => Some(Place::take(&self, value.id.clone(), handle)),
            _ => None,
        };
        let _ = tell.send(saved);
        if let Some(place) = place {
            place.finish(driver, permit).await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Handle>>> {
        self.driven.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, id: &str) -> Option<Arc<Handle>> {
        self.lock().get(id).cloned()
    }

    /// The first save of a new run, at most once for `once`.
    async fn save_first(&self, save: Arc<Save>, new: &NewRun, once: Option<Once>) -> Result<Done<Execution>> {
        let known = self.known_definitions().get(&new.definition_hash).is_some();
        let mut rows = store::rows(&save, new, known)?;
        self.audit.add_to(&mut rows, &save.trail);
        let wake = self.wake(&save);
        am_core::crash_point!("engine.before_save");
        let (policies, level) = (self.policies.clone(), new.security);
        let bound = policies.bind(level);
        let done = if once.is_none() && save.orders.is_empty() && save.take_back.is_empty() && !bound {
            self.db.insert(rows, wake).await?;
            Done::fresh(Execution::of_save(&save))
        } else {
            let work = async move |tx: &mut Tx| {
                if bound {
                    let others = under_way(tx.conn().await?, &save.run.client_id, level).await?;
                    policies.check_concurrency(level, others).map_err(Error::Refused)?;
                }
                rows.execute(tx).await?;
                store::orders(tx, &save).await?;
                tx.after_commit(wake);
                Ok::<_, Error>(Execution::of_save(&save))
            };
            self.db.write_once(&self.clock, once, work).await?
        };
        if !done.replayed && !known {
            self.known_definitions().put(new.definition_hash.clone(), ());
        }
        Ok(done)
    }

    fn known_definitions(&self) -> std::sync::MutexGuard<'_, LruCache<String, ()>> {
        self.stored_definitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes who waits for the run, once it is saved.
    fn wake(&self, save: &Save) -> impl FnOnce() + Send + 'static {
        let (hub, stream) = (self.hub.clone(), save.run.id.clone());
        let trains = save.orders.iter().any(|order| matches!(order, orders::Order::Training(_)));
        let assigns = save.orders.iter().any(|order| matches!(order, orders::Order::Agent(_)));
        let assigns = (assigns || !save.take_back.is_empty()).then(|| self.performer.assignments.clone());
        let training = trains.then(|| self.performer.training.clone());
        move || {
            hub.wake(&stream);
            training.iter().for_each(Runs::wake);
            assigns.iter().for_each(Assignments::wake);
        }
    }

    async fn save(&self, save: Arc<Save>) -> Result<Saved> {
        let ended = (save.hold == store::Hold::Ended).then_some(save.run.status);
        let (wake, trail) = (self.wake(&save), self.audit.rows(&save.trail));
        let work = async move |tx: &mut Tx| {
            am_core::crash_point!("engine.before_save");
            let saved = store::update(tx, &save, trail).await?;
            tx.after_commit(wake);
            Ok::<_, Error>(saved)
        };
        let saved = self.db.write(work).await?;
        ended.into_iter().for_each(|status| self.metrics.ended(status));
        Ok(saved)
    }
}
