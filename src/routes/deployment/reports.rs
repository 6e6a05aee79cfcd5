//! Health, figures and the dashboard.

use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    app::App,
    http::{AdminKey, ApiError, JsonBody, PathParams, QueryParams},
};
use am_deployment::{DeploymentDashboard, DeploymentHealthReport, DeploymentMetricsReport, FleetHealthReport};

/// Get the health of a deployment
///
/// With the last 100 checks of each instance. Checks run by themselves at the deployment's `health_check_interval`.
#[utoipa::path(
    get, path = "/api/v1/agents/integration/deployments/{config_id}/health", operation_id = "deployments_get_health",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("config_id" = String, Path, description = "Id of the deployment")),
    responses(
        (status = 200, body = DeploymentHealthReport, description = "The health of the deployment and of its instances"),
        (status = 404, description = "The caller has no deployment of this id"),
    )
)]
pub async fn get_deployment_health(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
) -> Result<JsonBody<DeploymentHealthReport>, ApiError> {
    Ok(JsonBody(app.deployments.health(&caller, &id).await?))
}

/// Which time to report on.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeploymentMetricsQuery {
    /// A number with `s`, `m`, `h` or `d`, at most `30d`. Default `1h`.
    #[param(default = "1h")]
    time_range: Option<String>,
}

/// Get what was measured of a deployment
///
/// From samples of ten seconds up to two hours back, of a minute up to a day, of ten minutes up to thirty days; at most 360 points.
#[utoipa::path(
    get, path = "/api/v1/agents/integration/metrics/deployments/{deployment_id}", operation_id = "deployments_get_metrics",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("deployment_id" = String, Path, description = "Id of the deployment"), DeploymentMetricsQuery),
    responses(
        (status = 200, body = DeploymentMetricsReport, description = "What was measured"),
        (status = 404, description = "The caller has no deployment of this id"),
    )
)]
pub async fn get_deployment_metrics(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
    QueryParams(query): QueryParams<DeploymentMetricsQuery>,
) -> Result<JsonBody<DeploymentMetricsReport>, ApiError> {
    let range = query.time_range.as_deref().unwrap_or("1h");
    Ok(JsonBody(app.deployments.metrics(&caller, &id, range).await?))
}

/// Get the dashboard of the caller's deployments
#[utoipa::path(
    get, path = "/api/v1/agents/integration/production/dashboard", operation_id = "deployments_get_dashboard",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    responses((status = 200, body = DeploymentDashboard, description = "The deployments at a glance"))
)]
pub async fn get_production_dashboard(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
) -> Result<JsonBody<DeploymentDashboard>, ApiError> {
    Ok(JsonBody(app.deployments.dashboard(&caller).await?))
}

/// Get the health of the caller's deployments together
#[utoipa::path(
    get, path = "/api/v1/agents/integration/production/health", operation_id = "deployments_get_production_health",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    responses((status = 200, body = FleetHealthReport, description = "Whether the deployments do what they should"))
)]
pub async fn get_production_health(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
) -> Result<JsonBody<FleetHealthReport>, ApiError> {
    Ok(JsonBody(app.deployments.fleet_health(&caller)))
}
