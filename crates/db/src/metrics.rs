//! Prometheus metrics of the database.

use std::{path::PathBuf, sync::atomic::AtomicU64};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// Label of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct WriteLabel {
    /// The function that makes it, or the table that it inserts into.
    pub write: &'static str,
}

/// Label of a list beside a table of the coordinator's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListLabel {
    /// What it lists.
    pub list: &'static str,
}

/// Metrics of the writer and of the read connections.
pub struct DatabaseMetrics {
    pub queue_depth: Gauge,
    pub batch_size: Histogram,
    pub commit_seconds: Histogram,
    pub lock_wait_seconds: Histogram,
    pub lock_held_seconds: Histogram,
    pub long_writes: Family<WriteLabel, Counter>,
    pub list_progress: Family<ListLabel, Gauge<f64, AtomicU64>>,
    pub reader_wait: Histogram,
    pub busy: Counter,
    pub rolled_back: Counter,
    pub round_trips: Counter,
    pub timed_out: Counter,
}

impl Default for DatabaseMetrics {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.00005, 2.5, 14));
        Self {
            queue_depth: Gauge::default(),
            batch_size: Histogram::new(exponential_buckets(1.0, 2.0, 8)),
            commit_seconds: seconds(),
            lock_wait_seconds: seconds(),
            lock_held_seconds: seconds(),
            long_writes: Family::default(),
            list_progress: Family::default(),
            reader_wait: seconds(),
            busy: Counter::default(),
            rolled_back: Counter::default(),
            round_trips: Counter::default(),
            timed_out: Counter::default(),
        }
    }
}

impl DatabaseMetrics {
    pub fn register(&self, wal: PathBuf, registry: &mut Registry) {
        registry.register("db_writer_queue_depth", "Writes waiting in the queue", self.queue_depth.clone());
        registry.register("db_writer_batch_size", "Writes committed together", self.batch_size.clone());
        registry.register("db_commit_seconds", "Duration of a commit, fsync included", self.commit_seconds.clone());
        registry.register(
            "db_lock_wait_seconds",
            "Time waiting for the write lock, which the coordinator also takes",
            self.lock_wait_seconds.clone(),
        );
        registry.register(
            "db_lock_held_seconds",
            "Time for which a batch of writes held the write lock, commit included",
            self.lock_held_seconds.clone(),
        );
        registry.register(
            "db_long_writes",
            "Writes that held the write lock for more than 50 ms, by name",
            self.long_writes.clone(),
        );
        registry.register(
            "db_list_progress_ratio",
            "How much of a list beside the coordinator's tables is made; 1: it is complete",
            self.list_progress.clone(),
        );
        registry.register("db_reader_wait_seconds", "Time waiting for a read connection", self.reader_wait.clone());
        registry.register("db_busy", "Writes that failed because the lock was not free in time", self.busy.clone());
        registry.register("db_rolled_back", "Writes rolled back because they failed", self.rolled_back.clone());
        registry.register(
            "db_write_round_trips",
            "Round trips to the write connection within writes, without those that begin and commit",
            self.round_trips.clone(),
        );
        registry.register(
            "db_write_timeouts",
            "Writes that took too long and were rolled back",
            self.timed_out.clone(),
        );
        registry.register_collector(Box::new(WalSizeCollector(wal)));
    }
}

/// Collector of the write-ahead log's size in bytes, read at each scrape. The log grows while a reader holds a
/// snapshot.
#[derive(Debug)]
struct WalSizeCollector(PathBuf);

impl Collector for WalSizeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let bytes = std::fs::metadata(&self.0).map_or(0, |file| i64::try_from(file.len()).unwrap_or(i64::MAX));
        let kind = prometheus_client::metrics::MetricType::Gauge;
        let gauge = encoder.encode_descriptor(
            "db_wal_bytes",
            "Size of the write-ahead log in bytes; alert from 64 MiB",
            None,
            kind,
        )?;
        ConstGauge::new(bytes).encode(gauge)
    }
}
