//! Event stream of a training run.

use super::{TrainingCaller, TrainingRuns, model::RunStatus, store};
use crate::error::Result;
use am_core::boxed;
use am_core::ids::TrainingRunId;
use am_db::Connection;
use am_events::{StreamEvent, StreamFollower, StreamSource};

impl TrainingRuns {
    /// Return at most `limit` events of a run with numbers above `after`.
    ///
    /// # Errors
    /// As [`TrainingRuns::get`].
    #[boxed]
    pub async fn events(
        &self,
        caller: &TrainingCaller,
        id: &TrainingRunId,
        after: i64,
        limit: usize,
    ) -> Result<Vec<StreamEvent>> {
        self.get(caller, id).await?;
        Ok(am_events::read_events(&mut *self.0.db.read().await?, id, after, limit).await?)
    }

    /// Follow a run's events with numbers above `after` until it has ended.
    pub fn follow(&self, id: &TrainingRunId, after: i64) -> StreamFollower<Self> {
        StreamFollower::new(self.0.db.clone(), &self.0.hub, self.clone(), id, after)
    }
}

impl StreamSource for TrainingRuns {
    async fn has_ended(&self, conn: &mut Connection, id: &str) -> am_db::Result<bool> {
        Ok(store::get_status(conn, &id.into()).await?.is_none_or(RunStatus::is_final))
    }

    fn is_stopping(&self) -> bool {
        self.0.stop.is_cancelled()
    }
}
