//! `production/deploy`: a deployment made, deployed and watched in one step.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
    },
};
use am_core::{ids::WorkflowId, validation::within};
use am_deployment::{DeployAnswer, DeploymentDraft, DeploymentError, alerts::AlertThresholds};

/// What is deployed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ProductionQuery {
    /// Id of the workflow: one of the caller's, or a public one.
    workflow_id: WorkflowId,
}

/// How a deployment is watched.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct ProductionIntegration {
    /// Limits from which its figures raise alerts. Default: those of the configuration, or the service's.
    alert_thresholds: Option<AlertThresholds>,
}

/// A deployment to production.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ProductionDeploy {
    /// Configuration of the deployment, with its name; the name's default is `production-` and the workflow's id.
    deployment_config: DeploymentDraft,
    /// How it is watched. Default: by the service's limits.
    #[serde(default)]
    integration_config: Option<ProductionIntegration>,
}

/// The stages of a deployment to production.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct ProductionAnswer {
    /// Id of the workflow.
    workflow_id: WorkflowId,
    /// Id of the deployment.
    deployment_id: String,
    /// `created`: the configuration is stored.
    configuration_status: String,
    /// The rollout that has begun.
    deployment_status: DeployAnswer,
    /// `active`: checks, samples and alerts run by themselves.
    monitoring_status: String,
    /// Limits from which figures raise alerts.
    alert_thresholds: AlertThresholds,
}

/// Deploy to production
///
/// Makes a deployment, deploys it to the environment `production`, and has it watched: all of it or, where something is wrong, nothing.
#[utoipa::path(
    post, path = "/api/v1/agents/integration/production/deploy", operation_id = "deployments_deploy_to_production",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(ProductionQuery, IdempotencyHeader),
    request_body = ProductionDeploy,
    responses(
        (status = 200, body = ProductionAnswer, description = "The stages, each with its status"),
        (status = 409, description = "The caller has a deployment of this name (`name_taken`), or too many (`too_many_deployments`), or instances can't be started on this host (`host_unsupported`)"),
    )
)]
pub async fn deploy_to_production(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    QueryParams(query): QueryParams<ProductionQuery>,
    request: IdempotentJson<ProductionDeploy>,
) -> Result<IdempotentOk<ProductionAnswer>, ApiError> {
    let ProductionDeploy { deployment_config: mut draft, integration_config } = request.body;
    if let Some(limits) = integration_config.and_then(|integration| integration.alert_thresholds) {
        draft.alert_thresholds = Some(limits);
    }
    let alert_thresholds = draft.alert_thresholds.unwrap_or_default();
    let name = draft.deployment_name.take().unwrap_or_else(|| format!("production-{}", query.workflow_id));
    let (workflow_id, named) = (query.workflow_id.clone(), (query.workflow_id, name));
    let begun = app.deployments.create_and_deploy(&caller, named, (draft, "production".to_owned()), request.once).await;
    let begun = begun.map_err(|error| match error {
        DeploymentError::Invalid(found) => DeploymentError::Invalid(within("deployment_config", found)),
        error => error,
    })?;
    Ok(IdempotentOk(begun.map(|answer| ProductionAnswer {
        workflow_id,
        deployment_id: answer.deployment_id.clone(),
        configuration_status: "created".to_owned(),
        deployment_status: answer,
        monitoring_status: "active".to_owned(),
        alert_thresholds,
    })))
}
