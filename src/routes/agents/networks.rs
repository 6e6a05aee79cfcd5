//! `/api/v1/agents/networks`.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::executions::{ExecutionDocument, WaitQuery, started};
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        context::Context,
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
};
use am_db::principal::Principal;
use am_orchestration::networks::{Draft, Network, Objective, Standing, Strategy};

/// A network to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NetworkCreate {
    /// 1 to 200 characters.
    name: String,
    /// For people.
    #[serde(default)]
    description: Option<String>,
    /// Workflow ids, or objects with an `id` and perhaps a `stage`.
    #[serde(default)]
    #[schema(value_type = Vec<Object>)]
    agents: Option<Vec<Value>>,
    /// Default centralized.
    coordination_strategy: Option<Strategy>,
    /// The same by its other name.
    coordination: Option<Strategy>,
}

/// Make a network of agents
#[utoipa::path(
    post, path = "/api/v1/agents/networks", tag = "agents", request_body = NetworkCreate,
    responses((status = 201, body = Object), (status = 422))
)]
pub async fn create(
    State(app): State<App>,
    caller: Admin,
    request: KeyedJson<NetworkCreate>,
) -> Result<Response, ApiError> {
    let body = request.body;
    let draft = Draft {
        name: body.name,
        description: body.description.unwrap_or_default(),
        agents: body.agents.unwrap_or_default(),
        strategy: body.coordination_strategy.or(body.coordination).unwrap_or(Strategy::Centralized),
    };
    let done = app.networks.create(&(&caller.0).into(), draft, request.once).await?;
    Ok((StatusCode::CREATED, Replayable(Json(done.value), done.replayed)).into_response())
}

/// List networks
#[utoipa::path(get, path = "/api/v1/agents/networks", tag = "agents", params(PageQuery), responses((status = 200, body = Vec<Object>)))]
pub async fn list(State(app): State<App>, caller: Admin, paging: Paging) -> Result<Response, ApiError> {
    let page = paging.page(100)?;
    let (rows, total) = app.networks.list(&(&caller.0).into(), &page).await?;
    let last = rows.last().map(|row| (row.created_at, row.id.as_str()));
    Ok(paging.answer(&page, &rows, total as u64, last))
}

/// One network
#[utoipa::path(
    get, path = "/api/v1/agents/networks/{network_id}", tag = "agents", params(("network_id" = String, Path)),
    responses((status = 200, body = Object), (status = 403), (status = 404))
)]
pub async fn get(State(app): State<App>, caller: Admin, Path(id): Path<String>) -> Result<Json<Network>, ApiError> {
    Ok(Json(app.networks.get(&(&caller.0).into(), &id).await?))
}

/// How urgent a task is; the agents see it as `$.inputs.priority`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Can wait.
    Low,
    /// As usual.
    #[default]
    Normal,
    /// First.
    High,
}

/// A task for a network.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TaskRequest {
    /// What is to be done: `$.inputs.task` of the agents' workflows; the members of an object are inputs by name.
    #[schema(value_type = Object)]
    task: Value,
    /// Default normal.
    #[serde(default)]
    priority: Priority,
}

/// Run a task on a network
///
/// One workflow is made of the agents in it and run; centralized: the first coordinates; decentralized: all at once;
/// hybrid: in stages. Answers as an execution does.
#[utoipa::path(
    post, path = "/api/v1/agents/networks/{network_id}/execute", tag = "agents",
    params(("network_id" = String, Path), WaitQuery), request_body = TaskRequest,
    responses((status = 200, body = ExecutionDocument), (status = 403), (status = 404), (status = 409), (status = 422))
)]
pub async fn execute(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    Query(wait): Query<WaitQuery>,
    context: Context,
    request: KeyedJson<TaskRequest>,
) -> Result<Response, ApiError> {
    let caller: Principal = (&caller.0).into();
    let wait = wait.of(&app)?;
    let mut inputs = Map::new();
    inputs.insert("task".into(), request.body.task);
    inputs.insert("priority".into(), serde_json::to_value(request.body.priority).map_err(ApiError::internal)?);
    let trace = Some(context.trace_id().to_owned());
    let done = app.networks.execute(&caller, &id, inputs, trace, request.once).await?;
    started(&app, &caller, done, wait).await
}

/// What to show of a network.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StatusQuery {
    /// Counts and means as well?
    metrics: Option<String>,
}

/// A network and how it stands.
#[derive(Serialize, ToSchema)]
pub struct StatusDocument {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    network: Network,
    /// The same as `id`.
    network_id: String,
    /// The newest execution's status; idle where there is none.
    activity: String,
    agent_count: usize,
    /// From its executions.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    metrics: Option<Standing>,
}

/// How a network stands, computed from its executions
#[utoipa::path(
    get, path = "/api/v1/agents/networks/{network_id}/status", tag = "agents", params(("network_id" = String, Path), StatusQuery),
    responses((status = 200, body = StatusDocument), (status = 403), (status = 404))
)]
pub async fn status(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    Query(query): Query<StatusQuery>,
) -> Result<Json<StatusDocument>, ApiError> {
    let (network, standing) = app.networks.standing(&(&caller.0).into(), &id).await?;
    // Clients name the metrics they want; any word but a no gives them all.
    let wanted = !matches!(query.metrics.as_deref(), Some("false" | "0" | "none"));
    Ok(Json(StatusDocument {
        network_id: network.id.clone(),
        agent_count: network.agents.len(),
        activity: standing.status.clone(),
        metrics: wanted.then_some(standing),
        network,
    }))
}

/// What to put a network in order by.
#[derive(Debug, Deserialize, ToSchema)]
pub struct OptimizeRequest {
    /// Default efficiency.
    objective: Option<Objective>,
}

/// Put a network's agents in order by what was measured of them
#[utoipa::path(
    post, path = "/api/v1/agents/networks/{network_id}/optimize", tag = "agents", params(("network_id" = String, Path)),
    request_body = OptimizeRequest, responses((status = 200, body = Object), (status = 403), (status = 404), (status = 422))
)]
pub async fn optimize(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<OptimizeRequest>>,
) -> Result<Response, ApiError> {
    let objective = request.body.and_then(|body| body.objective).unwrap_or(Objective::Efficiency);
    let done = app.networks.optimize(&(&caller.0).into(), &id, objective, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}
