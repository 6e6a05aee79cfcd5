//! Prometheus metrics of delivery.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// Prometheus metrics of delivery.
#[derive(Debug, Default)]
pub struct DeliveryMetrics {
    /// Connections that are open.
    pub sockets: Gauge,
    /// Messages sent to connections as they were written.
    pub pushed: Counter,
    /// Messages that connections read from the database, after opening or after falling behind.
    pub read: Counter,
    /// Number of times a connection's queue was full.
    pub behind: Counter,
    /// Messages that were acknowledged.
    pub acknowledged: Counter,
}

impl DeliveryMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("message_sockets", "Open WebSocket connections of agents", self.sockets.clone());
        registry.register("messages_pushed", "Messages sent to connections as they were written", self.pushed.clone());
        registry.register(
            "messages_caught_up",
            "Messages that connections read from the database, after opening or falling behind",
            self.read.clone(),
        );
        registry.register(
            "message_sockets_behind",
            "Number of times a connection's queue was full",
            self.behind.clone(),
        );
        registry.register("messages_acknowledged", "Messages that recipients acknowledged", self.acknowledged.clone());
    }
}
