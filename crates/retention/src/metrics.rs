//! Prometheus metrics of retention.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::kinds::RetentionKind;

/// Label of a kind of things.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct KindLabel {
    pub kind: &'static str,
}

/// Metrics of this process's retention.
#[derive(Debug)]
pub(crate) struct RetentionMetrics {
    pub removed: Family<KindLabel, Counter>,
    pub kept: Family<KindLabel, Counter>,
    pub archived_bytes: Counter,
    pub batch_seconds: Histogram,
    pub left: Family<KindLabel, Gauge>,
    pub failures: Counter,
}

impl Default for RetentionMetrics {
    fn default() -> Self {
        Self {
            removed: Family::default(),
            kept: Family::default(),
            archived_bytes: Counter::default(),
            batch_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 12)),
            left: Family::default(),
            failures: Counter::default(),
        }
    }
}

impl RetentionMetrics {
    pub fn register(&self, registry: &mut Registry) {
        // Each kind is there from the beginning, so that a first rise is seen as one.
        for kind in RetentionKind::ALL.map(RetentionKind::word) {
            let label = KindLabel { kind };
            drop((self.removed.get_or_create(&label), self.kept.get_or_create(&label)));
            drop(self.left.get_or_create(&label));
        }
        registry.register("retention_removed", "Things removed by age or on request, by kind", self.removed.clone());
        registry.register(
            "retention_kept",
            "Things that were archived and stayed, because they had changed meanwhile, by kind",
            self.kept.clone(),
        );
        registry.register(
            "retention_archived_bytes",
            "Bytes of the archives written, compressed",
            self.archived_bytes.clone(),
        );
        registry.register(
            "retention_batch_seconds",
            "Time for which a batch of deletions had the write lock, without its commit",
            self.batch_seconds.clone(),
        );
        registry.register(
            "retention_left",
            "Things of the archive in work that are still to be deleted, by kind",
            self.left.clone(),
        );
        registry.register("retention_failures", "Rounds of retention that ended with an error", self.failures.clone());
    }
}
