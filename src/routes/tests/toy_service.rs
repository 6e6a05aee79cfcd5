//! A toy service on the HTTP layer, and what sends it requests.

use std::{
    convert::Infallible,
    path::Path as FilePath,
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    extract::{FromRef, Request},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower::{ServiceExt, util::BoxCloneSyncService};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    http::{
        AdminKey, AnyKey, ApiError, ClientKey, HttpState, HttpStateParts, JsonBody, Keyring, PathParams, QueryParams,
        Readiness, idempotency, metrics,
        pagination::{PageQuery, Paginator},
        rate_limit, refusals, request_turns,
    },
    routes::build_router,
};
use am_core::{
    ambient::{Clock, IdGenerator},
    config::{AppEnvironment, Config},
};
use am_db::codec::Timestamp;

pub(super) const ADMIN: &str = "admin-key-0123456789abcdef";
pub(super) const CLIENT: &str = "client-key-0123456789abcdef";
pub(super) const MINER: &str = "miner-key-0123456789abcdef";

#[derive(Clone)]
struct Toy(HttpState);

impl FromRef<Toy> for HttpState {
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

#[utoipa::path(
    get, path = "/api/v1/agents/things",
    params(("is_public" = Option<bool>, Query), PageQuery), responses((status = 200)),
)]
async fn list(
    _: AdminKey,
    QueryParams(filter): QueryParams<Filter>,
    paging: Paginator<2>,
) -> Result<Response, ApiError> {
    assert_ne!(filter.is_public, Some(false), "asked to panic");
    Ok(paging.answer((vec!["a", "b"], 5), |row| (Timestamp(chrono::DateTime::UNIX_EPOCH), row)))
}

#[utoipa::path(post, path = "/api/v1/agents/things", request_body = Thing, responses((status = 200, body = Thing)))]
async fn create(AdminKey(caller): AdminKey, JsonBody(thing): JsonBody<Thing>) -> JsonBody<Value> {
    JsonBody(json!({"owner": &*caller.name, "name": thing.name, "size": thing.size}))
}

#[utoipa::path(get, path = "/api/v1/agents/things/{number}", params(("number" = u32, Path), ("token" = Option<String>, Query)), responses((status = 200)))]
async fn one(_: AnyKey, PathParams(number): PathParams<u32>) -> Result<String, ApiError> {
    match number {
        404 => Err(ApiError::not_found("No such thing")),
        500 => Err(ApiError::internal(std::io::Error::other("the secret inside"))),
        503 => Err(ApiError::unavailable("The queue is full", Duration::from_secs(3))),
        504 => std::future::pending().await,
        number => Ok(number.to_string()),
    }
}

#[utoipa::path(post, path = "/api/v1/services/{kind}", params(("kind" = String, Path)), responses((status = 200)))]
async fn service(_: ClientKey, PathParams(kind): PathParams<String>) -> String {
    kind
}

#[utoipa::path(
    post, path = "/api/v1/agents/once", request_body = Option<Thing>,
    params(("wait" = Option<f64>, Query)), responses((status = 200)),
)]
async fn once(AdminKey(caller): AdminKey, keyed: idempotency::IdempotentJson<Option<Thing>>) -> JsonBody<Value> {
    let same = keyed.once.as_ref().map(|once| once.scope == *caller.name);
    JsonBody(json!({"key": keyed.once.map(|once| once.key), "same": same, "body": keyed.body.is_some()}))
}

pub(super) struct ToyService {
    pub(super) shared: HttpState,
    pub(super) service: BoxCloneSyncService<Request, Response, Infallible>,
}

impl ToyService {
    pub(super) fn new(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config { body_limit: 1000, ..Config::for_tests(FilePath::new("")) };
        config.environment = AppEnvironment::Production;
        config.admin_keys = vec![ADMIN.into()];
        config.client_keys = vec![CLIENT.into()];
        config.miner_keys = vec![MINER.into()];
        change(&mut config);
        let mut registry = Registry::default();
        let shared = HttpState::new(HttpStateParts {
            clock: Clock::system(),
            ids: IdGenerator::seeded(7),
            metrics: Arc::new(metrics::HttpMetrics::register(&mut registry)),
            registry: Arc::new(registry),
            keyring: Arc::new(Keyring::new(&config).unwrap()),
            limiter: rate_limit::CallerRateLimiter::from_config(&config).map(Arc::new),
            refusals: refusals::RefusalWatch::default(),
            turns: request_turns::RequestTurns::new(config.requests_active as usize),
            readiness: Readiness::builder().check("database", async || Ok(())).build(),
            openapi: OnceLock::new(),
            known_names: std::sync::OnceLock::new(),
            config: Arc::new(config),
        });
        let api = OpenApiRouter::default()
            .routes(routes!(list, create))
            .routes(routes!(one))
            .routes(routes!(service))
            .routes(routes!(once));
        let service = build_router(api, Toy(shared.clone()), &shared).unwrap();
        Self { shared, service: BoxCloneSyncService::new(service) }
    }

    pub(super) async fn send(&self, request: Request) -> Answer {
        let response = self.service.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(super) async fn get(&self, uri: &str) -> Answer {
        self.send(ask("GET", uri, Some(ADMIN), "")).await
    }
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().unwrap()
    }

    pub(super) fn refusal(&self) -> (u16, String) {
        let body = self.json();
        assert!(body["detail"].is_string() || body["detail"].is_array(), "{body}");
        assert_eq!(body["request_id"], self.header("x-request-id"));
        (self.status.as_u16(), body["code"].as_str().unwrap().to_owned())
    }
}

pub(super) fn ask(method: &str, uri: &str, key: Option<&str>, body: &str) -> Request {
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    request.body(Body::from(body.to_owned())).unwrap()
}
