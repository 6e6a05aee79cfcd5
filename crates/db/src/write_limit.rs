//! How long a write may take, and how long it may wait for another process's lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::{DatabaseError, statement_deadline::StatementDeadline};

/// The writer's wait for another process's lock.
#[derive(Debug)]
pub struct LockWait(parking_lot::Mutex<(Duration, Option<Instant>)>);

impl LockWait {
    /// Wait for at most this long.
    pub fn new(timeout: Duration) -> Self {
        Self(parking_lot::Mutex::new((timeout, None)))
    }

    /// Set how long later waits may take.
    pub fn set_timeout(&self, timeout: Duration) {
        self.0.lock().0 = timeout;
    }

    /// Return the begin of the present wait.
    pub fn since(&self) -> Option<Instant> {
        self.0.lock().1
    }

    /// Return how long a wait may take.
    pub fn timeout(&self) -> Duration {
        self.0.lock().0
    }

    /// Set the begin of the present wait; none: it has ended.
    pub fn set_since(&self, since: Option<Instant>) {
        self.0.lock().1 = since;
    }
}

/// Time limit of each write, in milliseconds; 0: none.
#[derive(Debug, Default)]
pub struct WriteLimit(AtomicU64);

impl WriteLimit {
    /// Set the limit of later writes.
    pub fn set(&self, limit: Duration) {
        self.0.store(u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A write begins: its statements have until then.
    pub fn begin(&self, deadline: &StatementDeadline) {
        match self.0.load(Ordering::Relaxed) {
            0 => deadline.lift(),
            limit => deadline.set(Duration::from_millis(limit)),
        }
    }
}

/// Copy an error for each caller of a batch.
pub fn copy_error(error: &DatabaseError) -> DatabaseError {
    match error {
        DatabaseError::Busy => DatabaseError::Busy,
        DatabaseError::DiskFull => DatabaseError::DiskFull,
        other => DatabaseError::Indeterminate(other.to_string()),
    }
}

fn message(error: &DatabaseError) -> &str {
    match error {
        DatabaseError::Other(sqlx::Error::Database(inner)) => inner.message(),
        _ => "",
    }
}

/// Whether a rollback failed because SQLite had rolled the transaction back itself, as it does when it ends a statement that
/// writes.
pub fn ended_by_itself(error: &DatabaseError) -> bool {
    message(error).contains("no transaction is active")
}

/// The error of a rollback to a savepoint, for the other writes of the batch: one of them took too long, and the transaction is
/// gone, so that nothing of theirs was written.
pub fn savepoint_error(error: DatabaseError) -> DatabaseError {
    if message(&error).contains("no such savepoint") { DatabaseError::Busy } else { error }
}

#[cfg(test)]
mod tests {
    use sqlx::Executor as _;

    use super::*;
    use crate::{Database, DatabaseSettings, Result, Tx};

    const SLOW: &str =
        "INSERT INTO t (n) WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    const SLOW_READ: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

    async fn open() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(5) };
        let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
        run(&db, "CREATE TABLE t (n INTEGER PRIMARY KEY)").await.unwrap();
        (dir, db)
    }

    async fn run(db: &Database, statement: &'static str) -> Result<()> {
        db.write(async move |tx: &mut Tx| {
            tx.conn().await?.execute(statement).await?;
            Ok(())
        })
        .await
    }

    async fn count(db: &Database) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut *db.read().await.unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_write_that_takes_too_long_leaves_nothing_and_the_next_is_served() {
        let (_dir, db) = open().await;
        db.set_write_limit(Duration::from_millis(100));
        for slow in [SLOW, SLOW_READ] {
            let ended = run(&db, slow).await;
            assert!(matches!(ended, Err(DatabaseError::TimedOut)), "{ended:?}");
            assert_eq!(count(&db).await, 0);
        }
        run(&db, "INSERT INTO t (n) VALUES (1)").await.unwrap();
        assert_eq!(count(&db).await, 1);
        assert!(db.fatal().borrow().is_none(), "durability was never in doubt");
    }

    #[tokio::test]
    async fn a_write_of_many_short_statements_ends_too() {
        let (_dir, db) = open().await;
        db.set_write_limit(Duration::from_millis(100));
        let endless: Result<()> = db
            .write(async |tx: &mut Tx| {
                let mut n = 0i64;
                loop {
                    n += 1;
                    sqlx::query("INSERT INTO t (n) VALUES (?1)").bind(n).execute(tx.conn().await?).await?;
                }
            })
            .await;
        assert!(matches!(endless, Err(DatabaseError::TimedOut)), "{endless:?}");
        assert_eq!(count(&db).await, 0);
    }

    #[tokio::test]
    async fn writes_of_the_same_batch_are_whole_or_told_to_come_again() {
        let (_dir, db) = open().await;
        db.set_write_limit(Duration::from_millis(100));
        for slow in [SLOW, SLOW_READ] {
            let mut tasks = tokio::task::JoinSet::new();
            for n in 0..40i64 {
                let db = db.clone();
                tasks.spawn(async move {
                    let write = db.write(async move |tx: &mut Tx| {
                        sqlx::query("INSERT INTO t (n) VALUES (?1)").bind(n).execute(tx.conn().await?).await?;
                        if n == 20 {
                            tx.conn().await?.execute(slow).await?;
                        }
                        Ok::<_, DatabaseError>(())
                    });
                    (n, write.await)
                });
            }
            let ended = tasks.join_all().await;
            let mut written = 0;
            for (n, result) in ended {
                match result {
                    Ok(()) => written += 1,
                    Err(DatabaseError::TimedOut) => assert_eq!(n, 20),
                    Err(error) => assert!(matches!(error, DatabaseError::Busy) && slow == SLOW, "{n}: {error:?}"),
                }
            }
            assert_eq!(count(&db).await, written, "{slow}");
            run(&db, "DELETE FROM t").await.unwrap();
        }
    }
}
