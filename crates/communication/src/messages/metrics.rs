//! Prometheus metrics of messages.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::model::SendReceipt;
use crate::error::Result;

/// Prometheus metrics of messages. Cheap to clone.
#[derive(Clone, Default)]
pub struct MessageMetrics {
    sent: Family<[(&'static str, &'static str); 1], Counter>,
    /// Messages that wait for their recipients, as last counted in the database.
    pub waiting: Gauge,
    /// Messages that have expired.
    pub expired: Counter,
}

impl MessageMetrics {
    /// Count the results of written messages.
    pub fn written(&self, answers: &[Result<SendReceipt>]) {
        for answer in answers {
            let result = match answer {
                Ok(receipt) if receipt.repeated => "repeated",
                Ok(_) => "stored",
                Err(_) => "refused",
            };
            self.sent.get_or_create(&[("result", result)]).inc();
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        // Shown from the start with the value 0.
        for result in ["stored", "repeated", "refused"] {
            drop(self.sent.get_or_create(&[("result", result)]));
        }
        registry.register(
            "messages_sent",
            "Messages sent, by result: stored, repeated (under a known id), refused",
            self.sent.clone(),
        );
        registry.register("messages_waiting", "Messages that wait for their recipients", self.waiting.clone());
        registry.register("messages_expired", "Messages that expired before their delivery", self.expired.clone());
    }
}
