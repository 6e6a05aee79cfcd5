//! What `/metrics` shows of sandboxes.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// What `/metrics` shows of sandboxes.
#[derive(Default)]
pub(super) struct Metrics {
    /// Commands under way.
    pub(super) running: Gauge,
    /// Commands that ended.
    pub(super) commands: Counter,
    /// Those of them that were ended from outside.
    pub(super) ended: Counter,
    /// Attempts that count as a breach.
    pub(super) breaches: Counter,
}

impl Metrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("sandbox_running", "Commands that run in sandboxes", self.running.clone());
        registry.register("sandbox_commands", "Commands that have run in sandboxes", self.commands.clone());
        registry.register("sandbox_commands_ended", "Commands that were ended for a limit", self.ended.clone());
        registry.register("sandbox_breaches", "Attempts that count as a breach", self.breaches.clone());
    }
}
