//! Prometheus metrics of messages.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::model::SendReceipt;
use crate::error::Result;

/// What became of a message that was to be sent.
#[derive(Clone, Copy)]
enum SendResult {
    Stored,
    /// Its id was known.
    Repeated,
    Refused,
}

impl SendResult {
    fn label(self) -> [(&'static str, &'static str); 1] {
        let word = match self {
            Self::Stored => "stored",
            Self::Repeated => "repeated",
            Self::Refused => "refused",
        };
        [("result", word)]
    }
}

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
                Ok(receipt) if receipt.repeated => SendResult::Repeated,
                Ok(_) => SendResult::Stored,
                Err(_) => SendResult::Refused,
            };
            self.sent.get_or_create(&result.label()).inc();
        }
    }

    pub fn register(&self, registry: &mut Registry) {
        // Shown from the start with the value 0.
        for result in [SendResult::Stored, SendResult::Repeated, SendResult::Refused] {
            drop(self.sent.get_or_create(&result.label()));
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
