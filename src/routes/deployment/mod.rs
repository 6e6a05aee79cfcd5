//! `/api/v1/agents/integration/deployments`, `metrics/deployments` and `production`: processes that serve workflows. All but an
//! instance's own route take an admin key.

mod alerts;
mod calls;
mod configs;
mod production;
mod reports;
mod rollouts;

use utoipa_axum::router::OpenApiRouter;

use crate::{app::App, http::openapi::routes};

/// The routes of this group.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(configs::create_deployment))
        .routes(routes!(configs::list_deployments))
        .routes(routes!(configs::get_deployment))
        .routes(routes!(configs::terminate_deployment))
        .routes(routes!(configs::list_deployment_instances))
        .routes(routes!(configs::get_deployment_instance))
        .routes(routes!(rollouts::deploy_workflow))
        .routes(routes!(rollouts::scale_deployment))
        .routes(routes!(rollouts::rollback_deployment))
        .routes(routes!(rollouts::list_deployment_revisions))
        .routes(routes!(rollouts::list_deployment_changes))
        .routes(routes!(calls::invoke_deployment))
        .routes(routes!(calls::execute_for_instance))
        .routes(routes!(reports::get_deployment_health))
        .routes(routes!(reports::get_deployment_metrics))
        .routes(routes!(reports::get_production_dashboard))
        .routes(routes!(reports::get_production_health))
        .routes(routes!(production::deploy_to_production))
        .routes(routes!(alerts::list_deployment_alerts))
        .routes(routes!(alerts::acknowledge_deployment_alert))
        .routes(routes!(alerts::resolve_deployment_alert))
        .routes(routes!(alerts::silence_deployment_alert))
}
