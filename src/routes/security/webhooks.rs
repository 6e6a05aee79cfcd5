//! `security/webhooks`: URLs that get a signed POST, for which events, and the deliveries.

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        AdminKey, AnyCaller, ApiError, JsonBody, PathParams, QueryParams,
        auth::{ApiCaller, KeyRole},
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
    routes::agents::deletion::deletion_entry,
};
use am_audit::{AuditEntry, EventType};
use am_core::ids::DeliveryId;
use am_db::{bulk_insert::RowBatch, codec::Timestamp, principal::Principal};
use am_retention::RetentionKind;
use am_webhooks::{CreatedHook, DeliveryFilter, EndpointStatus, HookDraft, HookScope, WebhookDelivery};

/// List webhook endpoints
///
/// With the counts of their deliveries: an admin's list has all, those of the configuration too; others see their own. Secrets are
/// never shown.
#[utoipa::path(
    get, path = "/api/v1/agents/security/webhooks", operation_id = "webhooks_list", tag = "webhooks",
    security(("ApiKey" = ["admin", "client", "miner"])),
    responses((status = 200, body = Vec<EndpointStatus>, description = "The endpoints"))
)]
pub async fn list_webhook_endpoints(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
) -> Result<JsonBody<Vec<EndpointStatus>>, ApiError> {
    Ok(JsonBody(app.webhooks.endpoints_of(&caller.principal, is_admin(&caller)).await?))
}

fn is_admin(caller: &ApiCaller) -> bool {
    caller.role == KeyRole::Admin
}

/// A webhook endpoint to make. Members that are not named here are refused.
#[derive(Debug, Deserialize, ToSchema)]
pub struct WebhookCreate {
    /// Address that gets signed POST requests, `https://`; it must be on the public Internet.
    url: String,
    /// Kinds of events, as `["execution.failed"]`; `*` stands for all. Default: all that the endpoint may receive.
    events: Option<Vec<String>>,
    /// `own`: events of the caller's resources; `all`: everybody's, for admins. Default `own`.
    scope: Option<HookScope>,
    /// Seconds that one call may take, 0.1 to 60. Default 15.
    timeout_seconds: Option<f64>,
}

/// Create a webhook endpoint
///
/// It receives what happens from now on to the caller's executions, plans, training runs, agents and jobs. The answer has the secret
/// that its calls are signed with, which is shown this once.
#[utoipa::path(
    post, path = "/api/v1/agents/security/webhooks", operation_id = "webhooks_create", tag = "webhooks",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = WebhookCreate,
    responses(
        (status = 201, body = CreatedHook, description = "The endpoint with its secret"),
        (status = 403, description = "The scope `all` needs an admin key"),
        (status = 409, description = "The caller has ten endpoints (`conflict`)"),
    )
)]
pub async fn create_webhook_endpoint(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<WebhookCreate>,
) -> Result<IdempotentCreated<CreatedHook>, ApiError> {
    let WebhookCreate { url, events, scope, timeout_seconds } = request.body;
    let scope = scope.unwrap_or_default();
    if scope == HookScope::All && !is_admin(&caller) {
        return Err(ApiError::forbidden("The scope `all` needs an admin key"));
    }
    let (this, by) = (app.clone(), caller.principal.clone());
    let beside = Box::new(move |name: &str| audit_rows(&this, &by, "created", name));
    let draft = HookDraft { url, events, scope, timeout_seconds };
    Ok(IdempotentCreated(app.webhooks.create_hook(&caller.principal, draft, beside, request.once).await?))
}

/// Get a webhook endpoint
///
/// With the counts of its deliveries.
#[utoipa::path(
    get, path = "/api/v1/agents/security/webhooks/{name}", operation_id = "webhooks_get", tag = "webhooks",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("name" = String, Path, description = "Name of the endpoint")),
    responses(
        (status = 200, body = EndpointStatus, description = "The endpoint"),
        (status = 404, description = "The caller has no endpoint of this name"),
    )
)]
pub async fn get_webhook_endpoint(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(name): PathParams<String>,
) -> Result<JsonBody<EndpointStatus>, ApiError> {
    Ok(JsonBody(app.webhooks.endpoint(&caller.principal, is_admin(&caller), &name).await?))
}

/// Delete a webhook endpoint
///
/// What it was still to receive is given up.
#[utoipa::path(
    delete, path = "/api/v1/agents/security/webhooks/{name}", operation_id = "webhooks_delete", tag = "webhooks",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("name" = String, Path, description = "Name of the endpoint")),
    responses(
        (status = 204, description = "The endpoint is deleted"),
        (status = 404, description = "The caller has no endpoint of this name"),
        (status = 409, description = "The endpoint is set in the configuration (`conflict`)"),
    )
)]
pub async fn delete_webhook_endpoint(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(name): PathParams<String>,
) -> Result<StatusCode, ApiError> {
    let beside = audit_rows(&app, &caller.principal, "deleted", &name);
    app.webhooks.delete_hook(&caller.principal, is_admin(&caller), &name, beside).await?;
    Ok(StatusCode::NO_CONTENT)
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
/// Those to the caller's endpoints, for an admin to all; the newest first, 50 on a page. Ended ones are kept for `WEBHOOK_KEEP_DAYS`.
#[utoipa::path(
    get, path = "/api/v1/agents/security/webhooks/deliveries", operation_id = "webhooks_list_deliveries",
    tag = "webhooks", security(("ApiKey" = ["admin", "client", "miner"])),
    params(DeliveriesQuery, PageQuery),
    responses((status = 200, body = Vec<WebhookDelivery>, description = "A page of deliveries, the newest first"))
)]
pub async fn list_webhook_deliveries(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    QueryParams(query): QueryParams<DeliveriesQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let endpoints = match (is_admin(&caller), query.endpoint) {
        (true, wanted) => wanted.map(|name| vec![name]),
        (false, wanted) => {
            let own = app.webhooks.endpoints_of(&caller.principal, false).await?.into_iter().map(|own| own.name);
            Some(own.filter(|name| wanted.as_ref().is_none_or(|wanted| wanted == name)).collect())
        }
    };
    if endpoints.as_ref().is_some_and(Vec::is_empty) {
        return Ok(paging.answer((Vec::new(), 0), |delivery: &WebhookDelivery| (delivery.created_at, &delivery.id)));
    }
    let filter = DeliveryFilter { state: query.state, endpoints, kind: query.kind };
    let found = app.webhooks.list(&filter, &paging.page).await?;
    Ok(paging.answer(found, |delivery| (delivery.created_at, &delivery.id)))
}

/// Get a webhook delivery with its payload
#[utoipa::path(
    get, path = "/api/v1/agents/security/webhooks/deliveries/{id}", operation_id = "webhooks_get_delivery",
    tag = "webhooks", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("id" = String, Path, description = "Id of the delivery, which is its `webhook-id`")),
    responses(
        (status = 200, body = WebhookDelivery, description = "The delivery with its payload"),
        (status = 404, description = "No delivery has this id"),
    )
)]
pub async fn get_webhook_delivery(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<DeliveryId>,
) -> Result<JsonBody<WebhookDelivery>, ApiError> {
    Ok(JsonBody(own_delivery(&app, &caller, &id).await?))
}

/// A delivery to an endpoint that the caller may use; another's is as one that never was.
async fn own_delivery(app: &App, caller: &ApiCaller, id: &DeliveryId) -> Result<WebhookDelivery, ApiError> {
    let found = app.webhooks.get(id).await?;
    let admitted = app.webhooks.admit(&caller.principal, is_admin(caller), &found.endpoint).await;
    match admitted {
        Err(am_webhooks::WebhookError::NotFound(_)) => Err(ApiError::not_found(format!("No webhook delivery {id}"))),
        admitted => Ok(admitted.map(|()| found)?),
    }
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
    tag = "webhooks", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("id" = String, Path, description = "Id of the delivery, which is its `webhook-id`"), IdempotencyHeader),
    responses(
        (status = 200, body = WebhookDelivery, description = "The delivery, which is due now"),
        (status = 400, description = "The delivery is being sent now, or its endpoint is no longer configured (`invalid_state`)"),
        (status = 404, description = "No delivery has this id"),
    )
)]
pub async fn redeliver_webhook(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<DeliveryId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<WebhookDelivery>, ApiError> {
    own_delivery(&app, &caller, &id).await?;
    let beside = audit_rows(&app, &caller.principal, "redelivered", &id);
    Ok(IdempotentOk(app.webhooks.redeliver(&id, beside, request.once).await?))
}

/// Send a `test` event to an endpoint
///
/// Whichever events it has.
#[utoipa::path(
    post, path = "/api/v1/agents/security/webhooks/{name}/test", operation_id = "webhooks_test", tag = "webhooks",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("name" = String, Path, description = "Name of the endpoint"), IdempotencyHeader),
    responses(
        (status = 201, body = WebhookDelivery, description = "The delivery of the test event"),
        (status = 404, description = "The caller has no endpoint of this name"),
    )
)]
pub async fn send_test_webhook(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(name): PathParams<String>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentCreated<WebhookDelivery>, ApiError> {
    app.webhooks.admit(&caller.principal, is_admin(&caller), &name).await?;
    let beside = audit_rows(&app, &caller.principal, "tested", &name);
    Ok(IdempotentCreated(app.webhooks.test(&name, beside, request.once).await?))
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
