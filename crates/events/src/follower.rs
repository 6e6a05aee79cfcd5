//! Reading on in a stream until it has ended.

use std::{future::Future, time::Duration};

use super::{Event, Hub, Subscription, store};
use am_db::{Connection, Database, Result};

/// Events read at once.
const BATCH: usize = 256;
/// How often what other processes append is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// What its room knows of a stream.
pub trait Source: Send + Sync + 'static {
    /// Whether nothing will be appended to it any more.
    fn has_ended(&self, conn: &mut Connection, stream: &str) -> impl Future<Output = Result<bool>> + Send;

    /// Whether readers are let go, though it goes on.
    fn is_stopping(&self) -> bool;
}

/// A reader of a stream's events.
pub struct Follower<S> {
    db: Database,
    source: S,
    stream: String,
    after: i64,
    subscription: Subscription,
}

impl<S: Source> Follower<S> {
    /// Of `stream`, after event number `after`.
    pub fn new(db: Database, hub: &Hub, source: S, stream: &str, after: i64) -> Self {
        Self { db, source, stream: stream.to_owned(), after, subscription: hub.subscribe(stream) }
    }

    /// The next events; none when the stream has ended and all were read, or readers are let go.
    ///
    /// # Errors
    /// As the database.
    pub async fn next(&mut self) -> Result<Option<Vec<Event>>> {
        loop {
            let (events, ended) = {
                let mut conn = self.db.read().await?;
                // Whether it has ended is read first: what was appended before the end is then there to be read.
                let ended = self.source.has_ended(&mut conn, &self.stream).await?;
                (store::read(&mut conn, &self.stream, self.after, BATCH).await?, ended)
            };
            if let Some(last) = events.last() {
                self.after = last.seq;
                return Ok(Some(events));
            }
            if ended || self.source.is_stopping() {
                return Ok(None);
            }
            tokio::select! {
                () = self.subscription.woken() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}
