//! Event stream of a training run.

use super::{Runs, model::RunStatus, store};
use crate::error::Result;
use am_db::{Connection, principal::Principal};
use am_events::{Event, Follower, Source};

impl Runs {
    /// Return at most `limit` events of a run with numbers above `after`.
    ///
    /// # Errors
    /// As [`Runs::get`].
    pub async fn events(&self, caller: &Principal, id: &str, after: i64, limit: usize) -> Result<Vec<Event>> {
        self.get(caller, id).await?;
        Ok(am_events::read(&mut *self.0.db.read().await?, id, after, limit).await?)
    }

    /// Follow a run's events with numbers above `after` until it has ended.
    pub fn follow(&self, id: &str, after: i64) -> Follower<Self> {
        Follower::new(self.0.db.clone(), &self.0.hub, self.clone(), id, after)
    }
}

impl Source for Runs {
    async fn has_ended(&self, conn: &mut Connection, id: &str) -> am_db::Result<bool> {
        Ok(store::status(conn, id).await?.is_none_or(RunStatus::is_final))
    }

    fn is_stopping(&self) -> bool {
        self.0.stop.is_cancelled()
    }
}
