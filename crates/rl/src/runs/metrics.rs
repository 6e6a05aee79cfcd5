//! Prometheus metrics of training.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// Prometheus metrics of training.
#[derive(Default)]
pub(super) struct TrainingMetrics {
    /// Number of runs driven by this process.
    pub(super) active: Gauge,
    /// Number of environment steps done by this process.
    pub(super) steps: Counter,
    /// Number of bridges connected to this process.
    bridges: Gauge,
}

impl TrainingMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("rl_training_active", "Training runs that this process drives", self.active.clone());
        registry.register("rl_training_steps", "Environment steps of training", self.steps.clone());
        let about = "Bridges to environments in other processes that are connected to this process";
        registry.register("rl_training_bridges", about, self.bridges.clone());
    }

    /// Set the number of bridges.
    pub(super) fn count_bridges(&self, count: usize) {
        self.bridges.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
