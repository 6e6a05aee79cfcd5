//! Prometheus metrics of jobs.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::model::{JobService, JobState};

/// Prometheus metrics of jobs.
#[derive(Default)]
pub(super) struct JobMetrics {
    /// Jobs that steps of this process wait for.
    pub(super) depth: Gauge,
    /// Jobs of the queue that have not ended, whoever submitted them.
    pub(super) open: Gauge,
    /// Jobs submitted by clients, by service and by the states they reached.
    states: Family<[(&'static str, &'static str); 2], Counter>,
}

impl JobMetrics {
    /// Count a client's job that reached this state.
    pub(super) fn count_state(&self, service: JobService, state: JobState) {
        self.states.get_or_create(&[("service", service.name()), ("state", state.word())]).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("jobs_waited_for", "Jobs in the coordinator's queue that steps wait for", self.depth.clone());
        registry.register(
            "jobs_open",
            "Jobs in the coordinator's queue that have not ended, as last read",
            self.open.clone(),
        );
        registry.register(
            "service_jobs",
            "Jobs submitted by clients, by service and the states that they reached",
            self.states.clone(),
        );
    }
}
