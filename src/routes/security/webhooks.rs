//! `security/webhooks`: URLs that get a signed POST, for which events, and the deliveries.

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
    routes::agents::deletion::deletion_entry,
};
use am_audit::{AuditEntry, EventType};
use am_core::ids::DeliveryId;
use am_db::{bulk_insert::RowBatch, codec::Timestamp, principal::Principal};
use am_retention::RetentionKind;
use am_webhooks::{DeliveryFilter, EndpointStatus, WebhookDelivery};

/// List webhook endpoints
///
/// With the counts of their deliveries. Endpoints are set in the service's configuration; secrets are never shown.
#[utoipa::path(
    get, path = "/api/v1/agents/security/webhooks", operation_id = "webhooks_list", tag = "webhooks",
    security(("ApiKey" = ["admin"])),
    responses((status = 200, body = Vec<EndpointStatus>, description = "The endpoints"))
)]
pub async fn list_webhook_endpoints(
    State(app): State<App>,
    _: AdminKey,
) -> Result<JsonBody<Vec<EndpointStatus>>, ApiError> {
    Ok(JsonBody(app.webhooks.endpoints().await?))
}

/// Filter of deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeliveriesQuery {
    /// Only deliveries in this state.
    state: Option<am_webhooks::DeliveryState>,
    /// Only deliveries to this endpoint.
    endpoint: Option<String>,
    /// Only deliveries of this kind of event.
    kind: Option<String>,
}

/// List webhook deliveries
///
/// The newest first, 50 on a page. Ended ones are kept for `WEBHOOK_KEEP_DAYS`.
#[utoipa::path(
    get, path = "/api/v1/agents/security/webhooks/deliveries", operation_id = "webhooks_list_deliveries",
    tag = "webhooks", security(("ApiKey" = ["admin"])),
    params(DeliveriesQuery, PageQuery),
    responses((status = 200, body = Vec<WebhookDelivery>, description = "A page of deliveries, the newest first"))
)]
pub async fn list_webhook_deliveries(
    State(app): State<App>,
    _: AdminKey,
    QueryParams(query): QueryParams<DeliveriesQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let filter = DeliveryFilter { state: query.state, endpoint: query.endpoint, kind: query.kind };
    let found = app.webhooks.list(&filter, &paging.page).await?;
    Ok(paging.answer(found, |delivery| (delivery.created_at, &delivery.id)))
}

/// Get a webhook delivery with its payload
#[utoipa::path(
    get, path = "/api/v1/agents/security/webhooks/deliveries/{id}", operation_id = "webhooks_get_delivery",
    tag = "webhooks", security(("ApiKey" = ["admin"])),
    params(("id" = String, Path, description = "Id of the delivery, which is its `webhook-id`")),
    responses(
        (status = 200, body = WebhookDelivery, description = "The delivery with its payload"),
        (status = 404, description = "No delivery has this id"),
    )
)]
pub async fn get_webhook_delivery(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<DeliveryId>,
) -> Result<JsonBody<WebhookDelivery>, ApiError> {
    Ok(JsonBody(app.webhooks.get(&id).await?))
}

/// The audit entry of what a caller does with an endpoint or a delivery.
fn audit_rows(app: &App, caller: &Principal, action: &str, what: &str) -> RowBatch {
    let entry = AuditEntry::new(EventType::WorkflowUpdated, Timestamp(app.clock.now())).by(caller);
    app.audit.rows(&[entry.of("webhook", action).data("webhook", what.into())])
}

/// Deliver a webhook delivery again now
///
/// In any state, with a new schedule of attempts and the same `webhook-id`.
#[utoipa::path(
    post, path = "/api/v1/agents/security/webhooks/deliveries/{id}/redeliver", operation_id = "webhooks_redeliver",
    tag = "webhooks", security(("ApiKey" = ["admin"])),
    params(("id" = String, Path, description = "Id of the delivery, which is its `webhook-id`"), IdempotencyHeader),
    responses(
        (status = 200, body = WebhookDelivery, description = "The delivery, which is due now"),
        (status = 400, description = "The delivery is being sent now, or its endpoint is no longer configured (`invalid_state`)"),
        (status = 404, description = "No delivery has this id"),
    )
)]
pub async fn redeliver_webhook(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<DeliveryId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<WebhookDelivery>, ApiError> {
    Ok(IdempotentOk(app.webhooks.redeliver(&id, audit_rows(&app, &caller, "redelivered", &id), request.once).await?))
}

/// Send a `test` event to an endpoint
///
/// Whichever events it has.
#[utoipa::path(
    post, path = "/api/v1/agents/security/webhooks/{name}/test", operation_id = "webhooks_test", tag = "webhooks",
    security(("ApiKey" = ["admin"])),
    params(("name" = String, Path, description = "Name of the endpoint in the configuration"), IdempotencyHeader),
    responses(
        (status = 201, body = WebhookDelivery, description = "The delivery of the test event"),
        (status = 404, description = "No endpoint has this name"),
    )
)]
pub async fn send_test_webhook(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(name): PathParams<String>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentCreated<WebhookDelivery>, ApiError> {
    Ok(IdempotentCreated(app.webhooks.test(&name, audit_rows(&app, &caller, "tested", &name), request.once).await?))
}

/// Delete a webhook delivery
///
/// One that succeeded or was given up.
#[utoipa::path(
    delete, path = "/api/v1/agents/security/webhooks/deliveries/{id}", operation_id = "webhooks_delete_delivery",
    tag = "webhooks", security(("ApiKey" = ["admin"])),
    params(("id" = String, Path, description = "Id of the delivery, which is its `webhook-id`")),
    responses(
        (status = 204, description = "The delivery is deleted"),
        (status = 404, description = "No delivery has this id"),
        (status = 409, description = "The delivery is still to be tried (`in_use`)"),
    )
)]
pub async fn delete_webhook_delivery(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<DeliveryId>,
) -> Result<StatusCode, ApiError> {
    app.webhooks.get(&id).await?;
    let entry = deletion_entry(&app, &caller, "webhook_delivery").data("webhook_id", id.as_str().into());
    app.retention.remove(RetentionKind::WebhookDeliveries, "Delivery", id.as_str(), entry).await?;
    Ok(StatusCode::NO_CONTENT)
}
