//! Prometheus metrics of sandboxes.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// Prometheus metrics of sandboxes.
#[derive(Default)]
pub(super) struct SandboxMetrics {
    /// Commands that are running.
    pub(super) running: Gauge,
    /// Commands that ended.
    pub(super) commands: Counter,
    /// Commands that were terminated for a limit.
    pub(super) ended: Counter,
    /// Attempts that are breaches.
    pub(super) breaches: Counter,
}

impl SandboxMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("sandbox_running", "Commands that run in sandboxes", self.running.clone());
        registry.register("sandbox_commands", "Commands that have run in sandboxes", self.commands.clone());
        registry.register("sandbox_commands_ended", "Commands terminated for exceeding a limit", self.ended.clone());
        registry.register("sandbox_breaches", "Attempts that count as a breach", self.breaches.clone());
    }
}
