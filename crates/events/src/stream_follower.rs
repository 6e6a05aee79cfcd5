//! Reading of a stream until it has ended.

use std::{future::Future, time::Duration};

use super::{StreamEvent, StreamHub, StreamSubscription, store};
use am_db::{Connection, Database, Result};

/// Largest number of events per read.
const READ_BATCH: usize = 256;
/// Interval at which a stream is polled for events that other processes append.
const STREAM_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// State of a stream, as known to the module that writes it.
pub trait StreamSource: Send + Sync + 'static {
    /// Whether nothing will be appended to the stream any more.
    fn has_ended(&self, conn: &mut Connection, stream: &str) -> impl Future<Output = Result<bool>> + Send;

    /// Whether readers should stop although the stream continues, as in a shutdown.
    fn is_stopping(&self) -> bool;
}

/// Reader of a stream's events that waits for new ones.
pub struct StreamFollower<S> {
    db: Database,
    source: S,
    stream: String,
    after: i64,
    subscription: StreamSubscription,
}

impl<S: StreamSource> StreamFollower<S> {
    /// Start after event number `after` of `stream`.
    pub fn new(db: Database, hub: &StreamHub, source: S, stream: &str, after: i64) -> Self {
        Self { db, source, stream: stream.to_owned(), after, subscription: hub.subscribe(stream) }
    }

    /// Whether the stream has ended and all its events were read.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub async fn is_exhausted(&self) -> Result<bool> {
        let mut conn = self.db.read().await?;
        Ok(self.source.has_ended(&mut conn, &self.stream).await?
            && store::read_events(&mut conn, &self.stream, self.after, 1).await?.is_empty())
    }

    /// The next events. `None` when the stream has ended and all events were read, or readers should stop.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub async fn next(&mut self) -> Result<Option<Vec<StreamEvent>>> {
        loop {
            let (events, ended) = {
                let mut conn = self.db.read().await?;
                // Whether the stream has ended is read first, so that everything appended before its end is read
                // afterwards.
                let ended = self.source.has_ended(&mut conn, &self.stream).await?;
                (store::read_events(&mut conn, &self.stream, self.after, READ_BATCH).await?, ended)
            };
            if let Some(last) = events.last() {
                self.after = last.seq;
                return Ok(Some(events));
            }
            if ended || self.source.is_stopping() {
                return Ok(None);
            }
            tokio::select! {
                () = self.subscription.wait_for_wake() => {}
                () = tokio::time::sleep(STREAM_POLL_INTERVAL) => {}
            }
        }
    }
}
