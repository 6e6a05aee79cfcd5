//! What the database tells Prometheus.

use prometheus_client::{
    metrics::{
        counter::Counter,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// Counters of the writer and the readers.
pub struct Metrics {
    pub queue_depth: Gauge,
    pub batch_size: Histogram,
    pub commit_seconds: Histogram,
    pub lock_wait_seconds: Histogram,
    pub reader_wait: Histogram,
    pub busy: Counter,
    pub rolled_back: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.00005, 2.5, 14));
        Self {
            queue_depth: Gauge::default(),
            batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 8)),
            commit_seconds: seconds(),
            lock_wait_seconds: seconds(),
            reader_wait: seconds(),
            busy: Counter::default(),
            rolled_back: Counter::default(),
        }
    }
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("db_writer_queue_depth", "Writes that wait for the writer", self.queue_depth.clone());
        registry.register("db_writer_batch_size", "Writes committed together", self.batch_size.clone());
        registry.register("db_commit_seconds", "Duration of a commit, fsync included", self.commit_seconds.clone());
        registry.register(
            "db_lock_wait_seconds",
            "Wait for the write lock that the coordinator also takes",
            self.lock_wait_seconds.clone(),
        );
        registry.register("db_reader_wait_seconds", "Wait for a read connection", self.reader_wait.clone());
        registry.register("db_busy", "Writes given up because the lock was not free in time", self.busy.clone());
        registry.register("db_rolled_back", "Writes undone because they failed", self.rolled_back.clone());
    }
}
