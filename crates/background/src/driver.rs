//! Driver of one task, on its own thread: opens it, advances it, reports, writes checkpoints, ends it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    BackgroundInner,
    control::WorkEnding,
    error::WorkFault,
    kind::{WorkContext, WorkKind, WorkMachine, WorkStep},
    model::{BackgroundWork, WorkStatus, WorkWish},
    state,
    store::{self, WorkReport},
    task_entry,
    wish_handle::WishHandle,
};
use am_audit::EventType;
use am_db::{DatabaseError, Tx};

/// Interval between two progress reports.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Time before a task that could not be saved may be claimed again.
const SAVE_PAUSE: Duration = Duration::from_millis(500);
/// Nice value of the threads that do background work.
const BACKGROUND_NICE: i32 = 10;
/// Largest size of a checkpoint.
const MAX_CHECKPOINT_BYTES: usize = 8 << 20;

/// Reason for which a driver stops.
enum WorkStop {
    /// The work is done.
    Done(Value),
    /// It is let go: paused, cancelled, or queued again.
    LetGo(WorkStatus),
}

/// Latest progress of the work.
#[derive(Clone, Debug, Default, PartialEq)]
struct LatestProgress {
    done: u64,
    total: u64,
    note: Option<Value>,
}

pub(crate) struct WorkDriver {
    inner: Arc<BackgroundInner>,
    handle: Arc<WishHandle>,
    kind: Arc<dyn WorkKind>,
    runtime: tokio::runtime::Handle,
    task: BackgroundWork,
    latest: LatestProgress,
    /// Progress of the last event that told of it.
    told: Option<LatestProgress>,
    /// The last checkpoint of a task that waits.
    kept: Option<String>,
    reported: Instant,
    saved: Instant,
    /// Whether the first checkpoint is due at once: the task was claimed before without one.
    hurries: bool,
}

impl WorkDriver {
    pub(crate) fn new(
        inner: Arc<BackgroundInner>,
        runtime: tokio::runtime::Handle,
        handle: Arc<WishHandle>,
        kind: Arc<dyn WorkKind>,
        task: BackgroundWork,
        claims: i64,
    ) -> Self {
        let now = Instant::now();
        let latest = LatestProgress { done: task.done, total: task.total, note: task.note.clone() };
        let hurries = claims > 1;
        Self { inner, handle, kind, runtime, task, latest, told: None, kept: None, reported: now, saved: now, hurries }
    }

    /// Drive the task until it has ended or is let go. If that cannot be saved, the next process that finds the task repeats the
    /// work since its last checkpoint.
    pub(crate) fn drive(mut self) {
        // A failure only costs latency elsewhere.
        if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), BACKGROUND_NICE) {
            tracing::warn!(%error, "could not lower a background thread's priority");
        }
        self.inner.metrics.active.inc();
        let outcome = catch_unwind(AssertUnwindSafe(|| self.work()));
        self.inner.metrics.active.dec();
        let ended = match outcome {
            Ok(Ok(())) => return,
            // What the kind can't store at its end, it can't store later either.
            Ok(Err(WorkFault::Db(error @ (DatabaseError::InvalidValue(_) | DatabaseError::Duplicate(_))))) => {
                tracing::error!(task = self.task.id.as_str(), %error, "the end of a background task cannot be stored");
                self.fail("what came of it cannot be stored; see the service's log".to_owned())
            }
            Ok(Err(WorkFault::Db(error))) => Err(WorkFault::Db(error)),
            Ok(Err(WorkFault::Failed(why))) => self.fail(why),
            Err(_) => self.fail("the work was ended by an internal error; see the service's log".to_owned()),
        };
        if let Err(error) = ended {
            tracing::error!(task = self.task.id.as_str(), %error, "a background task cannot be saved; it will be done later");
            // Claimed again at once, it would meet the same.
            thread::sleep(SAVE_PAUSE);
        }
    }

    fn fail(&mut self, why: String) -> Result<(), WorkFault> {
        tracing::warn!(task = self.task.id.as_str(), kind = self.task.kind, why, "a background task failed");
        let seconds = self.task.seconds;
        self.finish(WorkEnding { status: WorkStatus::Failed, result: None, error: Some(why), seconds }, None, vec![])
    }

    fn work(&mut self) -> Result<(), WorkFault> {
        let id = self.task.id.clone();
        let kept = self.runtime.block_on(async {
            let mut conn = self.inner.db.read().await?;
            store::get_checkpoint(&mut conn, &id).await
        })?;
        let mut context = WorkContext::new(self.task.clone(), self.runtime.clone(), self.task.seconds);
        let (mut machine, anew) = match self.kind.open(&context, kept.as_deref()) {
            // A checkpoint of another version of the service; the work is not lost, only its time.
            Err(WorkFault::Failed(why)) if kept.is_some() => {
                self.latest = LatestProgress::default();
                context = WorkContext::new(self.task.clone(), self.runtime.clone(), 0.0);
                (self.kind.open(&context, None)?, Some(format!("its checkpoint can't be used: {why}")))
            }
            other => (other?, None),
        };
        if !self.begin(anew)? {
            return Ok(());
        }
        match self.advance(machine.as_mut(), &context)? {
            WorkStop::Done(result) => {
                am_core::crash_point!("background.before_end");
                let ending = WorkEnding {
                    status: WorkStatus::Completed,
                    result: Some(result),
                    error: None,
                    seconds: context.seconds(),
                };
                self.finish(ending, None, context.take_events())
            }
            WorkStop::LetGo(status) => {
                let checkpoint = match status {
                    WorkStatus::Cancelled => None,
                    _ => Some(checkpoint_of(machine.as_ref())?),
                };
                let ending = WorkEnding { status, result: None, error: None, seconds: context.seconds() };
                self.finish(ending, checkpoint, context.take_events())
            }
        }
    }

    /// Mark the task as driven, with an event that says whether it begins, goes on, or begins `anew`, and why.
    fn begin(&mut self, anew: Option<String>) -> Result<bool, WorkFault> {
        let (task, inner, now) = (self.task.clone(), self.inner.clone(), self.inner.now());
        let begun = self.write(async move |tx: &mut Tx| {
            if !store::mark_running(tx, &task.id, now).await? {
                return Ok(false);
            }
            let kind = match (&anew, task.started_at) {
                (Some(_), _) => "restarted",
                (None, None) => "started",
                (None, Some(_)) => "resumed",
            };
            store::append_events(tx, &task.id, vec![(kind, json!({"done": task.done, "reason": anew}))], now).await?;
            let entry = task_entry(EventType::ExecutionStarted, kind, &task, now).reason(anew.as_deref());
            inner.audit.append(tx, vec![entry]).await?;
            Ok(true)
        })?;
        (self.reported, self.saved) = (Instant::now(), Instant::now());
        Ok(begun)
    }

    fn advance(&mut self, machine: &mut dyn WorkMachine, context: &WorkContext) -> Result<WorkStop, WorkFault> {
        let mut came_on = false;
        loop {
            match self.handle.wish() {
                Some(WorkWish::Cancel) => return Ok(WorkStop::LetGo(WorkStatus::Cancelled)),
                Some(WorkWish::Pause) => return Ok(WorkStop::LetGo(WorkStatus::Paused)),
                None => {}
            }
            // Each turn comes on: two tasks that only make place for each other never end.
            if self.inner.stop.is_cancelled() || (came_on && self.handle.must_yield()) {
                return Ok(WorkStop::LetGo(WorkStatus::Queued));
            }
            match machine.advance(context)? {
                WorkStep::Done(result) => return Ok(WorkStop::Done(result)),
                WorkStep::Progress { done, total, note } => {
                    self.latest = LatestProgress { done, total, note: note.or(self.latest.note.take()) };
                }
            }
            if self.handle.set_waiting(machine.is_waiting()) {
                self.inner.wake.notify_one();
            }
            came_on = true;
            am_core::crash_point!("background.after_advance");
            if self.hurries || self.saved.elapsed() >= self.inner.settings.checkpoint_every {
                let checkpoint = checkpoint_of(machine)?;
                self.report(context, Some(checkpoint))?;
                (self.saved, self.hurries) = (Instant::now(), false);
                am_core::crash_point!("background.after_checkpoint");
            } else if self.reported.elapsed() >= REPORT_INTERVAL {
                self.report(context, None)?;
            }
        }
    }

    fn report(&mut self, context: &WorkContext, checkpoint: Option<String>) -> Result<(), WorkFault> {
        let (id, now, mut events) = (self.task.id.clone(), self.inner.now(), context.take_events());
        // A task that waits for days tells of it once, and writes what has changed.
        let waits = self.handle.is_waiting();
        let is_told = waits && self.told.as_ref() == Some(&self.latest);
        let is_kept = waits && (checkpoint.is_none() || checkpoint == self.kept);
        let wish = if is_told && is_kept && events.is_empty() {
            self.runtime.block_on(async {
                let mut conn = self.inner.db.read().await?;
                store::get_wish(&mut conn, &id).await
            })?
        } else {
            if checkpoint.is_some() {
                self.kept = checkpoint.clone().filter(|_| waits);
            }
            let (report, progress) = self.progress(context.seconds(), checkpoint);
            if !is_told {
                events.push(("progress", progress));
                self.told = Some(self.latest.clone());
            }
            self.write(async move |tx: &mut Tx| {
                let wish = store::save_report(tx, &id, report).await?;
                store::append_events(tx, &id, events, now).await?;
                Ok(wish)
            })?
        };
        // The request came through another process.
        if let Some(wish) = wish {
            self.handle.ask(Some(wish));
        }
        self.reported = Instant::now();
        Ok(())
    }

    fn progress(&self, seconds: f64, checkpoint: Option<String>) -> (WorkReport, Value) {
        let LatestProgress { done, total, note } = self.latest.clone();
        let saved = checkpoint.is_some();
        let data = json!({"done": done, "total": total, "note": note, "seconds": seconds, "checkpoint": saved});
        (WorkReport { done, total, note, seconds, checkpoint }, data)
    }

    /// Save how the task is let go; what was asked of it meanwhile counts.
    fn finish(
        &mut self,
        ending: WorkEnding,
        checkpoint: Option<String>,
        events: Vec<(&'static str, Value)>,
    ) -> Result<(), WorkFault> {
        let (inner, now) = (self.inner.clone(), self.inner.now());
        let (id, (report, progress)) = (self.task.id.clone(), self.progress(ending.seconds, checkpoint));
        self.write(async move |tx: &mut Tx| {
            let Some(task) = store::get(tx.conn().await?, &id).await? else { return Ok(()) };
            let mut ending = ending;
            ending.status = state::released(ending.status, task.asked);
            if ending.status != WorkStatus::Completed {
                ending.result = None;
            }
            if ending.status != WorkStatus::Failed {
                ending.error = None;
            }
            store::save_report(tx, &id, report).await?;
            store::append_events(tx, &id, events.into_iter().chain([("progress", progress)]).collect(), now).await?;
            let event = match ending.status {
                WorkStatus::Completed => EventType::ExecutionCompleted,
                WorkStatus::Failed => EventType::ExecutionFailed,
                WorkStatus::Cancelled => EventType::ExecutionCancelled,
                WorkStatus::Queued | WorkStatus::Paused | WorkStatus::Running => EventType::WorkflowUpdated,
            };
            let entry = task_entry(event, ending.status.stored(), &task, now)
                .data("execution_time", json!(ending.seconds))
                .error("background_failed", ending.error.as_deref());
            let entry = entry.change(Some(json!({"status": task.status})), Some(json!({"status": ending.status})));
            inner.audit.append(tx, vec![entry]).await?;
            inner.end(tx, &task, ending, now).await
        })
    }

    /// Write to the database, and retry while it is busy: the work waits until its state is recorded.
    fn write<T, F>(&self, work: F) -> Result<T, WorkFault>
    where
        F: AsyncFnOnce(&mut Tx) -> am_db::Result<T> + Send + 'static,
        T: Send + 'static,
    {
        let (hub, stream) = (self.inner.hub.clone(), self.task.id.clone());
        let written: am_db::Result<T> = self.runtime.block_on(self.inner.db.write(async move |tx: &mut Tx| {
            let done = work(tx).await?;
            tx.after_commit(move || hub.wake(&stream));
            Ok(done)
        }));
        Ok(written?)
    }
}

fn checkpoint_of(machine: &dyn WorkMachine) -> Result<String, WorkFault> {
    let text = machine.checkpoint()?;
    if text.len() > MAX_CHECKPOINT_BYTES {
        let size = text.len();
        return Err(WorkFault::Failed(format!("its state has {size} bytes, and {MAX_CHECKPOINT_BYTES} is the most")));
    }
    Ok(text)
}
