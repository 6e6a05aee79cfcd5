//! What `/metrics` shows of sockets.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

/// What `/metrics` shows of sockets.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Sockets that are open.
    pub sockets: Gauge,
    /// Messages given to sockets as they were written.
    pub pushed: Counter,
    /// Messages that sockets read from the database: when they were opened, or had fallen behind.
    pub read: Counter,
    /// How often a socket's queue was full.
    pub behind: Counter,
    /// Messages that were acknowledged.
    pub acknowledged: Counter,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("message_sockets", "Sockets that agents have open", self.sockets.clone());
        registry.register("messages_pushed", "Messages given to sockets as they were written", self.pushed.clone());
        registry.register(
            "messages_caught_up",
            "Messages that sockets read from the database, when they were opened or had fallen behind",
            self.read.clone(),
        );
        registry.register("message_sockets_behind", "How often a socket's queue was full", self.behind.clone());
        registry.register("messages_acknowledged", "Messages that recipients acknowledged", self.acknowledged.clone());
    }
}
