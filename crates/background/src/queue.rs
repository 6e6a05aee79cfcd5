//! The queue of tasks: which are claimed by this process, which are given up, and which make place.

use std::{collections::HashMap, sync::Arc, thread};

use serde_json::json;

use crate::{
    BackgroundTasks, TASK_POLL_INTERVAL,
    control::WorkEnding,
    driver::WorkDriver,
    error::{Result, WorkError},
    kind::WorkKind,
    model::{BackgroundWork, OpenWork, WorkStatus},
    store, task_entry, turns,
    wish_handle::WishHandle,
    work_lock::{self, WorkLock},
};
use am_audit::EventType;
use am_core::{ids::BackgroundTaskId, supervisor::BackgroundTask};
use am_db::Tx;

/// At this many claims without a new checkpoint a task fails.
const MAX_CLAIMS: i64 = 3;
/// Tasks that only wait and hold no place, at most: each has a thread.
const MAX_WAITING_TASKS: usize = 64;

impl BackgroundTasks {
    /// The worker that does what waits, as many tasks at once as there are slots. It ends with [`BackgroundTasks::stop`].
    pub fn background_task(&self) -> BackgroundTask {
        BackgroundTask::new("background", self.clone().work())
    }

    pub(crate) async fn work(self) {
        loop {
            if let Err(error) = self.claim_tasks().await {
                tracing::warn!(%error, "could not read queued background tasks");
            }
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                () = self.0.wake.notified() => {}
                () = tokio::time::sleep(TASK_POLL_INTERVAL) => {}
            }
        }
    }

    async fn claim_tasks(&self) -> Result<()> {
        if self.0.settings.slots == 0 {
            return Ok(());
        }
        let open = store::list_open(&mut *self.0.db.read().await?).await?;
        for task in turns::order(&open, &self.0.owners()) {
            if self.0.stop.is_cancelled() {
                break;
            }
            let Some(kind) = self.0.kind(&task.kind) else { continue };
            if !self.has_place(kind.only_waits()) {
                continue;
            }
            let Some(lock) = work_lock::try_lock(self.0.db.path(), &task.id) else { continue };
            if let Some((task, claims)) = self.claim(&task.id).await? {
                self.drive(task, claims, kind, lock)?;
            }
        }
        if !self.has_place(false) {
            self.ask_for_a_place(&open);
        }
        Ok(())
    }

    /// Whether one more task may be driven, or one of a kind that only waits. Those that only wait have no place.
    fn has_place(&self, only_waits: bool) -> bool {
        let (driven, places) = (self.0.driven(), self.0.settings.slots);
        let waiting = driven.values().filter(|handle| handle.is_waiting()).count();
        (only_waits || driven.len() - waiting < places) && driven.len() < places + MAX_WAITING_TASKS
    }

    /// Ask the task whose turn has lasted longest to make place for another owner's, if one has a better right to it.
    fn ask_for_a_place(&self, open: &[OpenWork]) {
        let slice = self.0.settings.slice;
        let driven = self.0.driven();
        let working = || driven.iter().filter(|(_, handle)| !handle.is_waiting());
        let owners: HashMap<_, _> = working().map(|(id, handle)| (id.clone(), handle.owner_id.clone())).collect();
        if driven.values().any(|handle| handle.must_yield()) {
            return;
        }
        let longest = working()
            .map(|(_, handle)| handle)
            .filter(|handle| turns::must_yield(open, &owners, &handle.owner_id, handle.since.elapsed(), slice))
            .min_by_key(|handle| handle.since);
        if let Some(handle) = longest {
            handle.ask_to_yield();
        }
    }

    /// Count a claim of a locked task and read it, with the number of its claims without a new checkpoint. One that was claimed too
    /// often is failed instead. `None`: there is nothing to drive.
    async fn claim(&self, id: &BackgroundTaskId) -> Result<Option<(BackgroundWork, i64)>> {
        let (id, now, inner) = (id.clone(), self.0.now(), self.0.clone());
        let claim = async move |tx: &mut Tx| {
            // The previous holder of the lock may have ended the task.
            let Some(claims) = store::claim(tx, &id, now).await? else { return Ok(None) };
            let Some(task) = store::get(tx.conn().await?, &id).await? else { return Ok(None) };
            if claims < MAX_CLAIMS {
                return Ok(Some((task, claims)));
            }
            let why = format!(
                "given up: claimed {claims} times without progress, because the process ended or the save failed each time"
            );
            tracing::error!(task = id.as_str(), claims, "a background task is given up: it never came on");
            let entry = task_entry(EventType::ExecutionFailed, "failed", &task, now)
                .data("claims", json!(claims))
                .error("background_failed", Some(&why));
            let (before, after) = (json!({"status": task.status}), json!({"status": WorkStatus::Failed}));
            inner.audit.append(tx, vec![entry.change(Some(before), Some(after))]).await?;
            let ending =
                WorkEnding { status: WorkStatus::Failed, result: None, error: Some(why), seconds: task.seconds };
            inner.end(tx, &task, ending, now).await?;
            tx.after_commit(move || inner.hub.wake(&id));
            Ok::<_, WorkError>(None)
        };
        self.0.db.write(claim).await
    }

    fn drive(&self, task: BackgroundWork, claims: i64, kind: Arc<dyn WorkKind>, lock: WorkLock) -> Result<()> {
        let handle = Arc::new(WishHandle::new(task.owner_id.clone(), task.asked, kind.only_waits()));
        self.0.driven().insert(task.id.clone(), handle.clone());
        let place = WorkPlace { tasks: self.clone(), id: task.id.clone(), _lock: lock };
        let runtime = tokio::runtime::Handle::current();
        let driver = WorkDriver::new(self.0.clone(), runtime, handle, kind, task, claims);
        let log = tracing::dispatcher::get_default(Clone::clone);
        let spawned = thread::Builder::new().name("background".to_owned()).spawn(move || {
            tracing::dispatcher::with_default(&log, || driver.drive());
            drop(place);
        });
        spawned.map(drop).map_err(WorkError::Thread)
    }
}

/// The place of a task that this process drives, given back when it is dropped.
struct WorkPlace {
    tasks: BackgroundTasks,
    id: BackgroundTaskId,
    _lock: WorkLock,
}

impl Drop for WorkPlace {
    fn drop(&mut self) {
        self.tasks.0.driven().remove(&self.id);
        self.tasks.0.left.notify_waiters();
        self.tasks.wake();
    }
}
