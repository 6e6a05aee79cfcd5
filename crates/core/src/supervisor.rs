//! Background tasks that run as long as the process does: each has a name, is told when to end, and is missed when it ends
//! unasked.

use std::{any::Any, fmt, future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

/// A background task that was not started yet. A module that needs one returns it, and whoever owns the process starts it.
#[must_use = "a background task does nothing until a supervisor starts it"]
pub struct BackgroundTask {
    name: &'static str,
    work: BoxFuture<'static, ()>,
}

impl BackgroundTask {
    /// A task called `name`, which appears in logs, metrics and `/health/ready`. `work` may end only once it is asked to.
    pub fn new(name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self { name, work: Box::pin(work) }
    }
}

impl fmt::Debug for BackgroundTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BackgroundTask").field(&self.name).finish()
    }
}

/// How a background task ended though nobody had asked it to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the background task {name} {}", if *.panicked { "panicked" } else { "ended unasked" })]
pub struct TaskFailure {
    /// The task's name.
    pub name: &'static str,
    /// Whether it panicked; else its future ended.
    pub panicked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: &'static str,
}

/// Starts background tasks and watches over them. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor(Arc<Inner>);

struct Inner {
    stopping: CancellationToken,
    tasks: TaskTracker,
    running: Family<TaskLabels, Gauge>,
    /// The first failure; later ones are logged only.
    failed: watch::Sender<Option<TaskFailure>>,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self(Arc::new(Inner {
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
            running: Family::default(),
            failed: watch::Sender::new(None),
        }))
    }
}

impl Supervisor {
    /// Start the task `name` with the token that asks it to end.
    pub fn start<F>(&self, name: &'static str, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.adopt(BackgroundTask::new(name, work(self.0.stopping.clone())));
    }

    /// Start `task`. One that is asked to end otherwise than by [`Supervisor::stop`] must be asked after it.
    pub fn adopt(&self, task: BackgroundTask) {
        let BackgroundTask { name, work } = task;
        let running = self.0.running.get_or_create_owned(&TaskLabels { task: name });
        running.inc();
        let inner = self.0.clone();
        let watched = async move {
            let ended = AssertUnwindSafe(work).catch_unwind().await;
            running.dec();
            inner.note_end(name, ended);
        };
        self.0.tasks.spawn(watched.instrument(tracing::info_span!("task", task = name)));
    }

    /// Ask every task to end; from now on none is missed.
    pub fn stop(&self) {
        self.0.stopping.cancel();
        self.0.tasks.close();
    }

    /// The token that [`Supervisor::stop`] cancels.
    pub fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    /// Return when every task has ended, after [`Supervisor::stop`].
    pub async fn ended(&self) {
        self.0.tasks.wait().await;
    }

    /// The first task that failed, if one has.
    pub fn failure(&self) -> Option<TaskFailure> {
        self.0.failed.borrow().clone()
    }

    /// Wait until a task fails.
    pub async fn failed(&self) -> TaskFailure {
        let mut failures = self.0.failed.subscribe();
        loop {
            if let Some(failure) = failures.borrow_and_update().clone() {
                return failure;
            }
            // The sender lives as long as this borrows it.
            let _ = failures.changed().await;
        }
    }

    /// Add the metric `background_tasks_running`, by name.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Background tasks that run, by name";
        registry.register("background_tasks_running", help, self.0.running.clone());
    }
}

impl Inner {
    fn note_end(&self, name: &'static str, ended: Result<(), Box<dyn Any + Send>>) {
        let failure = TaskFailure { name, panicked: ended.is_err() };
        match ended {
            Ok(()) if self.stopping.is_cancelled() => return,
            Ok(()) => tracing::error!(task = name, "a background task ended unasked"),
            Err(panic) => tracing::error!(task = name, cause = panic_text(&*panic), "a background task panicked"),
        }
        self.failed.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(failure);
            is_first
        });
    }
}

/// What a panic said.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(supervisor: &Supervisor, task: &'static str) -> i64 {
        supervisor.0.running.get_or_create(&TaskLabels { task }).get()
    }

    #[tokio::test]
    async fn a_task_that_ends_when_asked_is_not_missed() {
        let supervisor = Supervisor::default();
        supervisor.start("watcher", |stop| async move { stop.cancelled().await });
        assert_eq!(running(&supervisor, "watcher"), 1);
        supervisor.stop();
        supervisor.ended().await;
        assert_eq!((running(&supervisor, "watcher"), supervisor.failure()), (0, None));
    }

    #[tokio::test]
    async fn a_panic_and_an_end_unasked_are_named() {
        let supervisor = Supervisor::default();
        supervisor.start("steady", |stop| async move { stop.cancelled().await });
        supervisor.adopt(BackgroundTask::new("reader", async { panic!("of course") }));
        let failure = supervisor.failed().await;
        assert_eq!(failure, TaskFailure { name: "reader", panicked: true });
        assert_eq!(failure.to_string(), "the background task reader panicked");
        assert_eq!((running(&supervisor, "reader"), running(&supervisor, "steady")), (0, 1));

        let supervisor = Supervisor::default();
        supervisor.start("poller", |_| async {});
        assert_eq!(supervisor.failed().await.to_string(), "the background task poller ended unasked");
    }

    #[tokio::test]
    async fn the_first_failure_is_the_one_that_is_told() {
        let supervisor = Supervisor::default();
        supervisor.start("first", |_| async {});
        supervisor.failed().await;
        supervisor.start("second", |_| async {});
        supervisor.stop();
        supervisor.ended().await;
        assert_eq!(supervisor.failure().map(|failure| failure.name), Some("first"));
    }

    #[tokio::test]
    async fn a_panic_during_a_stop_is_told_too() {
        let supervisor = Supervisor::default();
        supervisor.start("closer", |stop| async move {
            stop.cancelled().await;
            panic!("late");
        });
        supervisor.stop();
        assert_eq!(supervisor.failed().await, TaskFailure { name: "closer", panicked: true });
    }
}
