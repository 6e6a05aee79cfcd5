//! What the one middleware costs a request, beside tower-http's layers for a part of its work, and what the request's span
//! costs: `cargo bench --bench middleware`.
//!
//! In process and on one thread. The candidates take turns of 200 requests, so that what else the machine does meets all of
//! them alike; printed are microseconds of a request, the median of all turns and the lowest.

#![expect(clippy::unwrap_used, reason = "a benchmark that can't be set up has nothing to measure")]
#![expect(clippy::print_stdout, reason = "the figures are the output")]

use std::{
    convert::Infallible,
    hint::black_box,
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use agent_management::http::{
    self, HttpState, JsonBody, Keyring, Readiness, metrics::HttpMetrics, middleware::RequestLayer,
    rate_limit::CallerRateLimiter,
};
use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
};
use axum::{Router, body::Body, extract::Request, http::StatusCode, response::Response, routing::get};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_http::{
    ServiceBuilderExt as _,
    catch_panic::CatchPanicLayer,
    request_id::{MakeRequestId, RequestId},
    timeout::TimeoutLayer,
    trace::{DefaultOnResponse, TraceLayer},
};
use tracing::{Dispatch, Level};
use tracing_subscriber::{EnvFilter, Layer as _, filter::filter_fn, layer::SubscriberExt as _};

const TURNS: usize = 400;
const REQUESTS: u32 = 200;

type Service = BoxCloneSyncService<Request, Response, Infallible>;

#[derive(Clone)]
struct DrawnIds(IdGenerator);

impl MakeRequestId for DrawnIds {
    fn make_request_id<B>(&mut self, _: &axum::http::Request<B>) -> Option<RequestId> {
        Some(RequestId::new(self.0.hex(32).parse().ok()?))
    }
}

fn routes() -> Router {
    Router::new().route("/health", get(async || JsonBody(serde_json::json!({"status": "healthy"}))))
}

/// Request ids, the request's span and its log line, panics and the time limit; not the caller, the rate limit, errors'
/// bodies, the trace of other services, metrics and the route's template in the log.
fn tower_http(ids: &IdGenerator) -> Service {
    let trace = TraceLayer::new_for_http()
        .make_span_with(|request: &Request| {
            let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok());
            tracing::info_span!("request", method = %request.method(), path = request.uri().path(), id)
        })
        .on_response(DefaultOnResponse::new().level(Level::INFO));
    let layers = ServiceBuilder::new()
        .set_x_request_id(DrawnIds(ids.clone()))
        .layer(trace)
        .propagate_x_request_id()
        .layer(CatchPanicLayer::new())
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, Duration::from_secs(30)));
    BoxCloneSyncService::new(routes().layer(layers))
}

fn own(ids: &IdGenerator) -> Service {
    let config = Config::for_tests(Path::new(""));
    let mut registry = Registry::default();
    let shared = HttpState::new(http::HttpStateParts {
        clock: Clock::system(),
        ids: ids.clone(),
        metrics: Arc::new(HttpMetrics::register(&mut registry)),
        registry: Arc::new(registry),
        keyring: Arc::new(Keyring::new(&config).unwrap()),
        limiter: CallerRateLimiter::from_config(&config).map(Arc::new),
        refusals: http::refusals::RefusalWatch::default(),
        turns: http::request_turns::RequestTurns::new(32),
        readiness: Readiness::builder().build(),
        openapi: OnceLock::new(),
        known_names: std::sync::OnceLock::new(),
        config: Arc::new(config),
    });
    BoxCloneSyncService::new(routes().layer(RequestLayer(shared)))
}

/// A log as the service writes it, to nowhere.
fn log(spans: bool) -> Dispatch {
    let lines =
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(true);
    let lines = lines.with_writer(std::io::sink).with_filter(EnvFilter::new("info"));
    let filter = filter_fn(move |metadata| spans || !metadata.is_span());
    Dispatch::new(tracing_subscriber::registry().with(lines.with_filter(filter)))
}

async fn turn(service: &Service) {
    for _ in 0..REQUESTS {
        let request = Request::builder().uri("/health").body(Body::empty()).unwrap();
        black_box(service.clone().oneshot(request).await.unwrap());
    }
}

#[derive(Debug, Deserialize, Serialize)]
struct Definition {
    name: String,
    steps: std::collections::BTreeMap<String, Value>,
    tags: Vec<String>,
}

/// A body as workflows are sent, read with and without the path to each member being followed.
fn bodies(rounds: &mut [(&str, Vec<f64>)]) {
    let step = serde_json::json!({"step_type": "data_processing", "action": {"kind": "jq", "program": ".x * 2"},
        "depends_on": ["a"], "timeout_seconds": 30, "max_retries": 2});
    let steps = ["a", "b", "c"].map(|key| (key.to_owned(), step.clone())).into_iter().collect();
    let body = Definition { name: "Price scan".into(), steps, tags: vec!["x".into(); 3] };
    let body = serde_json::to_vec(&body).unwrap();
    for _ in 0..TURNS {
        let started = Instant::now();
        (0..REQUESTS).for_each(|_| drop(black_box(serde_json::from_slice::<Definition>(&body).unwrap())));
        rounds[0].1.push(micros(started));
        let started = Instant::now();
        for _ in 0..REQUESTS {
            let mut reader = serde_json::Deserializer::from_slice(&body);
            drop(black_box(serde_path_to_error::deserialize::<_, Definition>(&mut reader).unwrap()));
        }
        rounds[1].1.push(micros(started));
    }
}

fn micros(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e6 / f64::from(REQUESTS)
}

fn print(rounds: &mut [(&str, Vec<f64>)]) {
    for (name, times) in rounds {
        times.sort_by(f64::total_cmp);
        println!("{name:<45} median {:7.2} us   lowest {:7.2} us", times[times.len() / 2], times[0]);
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ids = IdGenerator::seeded(1);
    let bare: Service = BoxCloneSyncService::new(routes());
    let (layers, own) = (tower_http(&ids), own(&ids));
    let (spans, no_spans) = (log(true), log(false));
    let candidates = [
        ("no middleware", &bare, &spans),
        ("tower-http's four layers", &layers, &spans),
        ("the one middleware", &own, &spans),
        ("the one middleware, no span for the request", &own, &no_spans),
    ];
    let mut rounds = candidates.map(|(name, ..)| (name, Vec::with_capacity(TURNS)));
    for _ in 0..TURNS {
        for ((_, service, log), (_, times)) in candidates.iter().zip(&mut rounds) {
            let started = Instant::now();
            tracing::dispatcher::with_default(log, || runtime.block_on(turn(service)));
            times.push(micros(started));
        }
    }
    print(&mut rounds);
    let mut rounds = [("a workflow's body, serde_json", Vec::new()), ("the same with serde_path_to_error", Vec::new())];
    bodies(&mut rounds);
    print(&mut rounds);
}
