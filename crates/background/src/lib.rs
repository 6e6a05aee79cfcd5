//! Background work: long tasks that outlive their request and their process.
//!
//! A task is of a kind that was registered at start, and does its work piece by piece on a thread of its own, below the priority of
//! requests. It is driven by the process that holds the lock on its file, which the kernel releases when the process ends; another
//! process then goes on from its last checkpoint, to the same result. Owners take turns.

mod control;
mod driver;
mod error;
mod event_source;
mod kind;
mod metrics;
mod model;
mod queue;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod turns;
mod wish_handle;
mod work_lock;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::{BackgroundTaskId, PrincipalId},
    validation::Violation,
};
use am_db::{Database, Tx, codec::Timestamp, page::PageRequest};
use am_events::StreamHub;

pub use self::{
    error::{Result, WorkError, WorkFault},
    kind::{WorkContext, WorkKind, WorkMachine, WorkStep},
    model::{BackgroundWork, EndedWork, NewWork, WorkCaller, WorkFilter, WorkStatus, WorkWish},
};
use self::{metrics::WorkMetrics, wish_handle::WishHandle};

/// Interval at which tasks queued by other processes are looked for, and turns are changed.
const TASK_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Largest size of a task's parameters as JSON text.
const MAX_PARAMETERS_BYTES: usize = 1 << 20;

/// Settings of background work.
#[derive(Clone, Debug)]
pub struct BackgroundSettings {
    /// Number of tasks that this process drives at once; 0: none.
    pub slots: usize,
    /// Interval between checkpoints: the work that a crash may lose.
    pub checkpoint_every: Duration,
    /// Turn of each of two owners who always have tasks.
    pub slice: Duration,
    /// Tasks of one principal that have not ended, at most.
    pub open_tasks: u64,
}

/// Service for background work. Cheap to clone.
#[derive(Clone)]
pub struct BackgroundTasks(Arc<BackgroundInner>);

struct BackgroundInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    hub: StreamHub,
    settings: BackgroundSettings,
    metrics: WorkMetrics,
    kinds: Mutex<HashMap<&'static str, Arc<dyn WorkKind>>>,
    /// Tasks driven by this process.
    driven: Mutex<HashMap<BackgroundTaskId, Arc<WishHandle>>>,
    wake: Notify,
    /// Notified when a driver has let go of its task.
    left: Notify,
    stop: CancellationToken,
}

impl BackgroundInner {
    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }

    fn kind(&self, name: &str) -> Option<Arc<dyn WorkKind>> {
        self.kinds.lock().get(name).cloned()
    }

    fn driven(&self) -> parking_lot::MutexGuard<'_, HashMap<BackgroundTaskId, Arc<WishHandle>>> {
        self.driven.lock()
    }

    /// The owners of the tasks that this process drives.
    fn owners(&self) -> HashMap<BackgroundTaskId, PrincipalId> {
        self.driven().iter().map(|(id, handle)| (id.clone(), handle.owner_id.clone())).collect()
    }
}

/// An audit entry about a task.
fn task_entry(event: EventType, action: &str, task: &BackgroundWork, now: Timestamp) -> AuditEntry {
    let entry = AuditEntry::new(event, now).of("background_task", action).on_behalf_of(&task.owner_id);
    entry.data("task_id", json!(task.id)).data("kind", json!(task.kind)).data("subject", json!(task.subject))
}

impl BackgroundTasks {
    /// The service on `db`. Its work begins with [`BackgroundTasks::background_task`], before which the kinds are registered.
    pub fn new(
        db: Database,
        clock: Clock,
        ids: IdGenerator,
        audit: AuditLog,
        hub: StreamHub,
        settings: BackgroundSettings,
    ) -> Self {
        let (metrics, kinds, driven, wake, left, stop) = Default::default();
        Self(Arc::new(BackgroundInner {
            db,
            clock,
            ids,
            audit,
            hub,
            settings,
            metrics,
            kinds,
            driven,
            wake,
            left,
            stop,
        }))
    }

    /// Register the metrics of background work.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// Make a kind of work known. Tasks of a kind that a process does not know are left to others.
    pub fn register_kind(&self, kind: Arc<dyn WorkKind>) {
        self.0.kinds.lock().insert(kind.name(), kind);
    }

    /// Draw an unused id.
    pub fn new_id(&self) -> BackgroundTaskId {
        format!("task_{}", self.0.ids.hex(12)).into()
    }

    /// Queue a task in the caller's transaction; the worker is woken after the commit.
    ///
    /// # Errors
    /// [`WorkError::Quota`] when the owner has too many tasks that have not ended, [`WorkError::Invalid`] for parameters that are
    /// too large.
    #[boxed]
    pub async fn submit(&self, tx: &mut Tx, new: NewWork, now: Timestamp) -> Result<BackgroundWork> {
        let size = new.parameters.to_string().len();
        if size > MAX_PARAMETERS_BYTES {
            let text = format!("makes {size} bytes of parameters of a task, which may have {MAX_PARAMETERS_BYTES}");
            return Err(WorkError::Invalid(vec![Violation::new("", text)]));
        }
        let open = store::count_unended(tx.conn().await?, &new.owner_id).await?;
        if new.limited && open.unsigned_abs() >= self.0.settings.open_tasks {
            return Err(WorkError::Quota(format!(
                "{open} background tasks of yours have not ended, and {} is the most (BACKGROUND_MAX_OPEN_TASKS): wait for one, or cancel one",
                self.0.settings.open_tasks
            )));
        }
        store::insert(tx, &new, now).await?;
        store::append_events(tx, &new.id, vec![("queued", json!({"kind": new.kind}))], now).await?;
        let task = store::get(tx.conn().await?, &new.id).await?.ok_or_else(|| model::not_found(&new.id))?;
        let entry = task_entry(EventType::WorkflowUpdated, "queued", &task, now);
        self.0.audit.append(tx, vec![entry.change(None, Some(json!({"status": task.status})))]).await?;
        let tasks = self.clone();
        tx.after_commit(move || tasks.wake());
        Ok(task)
    }

    /// Look for queued tasks now.
    pub fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// A task of `caller`; any task for an admin.
    ///
    /// # Errors
    /// [`WorkError::NotFound`], for another owner's too.
    #[boxed]
    pub async fn get(&self, caller: &WorkCaller, id: &BackgroundTaskId) -> Result<BackgroundWork> {
        caller.admit(id, store::get(&mut *self.0.db.read().await?, id).await?)
    }

    /// A page of `caller`'s tasks, newest first, and their total number; with `filter.all` everybody's.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn list(
        &self,
        caller: &WorkCaller,
        filter: &WorkFilter,
        page: &PageRequest,
    ) -> Result<(Vec<BackgroundWork>, i64)> {
        Ok(store::list(&mut *self.0.db.read_list().await?, &caller.principal, filter, page).await?)
    }

    /// A task once it has ended, or as it is after `wait`.
    ///
    /// # Errors
    /// [`WorkError::NotFound`] when there is none.
    #[boxed]
    pub async fn wait(&self, id: &BackgroundTaskId, wait: Duration) -> Result<BackgroundWork> {
        let _ = tokio::time::timeout(wait, self.ended(id)).await;
        store::get(&mut *self.0.db.read().await?, id).await?.ok_or_else(|| model::not_found(id))
    }

    async fn ended(&self, id: &BackgroundTaskId) -> Result<()> {
        let mut subscription = self.0.hub.subscribe(id);
        loop {
            let status = store::get_status(&mut *self.0.db.read().await?, id).await?;
            if status.is_none_or(WorkStatus::is_final) {
                return Ok(());
            }
            // A driver in another process cannot notify this one, so the row is polled.
            tokio::select! {
                () = subscription.wait_for_wake() => {}
                () = tokio::time::sleep(TASK_POLL_INTERVAL) => {}
            }
        }
    }

    /// Let go of every task with a checkpoint; returns when done.
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
