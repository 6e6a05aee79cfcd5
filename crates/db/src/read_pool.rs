//! Pool of read-only connections.
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

use super::{Connection, DatabaseError, Result, connect};

/// Time that a read waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Pool of idle read-only connections.
pub struct ReadPool {
    idle: Arc<Mutex<VecDeque<Connection>>>,
    free: Arc<Semaphore>,
}

impl ReadPool {
    /// Open `count` connections to `path`.
    pub async fn open(path: &Path, count: u32) -> Result<Self> {
        let mut idle = VecDeque::new();
        for _ in 0..count {
            idle.push_back(connect::open_read_connection(path).await?);
        }
        Ok(Self { free: Arc::new(Semaphore::new(idle.len())), idle: Arc::new(Mutex::new(idle)) })
    }

    /// Borrow a connection, waiting until one is free.
    ///
    /// # Errors
    /// Returns [`DatabaseError::Busy`] when none becomes free in time, [`DatabaseError::WriterStopped`] after [`ReadPool::close`].
    pub async fn get(&self) -> Result<PooledConnection> {
        let permit = match self.free.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let waiting = tokio::time::timeout(ACQUIRE_TIMEOUT, self.free.clone().acquire_owned());
                waiting.await.map_err(|_| DatabaseError::Busy)?.map_err(|_| DatabaseError::WriterStopped)?
            }
        };
        // The connection that was used last, since its page cache is warm.
        let conn = lock_idle(&self.idle).pop_back().ok_or(DatabaseError::WriterStopped)?;
        Ok(PooledConnection { conn: Some(conn), idle: self.idle.clone(), _permit: permit })
    }

    /// Lend no more connections, and close the idle ones.
    pub async fn close(&self) {
        self.free.close();
        loop {
            let Some(conn) = lock_idle(&self.idle).pop_back() else { return };
            if let Err(error) = conn.close().await {
                tracing::debug!(%error, "a read connection was not closed cleanly");
            }
        }
    }
}

fn lock_idle(idle: &Mutex<VecDeque<Connection>>) -> parking_lot::MutexGuard<'_, VecDeque<Connection>> {
    idle.lock()
}

/// A borrowed connection; dropping it returns it to the pool.
pub struct PooledConnection {
    conn: Option<Connection>,
    idle: Arc<Mutex<VecDeque<Connection>>>,
    // Released after the connection was returned.
    _permit: OwnedSemaphorePermit,
}

impl Deref for PooledConnection {
    type Target = Connection;

    #[expect(clippy::expect_used, reason = "it is there until the drop")]
    fn deref(&self) -> &Connection {
        self.conn.as_ref().expect("a connection on loan")
    }
}

impl DerefMut for PooledConnection {
    #[expect(clippy::expect_used, reason = "it is there until the drop")]
    fn deref_mut(&mut self) -> &mut Connection {
        self.conn.as_mut().expect("a connection on loan")
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        lock_idle(&self.idle).extend(self.conn.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_comes_back_even_when_its_query_was_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        let _writer = connect::open_write_connection(&path).await.unwrap();
        let readers = ReadPool::open(&path, 1).await.unwrap();
        let endless =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT i FROM n";
        for _ in 0..20 {
            let mut reader = readers.get().await.unwrap();
            let query = sqlx::query(endless).fetch_all(&mut *reader);
            assert!(tokio::time::timeout(Duration::from_millis(1), query).await.is_err(), "not given up");
            drop(reader);
            let mut reader = readers.get().await.unwrap();
            let one: i64 = sqlx::query_scalar("SELECT 1").fetch_one(&mut *reader).await.unwrap();
            assert_eq!(one, 1);
        }
        let lent = readers.get().await.unwrap();
        readers.close().await;
        drop(lent);
        assert!(matches!(readers.get().await, Err(DatabaseError::WriterStopped)));
    }
}
