//! Prometheus metrics of background work.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// Prometheus metrics of background work.
#[derive(Default)]
pub(crate) struct WorkMetrics {
    /// Number of tasks driven by this process.
    pub(crate) active: Gauge,
    /// Number of tasks that ended in this process.
    pub(crate) ended: Counter,
}

impl WorkMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("background_active", "Background tasks that this process drives", self.active.clone());
        registry.register("background_ended", "Background tasks that ended in this process", self.ended.clone());
    }
}
