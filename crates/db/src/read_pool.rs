//! Pools of read-only connections, and who may use how many of them.
//!
//! sqlx's own pool tests each returned connection, which for SQLite costs a second round trip to its thread per read.
//! These connections hold no transaction and no state, and one whose query was cancelled is ready for the next.

use std::{
    collections::VecDeque,
    ops::{Deref, DerefMut},
    path::Path,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use sqlx::Connection as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Connection, DatabaseError, Result, connect,
    statement_deadline::StatementDeadline,
    statement_watch::{StatementEnding, WatchedConnection},
};

/// Time that a read waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of [`ReadLane::Vital`], which nothing else uses.
const VITAL_CONNECTIONS: u32 = 1;
/// Time limit of a statement before [`ReadLanes::set_limit`] is called.
const DEFAULT_STATEMENT_LIMIT: Duration = Duration::from_secs(30);

/// What a read is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadLane {
    /// Probes, heartbeats and claims, which wait for nobody else.
    Vital,
    /// Reading of single rows, which lists leave half of the connections to.
    Rows,
    /// Lists and reports, which together leave half of the connections to single rows.
    Lists,
}

/// The read-only connections, in lanes.
pub struct ReadLanes {
    vital: ReadPool,
    shared: ReadPool,
    /// Connections of `shared` that lists may use at once.
    lists: Arc<Semaphore>,
    limit: Mutex<Duration>,
}

impl ReadLanes {
    /// Open `count` connections to `path`, and one for what is vital.
    pub async fn open(path: &Path, count: u32) -> Result<Self> {
        Ok(Self {
            vital: ReadPool::open(path, VITAL_CONNECTIONS).await?,
            shared: ReadPool::open(path, count).await?,
            lists: Arc::new(Semaphore::new((count / 2).max(1) as usize)),
            limit: Mutex::new(DEFAULT_STATEMENT_LIMIT),
        })
    }

    /// Set the time after which a statement is ended.
    pub fn set_limit(&self, limit: Duration) {
        *self.limit.lock() = limit;
    }

    /// Borrow a connection of `lane`, waiting until one is free.
    ///
    /// # Errors
    /// Returns [`DatabaseError::Busy`] when none becomes free in time, [`DatabaseError::WriterStopped`] after [`ReadLanes::close`].
    pub async fn get(&self, lane: ReadLane) -> Result<PooledConnection> {
        let limit = *self.limit.lock();
        match lane {
            ReadLane::Vital => self.vital.get(limit, None).await,
            ReadLane::Rows => self.shared.get(limit, None).await,
            ReadLane::Lists => {
                let place = acquire(&self.lists).await?;
                self.shared.get(limit, Some(place)).await
            }
        }
    }

    /// Lend no more connections, and close the idle ones.
    pub async fn close(&self) {
        self.lists.close();
        self.vital.close().await;
        self.shared.close().await;
    }
}

async fn acquire(permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    if let Ok(permit) = permits.clone().try_acquire_owned() {
        return Ok(permit);
    }
    let waiting = tokio::time::timeout(ACQUIRE_TIMEOUT, permits.clone().acquire_owned());
    waiting.await.map_err(|_| DatabaseError::Busy)?.map_err(|_| DatabaseError::WriterStopped)
}

/// A connection with the deadline of its statements.
type TimedConnection = (WatchedConnection, StatementDeadline);

/// Whether a statement may still run on a connection that nobody uses.
fn may_be_busy(conn: &WatchedConnection, deadline: &StatementDeadline) -> bool {
    match conn.ending() {
        StatementEnding::Ended => false,
        StatementEnding::GivenUp => true,
        StatementEnding::Unknown => deadline.may_be_running(),
    }
}

/// Pool of idle read-only connections.
struct ReadPool {
    idle: Arc<Mutex<VecDeque<TimedConnection>>>,
    free: Arc<Semaphore>,
}

impl ReadPool {
    async fn open(path: &Path, count: u32) -> Result<Self> {
        let mut idle = VecDeque::new();
        for _ in 0..count {
            let mut conn = connect::open_read_connection(path).await?;
            let deadline = StatementDeadline::attach(&mut conn).await?;
            idle.push_back((WatchedConnection::new(conn), deadline));
        }
        Ok(Self { free: Arc::new(Semaphore::new(idle.len())), idle: Arc::new(Mutex::new(idle)) })
    }

    async fn get(&self, limit: Duration, place: Option<OwnedSemaphorePermit>) -> Result<PooledConnection> {
        let permit = acquire(&self.free).await?;
        // The connection that was used last, since its page cache is warm.
        let conn = self.idle.lock().pop_back().ok_or(DatabaseError::WriterStopped)?;
        let mut lent =
            PooledConnection { conn: Some(conn), limit, idle: self.idle.clone(), _permit: permit, _place: place };
        if let Some((conn, deadline)) = lent.conn.as_mut() {
            if may_be_busy(conn, deadline) {
                // Before it gets a new deadline, what was given up has to end: its thread answers after that.
                deadline.pass();
                conn.ping().await?;
            }
            conn.forget();
        }
        Ok(lent)
    }

    async fn close(&self) {
        self.free.close();
        loop {
            let Some((conn, _)) = self.idle.lock().pop_back() else { return };
            if let Err(error) = conn.into_inner().close().await {
                tracing::debug!(%error, "a read connection was not closed cleanly");
            }
        }
    }
}

/// A borrowed connection; dropping it returns it to the pool. Each use of it may take as long as a statement may: the
/// statement of one that is returned or used too long is ended, with [`DatabaseError::TimedOut`].
pub struct PooledConnection {
    conn: Option<TimedConnection>,
    limit: Duration,
    idle: Arc<Mutex<VecDeque<TimedConnection>>>,
    // Released after the connection was returned.
    _permit: OwnedSemaphorePermit,
    _place: Option<OwnedSemaphorePermit>,
}

impl Deref for PooledConnection {
    type Target = Connection;

    #[expect(clippy::expect_used, reason = "it is there until the drop")]
    fn deref(&self) -> &Connection {
        &self.conn.as_ref().expect("a connection on loan").0
    }
}

impl DerefMut for PooledConnection {
    #[expect(clippy::expect_used, reason = "it is there until the drop")]
    fn deref_mut(&mut self) -> &mut Connection {
        let (conn, deadline) = self.conn.as_mut().expect("a connection on loan");
        deadline.set(self.limit);
        conn
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        if let Some((conn, deadline)) = self.conn.take() {
            // What was given up runs on otherwise, and holds up the next user.
            deadline.pass();
            self.idle.lock().push_back((conn, deadline));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDLESS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

    async fn lanes(count: u32) -> (tempfile::TempDir, Connection, ReadLanes) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        let writer = connect::open_write_connection(&path).await.unwrap();
        let lanes = ReadLanes::open(&path, count).await.unwrap();
        (dir, writer, lanes)
    }

    async fn one(conn: &mut Connection) -> i64 {
        sqlx::query_scalar("SELECT 1").fetch_one(conn).await.unwrap()
    }

    #[tokio::test]
    async fn a_reader_comes_back_even_when_its_query_was_given_up() {
        let (_dir, _writer, lanes) = lanes(1).await;
        lanes.set_limit(Duration::from_secs(3600));
        for _ in 0..3 {
            let mut reader = lanes.get(ReadLane::Rows).await.unwrap();
            let deadline = reader.conn.as_ref().unwrap().1.clone();
            let mut query = Box::pin(sqlx::query(ENDLESS).fetch_all(&mut *reader));
            while !deadline.may_be_running() {
                assert!(tokio::time::timeout(Duration::from_millis(1), &mut query).await.is_err(), "not given up");
            }
            drop(query);
            drop(reader);
            let mut reader = lanes.get(ReadLane::Rows).await.unwrap();
            assert_eq!(one(&mut reader).await, 1);
        }
        let lent = lanes.get(ReadLane::Rows).await.unwrap();
        lanes.close().await;
        drop(lent);
        assert!(matches!(lanes.get(ReadLane::Rows).await, Err(DatabaseError::WriterStopped)));
    }

    /// How the last statement ended of the connection that is lent next, and whether it is waited for.
    fn next(lanes: &ReadLanes) -> (StatementEnding, bool) {
        let idle = lanes.shared.idle.lock();
        let (conn, deadline) = idle.back().unwrap();
        (conn.ending(), may_be_busy(conn, deadline))
    }

    #[tokio::test]
    async fn a_connection_whose_statement_ended_is_not_waited_for() {
        let (_dir, _writer, lanes) = lanes(1).await;
        let mut reader = lanes.get(ReadLane::Rows).await.unwrap();
        let long = crate::sql!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT count(*) FROM n"
        );
        assert_eq!(long.fetch_value::<i64>(&mut reader).await.unwrap(), 100_000);
        assert!(reader.conn.as_ref().unwrap().1.may_be_running(), "it looked at the clock a moment ago");
        drop(reader);
        assert_eq!(next(&lanes), (StatementEnding::Ended, false));
        // One that fails has ended too, and one that nobody tells of is unknown.
        let mut reader = lanes.get(ReadLane::Rows).await.unwrap();
        crate::sql!("SELECT abs(-9223372036854775808)").exists(&mut reader).await.unwrap_err();
        drop(reader);
        assert_eq!(next(&lanes), (StatementEnding::Ended, false));
        let mut reader = lanes.get(ReadLane::Rows).await.unwrap();
        assert_eq!(one(&mut reader).await, 1);
        drop(reader);
        assert_eq!(next(&lanes), (StatementEnding::Unknown, true));
    }

    #[tokio::test]
    async fn a_statement_that_is_given_up_at_once_is_waited_for() {
        let (_dir, _writer, lanes) = lanes(1).await;
        lanes.set_limit(Duration::from_secs(3600));
        for _ in 0..20 {
            let mut reader = lanes.get(ReadLane::Rows).await.unwrap();
            let endless =
                crate::sql!("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n");
            let mut given_up = Box::pin(endless.fetch_value::<i64>(&mut reader));
            assert!(futures_util::poll!(&mut given_up).is_pending());
            drop(given_up);
            drop(reader);
            assert_eq!(next(&lanes), (StatementEnding::GivenUp, true));
            {
                // Who waits for its end and gives up too leaves that to the next.
                let waiting = lanes.get(ReadLane::Rows);
                tokio::pin!(waiting);
                let _ = futures_util::poll!(&mut waiting);
            }
            assert_eq!(one(&mut lanes.get(ReadLane::Rows).await.unwrap()).await, 1);
        }
    }

    #[tokio::test]
    async fn a_statement_ends_at_its_deadline_and_the_connection_serves_the_next() {
        let (_dir, _writer, lanes) = lanes(1).await;
        lanes.set_limit(Duration::from_millis(50));
        let mut reader = lanes.get(ReadLane::Lists).await.unwrap();
        let ended = sqlx::query(ENDLESS).fetch_all(&mut *reader).await.map_err(DatabaseError::from);
        assert!(matches!(ended, Err(DatabaseError::TimedOut)), "{:?}", ended.err());
        assert_eq!(one(&mut reader).await, 1);
    }

    #[tokio::test]
    async fn lists_leave_connections_to_rows_and_rows_leave_one_to_probes() {
        let (_dir, _writer, lanes) = lanes(4).await;
        let lists = [lanes.get(ReadLane::Lists).await.unwrap(), lanes.get(ReadLane::Lists).await.unwrap()];
        let third = lanes.get(ReadLane::Lists);
        tokio::pin!(third);
        assert!(futures_util::poll!(&mut third).is_pending(), "lists use half of the connections");
        let mut rows = [lanes.get(ReadLane::Rows).await.unwrap(), lanes.get(ReadLane::Rows).await.unwrap()];
        assert_eq!(one(&mut rows[1]).await, 1);
        assert_eq!(one(&mut lanes.get(ReadLane::Vital).await.unwrap()).await, 1);
        drop(rows);
        assert!(futures_util::poll!(&mut third).is_pending(), "also when others are free");
        drop(lists);
        assert_eq!(one(&mut third.await.unwrap()).await, 1);
    }
}
