//! Revisions of a deployment, rolled out and back, and the number of its instances.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::row_limit,
    },
};
use am_deployment::{ChangeDocument, DeployAnswer, RevisionDocument, RollbackAnswer, ScaleAnswer};

/// Where to deploy.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeployQuery {
    /// Name of the environment, which instances' names have. Default `production`.
    #[param(default = "production")]
    target_environment: Option<String>,
}

/// Deploy a workflow
///
/// Makes a revision of the workflow as it is now and begins its rollout: by the deployment's strategy, the old revision's instances
/// serve until the new ones are healthy. Answers at once; `status` and `rollout` of the deployment tell how it goes on, and `changes`
/// why.
#[utoipa::path(
    post, path = "/api/v1/agents/integration/deployments/{config_id}/deploy", operation_id = "deployments_deploy",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("config_id" = String, Path, description = "Id of the deployment"), DeployQuery, IdempotencyHeader),
    responses(
        (status = 200, body = DeployAnswer, description = "The rollout that has begun"),
        (status = 404, description = "The caller has no deployment of this id"),
        (status = 409, description = "A rollout is under way (`rollout_under_way`), the workflow is gone or private (`workflow_unavailable`), there are instances in another environment (`other_environment`), or instances can't be started on this host (`host_unsupported`)"),
    )
)]
pub async fn deploy_workflow(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
    QueryParams(query): QueryParams<DeployQuery>,
    request: IdempotentJson<Option<serde_json::Value>>,
) -> Result<IdempotentOk<DeployAnswer>, ApiError> {
    let environment = query.target_environment.unwrap_or_else(|| "production".to_owned());
    Ok(IdempotentOk(app.deployments.deploy(&caller, &id, environment, request.once).await?))
}

/// How many instances are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ScaleQuery {
    /// Number of instances, within the deployment's `min_instances` and `max_instances`.
    #[param(minimum = 0, maximum = 100)]
    target_instances: i64,
}

/// Scale a deployment
///
/// Instances that are added get calls when they are healthy; those that are taken away answer theirs before they end.
#[utoipa::path(
    post, path = "/api/v1/agents/integration/deployments/{config_id}/scale", operation_id = "deployments_scale",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("config_id" = String, Path, description = "Id of the deployment"), ScaleQuery, IdempotencyHeader),
    responses(
        (status = 200, body = ScaleAnswer, description = "What changes"),
        (status = 404, description = "The caller has no deployment of this id"),
        (status = 409, description = "A rollout is under way (`rollout_under_way`), or nothing is deployed (`not_deployed`)"),
    )
)]
pub async fn scale_deployment(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
    QueryParams(query): QueryParams<ScaleQuery>,
    request: IdempotentJson<Option<serde_json::Value>>,
) -> Result<IdempotentOk<ScaleAnswer>, ApiError> {
    Ok(IdempotentOk(app.deployments.scale(&caller, &id, query.target_instances, request.once).await?))
}

/// Roll a deployment back
///
/// A rollout that is under way is undone at once. Without one, the workflow of the revision that served before is rolled out again, all
/// instances at a time, and gets the calls when all are healthy.
#[utoipa::path(
    post, path = "/api/v1/agents/integration/deployments/{config_id}/rollback", operation_id = "deployments_rollback",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("config_id" = String, Path, description = "Id of the deployment"), IdempotencyHeader),
    responses(
        (status = 200, body = RollbackAnswer, description = "What is done"),
        (status = 404, description = "The caller has no deployment of this id"),
        (status = 409, description = "The configuration forbids it (`rollback_disabled`), or no revision has served before (`no_previous_revision`)"),
    )
)]
pub async fn rollback_deployment(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
    request: IdempotentJson<Option<serde_json::Value>>,
) -> Result<IdempotentOk<RollbackAnswer>, ApiError> {
    Ok(IdempotentOk(app.deployments.rollback(&caller, &id, request.once).await?))
}

/// Which part of a history to show.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// Only entries below this number, as `next_before` of the page before has it. Default: from the newest.
    before: Option<i64>,
    /// Number of entries at most, 1 to 500. Default 50.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Revisions of a deployment, the newest first.
#[derive(Serialize, ToSchema)]
pub struct DeploymentRevisions {
    /// Revisions, the newest first.
    revisions: Vec<RevisionDocument>,
    /// Value of `before` for the next page; null: there is none.
    next_before: Option<i64>,
}

/// List the revisions of a deployment
#[utoipa::path(
    get, path = "/api/v1/agents/integration/deployments/{config_id}/revisions", operation_id = "deployments_list_revisions",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("config_id" = String, Path, description = "Id of the deployment"), HistoryQuery),
    responses(
        (status = 200, body = DeploymentRevisions, description = "The revisions, the newest first"),
        (status = 404, description = "The caller has no deployment of this id"),
    )
)]
pub async fn list_deployment_revisions(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
    QueryParams(query): QueryParams<HistoryQuery>,
) -> Result<JsonBody<DeploymentRevisions>, ApiError> {
    let limit = row_limit(query.limit, 50)?;
    let revisions = app.deployments.revisions(&caller, &id, (query.before, limit)).await?;
    let full = revisions.len() == limit as usize;
    let next_before = revisions.last().filter(|_| full).map(|last| last.number);
    Ok(JsonBody(DeploymentRevisions { revisions, next_before }))
}

/// What changed of a deployment, the newest first.
#[derive(Serialize, ToSchema)]
pub struct DeploymentChanges {
    /// The changes, each with its reason. The newest 500 are kept.
    changes: Vec<ChangeDocument>,
    /// Value of `before` for the next page; null: there is none.
    next_before: Option<i64>,
}

/// List what changed of a deployment, and why
#[utoipa::path(
    get, path = "/api/v1/agents/integration/deployments/{config_id}/changes", operation_id = "deployments_list_changes",
    tag = "deployments", security(("ApiKey" = ["admin"])),
    params(("config_id" = String, Path, description = "Id of the deployment"), HistoryQuery),
    responses(
        (status = 200, body = DeploymentChanges, description = "The changes, the newest first"),
        (status = 404, description = "The caller has no deployment of this id"),
    )
)]
pub async fn list_deployment_changes(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<String>,
    QueryParams(query): QueryParams<HistoryQuery>,
) -> Result<JsonBody<DeploymentChanges>, ApiError> {
    let limit = row_limit(query.limit, 50)?;
    let changes = app.deployments.changes(&caller, &id, (query.before, limit)).await?;
    let full = changes.len() == limit as usize;
    let next_before = changes.last().filter(|_| full).map(|last| last.seq);
    Ok(JsonBody(DeploymentChanges { changes, next_before }))
}
