//! Prometheus metrics of the marketplace.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Events that are counted.
const COUNTED_EVENTS: [&str; 12] = [
    "service_listed",
    "request_created",
    "request_accepted",
    "request_completed",
    "request_settled",
    "request_rejected",
    "request_cancelled",
    "request_expired",
    "request_disputed",
    "request_resolved",
    "request_rated",
    "refused",
];

/// Label of an event.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct MarketEventLabel {
    pub event: &'static str,
}

/// Metrics of this process's marketplace.
#[derive(Debug, Default)]
pub(crate) struct MarketMetrics {
    pub events: Family<MarketEventLabel, Counter>,
    pub worker_failures: Counter,
}

impl MarketMetrics {
    pub fn register(&self, registry: &mut Registry) {
        for event in COUNTED_EVENTS {
            drop(self.events.get_or_create(&MarketEventLabel { event }));
        }
        registry.register("market_events", "What happened in the marketplace, by event", self.events.clone());
        registry.register(
            "market_worker_failures",
            "Rounds of the marketplace's worker that failed and are tried again",
            self.worker_failures.clone(),
        );
    }
}
