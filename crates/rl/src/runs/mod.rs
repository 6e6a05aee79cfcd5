//! Training runs: background work that survives its process.
//!
//! A run is driven by the process that holds the lock on its file, which the kernel releases when the process ends.
//! Another process then finds the run without a driver and resumes it from its last checkpoint.

mod bridging;
mod control;
mod control_handle;
mod curve_export;
mod driver;
mod enqueue;
mod environment_choice;
mod evaluation;
mod event_file;
mod event_source;
mod fairness;
mod feedback_training;
mod labels;
mod limits;
mod metrics;
mod mlflow_store;
mod model;
mod promotion;
mod queue;
mod quota;
mod record;
mod run_lock;
mod spec;
mod store;
#[cfg(test)]
mod tests;
mod training_event;

use std::{collections::HashMap, fs, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use self::{
    bridging::BridgeSettings,
    curve_export::curve_csv,
    enqueue::{enqueue_run, enqueue_runs},
    evaluation::{EvaluationScores, VersionEvaluation, score_policy, score_weights},
    event_file::event_file,
    feedback_training::FeedbackTraining,
    labels::{LabelChange, RunLabels, wanted_labels},
    limits::TrainingLimits,
    mlflow_store::mlflow_store,
    model::{
        CheckpointRef, ControlRequest, FeedbackTask, NewTrainingRun, RunFilter, RunStatus, TrainingRequest,
        TrainingRun, TrainingSpec, TrainingTask, is_run_id, run_id,
    },
    promotion::{PromotionDecision, PromotionGate},
    quota::{TrainingCaller, TrainingQuotas, TrainingRole},
    record::{CurvePoint, EvaluationPoint},
    spec::{default_policy_name, validate_spec, validate_spec_in},
};
use self::{
    control_handle::ControlHandle, fairness::TrainingUsage, metrics::TrainingMetrics, training_event::TrainingEventKind,
};
use super::{
    environments::{BridgeHub, EnvironmentSource},
    error::{Result, RlError},
    library::{PolicyLibrary, run_blocking},
    model::PolicyReference,
    own_environments::OwnEnvironments,
};
use am_audit::{AuditLog, EventType};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::TrainingRunId,
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    owner::PrincipalName,
    page::PageRequest,
    principal::Principal,
};
use am_events::StreamHub;

/// Interval at which runs queued by other processes are looked for.
const RUN_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of episodes of an evaluation.
pub const MAX_EPISODES: usize = 1000;

/// Settings of training runs.
#[derive(Clone, Debug)]
pub struct TrainingRunSettings {
    /// Directory of checkpoints.
    pub directory: PathBuf,
    /// Number of runs that this process trains at once; 0: none.
    pub slots: usize,
    /// Number of threads inside one operation of a run.
    pub threads: u32,
    /// Interval between checkpoints: the training time that a crash may lose.
    pub checkpoint_every: Duration,
    /// Time for which the runs of two owners are trained in turn; whoever was trained for half of it less is next at once.
    pub slice: Duration,
    /// Limits of runs, by the role of who asks for them.
    pub quotas: TrainingQuotas,
    /// Limits of bridges to environments in other processes.
    pub bridge: BridgeSettings,
}

/// Service for training runs. Cheap to clone.
#[derive(Clone)]
pub struct TrainingRuns(Arc<TrainingRunsInner>);

struct TrainingRunsInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    hub: StreamHub,
    library: PolicyLibrary,
    environments: OwnEnvironments,
    bridges: BridgeHub,
    settings: TrainingRunSettings,
    metrics: TrainingMetrics,
    /// Runs driven by this process.
    driven: Mutex<HashMap<TrainingRunId, Arc<ControlHandle>>>,
    /// For how long it trained the runs that it drives no more.
    usage: Mutex<TrainingUsage>,
    wake: Notify,
    /// Notified when a driver has let go of its run.
    left: Notify,
    stop: CancellationToken,
    evaluating: tokio::sync::Mutex<()>,
}

impl TrainingRunsInner {
    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }

    /// Remove the checkpoints of a run that has ended, including those that no row names.
    fn remove_checkpoints(&self, id: &TrainingRunId) {
        let Ok(entries) = fs::read_dir(&self.settings.directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name.starts_with(id.as_str()) && name.contains(".checkpoint")) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn audit(&self) -> &AuditLog {
        self.library.audit()
    }

    fn driven(&self) -> parking_lot::MutexGuard<'_, HashMap<TrainingRunId, Arc<ControlHandle>>> {
        self.driven.lock()
    }
}

impl TrainingRuns {
    /// Create the service on `db`, with policies in `library`. Training starts with [`TrainingRuns::work`].
    ///
    /// # Errors
    /// When the directory cannot be created.
    pub fn new(
        db: Database,
        clock: Clock,
        ids: IdGenerator,
        hub: StreamHub,
        library: PolicyLibrary,
        settings: TrainingRunSettings,
    ) -> Result<Self> {
        fs::create_dir_all(&settings.directory)
            .map_err(|error| RlError::Storage(format!("{}", settings.directory.display()), error))?;
        let usage = Mutex::new(TrainingUsage::new(settings.slice));
        let environments = OwnEnvironments::new(db.clone(), clock.clone(), library.audit().clone());
        let (bridges, metrics, driven, wake, left, stop, evaluating) = Default::default();
        Ok(Self(Arc::new(TrainingRunsInner {
            db,
            clock,
            ids,
            hub,
            library,
            environments,
            bridges,
            settings,
            metrics,
            driven,
            usage,
            wake,
            left,
            stop,
            evaluating,
        })))
    }

    /// Register the metrics of training.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// Draw an unused run id.
    pub fn new_id(&self) -> TrainingRunId {
        run_id(&self.0.ids.hex(12))
    }

    /// Queue a run for a policy of `caller`, or for a new one, under a name and tags of its own.
    ///
    /// # Errors
    /// [`RlError::Invalid`] for settings that cannot be trained or more steps than the caller's role may ask for,
    /// [`RlError::Forbidden`] for another owner's policy, [`RlError::Quota`] when the caller has too many runs.
    #[boxed]
    pub async fn create(
        &self,
        caller: &TrainingCaller,
        (policy, labels): (Option<String>, RunLabels),
        work: TrainingSpec,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<TrainingRun>> {
        let mut violations = labels.faults();
        let checked = self.choose_environment(work).await;
        let work = match checked.and_then(|(work, source)| self.checked(caller, work, source)) {
            Err(RlError::Invalid(found)) => violations.take(Err(found)),
            other => Some(other?),
        };
        let work = violations.finish_with(work)?;
        let policy = policy.unwrap_or_else(|| default_policy_name(&work));
        self.0.library.check_may_publish(&caller.principal, &policy).await?;
        self.queue(caller, (policy, labels), TrainingTask::Train(work), None, once).await
    }

    /// Check what a run of `caller` is to do in [its environment](Self::choose_environment), and fill in every default.
    ///
    /// # Errors
    /// [`RlError::Invalid`] for settings that cannot be trained or more steps than the caller's role may ask for.
    pub fn checked(
        &self,
        caller: &TrainingCaller,
        work: TrainingSpec,
        source: EnvironmentSource,
    ) -> Result<TrainingSpec> {
        let work = validate_spec_in(work, source)?;
        self.limits(caller.role).check_steps(work.steps)?;
        Ok(work)
    }

    /// Return the limits of runs that callers of this role ask for.
    pub fn limits(&self, role: TrainingRole) -> TrainingLimits {
        self.0.settings.quotas.of(role)
    }

    async fn queue(
        &self,
        caller: &TrainingCaller,
        (policy, labels): (String, RunLabels),
        task: TrainingTask,
        feedback: Option<String>,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<TrainingRun>> {
        let (limits, caller) = (self.limits(caller.role), caller.principal.clone());
        let (id, owner_id, now) = (self.new_id(), caller.id(), self.0.now());
        let new = NewTrainingRun { id, owner_id, policy, labels, task, feedback, limits };
        let audit = self.0.audit().clone();
        let entry = audit_entry(now, TrainingEventKind::Queued.word())
            .by(&caller)
            .training_run(&new.id)
            .data("policy", json!(new.policy));
        let entry = entry.change(None, Some(json!({"status": RunStatus::Queued})));
        let done = self
            .0
            .db
            .write_idempotent(&self.0.clock, once, async move |tx: &mut Tx| {
                limits.check_open(store::count_unended(tx.conn().await?, &caller.aliases).await?)?;
                store::insert(tx, &new, now).await?;
                audit.append(tx, vec![entry]).await?;
                store::get(tx.conn().await?, &new.id).await?.ok_or_else(|| not_found_error(&new.id))
            })
            .await?;
        self.wake();
        Ok(done)
    }

    /// Environments that callers sent as tables.
    pub fn environments(&self) -> &OwnEnvironments {
        &self.0.environments
    }

    /// Look for queued runs now.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Return a run of `caller`; any run for an admin.
    ///
    /// # Errors
    /// [`RlError::NotFound`], for another owner's too.
    #[boxed]
    pub async fn get(&self, caller: &TrainingCaller, id: &TrainingRunId) -> Result<TrainingRun> {
        caller.admit(id, store::get(&mut *self.0.db.read().await?, id).await?)
    }

    /// Return a page of `caller`'s runs, newest first, and their total number; with `filter.all` everybody's.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn list(
        &self,
        caller: &Principal,
        filter: &RunFilter,
        page: &PageRequest,
    ) -> Result<(Vec<TrainingRun>, i64)> {
        store::list(&mut *self.0.db.read_list().await?, caller, filter, page).await
    }

    /// Apply one change to a run's state, with its entry in the audit log.
    async fn change<F>(
        &self,
        caller: &TrainingCaller,
        id: &TrainingRunId,
        action: &'static str,
        once: Option<IdempotencyKey>,
        change: F,
    ) -> Result<IdempotentResult<TrainingRun>>
    where
        F: AsyncFnOnce(&mut Tx, &TrainingRun, Timestamp) -> Result<()> + Send + 'static,
    {
        let (caller, id, now, hub) = (caller.clone(), id.to_owned(), self.0.now(), self.0.hub.clone());
        let audit = self.0.audit().clone();
        let done = self
            .0
            .db
            .write_idempotent::<_, RlError, _>(&self.0.clock, once, async move |tx: &mut Tx| {
                let found = caller.admit(&id, store::get(tx.conn().await?, &id).await?)?;
                change(tx, &found, now).await?;
                let changed = store::get(tx.conn().await?, &id).await?.ok_or_else(|| not_found_error(&id))?;
                let state = |run: &TrainingRun| {
                    Some(json!({"status": run.status, "asked": run.wish, "name": run.name, "tags": run.tags}))
                };
                let event = match changed.status {
                    RunStatus::Cancelled if !found.status.is_final() => EventType::ExecutionCancelled,
                    _ => EventType::WorkflowUpdated,
                };
                let entry = am_audit::AuditEntry::new(event, now)
                    .of("training_run", action)
                    .by(&caller.principal)
                    .training_run(&id)
                    .data("owner_id", json!(PrincipalName::from_stored(&found.owner_id).as_str()));
                audit.append(tx, vec![entry.change(state(&found), state(&changed))]).await?;
                tx.after_commit(move || hub.wake(&id));
                Ok(changed)
            })
            .await?;
        let run = &done.value;
        if run.status.is_final() {
            self.0.remove_checkpoints(&run.id);
        }
        self.told(&run.id, run.wish);
        Ok(done)
    }

    /// Pass a control request that is in the database to the run's driver, if it is in this process.
    pub fn told(&self, id: &TrainingRunId, wish: Option<ControlRequest>) {
        if let Some(handle) = self.0.driven().get(id) {
            handle.ask(wish);
        }
        self.wake();
    }

    /// Return a run once it has ended, or after `wait`, whichever is first.
    ///
    /// # Errors
    /// As [`TrainingRuns::get`].
    #[boxed]
    pub async fn wait(&self, caller: &TrainingCaller, id: &TrainingRunId, wait: Duration) -> Result<TrainingRun> {
        // A run that does not end in time is returned in its present state.
        let _ = tokio::time::timeout(wait, self.ended(id)).await;
        self.get(caller, id).await
    }

    /// Wait until the run has ended and return it. Temporary failures of reading the database are retried.
    #[boxed]
    pub async fn ended(&self, id: &TrainingRunId) -> Result<TrainingRun> {
        let mut subscription = self.0.hub.subscribe(id);
        loop {
            match self.look(id).await {
                Ok(Some(run)) => return Ok(run),
                Err(error @ RlError::NotFound(_)) => return Err(error),
                Ok(None) => {}
                Err(error) => tracing::warn!(run = id.as_str(), %error, "could not read a training run; retrying"),
            }
            // A driver in another process cannot notify this one, so the row is polled.
            tokio::select! {
                () = subscription.wait_for_wake() => {}
                () = tokio::time::sleep(RUN_POLL_INTERVAL) => {}
            }
        }
    }

    async fn look(&self, id: &TrainingRunId) -> Result<Option<TrainingRun>> {
        let run = {
            let mut conn = self.0.db.read().await?;
            match store::get_status(&mut conn, id).await?.ok_or_else(|| not_found_error(id))? {
                status if status.is_final() => store::get(&mut conn, id).await?,
                _ => return Ok(None),
            }
        };
        // A client that learns of a version may use it at once, so policies are refreshed first.
        if run.as_ref().is_some_and(|run| run.version.is_some()) {
            self.0.library.refresh().await?;
        }
        Ok(run)
    }

    /// Evaluate a version in whole episodes of an environment, by default the one it was trained in. Evaluations run
    /// one at a time; each may take some seconds of processor time.
    ///
    /// # Errors
    /// [`RlError::Invalid`] when the environment is unknown or does not fit.
    #[boxed]
    pub async fn evaluate(
        &self,
        reference: &PolicyReference,
        environment: Option<String>,
        parameters: Option<Value>,
        episodes: usize,
        seed: u64,
    ) -> Result<VersionEvaluation> {
        if !(1..=MAX_EPISODES).contains(&episodes) {
            return Err(RlError::invalid("episodes", format!("must be from 1 to {MAX_EPISODES}")));
        }
        let (record, weights) = self.0.library.weights(reference).await?;
        let Some(environment) = environment.or(record.environment) else {
            return Err(RlError::invalid("environment", "is missing: the policy was not trained on one"));
        };
        let (environment, plan) = self.evaluation_plan(environment, parameters, seed).await?;
        let _one = self.0.evaluating.lock().await;
        let scores = run_blocking(move || score_weights(&weights, &plan, episodes, seed));
        Ok(VersionEvaluation { policy: record.reference, environment, scores: scores.await? })
    }

    /// Release every run with a checkpoint; returns when done.
    #[boxed]
    pub async fn stop(&self) {
        self.0.stop.cancel();
        loop {
            // Register for the notification before checking, so that none is missed in between.
            let mut left = std::pin::pin!(self.0.left.notified());
            left.as_mut().enable();
            if self.0.driven().is_empty() {
                return;
            }
            left.await;
        }
    }
}

/// Cancel a run, at its next report if it is being trained. Returns false if it has ended already.
///
/// # Errors
/// Returns a database error when a query or the transaction fails.
#[boxed]
pub async fn cancel_run(tx: &mut Tx, id: &TrainingRunId, now: Timestamp) -> Result<bool> {
    match store::get(tx.conn().await?, id).await? {
        Some(run) if !run.status.is_final() => cancel_open_run(tx, &run, now).await.map(|()| true),
        _ => Ok(false),
    }
}

/// Build an audit entry of the generic kind for a change of a run.
fn audit_entry(now: Timestamp, action: &str) -> am_audit::AuditEntry {
    am_audit::AuditEntry::new(EventType::WorkflowUpdated, now).of("training_run", action)
}

async fn cancel_open_run(tx: &mut Tx, run: &TrainingRun, now: Timestamp) -> Result<()> {
    if run.status == RunStatus::Running {
        return store::set_control_request(tx, &run.id, Some(ControlRequest::Cancel)).await;
    }
    store::save_release(tx, &run.id, RunStatus::Cancelled, &store::RunEnding::default(), now).await?;
    store::append_event(tx, &run.id, TrainingEventKind::Cancelled, serde_json::json!({}), now).await
}

fn not_found_error(id: &TrainingRunId) -> RlError {
    RlError::NotFound(format!("there is no training run '{id}'"))
}
