//! What operators ask for: health, metrics, and the description of the API. None of it needs a key.

use axum::{
    extract::{FromRef, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;

use crate::http::{
    ApiError, HttpState, JsonBody, PathParams, RawJson, metrics,
    openapi::{self, routes},
    readiness::ReadyReport,
};

/// The routes of this file.
pub fn router<S>() -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
    HttpState: FromRef<S>,
{
    OpenApiRouter::default()
        .routes(routes!(get_health))
        .routes(routes!(get_liveness))
        .routes(routes!(get_readiness))
        .routes(routes!(get_metrics))
        .routes(routes!(get_openapi))
        .routes(routes!(get_docs))
        .route("/docs/{file}", get(docs_file))
        .route("/", get(root))
}

/// The health of the service.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthDocument {
    /// `healthy`, or `stopping` while it stops.
    #[schema(example = "healthy")]
    pub status: &'static str,
    /// Name of the service.
    #[schema(example = "agent-management")]
    pub service: &'static str,
    /// Version of the service.
    pub version: &'static str,
    /// Present time, UTC.
    #[schema(format = DateTime)]
    pub timestamp: String,
}

/// Get the service's name, version and status
#[utoipa::path(
    get, path = "/health", operation_id = "system_health", tag = "system",
    responses((status = 200, body = HealthDocument, description = "The service answers"))
)]
async fn get_health(State(shared): State<HttpState>) -> JsonBody<HealthDocument> {
    JsonBody(HealthDocument {
        status: if shared.readiness.is_stopping() { "stopping" } else { "healthy" },
        service: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        timestamp: shared.clock.now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
    })
}

/// That the process answers.
#[derive(Debug, Serialize, ToSchema)]
pub struct Liveness {
    /// Always the word `alive`.
    #[schema(example = "alive")]
    pub status: &'static str,
}

/// Check that the process answers
///
/// For a supervisor that restarts it if not.
#[utoipa::path(
    get, path = "/health/live", operation_id = "system_live", tag = "system",
    responses((status = 200, body = Liveness, description = "The process answers"))
)]
async fn get_liveness() -> JsonBody<Liveness> {
    JsonBody(Liveness { status: "alive" })
}

/// Check that the service takes requests
///
/// Checks the database and the workers.
#[utoipa::path(
    get, path = "/health/ready", operation_id = "system_ready", tag = "system",
    responses(
        (status = 200, body = ReadyReport, description = "The service takes requests"),
        (status = 503, body = ReadyReport, description = "A part is not ready, or the service is stopping"),
    )
)]
async fn get_readiness(State(shared): State<HttpState>) -> (StatusCode, JsonBody<ReadyReport>) {
    let report = shared.readiness.report().await;
    let status = if report.status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, JsonBody(report))
}

/// Get the metrics for Prometheus
#[utoipa::path(
    get, path = "/metrics", operation_id = "system_metrics", tag = "system",
    responses((status = 200, body = String, content_type = "application/openmetrics-text", description = "The metrics"))
)]
async fn get_metrics(State(shared): State<HttpState>) -> Result<Response, ApiError> {
    let page = metrics::encode_metrics(&shared.registry).map_err(ApiError::internal)?;
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(metrics::METRICS_CONTENT_TYPE))], page).into_response())
}

/// Get this document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "system_openapi", tag = "system",
    responses((status = 200, body = Object, description = "This document"))
)]
async fn get_openapi(State(shared): State<HttpState>) -> Result<RawJson, ApiError> {
    let bytes = shared.openapi.get().ok_or_else(|| ApiError::internal("the document was never made"))?;
    Ok(RawJson(bytes.clone()))
}

/// Show this document as a page
#[utoipa::path(
    get, path = "/docs", operation_id = "system_docs", tag = "system",
    responses((status = 200, body = String, content_type = "text/html", description = "The page"))
)]
async fn get_docs() -> Response {
    openapi::page()
}

/// A file of that page.
async fn docs_file(PathParams(name): PathParams<String>) -> Result<Response, ApiError> {
    openapi::file(&name)
}

/// Leads people to the page.
async fn root() -> Redirect {
    Redirect::temporary("/docs")
}
