//! How many round trips a thread has made to database connections. Each costs two thread switches, more than most statements; the
//! writer's are serial, and decide how many writes there are in a second.

use std::cell::Cell;

thread_local! {
    static MADE: Cell<u64> = const { Cell::new(0) };
}

/// Count one of this thread.
pub fn count() {
    MADE.set(MADE.get() + 1);
}

/// How many this thread has made since the last call.
pub fn take() -> u64 {
    MADE.take()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use crate::{Database, DatabaseError, DatabaseSettings, Tx, metrics::DatabaseMetrics, push_change, push_row, sql};

    async fn open() -> (tempfile::TempDir, Database) {
        let dir = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_millis(200) };
        let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
        db.write(async |tx: &mut Tx| {
            let tables = "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, at DATETIME)";
            sqlx::query(tables).execute(tx.conn().await?).await?;
            Ok::<_, DatabaseError>(())
        })
        .await
        .unwrap();
        (dir, db)
    }

    /// What the writer has counted; a write is counted before it is answered.
    fn made(metrics: &Arc<DatabaseMetrics>) -> u64 {
        metrics.round_trips.get()
    }

    #[tokio::test]
    async fn rows_and_changes_are_one_round_trip_and_statements_are_one_each() {
        let (_dir, db) = open().await;
        let metrics = db.0.metrics.clone();
        let before = made(&metrics);
        let mut rows = crate::bulk_insert::RowBatch::default();
        for id in 1..4i64 {
            push_row!(rows, "t" { id: id, n: 0i64 });
        }
        for id in [1i64, 2, 1] {
            push_change!(
                rows,
                (id),
                "UPDATE t SET n = n + (SELECT count(*) FROM {records $1 id:bigint} AS r WHERE r.id = t.id)
                 WHERE id IN (SELECT r.id FROM {records $1 id:bigint} AS r)"
            );
        }
        assert_eq!(rows.statement_count(), 2);
        db.insert(rows, || {}).await.unwrap();
        assert_eq!(made(&metrics) - before, 1);
        let counts: Vec<i64> =
            sql!("SELECT n FROM t ORDER BY id").fetch_values(&mut db.read().await.unwrap()).await.unwrap();
        assert_eq!(counts, [2, 1, 0]);
        let before = made(&metrics);
        db.write(async |tx: &mut Tx| {
            for _ in 0..5 {
                sql!("UPDATE t SET n = n + 1 WHERE id = 1").execute(tx.conn().await?).await?;
            }
            Ok::<_, DatabaseError>(())
        })
        .await
        .unwrap();
        assert_eq!(made(&metrics) - before, 5);
    }
}
