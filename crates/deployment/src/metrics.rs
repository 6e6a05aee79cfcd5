//! Prometheus metrics of deployments.

use prometheus_client::{
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// Metrics of this process's deployments.
#[derive(Debug)]
pub(crate) struct DeploymentMetrics {
    /// Instances by health, as the fleet's task last saw them.
    pub instances: Family<[(&'static str, String); 1], Gauge>,
    pub calls: Counter,
    pub failed_calls: Counter,
    pub retried_calls: Counter,
    pub held_calls: Counter,
    pub ejections: Counter,
    /// Rollouts that have ended, by how.
    pub rollouts: Family<[(&'static str, String); 1], Counter>,
    pub look_failures: Counter,
    /// Seconds that calls took at their instance.
    pub call_seconds: Histogram,
}

impl Default for DeploymentMetrics {
    fn default() -> Self {
        let made = Self {
            instances: Family::default(),
            calls: Counter::default(),
            failed_calls: Counter::default(),
            retried_calls: Counter::default(),
            held_calls: Counter::default(),
            ejections: Counter::default(),
            rollouts: Family::default(),
            look_failures: Counter::default(),
            call_seconds: Histogram::new(exponential_buckets(0.0005, 2.0, 16)),
        };
        // A series that is not there until it counts something can't be watched for its first change.
        for end in ["promoted", "undone"] {
            drop(made.rollouts.get_or_create(&[("end", end.to_owned())]));
        }
        for health in ["healthy", "degraded", "unhealthy", "unknown"] {
            drop(made.instances.get_or_create(&[("health", health.to_owned())]));
        }
        made
    }
}

impl DeploymentMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("deployment_instances", "Instances by health", self.instances.clone());
        let counters = [
            ("deployment_calls", "Calls to instances", &self.calls),
            ("deployment_failed_calls", "Calls that an instance could not answer", &self.failed_calls),
            ("deployment_retried_calls", "Calls that were sent to another instance", &self.retried_calls),
            ("deployment_held_calls", "Calls that waited for an instance", &self.held_calls),
            ("deployment_ejections", "Instances that got no calls for a while", &self.ejections),
            ("deployment_look_failures", "Looks at the fleet that ended with an error", &self.look_failures),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("deployment_rollouts", "Rollouts that have ended", self.rollouts.clone());
        registry.register("deployment_call_seconds", "Seconds of a call at its instance", self.call_seconds.clone());
    }
}
