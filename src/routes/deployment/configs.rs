//! Deployments and their instances: made, listed, read, ended.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_core::ids::WorkflowId;
use am_deployment::{DeploymentDocument, DeploymentDraft, DeploymentStatus, InstanceDocument};

/// What is deployed, under which name.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NewDeploymentQuery {
    /// Id of the workflow: one of the caller's, or a public one.
    workflow_id: WorkflowId,
    /// Name of the deployment, which begins its instances' names: 1 to 100 letters, digits, dots, hyphens and underscores. No other
    /// deployment of the caller's may have it.
    deployment_name: String,
}

/// Make a deployment
///
/// Checks and stores its configuration. Nothing is started until it is deployed.
#[utoipa::path(
    post, path = "/api/v1/agents/integration/deployments/config", operation_id = "deployments_create", tag = "deployments",
    security(("ApiKey" = ["admin"])),
    params(NewDeploymentQuery, IdempotencyHeader),
    request_body = DeploymentDraft,
    responses(
        (status = 200, body = DeploymentDocument, description = "The deployment"),
        (status = 409, description = "The caller has a deployment of this name (`name_taken`), or too many (`too_many_deployments`)"),
    )
)]
pub async fn create_deployment(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    QueryParams(query): QueryParams<NewDeploymentQuery>,
    request: IdempotentJson<DeploymentDraft>,
) -> Result<IdempotentOk<DeploymentDocument>, ApiError> {
    let named = (query.workflow_id, query.deployment_name);
    Ok(IdempotentOk(app.deployments.create(&caller, named, request.body, request.once).await?))
}

/// Filter of deployments.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeploymentsQuery {
    /// Only deployments of this workflow.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    workflow_id: Option<WorkflowId>,
    /// Only deployments in this status. Default: any.
    status: Option<DeploymentStatus>,
}

/// List deployments
///
/// The caller's own, the newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/integration/deployments/configs", operation_id = "deployments_list", tag = "deployments",
    security(("ApiKey" = ["admin"])),
    params(DeploymentsQuery, PageQuery),
    responses((status = 200, body = Vec<DeploymentDocument>, description = "A page of deployments, the newest first"))
)]
pub async fn list_deployments(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    QueryParams(query): QueryParams<DeploymentsQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let filter = (query.workflow_id.as_ref(), query.status);
    let found = app.deployments.list(&caller, filter, &paging.page).await?;
    Ok(paging.answer(found, |row| (row.created_at, row.id.as_str())))
}

/// Get a deployment
#[utoipa::path(
    get, path = "/api/v1/agents/integration/deployments/configs/{config_id}", operation_id = "deployments_get",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("config_id" = String, Path, description = "Id of the deployment")),
    responses(
        (status = 200, body = DeploymentDocument, description = "The deployment"),
        (status = 404, description = "The caller has no deployment of this id"),
    )
)]
pub async fn get_deployment(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
) -> Result<JsonBody<DeploymentDocument>, ApiError> {
    Ok(JsonBody(app.deployments.deployment(&caller, &id).await?))
}

/// End a deployment
///
/// Its instances answer the calls under way and end. Its record stays, and it can be deployed again.
#[utoipa::path(
    delete, path = "/api/v1/agents/integration/deployments/{config_id}", operation_id = "deployments_terminate",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("config_id" = String, Path, description = "Id of the deployment"), IdempotencyHeader),
    responses(
        (status = 200, body = DeploymentDocument, description = "The deployment, which is terminated"),
        (status = 404, description = "The caller has no deployment of this id"),
    )
)]
pub async fn terminate_deployment(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
    request: IdempotentJson<Option<serde_json::Value>>,
) -> Result<IdempotentOk<DeploymentDocument>, ApiError> {
    Ok(IdempotentOk(app.deployments.terminate(&caller, &id, request.once).await?))
}

/// Filter of instances.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeploymentInstancesQuery {
    /// Only instances of this deployment.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    deployment_id: Option<String>,
    /// Only instances in this environment.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    environment: Option<String>,
    /// Only instances in this status. Default: any.
    status: Option<DeploymentStatus>,
}

/// List instances
///
/// Of the caller's deployments, the newest first, 50 on a page; those that have ended too, until another takes their number.
#[utoipa::path(
    get, path = "/api/v1/agents/integration/deployments/instances", operation_id = "deployments_list_instances",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(DeploymentInstancesQuery, PageQuery),
    responses((status = 200, body = Vec<InstanceDocument>, description = "A page of instances, the newest first"))
)]
pub async fn list_deployment_instances(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    QueryParams(query): QueryParams<DeploymentInstancesQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let filter = (query.deployment_id.as_deref(), query.environment.as_deref(), query.status);
    let found = app.deployments.instances(&caller, filter, &paging.page).await?;
    Ok(paging.answer(found, |row| (row.created_at, row.id.as_str())))
}

/// Get an instance
#[utoipa::path(
    get, path = "/api/v1/agents/integration/deployments/instances/{instance_id}", operation_id = "deployments_get_instance",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("instance_id" = String, Path, description = "Id or name of the instance")),
    responses(
        (status = 200, body = InstanceDocument, description = "The instance"),
        (status = 404, description = "The caller has no instance of this id or name"),
    )
)]
pub async fn get_deployment_instance(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
) -> Result<JsonBody<InstanceDocument>, ApiError> {
    Ok(JsonBody(app.deployments.instance(&caller, &id).await?))
}
