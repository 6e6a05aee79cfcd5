//! Prometheus metrics of requests, latencies, refusals and the process.

use std::{fmt, fs, sync::Arc, time::Duration};

use axum::http::{Method, StatusCode};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

/// Content type of a scrape's response.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper bounds of the latency buckets in seconds: from half a millisecond, for a read from memory, to ten seconds, for
/// a request that waits.
const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Linux reports processor time in ticks; there are this many per second on every architecture (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: Arc<str>,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
    commit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedKeyLabels {
    key: Arc<str>,
    code: &'static str,
}

/// Metrics of requests. Labels are route templates, never paths, so their number is bounded.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    /// Number of requests in progress.
    pub in_flight: Gauge,
    refused: Family<CodeLabels, Counter>,
    refused_keys: Family<RefusedKeyLabels, Counter>,
}

/// Instruments of one route, looked up once.
#[derive(Debug)]
pub struct RouteMetrics {
    /// Template of the route, or `unmatched`.
    pub route: Arc<str>,
    seconds: Histogram,
}

impl HttpMetrics {
    /// Register the metrics of requests and of the process.
    pub fn register(registry: &mut Registry) -> Self {
        let new = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS)),
            in_flight: Gauge::default(),
            refused: Family::default(),
            refused_keys: Family::default(),
        };
        registry.register("http_requests", "Requests answered, by route template and status", new.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time from the request's head to the answer's, by route template",
            Unit::Seconds,
            new.seconds.clone(),
        );
        registry.register("http_requests_in_flight", "Requests being answered", new.in_flight.clone());
        registry.register("http_refused", "Requests refused by authentication or rate limit", new.refused.clone());
        let about = "Answers 401 and 403 by key: an id, a principal, unknown or token";
        registry.register("http_refused_by_key", about, new.refused_keys.clone());
        registry.register_collector(Box::new(ProcessCollector));
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION"), commit: crate::BUILD_COMMIT }).set(1);
        registry.register("agent_management_build_info", "Always 1; its labels tell the version and the commit", build);
        new
    }

    /// Return the instruments of one route.
    pub fn route(&self, route: &str) -> RouteMetrics {
        let route: Arc<str> = route.into();
        let seconds = self.seconds.get_or_create_owned(&RouteLabels { route: route.clone() });
        RouteMetrics { route, seconds }
    }

    /// Count a response.
    pub fn answered(&self, route: &RouteMetrics, method: &Method, status: StatusCode, took: Duration) {
        let labels =
            RequestLabels { method: method_label(method), route: route.route.clone(), status: status.as_u16() };
        self.requests.get_or_create(&labels).inc();
        route.seconds.observe(took.as_secs_f64());
    }

    /// Count a request refused by authentication or rate limit, by the error's code.
    pub fn refused(&self, code: &'static str) {
        self.refused.get_or_create(&CodeLabels { code }).inc();
    }

    /// Count a 401 or 403 by the name of the key that it was answered to, of which there are as many as keys.
    pub fn refused_key(&self, key: Arc<str>, code: &'static str) {
        self.refused_keys.get_or_create(&RefusedKeyLabels { key, code }).inc();
    }
}

/// Encode all metrics for a scrape.
pub fn encode_metrics(registry: &Registry) -> Result<String, fmt::Error> {
    let mut page = String::with_capacity(16 * 1024);
    text::encode(&mut page, registry)?;
    Ok(page)
}

/// Clients can send any word as a method, but labels must be bounded.
fn method_label(method: &Method) -> &'static str {
    const KNOWN_METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT"];
    KNOWN_METHODS.into_iter().find(|known| *known == method.as_str()).unwrap_or("OTHER")
}

/// Metrics of the process, read from `/proc` at each scrape; unreadable ones are left out.
#[derive(Debug)]
struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_bytes) {
            encode_gauge(&mut encoder, "process_resident_memory", "Memory in use", Some(&Unit::Bytes), bytes)?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            // One entry is the open directory itself.
            let count = i64::try_from(open.count()).unwrap_or(i64::MAX) - 1;
            encode_gauge(&mut encoder, "process_open_fds", "Open file descriptors", None, count)?;
        }
        if let Some((cpu, threads)) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_and_threads) {
            encode_gauge(&mut encoder, "process_threads", "Threads", None, threads)?;
            let counter = ConstCounter::new(cpu);
            let help = "Processor time used, user and system";
            let metric = encoder.encode_descriptor("process_cpu", help, Some(&Unit::Seconds), counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

fn encode_gauge(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: i64,
) -> Result<(), fmt::Error> {
    let gauge = ConstGauge::new(value);
    gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
}

/// Return the resident memory in bytes, from a line like `VmRSS:   1234 kB`.
fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

/// Return processor seconds and number of threads, from fields 14, 15 and 20 of proc(5).
fn cpu_and_threads(stat: &str) -> Option<(f64, i64)> {
    // The second field is the program's name in parentheses and may contain any character.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
    Some(((ticks(14)? + ticks(15)?) / TICKS_PER_SECOND, fields.get(20 - 3)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_template_method_and_status() {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        let route = metrics.route("/api/v1/agents/workflows/{id}");
        metrics.answered(&route, &Method::GET, StatusCode::OK, Duration::from_millis(2));
        metrics.answered(&route, &Method::GET, StatusCode::OK, Duration::from_millis(30));
        metrics.answered(&route, &Method::from_bytes(b"BREW").unwrap(), StatusCode::NOT_FOUND, Duration::ZERO);
        metrics.refused("unauthorized");
        metrics.in_flight.inc();
        let page = encode_metrics(&registry).unwrap();
        let label = r#"route="/api/v1/agents/workflows/{id}""#;
        for line in [
            format!("http_requests_total{{method=\"GET\",{label},status=\"200\"}} 2"),
            format!("http_requests_total{{method=\"OTHER\",{label},status=\"404\"}} 1"),
            format!("http_request_duration_seconds_bucket{{le=\"0.0025\",{label}}} 2"),
            format!("http_request_duration_seconds_count{{{label}}} 3"),
            "http_refused_total{code=\"unauthorized\"} 1".to_owned(),
            "http_requests_in_flight 1".to_owned(),
        ] {
            assert!(page.contains(&line), "{line} is not in\n{page}");
        }
        assert!(page.ends_with("# EOF\n"));
    }

    #[test]
    fn the_process_is_measured() {
        let mut registry = Registry::default();
        HttpMetrics::register(&mut registry);
        let page = encode_metrics(&registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name}\n{page}"));
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes ") > 1e6);
        assert!(value("process_open_fds ") >= 3.0);
        assert!(value("process_threads ") >= 1.0);
        assert!(value("process_cpu_seconds_total ") >= 0.0);
    }

    #[test]
    fn a_program_name_does_not_shift_the_fields() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 150 13 14 15 16 9 18 19";
        assert_eq!(cpu_and_threads(stat), Some((4.0, 9)));
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2_097_152));
    }
}
