//! What `/metrics` shows of webhooks.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// What `/metrics` shows of webhooks.
#[derive(Default)]
pub(super) struct Metrics {
    attempts: Family<[(&'static str, &'static str); 1], Counter>,
    /// Deliveries that are owed, as the database said last.
    pub(super) queue: Gauge,
    /// Calls that are under way.
    pub(super) active: Gauge,
}

impl Metrics {
    /// How an attempt ended: `delivered`, `failed` (to be tried again), `dead`.
    pub(super) fn attempt(&self, result: &'static str) {
        self.attempts.get_or_create(&[("result", result)]).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "webhook_attempts",
            "Calls to webhook endpoints: delivered, failed (to be tried again), dead (given up)",
            self.attempts.clone(),
        );
        registry.register("webhook_queue", "Webhook deliveries that are owed", self.queue.clone());
        registry.register("webhook_active", "Calls to webhook endpoints that are under way", self.active.clone());
    }
}
