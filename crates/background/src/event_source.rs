//! Event stream of a task.

use crate::{
    BackgroundTasks,
    error::Result,
    model::{WorkCaller, WorkStatus},
    store,
};
use am_core::{boxed, ids::BackgroundTaskId};
use am_db::Connection;
use am_events::{StreamEvent, StreamFollower, StreamSource};

impl BackgroundTasks {
    /// At most `limit` events of a task with numbers above `after`.
    ///
    /// # Errors
    /// As [`BackgroundTasks::get`].
    #[boxed]
    pub async fn events(
        &self,
        caller: &WorkCaller,
        id: &BackgroundTaskId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<StreamEvent>> {
        self.get(caller, id).await?;
        Ok(am_events::read_events(&mut *self.0.db.read().await?, id, after, limit).await?)
    }

    /// Follow a task's events with numbers above `after` until it has ended.
    pub fn follow(&self, id: &BackgroundTaskId, after: i64) -> StreamFollower<Self> {
        StreamFollower::new(self.0.db.clone(), &self.0.hub, self.clone(), id, after)
    }
}

impl StreamSource for BackgroundTasks {
    async fn has_ended(&self, conn: &mut Connection, id: &str) -> am_db::Result<bool> {
        Ok(store::get_status(conn, &id.into()).await?.is_none_or(WorkStatus::is_final))
    }

    fn is_stopping(&self) -> bool {
        self.0.stop.is_cancelled()
    }
}
