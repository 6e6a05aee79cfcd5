//! The whole HTTP floor on a toy router.

use std::{convert::Infallible, net::IpAddr, path::PathBuf, sync::OnceLock, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{FromRef, Request},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower::{Service, ServiceExt};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{
    page::{Cursor, Paging},
    *,
};
use crate::{
    config::{EngineConfig, Environment, LogFormat},
    routes,
};

const ADMIN: &str = "admin-key-0123456789abcdef";
const CLIENT: &str = "client-key-0123456789abcdef";
const MINER: &str = "miner-key-0123456789abcdef";

/// A development server's settings.
pub(crate) fn config() -> Config {
    Config {
        environment: Environment::Dev,
        host: IpAddr::from([127, 0, 0, 1]),
        port: 0,
        allow_remote_dev: false,
        database: PathBuf::new(),
        data_dir: PathBuf::new(),
        migrate_on_start: true,
        admin_keys: Vec::new(),
        client_keys: Vec::new(),
        miner_keys: Vec::new(),
        receipt_signing_key: None,
        log_level: "info".to_owned(),
        log_format: LogFormat::Text,
        rate_limit_requests: 0,
        rate_limit_window: Duration::from_secs(60),
        cors_origins: Vec::new(),
        body_limit: 1000,
        request_timeout: Duration::from_secs(60),
        shutdown_grace: Duration::from_secs(1),
        db_readers: 1,
        db_busy_timeout: Duration::from_secs(1),
        engine: EngineConfig {
            max_active: 1,
            max_parallel_steps: 1,
            lease: Duration::from_secs(1),
            job_poll: Duration::from_secs(1),
            jq_timeout: Duration::from_secs(1),
            jq_max_output: 1,
            jq_memory_mb: 1,
            jq_workers: 1,
            step_price: 0.0,
            compute_price_per_second: 0.0,
            http_max_response: 1,
        },
        http_endpoints: Default::default(),
    }
}

#[derive(Clone)]
struct Toy(Shared);

impl FromRef<Toy> for Shared {
    fn from_ref(toy: &Toy) -> Self {
        toy.0.clone()
    }
}

#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct Thing {
    name: String,
    #[serde(default)]
    size: u32,
}

#[derive(Deserialize)]
struct Filter {
    is_public: Option<bool>,
}

#[utoipa::path(get, path = "/api/v1/agents/things", responses((status = 200)))]
async fn list(_: Admin, Query(filter): Query<Filter>, paging: Paging) -> Result<Response, ApiError> {
    let window = paging.window(2)?;
    assert_ne!(filter.is_public, Some(false), "asked to panic");
    let next = Cursor { at: "t".to_owned(), id: "b".to_owned() };
    Ok(paging.answer(&window, &["a", "b"], 5, Some(&next)))
}

#[utoipa::path(post, path = "/api/v1/agents/things", responses((status = 200, body = Thing)))]
async fn create(Admin(caller): Admin, Json(thing): Json<Thing>) -> Json<Value> {
    Json(json!({"owner": &*caller.principal, "name": thing.name, "size": thing.size}))
}

#[utoipa::path(get, path = "/api/v1/agents/things/{number}", params(("number" = u32, Path)), responses((status = 200)))]
async fn one(_: AnyKey, Path(number): Path<u32>) -> Result<String, ApiError> {
    match number {
        404 => Err(ApiError::not_found("No such thing")),
        500 => Err(ApiError::internal(std::io::Error::other("the secret inside"))),
        503 => Err(ApiError::unavailable("The queue is full", Duration::from_secs(3))),
        504 => std::future::pending().await,
        number => Ok(number.to_string()),
    }
}

#[utoipa::path(post, path = "/api/v1/services/{kind}", params(("kind" = String, Path)), responses((status = 200)))]
async fn service(_: ClientKey, Path(kind): Path<String>) -> String {
    kind
}

#[utoipa::path(post, path = "/api/v1/agents/once", responses((status = 200)))]
async fn once(Admin(caller): Admin, keyed: idempotency::KeyedJson<Option<Thing>>) -> Json<Value> {
    let same = keyed.once.as_ref().map(|once| once.scope == *caller.principal);
    Json(json!({"key": keyed.once.map(|once| once.key), "same": same, "body": keyed.body.is_some()}))
}

struct Floor {
    shared: Shared,
    service: tower::util::BoxCloneSyncService<Request, Response, Infallible>,
}

impl Floor {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config();
        config.environment = Environment::Production;
        config.admin_keys = vec![ADMIN.into()];
        config.client_keys = vec![CLIENT.into()];
        config.miner_keys = vec![MINER.into()];
        change(&mut config);
        let mut registry = Registry::default();
        let shared = Shared::new(Parts {
            clock: Clock::system(),
            ids: Ids::seeded(7),
            metrics: Arc::new(metrics::HttpMetrics::register(&mut registry)),
            registry: Arc::new(registry),
            keyring: Arc::new(Keyring::new(&config).unwrap()),
            limiter: limit::Limiter::from_config(&config).map(Arc::new),
            readiness: Readiness::builder().check("database", async || Ok(())).build(),
            openapi: OnceLock::new(),
            config: Arc::new(config),
        });
        let api = OpenApiRouter::default()
            .routes(routes!(list, create))
            .routes(routes!(one))
            .routes(routes!(service))
            .routes(routes!(once));
        let service = routes::build(api, Toy(shared.clone()), &shared).unwrap();
        Self { shared, service: tower::util::BoxCloneSyncService::new(service) }
    }

    async fn send(&self, request: Request) -> Answer {
        let response = self.service.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    async fn get(&self, uri: &str) -> Answer {
        self.send(ask("GET", uri, Some(ADMIN), "")).await
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().unwrap()
    }

    fn refusal(&self) -> (u16, String) {
        let body = self.json();
        assert!(body["detail"].is_string() || body["detail"].is_array(), "{body}");
        assert_eq!(body["request_id"], self.header("x-request-id"));
        (self.status.as_u16(), body["code"].as_str().unwrap().to_owned())
    }
}

fn ask(method: &str, uri: &str, key: Option<&str>, body: &str) -> Request {
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    request.body(Body::from(body.to_owned())).unwrap()
}

fn refusal(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn every_error_has_the_one_shape() {
    let floor = Floor::new(|config| config.request_timeout = Duration::from_millis(20));
    let table = [
        ("/api/v1/agents/things/404", 404, "not_found"),
        ("/api/v1/agents/things/500", 500, "internal"),
        ("/api/v1/agents/things/503", 503, "unavailable"),
        ("/api/v1/agents/things/504", 504, "timeout"),
        ("/api/v1/agents/things/x", 422, "validation_error"),
        ("/api/v1/agents/things/%00", 422, "validation_error"),
        ("/api/v1/agents/things/%ff", 422, "validation_error"),
        ("/api/v1/agents/things?limit=0", 422, "validation_error"),
        ("/api/v1/agents/things?is_public=false", 500, "internal"),
        ("/api/v1/agents/nothing", 404, "not_found"),
        ("/", 404, "not_found"),
        ("/api/v1/services/llm", 405, "method_not_allowed"),
    ];
    for (uri, status, code) in table {
        let answer = floor.get(uri).await;
        assert_eq!(answer.refusal(), refusal(status, code), "{uri}");
        assert!(!answer.text.contains("secret") && !answer.text.contains("panic"), "{}", answer.text);
        assert_eq!(answer.header("content-type"), "application/json");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("cache-control"), "no-store");
    }
    assert_eq!(floor.get("/api/v1/agents/things/503").await.header("retry-after"), "3");
    assert_eq!(floor.get("/api/v1/services/llm").await.header("allow"), "POST");
    assert_eq!(floor.get("/api/v1/agents/things/x").await.json()["detail"][0]["loc"], json!(["path", "number"]));
    assert_eq!(floor.get("/api/v1/agents/things?limit=0").await.json()["detail"][0]["loc"], json!(["query", "limit"]));
    assert_eq!(floor.shared.metrics.in_flight.get(), 0);
}

#[tokio::test]
async fn keys_open_what_their_role_may() {
    let floor = Floor::new(|_| {});
    let table = [
        ("GET", "/api/v1/agents/things", Some(ADMIN), 200),
        ("GET", "/api/v1/agents/things", Some(CLIENT), 403),
        ("GET", "/api/v1/agents/things", Some(MINER), 403),
        ("GET", "/api/v1/agents/things", Some("wrong-key-0123456789abcdef"), 401),
        ("GET", "/api/v1/agents/things", None, 401),
        ("POST", "/api/v1/services/llm", Some(ADMIN), 200),
        ("POST", "/api/v1/services/llm", Some(CLIENT), 200),
        ("POST", "/api/v1/services/llm", Some(MINER), 403),
        ("POST", "/api/v1/services/llm", None, 401),
        ("GET", "/api/v1/agents/things/1", Some(MINER), 200),
        ("GET", "/api/v1/agents/things/1", None, 401),
    ];
    for (method, uri, key, status) in table {
        let answer = floor.send(ask(method, uri, key, "")).await;
        assert_eq!(answer.status, status, "{method} {uri} {key:?}");
        if status == 401 {
            assert_eq!(answer.header("www-authenticate"), "ApiKey");
            assert_eq!(answer.refusal().1, "unauthorized");
        }
        assert!(!format!("{:?}{}", answer.headers, answer.text).contains("0123456789abcdef"), "{}", answer.text);
    }
    let created = floor.send(ask("POST", "/api/v1/agents/things", Some(ADMIN), r#"{"name": "x"}"#)).await;
    assert_eq!(created.json()["owner"], crate::db::owner::Owner::of_key(ADMIN).as_str());
    let dev = Floor::new(|config| config.environment = Environment::Dev);
    let created = dev.send(ask("POST", "/api/v1/agents/things", None, r#"{"name": "x"}"#)).await;
    assert_eq!(created.json()["owner"], "dev_key");
}

#[tokio::test]
async fn bodies_are_checked_before_a_handler_sees_them() {
    let floor = Floor::new(|_| {});
    let send = async |kind: Option<&str>, body: String| {
        let mut request = Request::post("/api/v1/agents/things").header("x-api-key", ADMIN);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        floor.send(request.body(Body::from(body)).unwrap()).await
    };
    let good = r#"{"name": "x", "size": 3, "priority": "high"}"#;
    for kind in [None, Some("application/json"), Some("application/vnd.x+json; charset=utf-8")] {
        let answer = send(kind, good.to_owned()).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["size"]), (200, &json!(3)));
    }
    assert_eq!(send(Some("text/plain"), good.to_owned()).await.refusal(), refusal(415, "unsupported_media_type"));
    let large = format!(r#"{{"name": "{}"}}"#, "x".repeat(1000));
    assert_eq!(send(None, large).await.refusal(), refusal(413, "body_too_large"));
    for bad in [r#"{"name": 5}"#, "{", r#"{"name": "\u0000"}"#, r#"{"name": "\ud800"}"#, ""] {
        assert_eq!(send(Some("application/json"), bad.to_owned()).await.refusal(), refusal(422, "validation_error"));
    }
    let missing = send(None, "{}".to_owned()).await.json();
    let field = json!({"loc": ["body", "name"], "msg": "Field required", "type": "missing"});
    assert_eq!(missing["detail"], json!([field]));
}

#[tokio::test]
async fn ids_go_in_and_out() {
    let floor = Floor::new(|_| {});
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut request = ask("GET", "/api/v1/agents/things/404", Some(ADMIN), "");
    request.headers_mut().insert("x-request-id", "mine-1".parse().unwrap());
    request.headers_mut().insert("traceparent", format!("00-{trace}-00f067aa0ba902b7-01").parse().unwrap());
    let answer = floor.send(request).await;
    assert_eq!(answer.json()["request_id"], "mine-1");
    assert!(answer.header("traceparent").starts_with(&format!("00-{trace}-")));
    assert!(!answer.header("traceparent").contains("00f067aa0ba902b7"));
    let (one, other) = (floor.get("/health").await, floor.get("/health").await);
    assert_ne!(one.header("x-request-id"), other.header("x-request-id"));
}

#[tokio::test]
async fn aliases_reach_the_same_handlers() {
    let floor = Floor::new(|_| {});
    for uri in ["/v1/agents/things", "/api/v1/agent/things", "/api/v1/agents/things/", "/v1/agents/things/?is_public=1"]
    {
        let answer = floor.get(uri).await;
        assert_eq!(answer.status, 200, "{uri}");
        assert_eq!(answer.header("x-total-count"), "5");
        let path = uri.split('?').next().unwrap();
        assert!(answer.header("link").contains(&format!("<{path}?")), "{}", answer.header("link"));
    }
    assert_eq!(floor.send(ask("POST", "/v1/services/llm", Some(CLIENT), "")).await.text, "llm");
    for uri in ["/health", "/v1/health", "/api/v1/health", "/api/v1/health/"] {
        assert_eq!(floor.get(uri).await.json()["service"], "agent-management", "{uri}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_route_never_by_path() {
    let floor = Floor::new(|_| {});
    for uri in
        ["/api/v1/agents/things/1", "/v1/agents/things/2", "/api/v1/agents/things/404", "/nowhere/7", "/nowhere/8"]
    {
        floor.get(uri).await;
    }
    floor.send(ask("GET", "/api/v1/agents/things", None, "")).await;
    let page = floor.get("/metrics").await;
    assert_eq!(page.header("content-type"), metrics::CONTENT_TYPE);
    for line in [
        r#"http_requests_total{method="GET",route="/api/v1/agents/things/{number}",status="200"} 2"#,
        r#"http_requests_total{method="GET",route="/api/v1/agents/things/{number}",status="404"} 1"#,
        r#"http_requests_total{method="GET",route="unmatched",status="404"} 2"#,
        r#"http_request_duration_seconds_count{route="/api/v1/agents/things/{number}"} 3"#,
        r#"http_refused_total{code="unauthorized"} 1"#,
        "http_requests_in_flight 1",
    ] {
        assert!(page.text.lines().any(|found| found == line), "{line} is not in\n{}", page.text);
    }
    assert!(!page.text.contains("nowhere"));
}

#[tokio::test]
async fn a_client_that_goes_away_is_counted_too() {
    let floor = Floor::new(|_| {});
    let waiting = floor.send(ask("GET", "/api/v1/agents/things/504", Some(ADMIN), ""));
    assert!(futures_util::FutureExt::now_or_never(waiting).is_none());
    assert_eq!(floor.shared.metrics.in_flight.get(), 0);
    assert!(floor.get("/metrics").await.text.contains(r#"status="499"} 1"#));
}

#[tokio::test]
async fn limits_are_per_key_and_spare_the_probes() {
    let floor = Floor::new(|config| config.rate_limit_requests = 2);
    let status = async |key| floor.send(ask("GET", "/api/v1/agents/things/1", key, "")).await;
    assert_eq!(status(Some(ADMIN)).await.status, 200);
    assert_eq!(status(Some(ADMIN)).await.status, 200);
    let refused = status(Some(ADMIN)).await;
    assert_eq!(refused.refusal(), refusal(429, "rate_limited"));
    assert!((1..=60).contains(&refused.header("retry-after").parse::<u32>().unwrap()));
    assert_eq!(status(Some(MINER)).await.status, 200);
    for _ in 0..5 {
        assert_eq!(floor.get("/health").await.status, 200);
    }
    assert_eq!(status(None).await.status, 401);
    assert_eq!(status(Some("guess-1")).await.status, 401);
    assert_eq!(status(Some("guess-2")).await.status, 429, "guesses share the limit of their address");
}

#[tokio::test]
async fn browsers_of_configured_origins_may_ask() {
    let floor = Floor::new(|config| config.cors_origins = vec!["https://console.example".to_owned()]);
    let mut preflight = ask("OPTIONS", "/v1/agents/things", None, "");
    for (name, value) in [
        ("origin", "https://console.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-api-key,idempotency-key"),
    ] {
        preflight.headers_mut().insert(name, value.parse().unwrap());
    }
    let answer = floor.send(preflight).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), "https://console.example");
    assert!(answer.header("access-control-allow-headers").contains("idempotency-key"));
    let from = async |origin: &str| {
        let mut request = ask("GET", "/api/v1/agents/things/404", Some(ADMIN), "");
        request.headers_mut().insert("origin", origin.parse().unwrap());
        floor.send(request).await
    };
    let answer = from("https://console.example").await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("access-control-allow-origin")),
        (404, "https://console.example")
    );
    assert!(answer.header("access-control-expose-headers").contains("x-total-count"));
    assert!(!from("https://evil.example").await.headers.contains_key("access-control-allow-origin"));
    assert!(!Floor::new(|_| {}).get("/health").await.headers.contains_key("access-control-allow-origin"));
}

#[tokio::test]
async fn the_document_lists_every_operation_with_its_key() {
    let floor = Floor::new(|_| {});
    let answer = floor.send(ask("GET", "/openapi.json", None, "")).await;
    let document = answer.json();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 10, "{:?}", paths.keys());
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let guarded = operation["security"].as_array().is_some_and(|list| !list.is_empty());
            assert_eq!(guarded, path.starts_with("/api/"), "{method} {path}");
        }
    }
    let page = floor.send(ask("GET", "/docs", None, "")).await;
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    assert!(page.text.contains("<title>"));
}

#[tokio::test]
async fn readiness_ends_when_a_stop_begins() {
    let floor = Floor::new(|_| {});
    let ready = floor.send(ask("GET", "/health/ready", None, "")).await;
    assert_eq!(
        (ready.status.as_u16(), ready.json()),
        (200, json!({"status": "ready", "checks": [{"name": "database", "ok": true}]}))
    );
    floor.shared.readiness.stop();
    let stopping = floor.send(ask("GET", "/health/ready", None, "")).await;
    assert_eq!((stopping.status.as_u16(), &stopping.json()["status"]), (503, &json!("stopping")));
    assert_eq!(floor.send(ask("GET", "/health/live", None, "")).await.status, 200);
}

#[tokio::test]
async fn a_guarded_request_knows_its_key_and_caller() {
    let floor = Floor::new(|_| {});
    let send = async |key: Option<&str>, body: &str| {
        let mut request = ask("POST", "/v1/agents/once?wait=2", Some(ADMIN), body);
        if let Some(key) = key {
            request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        }
        floor.send(request).await
    };
    assert_eq!(send(Some("k-1"), r#"{"name": "x"}"#).await.json(), json!({"key": "k-1", "same": true, "body": true}));
    assert_eq!(send(None, "").await.json(), json!({"key": null, "same": null, "body": false}));
    let refused = send(Some("k 1"), "").await;
    assert_eq!(refused.json()["detail"][0]["loc"], json!(["header", "Idempotency-Key"]));
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let floor = Floor::new(|_| {});
    let answer = floor.send(ask("HEAD", "/health", None, "")).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
    assert!(answer.header("content-length").parse::<usize>().unwrap() > 0);
    let mut service = floor.service.clone();
    assert!(service.ready().await.unwrap().call(ask("HEAD", "/nothing", None, "")).await.unwrap().status() == 404);
}
