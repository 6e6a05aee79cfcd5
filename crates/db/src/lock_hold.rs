//! How long the write lock is held, and which write held it longest: the coordinator waits meanwhile.

use std::time::{Duration, Instant};

use super::{
    metrics::{DatabaseMetrics, WriteLabel},
    round_trips,
    write_job::WriteJob,
};

/// A write that holds the lock longer is a fault.
const LONGEST_WRITE: Duration = Duration::from_millis(50);

/// The lock that a batch of writes holds.
#[derive(Default)]
pub struct LockHold {
    /// Since when; none: it is not held.
    since: Option<Instant>,
    /// When the last write ended.
    last: Option<Instant>,
    /// Number of writes.
    writes: usize,
    /// The longest, and how long it took.
    longest: Option<(&'static str, Duration)>,
}

impl LockHold {
    /// The lock was taken.
    pub fn begin(&mut self) {
        let now = Instant::now();
        *self = Self { since: Some(now), last: Some(now), ..Self::default() };
    }

    /// A write of the batch has run.
    pub fn add(&mut self, write: &dyn WriteJob) {
        let now = Instant::now();
        let took = self.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        self.writes += 1;
        if self.longest.is_none_or(|(_, longest)| longest < took) {
            self.longest = Some((write.name(), took));
        }
    }

    /// The lock was released: tell how long it was held, by how many round trips of this thread, and of a write that held it for too
    /// long.
    pub fn finish(&mut self, metrics: &DatabaseMetrics) {
        metrics.round_trips.inc_by(round_trips::take());
        let Self { since: Some(since), writes, longest, .. } = std::mem::take(self) else { return };
        let held = since.elapsed();
        metrics.lock_held_seconds.observe(held.as_secs_f64());
        let Some((write, took)) = longest.filter(|(_, took)| *took > LONGEST_WRITE) else { return };
        let write = short_name(write);
        metrics.long_writes.get_or_create(&WriteLabel { write }).inc();
        let (took, held) = (took.as_millis(), held.as_millis());
        tracing::warn!(
            write,
            took_ms = took,
            held_ms = held,
            writes,
            "a write held the lock of the database for too long"
        );
    }
}

/// A function's name from the type of a closure in it.
fn short_name(name: &'static str) -> &'static str {
    let mut name = name.split('<').next().unwrap_or(name);
    while let Some(rest) = name.strip_suffix("::{{closure}}") {
        name = rest;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Database, DatabaseError, DatabaseSettings, Tx};

    fn name_of<F: Fn()>(_: &F) -> &'static str {
        std::any::type_name::<F>()
    }

    #[test]
    fn a_closure_is_named_by_its_function() {
        let inner = || {};
        let name = name_of(&inner);
        assert_eq!(short_name(name), "am_db::lock_hold::tests::a_closure_is_named_by_its_function");
        assert_eq!(short_name("am_messages"), "am_messages");
    }

    #[tokio::test]
    async fn a_write_that_holds_the_lock_for_long_is_counted_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings { readers: 1, busy_timeout: Duration::from_secs(1) };
        let db = Database::open(&dir.path().join("t.db"), &settings).await.unwrap();
        let write = async |rows: i64| {
            db.write(async move |tx: &mut Tx| {
                let slow = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT count(*) FROM n";
                let begun = Instant::now();
                while rows > 1 && begun.elapsed() <= LONGEST_WRITE {
                    sqlx::query(slow).bind(rows).execute(tx.conn().await?).await?;
                }
                Ok::<_, DatabaseError>(())
            })
            .await
            .unwrap();
        };
        write(10_000).await;
        let mut registry = prometheus_client::registry::Registry::default();
        db.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let line = "db_long_writes_total{write=\"am_db::lock_hold::tests::a_write_that_holds_the_lock_for_long_is_counted_by_its_name\"} 1";
        assert!(text.contains(line), "{text}");
    }
}
