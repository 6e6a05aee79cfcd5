//! What `/metrics` shows of messages.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::model::Receipt;
use crate::error::Result;

/// What `/metrics` shows of messages. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics {
    sent: Family<[(&'static str, &'static str); 1], Counter>,
    /// Messages that wait for their recipients, as the database said last.
    pub waiting: Gauge,
    /// Messages whose time was up.
    pub expired: Counter,
}

impl Metrics {
    /// What came of letters.
    pub fn written(&self, answers: &[Result<Receipt>]) {
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
        // Shown from the start, before there is any.
        for result in ["stored", "repeated", "refused"] {
            drop(self.sent.get_or_create(&[("result", result)]));
        }
        registry.register(
            "messages_sent",
            "Messages that were sent: stored, repeated (under an id that was there), refused",
            self.sent.clone(),
        );
        registry.register("messages_waiting", "Messages that wait for their recipients", self.waiting.clone());
        registry.register(
            "messages_expired",
            "Messages whose time was up before they were delivered",
            self.expired.clone(),
        );
    }
}
