//! Alerts of deployments.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_deployment::alerts::{DeploymentAlert, DeploymentAlertAction, DeploymentAlertSeverity, DeploymentAlertState};

/// Filter of alerts of deployments.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeploymentAlertsQuery {
    /// Only alerts of this deployment.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    deployment_id: Option<String>,
    /// Only alerts in this state. Default: any.
    state: Option<DeploymentAlertState>,
    /// Only alerts of this severity. Default: any.
    severity: Option<DeploymentAlertSeverity>,
}

/// List alerts of deployments
///
/// Of the caller's deployments, the newest first, 50 on a page. A deployment has one alert of each rule at a time.
#[utoipa::path(
    get, path = "/api/v1/agents/integration/deployments/alerts", operation_id = "deployments_list_alerts",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(DeploymentAlertsQuery, PageQuery),
    responses((status = 200, body = Vec<DeploymentAlert>, description = "A page of alerts, the newest first"))
)]
pub async fn list_deployment_alerts(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    QueryParams(query): QueryParams<DeploymentAlertsQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let filter = (query.deployment_id.as_deref(), query.state, query.severity);
    let found = app.deployments.alerts(&caller, filter, &paging.page).await?;
    Ok(paging.answer(found, |row| (row.created_at, row.id.as_str())))
}

/// Acknowledge an alert of a deployment
#[utoipa::path(
    post, path = "/api/v1/agents/integration/deployments/alerts/{deployment_alert_id}/acknowledge",
    operation_id = "deployments_acknowledge_alert", tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("deployment_alert_id" = String, Path, description = "Id of the alert"), IdempotencyHeader),
    responses(
        (status = 200, body = DeploymentAlert, description = "The alert, which is acknowledged"),
        (status = 404, description = "The caller has no alert of this id"),
        (status = 409, description = "It is over (`alert_resolved`)"),
    )
)]
pub async fn acknowledge_deployment_alert(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
    request: IdempotentJson<Option<serde_json::Value>>,
) -> Result<IdempotentOk<DeploymentAlert>, ApiError> {
    let action = DeploymentAlertAction::Acknowledge;
    Ok(IdempotentOk(app.deployments.act_on_alert(&caller, &id, action, request.once).await?))
}

/// Resolve an alert of a deployment
///
/// It is raised again if its figure still says so.
#[utoipa::path(
    post, path = "/api/v1/agents/integration/deployments/alerts/{deployment_alert_id}/resolve",
    operation_id = "deployments_resolve_alert", tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("deployment_alert_id" = String, Path, description = "Id of the alert"), IdempotencyHeader),
    responses(
        (status = 200, body = DeploymentAlert, description = "The alert, which is over"),
        (status = 404, description = "The caller has no alert of this id"),
        (status = 409, description = "It is over already (`alert_resolved`)"),
    )
)]
pub async fn resolve_deployment_alert(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
    request: IdempotentJson<Option<serde_json::Value>>,
) -> Result<IdempotentOk<DeploymentAlert>, ApiError> {
    let action = DeploymentAlertAction::Resolve;
    Ok(IdempotentOk(app.deployments.act_on_alert(&caller, &id, action, request.once).await?))
}

/// For how long nobody is told.
#[derive(Debug, Deserialize, ToSchema)]
pub struct DeploymentAlertSilence {
    /// Seconds from now, 1 to 2592000; 0 ends the silence.
    seconds: i64,
}

/// Silence an alert of a deployment
///
/// Until then neither the log nor webhooks tell of it, nor of the next alert of its rule.
#[utoipa::path(
    post, path = "/api/v1/agents/integration/deployments/alerts/{deployment_alert_id}/silence",
    operation_id = "deployments_silence_alert", tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("deployment_alert_id" = String, Path, description = "Id of the alert"), IdempotencyHeader),
    request_body = DeploymentAlertSilence,
    responses(
        (status = 200, body = DeploymentAlert, description = "The alert"),
        (status = 404, description = "The caller has no alert of this id"),
    )
)]
pub async fn silence_deployment_alert(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
    request: IdempotentJson<DeploymentAlertSilence>,
) -> Result<IdempotentOk<DeploymentAlert>, ApiError> {
    let action = DeploymentAlertAction::Silence(request.body.seconds);
    Ok(IdempotentOk(app.deployments.act_on_alert(&caller, &id, action, request.once).await?))
}
