//! Driver of one training run, on its own thread: trains, reports, writes checkpoints, evaluates, publishes.
//!
//! A checkpoint is first written as a complete file, then named by a row. Steps after it are trained again by the
//! process that takes over, with bit-identical results; events about them are sent again, after an event that says so.

mod best_weights;
mod environment;
mod publication;

use std::{
    fs,
    io::BufReader,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use tch::Device;

use self::best_weights::BestWeights;
use super::{
    TrainingRunsInner,
    control_handle::ControlHandle,
    model::{CheckpointRef, ControlRequest, RunStatus, TrainingRun, TrainingTask},
    record::TrainingRecord,
    store::{self, RunEnding, RunProgress},
    training_event::TrainingEventKind,
};
use crate::{
    environments::{EnvironmentError, EnvironmentSource},
    error::{Result, RlError, corrupt_json_error},
    library::{self, NewVersion, write_atomically_with},
    training::{self, Trainer, TrainerCheckpoint, TrainingError},
};
use am_audit::EventType;
use am_core::crypto::HashingStream;
use am_db::Tx;

/// Interval between two progress reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Key of the training record in a checkpoint's state.
const RECORD_KEY: &str = "record";

/// Reason for which a driver stops.
enum TrainingEnd {
    /// Training has finished, because of `steps` or `max_seconds`.
    Trained(&'static str),
    /// A pause or cancellation was requested.
    Requested(ControlRequest),
    /// The process is stopping, or another owner's run needs the place: the run is queued again.
    Released,
}

/// Read a checkpoint whose file is the one that was written.
fn read_checkpoint(directory: &Path, kept: &CheckpointRef) -> Result<TrainerCheckpoint<'static>> {
    let unreadable = |error| RlError::Storage("the checkpoint".into(), error);
    let file = fs::File::open(directory.join(&kept.file)).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    let mut from = HashingStream::new(BufReader::new(file));
    let checkpoint = TrainerCheckpoint::read_from(&mut from, size)?;
    match from.finish() == kept.sha256 {
        true => Ok(checkpoint),
        false => Err(RlError::InvalidState("the checkpoint's file has changed".into())),
    }
}

pub(super) struct TrainingDriver {
    inner: Arc<TrainingRunsInner>,
    runtime: tokio::runtime::Handle,
    handle: Arc<ControlHandle>,
    run: TrainingRun,
    record: TrainingRecord,
    /// Seconds of training in earlier processes, and the time when training began here.
    before: f64,
    since: Instant,
    kept: Option<CheckpointRef>,
    reported: Instant,
    saved: Instant,
    new_points: bool,
    /// Whether the first checkpoint is due at once: the run was claimed before without one.
    hurries: bool,
    /// Best evaluated weights; `None`: none were evaluated.
    best: Option<BestWeights>,
    /// Where the environment comes from; known once training begins.
    source: EnvironmentSource,
}

impl TrainingDriver {
    pub(super) fn new(
        inner: Arc<TrainingRunsInner>,
        runtime: tokio::runtime::Handle,
        handle: Arc<ControlHandle>,
        run: TrainingRun,
        claims: i64,
    ) -> Self {
        let now = Instant::now();
        let (kept, record) = (run.checkpoint.clone(), TrainingRecord::default());
        Self {
            inner,
            runtime,
            handle,
            run,
            record,
            before: 0.0,
            since: now,
            kept,
            reported: now,
            saved: now,
            new_points: false,
            hurries: claims > 1,
            best: None,
            source: EnvironmentSource::default(),
        }
    }

    /// Drive the run until it has ended or is released. If the result cannot be saved, the next process that finds the
    /// run repeats the work since the last checkpoint.
    pub(super) fn drive(mut self) {
        let outcome = catch_unwind(AssertUnwindSafe(|| self.train()));
        let id = self.run.id.clone();
        let ended = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(RlError::Db(error))) => Err(RlError::Db(error)),
            // Without a checkpoint: an advance that was broken off may have changed the trainer.
            Ok(Err(RlError::Training(TrainingError::Environment(EnvironmentError::BridgeGone(why))))) => {
                tracing::info!(run = id.as_str(), why, "a training run waits for its bridge");
                let error = Some(format!("waits for its bridge: {why}"));
                self.end(RunStatus::Queued, RunEnding { error, ..RunEnding::default() }, None)
            }
            Ok(Err(error)) => {
                tracing::warn!(run = id.as_str(), %error, "a training run failed");
                self.end(RunStatus::Failed, RunEnding { error: Some(error.to_string()), ..RunEnding::default() }, None)
            }
            Err(_) => {
                let error = Some("training was ended by an internal error; see the service's log".to_owned());
                self.end(RunStatus::Failed, RunEnding { error, ..RunEnding::default() }, None)
            }
        };
        if let Err(error) = ended {
            tracing::error!(run = id.as_str(), %error, "a training run cannot be saved; it will be resumed later");
        }
    }

    fn train(&mut self) -> Result<()> {
        training::lower_thread_priority(self.inner.settings.threads, self.inner.settings.slots);
        self.check_owner()?;
        // A bridge may be silent: until its first answer the run can be paused and cancelled as one that is trained.
        if self.needs_bridge() && !self.mark_running()? {
            return Ok(());
        }
        self.source = self.find_source()?;
        let mut trainer = self.make_trainer()?;
        let mut anew = None;
        if let Some(error) = self.restore(trainer.as_mut()) {
            tracing::warn!(run = self.run.id.as_str(), %error, "the checkpoint cannot be used; the run begins anew");
            trainer = self.make_trainer()?;
            (self.record, self.before, self.best) = (TrainingRecord::default(), 0.0, None);
            anew = Some(format!("its checkpoint at step {} cannot be used: {error}", self.run.steps_done));
        } else if self.kept.is_none() && self.run.started_at.is_some() {
            let what = if self.needs_bridge() { "its process or its bridge" } else { "its process" };
            anew = Some(format!("{what} ended before the first checkpoint"));
        }
        if !self.begin(trainer.steps(), anew)? {
            return Ok(());
        }
        self.inner.metrics.active.inc();
        let end = self.advance(trainer.as_mut());
        self.inner.metrics.active.dec();
        match end? {
            TrainingEnd::Trained(by) => self.complete(trainer.as_ref(), by),
            TrainingEnd::Requested(ControlRequest::Pause) => self.let_go(trainer.as_ref(), RunStatus::Paused),
            TrainingEnd::Requested(ControlRequest::Cancel) => {
                self.end(RunStatus::Cancelled, RunEnding::default(), None)
            }
            TrainingEnd::Released => self.let_go(trainer.as_ref(), RunStatus::Queued),
        }
    }

    fn make_trainer(&self) -> Result<Box<dyn Trainer>> {
        let device = Device::cuda_if_available();
        match &self.run.task {
            TrainingTask::Train(work) => self.plan(work).make_trainer(device).map_err(RlError::from_plan_error),
            TrainingTask::Learn(lesson) => {
                self.runtime.block_on(self.inner.learner(&self.run.id, lesson, device)).map(|one| Box::new(one) as _)
            }
        }
    }

    /// Check the policy's owner first: otherwise the conflict would show only at the end.
    fn check_owner(&self) -> Result<()> {
        let policy = match self.runtime.block_on(self.inner.library.get(&self.run.policy)) {
            Ok(policy) => policy,
            Err(RlError::Act(_)) => return Ok(()),
            Err(error) => return Err(error),
        };
        match policy.owner_id == self.run.owner_id {
            true => Ok(()),
            false => Err(RlError::Forbidden(format!("policy '{}' is another owner's", policy.name))),
        }
    }

    /// Resume from the checkpoint, if there is one. Returns the reason if it cannot be used.
    fn restore(&mut self, trainer: &mut dyn Trainer) -> Option<RlError> {
        let kept = self.kept.clone()?;
        let mut restored = || -> Result<(TrainingRecord, f64, Option<BestWeights>)> {
            let checkpoint = read_checkpoint(&self.inner.settings.directory, &kept)?;
            let (record, seconds) = checkpoint.state(RECORD_KEY)?;
            let best = BestWeights::get(&checkpoint)?;
            trainer.restore(checkpoint)?;
            Ok((record, seconds, best))
        };
        match restored() {
            Ok((record, seconds, best)) => {
                (self.record, self.before, self.best) = (record, seconds, best);
                None
            }
            Err(error) => Some(error),
        }
    }

    /// Mark the run as driven, with an event that says whether it begins, goes on, or begins `anew`, and why.
    fn begin(&mut self, steps: u64, anew: Option<String>) -> Result<bool> {
        let (id, seconds, now) = (self.run.id.clone(), self.before, self.inner.now());
        let first = self.run.started_at.is_none();
        let (audit, owner) = (self.inner.audit().clone(), self.run.owner_id.clone());
        let begun = self.write(async move |tx: &mut Tx| {
            let begun = store::mark_running(tx, &id, steps, seconds, now).await?;
            if begun {
                let kind = match (first, &anew) {
                    (_, Some(_)) => TrainingEventKind::Restarted,
                    (true, None) => TrainingEventKind::Started,
                    (false, None) => TrainingEventKind::Resumed,
                };
                let mut data = json!({"steps": steps, "seconds": seconds});
                if let Some(reason) = &anew {
                    store::save_restart(tx, &id, reason).await?;
                    data["reason"] = json!(reason);
                }
                store::append_event(tx, &id, kind, data, now).await?;
                let entry = am_audit::AuditEntry::new(EventType::ExecutionStarted, now).of("training_run", kind.word());
                let entry = entry.on_behalf_of(&owner).training_run(&id).data("steps", json!(steps));
                let entry = entry.reason(anew.as_deref());
                audit.append(tx, vec![entry]).await?;
            }
            Ok(begun)
        })?;
        (self.since, self.reported, self.saved) = (Instant::now(), Instant::now(), Instant::now());
        Ok(begun)
    }

    fn seconds(&self) -> f64 {
        self.before + self.since.elapsed().as_secs_f64()
    }

    fn advance(&mut self, trainer: &mut dyn Trainer) -> Result<TrainingEnd> {
        let (total, most) = (self.run.task.steps(), self.run.task.max_seconds());
        let begun = trainer.steps();
        while trainer.steps() < total {
            // Each turn comes on, however long the run took to be read: two that only make place for each other never end.
            let came_on = trainer.steps() > begun;
            if self.inner.stop.is_cancelled() || (came_on && self.handle.must_yield()) {
                return Ok(TrainingEnd::Released);
            }
            if let Some(wish) = self.handle.wish() {
                return Ok(TrainingEnd::Requested(wish));
            }
            let steps = trainer.steps();
            let progress = trainer.advance()?;
            self.new_points |= self.record.add(&progress, trainer.steps(), total);
            if matches!(self.run.task, TrainingTask::Train(_)) {
                self.inner.metrics.steps.inc_by(trainer.steps() - steps);
            }
            self.evaluate_if_due(trainer)?;
            am_core::crash_point!("train.after_advance");
            if most.is_some_and(|most| self.seconds() >= most) && trainer.steps() < total {
                return Ok(TrainingEnd::Trained("max_seconds"));
            }
            if self.hurries || self.saved.elapsed() >= self.inner.settings.checkpoint_every {
                self.save(trainer)?;
            } else if self.reported.elapsed() >= REPORT_INTERVAL {
                self.report(trainer.steps(), None)?;
            }
        }
        Ok(TrainingEnd::Trained("steps"))
    }

    /// Write a checkpoint and report progress.
    fn save(&mut self, trainer: &dyn Trainer) -> Result<()> {
        let mut checkpoint = trainer.save()?;
        checkpoint.put_state(RECORD_KEY, &(&self.record, self.seconds()))?;
        if let Some(best) = &self.best {
            best.put(&mut checkpoint)?;
        }
        let (steps, directory) = (trainer.steps(), self.inner.settings.directory.clone());
        let file = format!("{}.{steps}.checkpoint", self.run.id);
        let written = write_atomically_with(&directory.join(&file), |file| {
            let mut out = HashingStream::new(file);
            checkpoint.write_to(&mut out)?;
            Ok(out.finish())
        });
        let sha256 = written.map_err(|error| RlError::Storage("a checkpoint can't be kept".into(), error))?;
        drop(checkpoint);
        let kept = CheckpointRef { file, sha256, steps };
        am_core::crash_point!("train.after_checkpoint_file");
        self.report(steps, Some(kept.clone()))?;
        am_core::crash_point!("train.after_checkpoint");
        let file = kept.file.clone();
        // A checkpoint at the same step has the same name, and was overwritten.
        if let Some(old) = self.kept.replace(kept).filter(|old| old.file != file) {
            let _ = fs::remove_file(directory.join(old.file));
        }
        (self.saved, self.hurries) = (Instant::now(), false);
        Ok(())
    }

    fn report(&mut self, steps: u64, kept: Option<CheckpointRef>) -> Result<()> {
        let seconds = self.seconds();
        let new_points = std::mem::take(&mut self.new_points) || kept.is_some();
        let record = new_points.then(|| serde_json::to_string(&self.record)).transpose();
        let record = record.map_err(|error| corrupt_json_error("a record", error))?;
        let last = self.record.points.last();
        let mut data = json!({
            "steps": steps,
            "of": self.run.task.steps(),
            "seconds": seconds,
            "steps_per_second": (seconds > 0.0).then(|| steps as f64 / seconds),
            "episodes": self.record.episodes,
            "gradient_steps": self.record.gradient_steps,
            "mean_return": self.record.mean_return(),
            "measures": last.map(|point| &point.measures),
        });
        if let Some(kept) = &kept {
            data["checkpoint"] = json!(kept.steps);
        }
        let (id, now, report) = (self.run.id.clone(), self.inner.now(), RunProgress { steps, seconds, record, kept });
        let wish = self.write(async move |tx: &mut Tx| {
            let wish = store::save_progress(tx, &id, &report).await?;
            store::append_event(tx, &id, TrainingEventKind::Progress, data, now).await?;
            Ok(wish)
        })?;
        // The request came through another process.
        if let Some(wish) = wish {
            self.handle.ask(Some(wish));
        }
        self.reported = Instant::now();
        Ok(())
    }

    /// Write a checkpoint and release the run, so that another process can resume it.
    fn let_go(&mut self, trainer: &dyn Trainer, status: RunStatus) -> Result<()> {
        self.save(trainer)?;
        self.end(status, RunEnding::default(), None)
    }

    fn complete(&mut self, trainer: &dyn Trainer, by: &'static str) -> Result<()> {
        // The last points of the curve are saved with the end.
        self.new_points = true;
        self.report(trainer.steps(), None)?;
        // Its weights are those that it began with: published, they would be served.
        if !self.record.has_learned() {
            let error = format!(
                "training ended by {by} after {} steps, before the first gradient step: there is nothing to publish",
                trainer.steps()
            );
            tracing::warn!(run = self.run.id.as_str(), error, "a training run learned nothing");
            let ending = RunEnding { ended_by: Some(by), error: Some(error), ..RunEnding::default() };
            return self.end(RunStatus::Failed, ending, None);
        }
        for warning in self.record.warnings() {
            tracing::warn!(run = self.run.id.as_str(), warning, "a training run ends with a warning");
        }
        let (new, promotion) = match self.run.task.clone() {
            TrainingTask::Train(work) => {
                let (weights, steps, scores) = self.evaluated(&work, trainer)?;
                let promotion = work.promote_if.map(|_| self.gate(&work, &scores)).transpose()?;
                (self.trained(&work, &weights, (trainer.steps(), steps), &scores)?, promotion)
            }
            TrainingTask::Learn(lesson) => (self.feedback_version(&lesson, &trainer.weights()?)?, None),
        };
        am_core::crash_point!("train.before_publish");
        let ending = RunEnding { scores: new.scores.clone(), ended_by: Some(by), promotion, ..RunEnding::default() };
        self.end(RunStatus::Completed, ending, Some(new))
    }

    fn end(&mut self, status: RunStatus, ending: RunEnding, new: Option<NewVersion>) -> Result<()> {
        if self.finish(status, ending, new)?.is_final() {
            self.inner.remove_checkpoints(&self.run.id);
            self.runtime.block_on(self.inner.library.refresh())?;
        }
        Ok(())
    }

    /// Save the run's new status and return it; a request made meanwhile takes precedence.
    fn finish(&mut self, status: RunStatus, ending: RunEnding, new: Option<NewVersion>) -> Result<RunStatus> {
        let (id, owner) = (self.run.id.clone(), self.run.owner_id.clone());
        let (now, seconds) = (self.inner.now(), self.seconds());
        let (gradient_steps, yielded) = (self.record.gradient_steps, self.handle.must_yield());
        let (ids, policy) = (self.inner.ids.clone(), self.run.policy.clone());
        let audit = self.inner.audit().clone();
        let directory = self.inner.library.policies().directory().to_owned();
        let policies = self.inner.library.clone();
        self.write(async move |tx: &mut Tx| {
            let wish = store::get_control_request(tx, &id).await?;
            let (status, mut ending, new) = match (status, wish) {
                (_, Some(ControlRequest::Cancel)) => (RunStatus::Cancelled, RunEnding::default(), None),
                // The pause was withdrawn before it took effect.
                (RunStatus::Paused, None) => (RunStatus::Queued, ending, new),
                (RunStatus::Queued, Some(ControlRequest::Pause)) => {
                    (RunStatus::Paused, RunEnding { error: None, ..ending }, new)
                }
                (status, _) => (status, ending, new),
            };
            if let Some(mut new) = new {
                library::check_present(&directory, &new.file)?;
                if let Some(promotion) = &mut ending.promotion {
                    publication::settle_promotion(tx, &mut new, promotion).await?;
                }
                publication::settle_gates(tx, &policies, &mut new, &mut ending.promotion).await?;
                let told = (&audit, library::audit_entry(now).on_behalf_of(&owner).training_run(&id));
                let version = library::publish_version(tx, &ids, told, &owner, new, now).await?;
                ending.version = Some(version.version);
            }
            store::save_release(tx, &id, status, &ending, now).await?;
            let data = json!({
                "policy": policy,
                "version": ending.version,
                "scores": ending.scores,
                "ended_by": ending.ended_by,
                "error": ending.error,
                "promotion": ending.promotion,
                "gradient_steps": gradient_steps,
                "seconds": seconds,
                "yielded": yielded && status == RunStatus::Queued,
            });
            let (kind, event) = match status {
                RunStatus::Completed => (TrainingEventKind::Completed, EventType::ExecutionCompleted),
                RunStatus::Failed => (TrainingEventKind::Failed, EventType::ExecutionFailed),
                RunStatus::Cancelled => (TrainingEventKind::Cancelled, EventType::ExecutionCancelled),
                RunStatus::Paused => (TrainingEventKind::Paused, EventType::WorkflowUpdated),
                // Nobody ends with a run that is being trained.
                RunStatus::Queued | RunStatus::Running => (TrainingEventKind::Released, EventType::WorkflowUpdated),
            };
            let entry = am_audit::AuditEntry::new(event, now)
                .of("training_run", kind.word())
                .on_behalf_of(&owner)
                .training_run(&id)
                .data("policy", json!(policy))
                .data("version", json!(ending.version))
                .data("promotion", json!(ending.promotion))
                .data("execution_time", json!(seconds))
                .error("training_failed", ending.error.as_deref().filter(|_| status == RunStatus::Failed));
            let entry = entry.change(Some(json!({"status": RunStatus::Running})), Some(json!({"status": status})));
            audit.append(tx, vec![entry]).await?;
            store::append_event(tx, &id, kind, data, now).await?;
            Ok(status)
        })
    }

    /// Write to the database, and retry while it is busy: training waits until the result is recorded.
    fn write<T, F>(&self, work: F) -> Result<T>
    where
        F: AsyncFnOnce(&mut Tx) -> Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (hub, stream) = (self.inner.hub.clone(), self.run.id.clone());
        self.runtime.block_on(self.inner.db.write(async move |tx: &mut Tx| {
            let done = work(tx).await?;
            tx.after_commit(move || hub.wake(&stream));
            Ok(done)
        }))
    }
}
