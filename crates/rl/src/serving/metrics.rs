//! Prometheus metrics of inference.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabel {
    policy: String,
}

/// Prometheus metrics of inference, by policy.
#[derive(Clone)]
pub(super) struct ServingMetrics {
    latency: Family<PolicyLabel, Histogram, fn() -> Histogram>,
    waiting: Family<PolicyLabel, Gauge>,
    /// Number of loaded versions.
    pub(super) loaded: Gauge,
    /// Bytes of their parameters.
    pub(super) memory: Gauge,
}

/// Metrics of one policy.
#[derive(Clone)]
pub(super) struct PolicyMetrics {
    /// Seconds from acceptance of a request to its answer.
    pub(super) latency: Histogram,
    /// Number of queued requests.
    pub(super) waiting: Gauge,
}

impl Default for ServingMetrics {
    fn default() -> Self {
        // Seconds; a forward pass takes tens of microseconds, a full queue some milliseconds.
        let buckets =
            || Histogram::new([25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 50e-3, 250e-3]);
        let (loaded, memory) = Default::default();
        Self { latency: Family::new_with_constructor(buckets), waiting: Family::default(), loaded, memory }
    }
}

impl ServingMetrics {
    /// Return the metrics of one policy and version.
    pub(super) fn of(&self, name: &str, version: u32) -> PolicyMetrics {
        let label = PolicyLabel { policy: format!("{name}@{version}") };
        PolicyMetrics {
            latency: self.latency.get_or_create_owned(&label),
            waiting: self.waiting.get_or_create_owned(&label),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let latency = "Time from acceptance of a request to its answer";
        registry.register_with_unit("rl_act_duration", latency, Unit::Seconds, self.latency.clone());
        registry.register("rl_act_waiting", "Queued inference requests", self.waiting.clone());
        registry.register("rl_policies_loaded", "Versions of policies that are loaded", self.loaded.clone());
        let memory = "Memory of the loaded policies' parameters";
        registry.register_with_unit("rl_policies_memory", memory, Unit::Bytes, self.memory.clone());
    }
}
