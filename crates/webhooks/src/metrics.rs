//! Prometheus metrics of webhooks.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::model::DeliveryState;

/// Prometheus metrics of webhooks.
#[derive(Default)]
pub(super) struct WebhookMetrics {
    attempts: Family<[(&'static str, &'static str); 1], Counter>,
    /// Pending deliveries, as last counted in the database.
    pub(super) queue: Gauge,
    /// Requests that are running.
    pub(super) active: Gauge,
}

impl WebhookMetrics {
    /// Count an attempt by the state that it left its delivery in.
    pub(super) fn attempt(&self, state: DeliveryState) {
        let result = match state {
            DeliveryState::Delivered => "delivered",
            DeliveryState::Pending => "failed",
            DeliveryState::Dead => "dead",
        };
        self.attempts.get_or_create(&[("result", result)]).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "webhook_attempts",
            "Requests to webhook endpoints by result: delivered, failed (will be retried), dead (abandoned)",
            self.attempts.clone(),
        );
        registry.register("webhook_queue", "Pending webhook deliveries", self.queue.clone());
        registry.register("webhook_active", "Running requests to webhook endpoints", self.active.clone());
    }
}
