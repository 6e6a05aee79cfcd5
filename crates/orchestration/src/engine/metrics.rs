//! Prometheus metrics of the engine.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::{Registry, Unit},
};

use crate::{jq, model::ExecutionStatus};

/// Prometheus metrics of the engine.
#[derive(Default)]
pub struct EngineMetrics {
    ended: Family<[(&'static str, &'static str); 1], Counter>,
    /// Number of executions that this process holds.
    pub held: Gauge,
    /// Number of places in use: executions that this process holds and that do not only wait.
    pub working: Gauge,
    /// Number of executions taken over from other workers.
    pub taken_over: Counter,
    /// Number of executions that wait for a worker, as last read from the database.
    pub waiting: Gauge,
    /// Age in seconds of the oldest execution that has not ended, as last read from the database; 0: there is none.
    pub oldest: Gauge,
}

impl EngineMetrics {
    pub fn ended(&self, status: ExecutionStatus) {
        self.ended.get_or_create(&[("status", status.value())]).inc();
    }

    pub fn register(&self, jq: &jq::JqPool, registry: &mut Registry) {
        registry.register("engine_executions_ended", "Executions that ended here, by status", self.ended.clone());
        registry.register("engine_leases_held", "Executions this process holds by lease", self.held.clone());
        registry.register(
            "engine_executions_working",
            "Executions held here that do not only wait",
            self.working.clone(),
        );
        registry.register("engine_executions_waiting", "Executions that wait for a worker", self.waiting.clone());
        registry.register_with_unit(
            "engine_oldest_run",
            "Age of the oldest execution that has not ended",
            Unit::Seconds,
            self.oldest.clone(),
        );
        registry.register(
            "engine_executions_taken_over",
            "Executions taken over from dead workers",
            self.taken_over.clone(),
        );
        registry.register_collector(Box::new(JqCollector(jq.clone())));
    }
}

/// Collector that reads the jq pool's own counters at a scrape.
struct JqCollector(jq::JqPool);

impl fmt::Debug for JqCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jq")
    }
}

impl Collector for JqCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let stats = self.0.stats();
        let counters = [
            ("jq_evaluations", "Programs and schemas evaluated", stats.evaluations()),
            ("jq_timeouts", "Evaluations that took too long", stats.timeouts()),
            ("jq_crashes", "Evaluations that ran out of memory or stack", stats.crashes()),
            ("jq_respawns", "Worker processes that were replaced", stats.respawns()),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                prometheus_client::metrics::MetricType::Counter,
            )?)?;
        }
        let waiting = ConstGauge::new(i64::try_from(stats.waiting()).unwrap_or(i64::MAX));
        waiting.encode(encoder.encode_descriptor(
            "jq_waiting",
            "Evaluations that wait for a worker",
            None,
            prometheus_client::metrics::MetricType::Gauge,
        )?)
    }
}
