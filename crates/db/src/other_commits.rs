//! Whether another process has written. `PRAGMA data_version` of the one connection that this process writes by changes only with
//! the commits of others, where that of a reader changes with this process's own, too.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// What the writer has seen of others' commits.
#[derive(Debug, Default)]
pub struct OtherCommits {
    version: AtomicI64,
    times: AtomicU64,
}

impl OtherCommits {
    /// The writer's connection has this `data_version`.
    pub fn see(&self, version: i64) {
        if self.version.swap(version, Ordering::Relaxed) != version {
            self.times.fetch_add(1, Ordering::Release);
        }
    }

    /// How many times others' commits were seen; the first look counts.
    pub fn times(&self) -> u64 {
        self.times.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Database, DatabaseError, DatabaseSettings, Tx, connect};

    #[tokio::test]
    async fn only_what_another_connection_commits_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(5) };
        let db = Database::open(&path, &settings).await.unwrap();
        let write = async |statement: &'static str| {
            let written = db.write(async move |tx: &mut Tx| {
                sqlx::query(statement).execute(tx.conn().await?).await?;
                Ok::<_, DatabaseError>(())
            });
            written.await.unwrap();
            db.others_commits()
        };
        let first = write("CREATE TABLE t (n INTEGER)").await;
        assert_eq!(write("INSERT INTO t VALUES (1)").await, first, "an own write");
        let mut other = connect::open_write_connection(&path).await.unwrap();
        sqlx::query("INSERT INTO t VALUES (2)").execute(&mut other).await.unwrap();
        assert_eq!(write("INSERT INTO t VALUES (3)").await, first + 1, "another's write");
        assert_eq!(write("INSERT INTO t VALUES (4)").await, first + 1);
    }
}
