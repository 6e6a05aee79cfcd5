//! What operators ask for: health, metrics, and the description of the API. None of it needs a key.

use axum::{
    extract::{FromRef, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::http::{ApiError, Json, Raw, Shared, metrics, openapi, ready::ReadyReport};

/// The routes of this file.
pub fn router<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    Shared: FromRef<S>,
{
    OpenApiRouter::default()
        .routes(routes!(health))
        .routes(routes!(live))
        .routes(routes!(ready))
        .routes(routes!(scrape))
        .routes(routes!(document))
        .routes(routes!(docs))
}

/// Which service answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `healthy`, or `stopping` during a stop.
    #[schema(example = "healthy")]
    pub status: &'static str,
    /// The service's name.
    #[schema(example = "agent-management")]
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The present time, RFC 3339.
    pub timestamp: String,
}

/// That the service is there
#[utoipa::path(get, path = "/health", tag = "system", responses((status = 200, body = Health)))]
async fn health(State(shared): State<Shared>) -> Json<Health> {
    Json(Health {
        status: if shared.readiness.is_stopping() { "stopping" } else { "healthy" },
        service: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        timestamp: shared.clock.now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
    })
}

/// That the process answers at all
///
/// For a supervisor that restarts what does not.
#[utoipa::path(get, path = "/health/live", tag = "system", responses((status = 200, body = Object)))]
async fn live() -> Raw {
    Raw(bytes::Bytes::from_static(br#"{"status":"alive"}"#))
}

/// That the service can take requests
///
/// Asks the database and the workers; 503 when one is not well, or during a stop.
#[utoipa::path(
    get, path = "/health/ready", tag = "system",
    responses((status = 200, body = ReadyReport), (status = 503, body = ReadyReport, description = "Not ready"))
)]
async fn ready(State(shared): State<Shared>) -> (StatusCode, Json<ReadyReport>) {
    let report = shared.readiness.report().await;
    let status = if report.status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

/// What Prometheus scrapes
#[utoipa::path(
    get, path = "/metrics", tag = "system",
    responses((status = 200, body = String, content_type = "application/openmetrics-text"))
)]
async fn scrape(State(shared): State<Shared>) -> Result<Response, ApiError> {
    let page = metrics::encode(&shared.registry).map_err(ApiError::internal)?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE))], page).into_response())
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "system", responses((status = 200, body = Object)))]
async fn document(State(shared): State<Shared>) -> Result<Raw, ApiError> {
    let bytes = shared.openapi.get().ok_or_else(|| ApiError::internal("the document was never made"))?;
    Ok(Raw(bytes.clone()))
}

/// A page that shows this document
#[utoipa::path(get, path = "/docs", tag = "system", responses((status = 200, body = String, content_type = "text/html")))]
async fn docs() -> Response {
    let kind = (header::CONTENT_TYPE, "text/html; charset=utf-8");
    let policy = (header::CONTENT_SECURITY_POLICY, openapi::PAGE_POLICY.as_str());
    ([kind, policy], openapi::PAGE).into_response()
}
