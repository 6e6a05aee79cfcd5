//! What assignments tell Prometheus.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use super::model::{Attempt, Outcome};

/// Counters of assignments.
#[derive(Default)]
pub struct Metrics {
    /// Agents that are online, as the database said last.
    pub online: Gauge,
    /// Assignments that no agent has.
    pub waiting: Gauge,
    /// Assignments that agents have.
    pub held: Gauge,
    /// Given to an agent by this process.
    pub offered: Counter,
    completed: Counter,
    failed: Counter,
    released: Counter,
}

impl Metrics {
    /// An attempt as it stands: if it is over, how.
    pub fn count(&self, attempt: &Attempt) {
        let counter = match attempt.outcome {
            Some(Outcome::Completed) => &self.completed,
            Some(Outcome::Failed | Outcome::Expired) => &self.failed,
            Some(Outcome::Lost | Outcome::Missed) => &self.released,
            Some(Outcome::Cancelled) | None => return,
        };
        counter.inc();
    }

    /// So many attempts ended because their agent was gone.
    pub fn released(&self, count: u64) {
        self.released.inc_by(count);
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register("agents_online", "Agents that are online", self.online.clone());
        registry.register("assignments_waiting", "Assignments that no agent has", self.waiting.clone());
        registry.register("assignments_held", "Assignments that agents have", self.held.clone());
        registry.register("assignments_offered", "Assignments given to an agent here", self.offered.clone());
        registry.register("assignments_completed", "Attempts that ended with a result", self.completed.clone());
        registry.register("assignments_failed", "Attempts that failed or ran out of time", self.failed.clone());
        registry.register(
            "assignments_released",
            "Attempts that ended because their agent was gone or did not answer",
            self.released.clone(),
        );
    }
}
