//! What `/metrics` shows of jobs.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::model::{JobState, Service};

/// What `/metrics` shows of jobs.
#[derive(Default)]
pub(super) struct Metrics {
    /// Jobs that steps of this process wait for.
    pub(super) depth: Gauge,
    /// Jobs of the queue that have not ended, whoever put them there.
    pub(super) open: Gauge,
    /// Jobs that clients put into the queue, by the states they came to.
    states: Family<[(&'static str, &'static str); 2], Counter>,
}

impl Metrics {
    /// A client's job has come to this state.
    pub(super) fn came_to(&self, service: Service, state: JobState) {
        self.states.get_or_create(&[("service", service.name()), ("state", state.word())]).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("jobs_waited_for", "Jobs in the coordinator's queue that steps wait for", self.depth.clone());
        registry.register(
            "jobs_open",
            "Jobs in the coordinator's queue that have not ended, as seen last",
            self.open.clone(),
        );
        registry.register(
            "service_jobs",
            "Jobs that clients put into the queue, by service and the state that they came to",
            self.states.clone(),
        );
    }
}
