//! What an instance counts of its calls, and how it tells of it: as JSON, and as Prometheus reads it.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use serde::Serialize;

/// Upper bounds of the classes of response times, in microseconds.
const BOUNDS: [u64; 12] =
    [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 10_000_000];

/// Counters of one instance.
#[derive(Debug, Default)]
pub(crate) struct CallCounters {
    requests: AtomicU64,
    errors: AtomicU64,
    in_flight: AtomicU64,
    micros: AtomicU64,
    classes: [AtomicU64; BOUNDS.len()],
}

/// The counters at one moment, as `/metrics` and `/health` show them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct CounterReport {
    /// Calls of `/invoke` that have ended.
    pub request_count: u64,
    /// Those of them that failed by the instance's or the service's fault.
    pub error_count: u64,
    /// Calls under way.
    pub in_flight: u64,
    /// Mean seconds of a call; null: none has ended.
    pub average_response_time: Option<f64>,
}

impl CallCounters {
    /// A call begins; the guard counts it as under way until it is dropped.
    pub fn begin(&self) -> CallGuard<'_> {
        self.in_flight.fetch_add(1, Relaxed);
        CallGuard(self)
    }

    /// A call has ended.
    pub fn count(&self, took: Duration, is_error: bool) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.requests.fetch_add(1, Relaxed);
        self.errors.fetch_add(u64::from(is_error), Relaxed);
        self.micros.fetch_add(micros, Relaxed);
        if let Some(class) = BOUNDS.iter().position(|bound| micros <= *bound) {
            self.classes[class].fetch_add(1, Relaxed);
        }
    }

    pub fn report(&self) -> CounterReport {
        let requests = self.requests.load(Relaxed);
        let mean = self.micros.load(Relaxed) as f64 / 1e6 / requests as f64;
        CounterReport {
            request_count: requests,
            error_count: self.errors.load(Relaxed),
            in_flight: self.in_flight.load(Relaxed),
            average_response_time: (requests > 0).then_some(mean),
        }
    }

    /// The counters in Prometheus's text format.
    pub fn prometheus(&self, uptime: Duration) -> String {
        let report = self.report();
        let mut text = String::new();
        let mut line = |name: &str, kind: &str, help: &str, value: f64| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
        };
        line("agent_requests_total", "counter", "Calls that have ended", report.request_count as f64);
        line("agent_errors_total", "counter", "Calls that failed", report.error_count as f64);
        line("agent_requests_in_flight", "gauge", "Calls under way", report.in_flight as f64);
        line("agent_uptime_seconds", "gauge", "Seconds since the process started", uptime.as_secs_f64());
        let name = "agent_response_seconds";
        let _ = writeln!(text, "# HELP {name} Seconds of a call\n# TYPE {name} histogram");
        let mut below = 0;
        for (bound, class) in BOUNDS.iter().zip(&self.classes) {
            below += class.load(Relaxed);
            let _ = writeln!(text, "{name}_bucket{{le=\"{}\"}} {below}", *bound as f64 / 1e6);
        }
        let _ = writeln!(text, "{name}_bucket{{le=\"+Inf\"}} {}", report.request_count);
        let _ = writeln!(text, "{name}_sum {}", self.micros.load(Relaxed) as f64 / 1e6);
        let _ = writeln!(text, "{name}_count {}", report.request_count);
        text
    }
}

/// A call under way.
pub(crate) struct CallGuard<'c>(&'c CallCounters);

impl Drop for CallGuard<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_add_up_and_a_call_under_way_is_seen() {
        let counters = CallCounters::default();
        assert_eq!(counters.report().average_response_time, None);
        let guard = counters.begin();
        counters.count(Duration::from_millis(2), false);
        counters.count(Duration::from_secs(60), true);
        let report = counters.report();
        assert_eq!((report.request_count, report.error_count, report.in_flight), (2, 1, 1));
        drop(guard);
        let text = counters.prometheus(Duration::from_secs(3));
        for line in [
            "agent_requests_in_flight 0",
            "agent_response_seconds_bucket{le=\"0.001\"} 0",
            "agent_response_seconds_bucket{le=\"0.0025\"} 1",
            "agent_response_seconds_bucket{le=\"10\"} 1",
            "agent_response_seconds_bucket{le=\"+Inf\"} 2",
            "agent_response_seconds_count 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing:\n{text}");
        }
    }
}
