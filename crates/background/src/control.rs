//! Pause, resume, cancel; and the one way in which a task ends.

use serde_json::json;

use crate::{
    BackgroundInner, BackgroundTasks,
    error::{Result, WorkError},
    model::{self, BackgroundWork, EndedWork, WorkCaller, WorkStatus, WorkWish},
    state::{self, WorkChange, WorkRequest},
    store, task_entry,
};
use am_audit::EventType;
use am_core::{boxed, ids::BackgroundTaskId};
use am_db::{
    Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};

impl BackgroundTasks {
    /// Ask that a task stop at its next step, with a checkpoint. A queued task is paused at once.
    ///
    /// # Errors
    /// [`WorkError::InvalidState`] when it is paused or has ended.
    #[boxed]
    pub async fn pause(
        &self,
        caller: &WorkCaller,
        id: &BackgroundTaskId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<BackgroundWork>> {
        self.request(caller, id, WorkRequest::Pause, once).await
    }

    /// Queue a paused task again.
    ///
    /// # Errors
    /// [`WorkError::InvalidState`] when it is neither paused nor about to be.
    #[boxed]
    pub async fn resume(
        &self,
        caller: &WorkCaller,
        id: &BackgroundTaskId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<BackgroundWork>> {
        self.request(caller, id, WorkRequest::Resume, once).await
    }

    /// Ask that a task end without a result. One that no process drives ends at once.
    ///
    /// # Errors
    /// [`WorkError::InvalidState`] when it has ended.
    #[boxed]
    pub async fn cancel(
        &self,
        caller: &WorkCaller,
        id: &BackgroundTaskId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<BackgroundWork>> {
        self.request(caller, id, WorkRequest::Cancel, once).await
    }

    /// Cancel a task in the caller's transaction, whoever owns it. One that has ended stays as it is.
    ///
    /// # Errors
    /// A database error, also that of what its kind writes at its end.
    #[boxed]
    pub async fn cancel_in(&self, tx: &mut Tx, id: &BackgroundTaskId, now: Timestamp) -> Result<()> {
        let Some(task) = store::get(tx.conn().await?, id).await? else { return Ok(()) };
        if task.status.is_final() {
            return Ok(());
        }
        self.apply(tx, &task, None, WorkRequest::Cancel, now).await.map(drop)
    }

    async fn request(
        &self,
        caller: &WorkCaller,
        id: &BackgroundTaskId,
        request: WorkRequest,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<BackgroundWork>> {
        let (tasks, caller, id, now) = (self.clone(), caller.clone(), id.clone(), self.0.now());
        let work = async move |tx: &mut Tx| {
            let task = caller.admit(&id, store::get(tx.conn().await?, &id).await?)?;
            tasks.apply(tx, &task, Some(&caller.principal), request, now).await
        };
        self.0.db.write_idempotent::<_, WorkError, _>(&self.0.clock, once, work).await
    }

    async fn apply(
        &self,
        tx: &mut Tx,
        task: &BackgroundWork,
        by: Option<&Principal>,
        request: WorkRequest,
        now: Timestamp,
    ) -> Result<BackgroundWork> {
        let (inner, id) = (&self.0, &task.id);
        let Some(change) = state::change(task.status, task.asked, request) else {
            return Err(WorkError::InvalidState(format!(
                "The background task cannot be {}: it is {}",
                request.participle(),
                task.status
            )));
        };
        match change {
            WorkChange::Ask(wish) => store::set_wish(tx, id, wish).await?,
            WorkChange::Become(status) => {
                let ending = WorkEnding { status, result: None, error: None, seconds: task.seconds };
                inner.end(tx, task, ending, now).await?;
            }
        }
        let changed = store::get(tx.conn().await?, id).await?.ok_or_else(|| model::not_found(id))?;
        let event = match changed.status {
            WorkStatus::Cancelled => EventType::ExecutionCancelled,
            _ => EventType::WorkflowUpdated,
        };
        let state = |task: &BackgroundWork| Some(json!({"status": task.status, "asked": task.asked}));
        let entry = task_entry(event, request.word(), task, now);
        let entry = match by {
            Some(by) => entry.by(by).data("owner_id", json!(am_db::owner::PrincipalName::from_stored(&task.owner_id))),
            None => entry,
        };
        inner.audit.append(tx, vec![entry.change(state(task), state(&changed))]).await?;
        let (tasks, id, wish) = (self.clone(), id.clone(), changed.asked);
        tx.after_commit(move || tasks.told(&id, wish));
        Ok(changed)
    }

    /// Pass on what is in the database now to the task's driver, if it is in this process, and to its readers.
    fn told(&self, id: &BackgroundTaskId, wish: Option<WorkWish>) {
        if let Some(handle) = self.0.driven().get(id) {
            handle.ask(wish);
        }
        self.0.hub.wake(id);
        self.wake();
    }
}

/// How a task is let go.
pub(crate) struct WorkEnding {
    /// Its new status.
    pub(crate) status: WorkStatus,
    /// Its result; `None` unless it is completed.
    pub(crate) result: Option<serde_json::Value>,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// Seconds worked so far.
    pub(crate) seconds: f64,
}

impl BackgroundInner {
    /// Give a task that nobody drives any more its new status, with its event; at its end its kind writes what it keeps of it.
    pub(crate) async fn end(
        &self,
        tx: &mut Tx,
        task: &BackgroundWork,
        ending: WorkEnding,
        now: Timestamp,
    ) -> am_db::Result<()> {
        let WorkEnding { status, result, error, seconds } = ending;
        store::save_release(tx, &task.id, status, seconds, (result.as_ref(), error.as_deref()), now).await?;
        let kind = match status {
            WorkStatus::Queued if task.status == WorkStatus::Paused => "queued",
            WorkStatus::Queued | WorkStatus::Running => "released",
            other => other.stored(),
        };
        let data = json!({"seconds": seconds, "result": result, "error": error});
        store::append_events(tx, &task.id, vec![(kind, data)], now).await?;
        if status.is_final() {
            self.metrics.ended.inc();
            if let Some(kind) = self.kind(&task.kind) {
                let ended = EndedWork { task: task.clone(), status, result, error, seconds, now };
                kind.settle(tx, &ended).await?;
            }
        }
        Ok(())
    }
}
