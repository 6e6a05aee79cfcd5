//! Following a run's events.

use super::{LOOK, Runs, model::RunStatus, store};
use crate::{
    db::principal::Principal,
    events::{self, Event},
    rl::error::Result,
};

/// Events read at once.
const BATCH: usize = 256;

impl Runs {
    /// At most `limit` events of a run after number `after`.
    ///
    /// # Errors
    /// As [`Runs::get`].
    pub async fn events(&self, caller: &Principal, id: &str, after: i64, limit: usize) -> Result<Vec<Event>> {
        self.get(caller, id).await?;
        Ok(events::read(&mut *self.0.db.read().await?, id, after, limit).await?)
    }

    /// Follow a run's events after number `after` until it has ended.
    pub fn follow(&self, id: &str, after: i64) -> Follower {
        Follower { runs: self.clone(), id: id.to_owned(), after, subscription: self.0.hub.subscribe(id) }
    }
}

/// A reader of a run's events.
pub struct Follower {
    runs: Runs,
    id: String,
    after: i64,
    subscription: events::Subscription,
}

impl Follower {
    /// The next events; none when the run has ended and all were read.
    ///
    /// # Errors
    /// As the database.
    pub async fn next(&mut self) -> Result<Option<Vec<Event>>> {
        loop {
            let (events, ended) = {
                let mut conn = self.runs.0.db.read().await?;
                // The status is read first: what was told before the end is then there to be read.
                let ended = store::status(&mut conn, &self.id).await?.is_none_or(RunStatus::is_final);
                (events::read(&mut conn, &self.id, self.after, BATCH).await?, ended)
            };
            if let Some(last) = events.last() {
                self.after = last.seq;
                return Ok(Some(events));
            }
            if ended || self.runs.0.stop.is_cancelled() {
                return Ok(None);
            }
            tokio::select! {
                () = self.subscription.woken() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = self.runs.0.stop.cancelled() => {}
            }
        }
    }
}
