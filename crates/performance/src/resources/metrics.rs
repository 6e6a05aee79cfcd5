//! Prometheus metrics of resources.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::model::CapacityReport;

/// A gauge for each resource.
type ResourceGauges = Family<[(&'static str, String); 1], Gauge<f64, AtomicU64>>;

/// Metrics of this process's allocations, and of the capacity as it was read last.
#[derive(Debug, Default)]
pub(super) struct ResourceMetrics {
    pub allocations: Counter,
    pub refusals: Counter,
    pub expired: Counter,
    pub sweep_failures: Counter,
    capacity: ResourceGauges,
    allocated: ResourceGauges,
    hosts: Gauge,
    held: Gauge,
}

impl ResourceMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let counters = [
            ("resource_allocations", "Allocations that were made", &self.allocations),
            ("resource_refusals", "Allocations that no host had room for", &self.refusals),
            ("resource_expirations", "Allocations whose time ran out", &self.expired),
            ("resource_sweep_failures", "Sweeps of allocations that ended with an error", &self.sweep_failures),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("resource_capacity", "What all hosts have of a resource", self.capacity.clone());
        registry.register("resource_allocated", "What is allocated of a resource", self.allocated.clone());
        registry.register("resource_hosts", "Hosts whose capacity is allocated", self.hosts.clone());
        registry.register("resource_held", "Allocations that take capacity", self.held.clone());
    }

    /// Show a capacity.
    pub(super) fn show(&self, report: &CapacityReport) {
        for resource in &report.resources {
            let label = [("resource", resource.resource.clone())];
            self.capacity.get_or_create(&label).set(resource.capacity);
            self.allocated.get_or_create(&label).set(resource.allocated);
        }
        self.hosts.set(i64::try_from(report.hosts).unwrap_or(i64::MAX));
        self.held.set(report.allocations);
    }
}
