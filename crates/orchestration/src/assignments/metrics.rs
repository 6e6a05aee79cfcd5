//! Prometheus metrics of assignments.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use super::model::{AssignmentAttempt, AttemptOutcome};

/// Prometheus metrics of assignments.
#[derive(Default)]
pub struct AssignmentMetrics {
    /// Number of agents online, as last read from the database.
    pub online: Gauge,
    /// Number of assignments that wait for an agent.
    pub waiting: Gauge,
    /// Number of assignments held by agents.
    pub held: Gauge,
    /// Number of assignments offered by this process.
    pub offered: Counter,
    completed: Counter,
    failed: Counter,
    released: Counter,
}

impl AssignmentMetrics {
    /// Count an attempt's end, if it has ended.
    pub fn count(&self, attempt: &AssignmentAttempt) {
        let counter = match attempt.outcome {
            Some(AttemptOutcome::Completed) => &self.completed,
            Some(AttemptOutcome::Failed | AttemptOutcome::Expired) => &self.failed,
            Some(AttemptOutcome::Lost | AttemptOutcome::Missed) => &self.released,
            Some(AttemptOutcome::Cancelled) | None => return,
        };
        counter.inc();
    }

    /// Count attempts that ended because their agent was gone.
    pub fn released(&self, count: u64) {
        self.released.inc_by(count);
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register("agents_online", "Agents that are online", self.online.clone());
        registry.register("assignments_waiting", "Assignments waiting for an agent", self.waiting.clone());
        registry.register("assignments_held", "Assignments held by agents", self.held.clone());
        registry.register("assignments_offered", "Assignments offered by this process", self.offered.clone());
        registry.register("assignments_completed", "Attempts that ended with a result", self.completed.clone());
        registry.register("assignments_failed", "Attempts that failed or ran out of time", self.failed.clone());
        registry.register(
            "assignments_released",
            "Attempts that ended because their agent was gone or did not answer",
            self.released.clone(),
        );
    }
}
