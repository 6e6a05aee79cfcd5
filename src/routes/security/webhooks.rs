//! `security/webhooks`: who is called when something happens, and what came of it.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
};
use am_audit::{Entry, EventType};
use am_db::{codec::Timestamp, rows::Rows};
use am_webhooks::{Delivery, Endpoint, Filter};

/// The webhook endpoints, and how their deliveries stand
///
/// Endpoints stand in the service's configuration; secrets are never shown.
#[utoipa::path(
    get, path = "/api/v1/agents/security/webhooks", tag = "security", responses((status = 200, body = Vec<Endpoint>))
)]
pub async fn list(State(app): State<App>, _: Admin) -> Result<Json<Vec<Endpoint>>, ApiError> {
    Ok(Json(app.webhooks.endpoints().await?))
}

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeliveriesQuery {
    /// In this state.
    state: Option<am_webhooks::State>,
    /// To this endpoint.
    endpoint: Option<String>,
    /// Of this kind of event.
    kind: Option<String>,
}

/// Webhook deliveries, newest first
///
/// Those that have ended are kept for `WEBHOOK_KEEP_DAYS`.
#[utoipa::path(
    get, path = "/api/v1/agents/security/webhooks/deliveries", tag = "security", params(DeliveriesQuery, PageQuery),
    responses((status = 200, body = Vec<Delivery>), (status = 422))
)]
pub async fn deliveries(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<DeliveriesQuery>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let page = paging.page(50)?;
    let filter = Filter { state: query.state, endpoint: query.endpoint, kind: query.kind };
    let (rows, total) = app.webhooks.list(&filter, &page).await?;
    let last = rows.last().map(|row| (row.created_at, row.id.as_str()));
    Ok(paging.answer(&page, &rows, total as u64, last))
}

/// A webhook delivery, with what is sent
#[utoipa::path(
    get, path = "/api/v1/agents/security/webhooks/deliveries/{id}", tag = "security", params(("id" = String, Path)),
    responses((status = 200, body = Delivery), (status = 404))
)]
pub async fn delivery(State(app): State<App>, _: Admin, Path(id): Path<String>) -> Result<Json<Delivery>, ApiError> {
    Ok(Json(app.webhooks.get(&id).await?))
}

/// The audit entry of what a caller does with an endpoint or a delivery.
fn noted(app: &App, Admin(caller): &Admin, action: &str, what: &str) -> Rows {
    let entry = Entry::new(EventType::WorkflowUpdated, Timestamp(app.clock.now())).by(&caller.into());
    app.audit.rows(&[entry.of("webhook", action).data("webhook", what.into())])
}

/// Deliver now, however it stands
///
/// With a whole schedule of attempts before it, and the `webhook-id` that it had.
#[utoipa::path(
    post, path = "/api/v1/agents/security/webhooks/deliveries/{id}/redeliver", tag = "security", params(("id" = String, Path)),
    responses((status = 200, body = Delivery), (status = 400, description = "It is being delivered at this moment, or its endpoint is no longer configured"), (status = 404))
)]
pub async fn redeliver(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    let done = app.webhooks.redeliver(&id, noted(&app, &caller, "redelivered", &id), request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

/// Send an endpoint a `test` event, whichever kinds it wants
#[utoipa::path(
    post, path = "/api/v1/agents/security/webhooks/{name}/test", tag = "security", params(("name" = String, Path)),
    responses((status = 201, body = Delivery), (status = 404))
)]
pub async fn test(
    State(app): State<App>,
    caller: Admin,
    Path(name): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    let done = app.webhooks.test(&name, noted(&app, &caller, "tested", &name), request.once).await?;
    Ok((StatusCode::CREATED, Replayable(Json(done.value), done.replayed)).into_response())
}
