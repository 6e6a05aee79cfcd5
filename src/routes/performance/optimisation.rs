//! `/api/v1/agents/performance/optimization`: settings of policies and workflows, tuned in the background.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{
        AnyCaller, ApiError, JsonBody, PathParams, QueryParams,
        auth::{ApiCaller, KeyRole},
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        openapi::routes,
        pagination::{PageQuery, Paginator},
    },
    routes::agents::{check_agent_id, check_agent_path},
};
use am_core::ids::AgentId;
use am_performance::{
    PerformanceCaller,
    optimisation::{ConvergenceReport, OptimisationDocument, OptimisationDraft, OptimizationMetric},
};

/// The routes of this group.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(optimize_performance))
        .routes(routes!(list_optimizations))
        .routes(routes!(get_optimization))
        .routes(routes!(get_optimization_curve))
        .routes(routes!(cancel_optimization))
        .routes(routes!(apply_optimization))
        .routes(routes!(rollback_optimization))
}

fn performance_caller(caller: ApiCaller) -> PerformanceCaller {
    PerformanceCaller { is_admin: caller.role == KeyRole::Admin, principal: caller.principal }
}

/// Optimise an agent's policy, workflow or allocation
///
/// Background work, answered at once. Of a policy the settings of its training are tuned by short trainings (successive halving, and
/// proposals by a tree-structured Parzen estimator); the best are compared with the present ones in trainings and episodes that chose
/// neither. Of a workflow retries and parallelism are tuned by replaying recorded executions; half of them choose, the others
/// compare. Of an allocation cores, memory and storage are tuned by what sandboxes measured of the agent's executions.
/// `performance_improvement` and what belongs to it are null until it is completed.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/optimization/optimize", operation_id = "optimization_optimize",
    tag = "optimization", security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = OptimisationDraft,
    responses(
        (status = 200, body = OptimisationDocument, description = "The optimisation, which runs in the background"),
        (status = 403, description = "The policy is another owner's"),
        (status = 404, description = "The agent is another's, or there is no such policy or workflow"),
        (status = 409, description = "Nothing can be measured: the detail says what is missing (`nothing_to_measure`)"),
        (status = 429, description = "The caller has too many background tasks that have not ended (`quota_exceeded`)"),
    )
)]
async fn optimize_performance(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<OptimisationDraft>,
) -> Result<IdempotentOk<OptimisationDocument>, ApiError> {
    let mut draft = request.body;
    draft.agent_id = check_agent_id(&app, ("body", "agent_id"), &draft.agent_id)?;
    let caller = performance_caller(caller);
    Ok(IdempotentOk(app.performance.optimisation.optimize(&caller, draft, request.once).await?))
}

/// Filter of optimisations.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct OptimizationQuery {
    /// Only those in this state: `running`, `completed`, `failed` or `cancelled`, or a word of the coordinator's. Default: all.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    status: Option<String>,
    /// Only those for this figure. Default: all.
    target_metric: Option<OptimizationMetric>,
}

/// List an agent's optimisations
///
/// The newest first, 20 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/optimization/{agent_id}", operation_id = "optimization_list",
    tag = "optimization", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("agent_id" = String, Path, description = "Name of the agent"), OptimizationQuery, PageQuery),
    responses(
        (status = 200, body = Vec<OptimisationDocument>, description = "A page of optimisations, the newest first"),
        (status = 404, description = "The agent is another's, or nobody has used it"),
    )
)]
async fn list_optimizations(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(agent_id): PathParams<AgentId>,
    QueryParams(query): QueryParams<OptimizationQuery>,
    paging: Paginator<20>,
) -> Result<Response, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &agent_id)?;
    let caller = performance_caller(caller);
    let filter = (query.status.as_deref(), query.target_metric);
    let found = app.performance.optimisation.list(&caller, &agent, filter, &paging.page).await?;
    Ok(paging.answer(found, OptimisationDocument::list_place))
}

/// Get an optimisation
///
/// With its baseline, the best settings found, and the improvement with its interval. Its progress is its background task's.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/optimization/runs/{optimization_id}", operation_id = "optimization_get",
    tag = "optimization", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("optimization_id" = String, Path, description = "Id of the optimisation")),
    responses(
        (status = 200, body = OptimisationDocument, description = "The optimisation"),
        (status = 404, description = "There is no such optimisation, or its agent is another's"),
    )
)]
async fn get_optimization(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<String>,
) -> Result<JsonBody<OptimisationDocument>, ApiError> {
    Ok(JsonBody(app.performance.optimisation.get(&performance_caller(caller), &id).await?))
}

/// Get an optimisation's convergence
///
/// Every measured candidate, and the best figure after each.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/optimization/runs/{optimization_id}/curve",
    operation_id = "optimization_get_curve", tag = "optimization", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("optimization_id" = String, Path, description = "Id of the optimisation")),
    responses(
        (status = 200, body = ConvergenceReport, description = "The measurements"),
        (status = 404, description = "There is no such optimisation, or its agent is another's"),
    )
)]
async fn get_optimization_curve(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<String>,
) -> Result<JsonBody<ConvergenceReport>, ApiError> {
    Ok(JsonBody(app.performance.optimisation.curve(&performance_caller(caller), &id).await?))
}

/// Cancel an optimisation
///
/// It ends without a result.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/optimization/runs/{optimization_id}/cancel",
    operation_id = "optimization_cancel", tag = "optimization", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("optimization_id" = String, Path, description = "Id of the optimisation"), IdempotencyHeader),
    responses(
        (status = 200, body = OptimisationDocument, description = "The optimisation"),
        (status = 404, description = "There is no such optimisation, or its agent is another's"),
        (status = 409, description = "It has ended (`invalid_state`)"),
    )
)]
async fn cancel_optimization(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<String>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<OptimisationDocument>, ApiError> {
    Ok(IdempotentOk(app.performance.optimisation.cancel(&performance_caller(caller), &id, request.once).await?))
}

/// Apply an optimisation's best settings
///
/// Of a policy: its trainings with the same algorithm and environment begin with them, unless they name settings. Of a workflow: its
/// steps get them, as a new version of its definition.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/optimization/runs/{optimization_id}/apply",
    operation_id = "optimization_apply", tag = "optimization", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("optimization_id" = String, Path, description = "Id of the optimisation"), IdempotencyHeader),
    responses(
        (status = 200, body = OptimisationDocument, description = "The optimisation, applied"),
        (status = 404, description = "There is no such optimisation, or its agent or workflow is another's"),
        (status = 409, description = "It is not completed, or applied already (`invalid_state`)"),
    )
)]
async fn apply_optimization(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<String>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<OptimisationDocument>, ApiError> {
    Ok(IdempotentOk(app.performance.optimisation.apply(&performance_caller(caller), &id, request.once).await?))
}

/// Roll an applied optimisation back
///
/// What it replaced takes effect again.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/optimization/runs/{optimization_id}/rollback",
    operation_id = "optimization_rollback", tag = "optimization", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("optimization_id" = String, Path, description = "Id of the optimisation"), IdempotencyHeader),
    responses(
        (status = 200, body = OptimisationDocument, description = "The optimisation, rolled back"),
        (status = 404, description = "There is no such optimisation, or its agent or workflow is another's"),
        (status = 409, description = "It is not applied (`invalid_state`), or what it changed was changed since (`changed_since`)"),
    )
)]
async fn rollback_optimization(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<String>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<OptimisationDocument>, ApiError> {
    Ok(IdempotentOk(app.performance.optimisation.roll_back(&performance_caller(caller), &id, request.once).await?))
}
