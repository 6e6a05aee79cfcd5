//! Resources of agents: the configuration for a task, its admission against the capacity of hosts, its use and its end, and plans of
//! many at once.
//!
//! What hosts have, and what of it is allocated, stands in one row for each, which changes in the transaction of each allocation: with
//! one writer at a time no host is ever overcommitted. The coordinator's table `resource_allocations` has each allocation.

mod allocations;
mod amounts;
mod hosts;
mod metrics;
mod model;
mod plans;
mod record;
mod rules;
mod state;
mod store;
mod sweep;
mod tuned;
mod tuned_amounts;
mod usage;

use std::sync::Arc;

use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::ambient::{Clock, IdGenerator};
use am_db::{Database, codec::Timestamp, principal::Principal};
use prometheus_client::registry::Registry;

use self::metrics::ResourceMetrics;
pub use self::{
    amounts::ResourceAmounts,
    hosts::is_host_name,
    model::{
        AllocationCompletion, AllocationDocument, AllocationDraft, AllocationStart, CapacityReport, HostDocument,
        HostDraft, HostState, OptimizationTarget, PlacementNote, ResourceCapacity, ResourceUtilisation,
    },
    plans::{PlanDemand, PlanHost, PlanHostReport, PlanPlacement, PlanReport, PlanRequest},
};

pub(crate) use self::{
    tuned::{cost_of, fit_of, set_tuned_allocation, tunable_allocation, tuned_allocation},
    tuned_amounts::{RecordedUse, TunedAllocation, TunedAmounts},
};

/// The service for resources. Cheap to clone.
#[derive(Clone)]
pub struct ResourceService(Arc<ResourceInner>);

struct ResourceInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    metrics: ResourceMetrics,
}

impl ResourceService {
    /// The service on `db`.
    pub fn new(db: Database, clock: Clock, ids: IdGenerator, audit: AuditLog) -> Self {
        Self(Arc::new(ResourceInner { db, clock, ids, audit, metrics: ResourceMetrics::default() }))
    }

    /// Register the metrics of resources.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// The audit entry of what `caller` did with a resource of this module.
    fn entry(&self, caller: &Principal, resource: &str, action: &str, now: Timestamp) -> AuditEntry {
        AuditEntry::new(EventType::WorkflowUpdated, now).by(caller).of(resource, action)
    }
}
