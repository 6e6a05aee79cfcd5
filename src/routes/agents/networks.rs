//! `/api/v1/agents/networks`.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::executions::{ExecutionDocument, WaitQuery, begun};
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        context::Context,
        idempotency::{IdempotentCreated, IdempotentOk, KeyedJson},
        openapi::IdempotencyHeader,
        page::{PageQuery, Paging},
    },
};
use am_orchestration::networks::{Draft, Network, NetworkAgent, Objective, Optimized, Standing, Strategy};

/// A network to create.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NetworkCreate {
    /// Name, 1 to 200 characters.
    name: String,
    /// Description, for people. Default: empty.
    #[serde(default)]
    description: Option<String>,
    /// Agents of the network, at most 100: ids of workflows, or objects with an `id` and an optional `stage`.
    /// Default: none.
    #[serde(default)]
    #[schema(value_type = Option<Vec<NetworkAgent>>)]
    agents: Option<Vec<Value>>,
    /// How the agents work together. Default `centralized`.
    coordination_strategy: Option<Strategy>,
    /// Other name of `coordination_strategy`, which goes before it.
    coordination: Option<Strategy>,
}

/// Create a network
#[utoipa::path(
    post, path = "/api/v1/agents/networks", operation_id = "networks_create", tag = "networks",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = NetworkCreate,
    responses((status = 201, body = Network, description = "The network"))
)]
pub async fn create(
    State(app): State<App>,
    Admin(caller): Admin,
    request: KeyedJson<NetworkCreate>,
) -> Result<IdempotentCreated<Network>, ApiError> {
    let body = request.body;
    let draft = Draft {
        name: body.name,
        description: body.description.unwrap_or_default(),
        agents: body.agents.unwrap_or_default(),
        strategy: body.coordination_strategy.or(body.coordination).unwrap_or(Strategy::Centralized),
    };
    Ok(IdempotentCreated(app.networks.create(&caller, draft, request.once).await?))
}

/// List networks
///
/// The caller's own, the newest first, 100 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/networks", operation_id = "networks_list", tag = "networks",
    security(("ApiKey" = ["admin"])),
    params(PageQuery),
    responses((status = 200, body = Vec<Network>, description = "A page of networks, the newest first"))
)]
pub async fn list(State(app): State<App>, Admin(caller): Admin, paging: Paging<100>) -> Result<Response, ApiError> {
    let found = app.networks.list(&caller, &paging.page).await?;
    Ok(paging.answer(found, |network| (network.created_at, &network.id)))
}

/// Get a network
#[utoipa::path(
    get, path = "/api/v1/agents/networks/{network_id}", operation_id = "networks_get", tag = "networks",
    security(("ApiKey" = ["admin"])),
    params(
        ("network_id" = String, Path, description = "Id of the network: `network_`, its creation time and six hexadecimal digits"),
    ),
    responses(
        (status = 200, body = Network, description = "The network"),
        (status = 403, description = "The network is another owner's"),
        (status = 404, description = "No network has this id"),
    )
)]
pub async fn get(
    State(app): State<App>,
    Admin(caller): Admin,
    Path(id): Path<String>,
) -> Result<Json<Network>, ApiError> {
    Ok(Json(app.networks.get(&caller, &id).await?))
}

/// How urgent a task is; the agents see it as `$.inputs.priority`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TaskPriority)]
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
#[schema(as = NetworkTaskRequest)]
pub struct TaskRequest {
    /// Task, any JSON. Workflows read it as `$.inputs.task`, and the members of an object also as inputs by name.
    task: Value,
    /// Priority, which workflows read as `$.inputs.priority`. Default `normal`.
    #[serde(default)]
    priority: Priority,
}

/// Execute a task on a network
///
/// Its agents are joined to one workflow, which is executed. `centralized`: the first agent coordinates;
/// `decentralized`: all at once; `hybrid`: in stages.
#[utoipa::path(
    post, path = "/api/v1/agents/networks/{network_id}/execute", operation_id = "networks_execute", tag = "networks",
    security(("ApiKey" = ["admin"])),
    params(
        ("network_id" = String, Path, description = "Id of the network: `network_`, its creation time and six hexadecimal digits"),
        WaitQuery,
        IdempotencyHeader,
    ),
    request_body = TaskRequest,
    responses(
        (status = 200, body = ExecutionDocument, description = "The execution, as it is stored or, with `wait`, as it is when the wait ends"),
        (status = 403, description = "The network is another owner's, or a security policy refuses the execution (`policy_violation`)"),
        (status = 404, description = "No network has this id"),
        (status = 409, description = "The network has no agents, an agent is no workflow that the caller may run, or the agents' workflows can't be joined"),
    )
)]
pub async fn execute(
    State(app): State<App>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Query(wait): Query<WaitQuery>,
    context: Context,
    request: KeyedJson<TaskRequest>,
) -> Result<IdempotentOk<ExecutionDocument>, ApiError> {
    let wait = wait.of(&app)?;
    let mut inputs = Map::new();
    inputs.insert("task".into(), request.body.task);
    inputs.insert("priority".into(), serde_json::to_value(request.body.priority).map_err(ApiError::internal)?);
    let trace = Some(context.trace_id().to_owned());
    let done = app.networks.execute(&caller, &id, inputs, trace, request.once).await?;
    begun(&app, &caller, done, wait).await
}

/// Options of the status.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StatusQuery {
    /// Whether to add the statistics: any text but `false`, `0` and `none`. Default: yes.
    metrics: Option<String>,
}

/// A network and its statistics.
#[derive(Serialize, ToSchema)]
#[schema(as = NetworkStatus)]
pub struct StatusDocument {
    #[serde(flatten)]
    network: Network,
    /// Id of the network; the same as `id`.
    network_id: String,
    /// Status of the newest execution: running, waiting, completed, failed or cancelled; `idle`: there is none.
    activity: String,
    /// Number of agents.
    agent_count: usize,
    /// Statistics of the network's executions; absent if not wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Standing>,
}

/// Get a network and its statistics
///
/// Computed from its executions.
#[utoipa::path(
    get, path = "/api/v1/agents/networks/{network_id}/status", operation_id = "networks_get_status", tag = "networks",
    security(("ApiKey" = ["admin"])),
    params(
        ("network_id" = String, Path, description = "Id of the network: `network_`, its creation time and six hexadecimal digits"),
        StatusQuery,
    ),
    responses(
        (status = 200, body = StatusDocument, description = "The network and its statistics"),
        (status = 403, description = "The network is another owner's"),
        (status = 404, description = "No network has this id"),
    )
)]
pub async fn status(
    State(app): State<App>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Query(query): Query<StatusQuery>,
) -> Result<Json<StatusDocument>, ApiError> {
    let (network, standing) = app.networks.standing(&caller, &id).await?;
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

/// What to order a network's agents by.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NetworkOptimizeRequest)]
pub struct OptimizeRequest {
    /// Measure that decides. Default `efficiency`.
    objective: Option<Objective>,
}

/// Order the agents of a network by their measurements
#[utoipa::path(
    post, path = "/api/v1/agents/networks/{network_id}/optimize", operation_id = "networks_optimize",
    tag = "networks", security(("ApiKey" = ["admin"])),
    params(
        ("network_id" = String, Path, description = "Id of the network: `network_`, its creation time and six hexadecimal digits"),
        IdempotencyHeader,
    ),
    request_body = Option<OptimizeRequest>,
    responses(
        (status = 200, body = Optimized, description = "The new order of the agents, and the measurements it follows"),
        (status = 403, description = "The network is another owner's"),
        (status = 404, description = "No network has this id"),
    )
)]
pub async fn optimize(
    State(app): State<App>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<OptimizeRequest>>,
) -> Result<IdempotentOk<Optimized>, ApiError> {
    let objective = request.body.and_then(|body| body.objective).unwrap_or(Objective::Efficiency);
    Ok(IdempotentOk(app.networks.optimize(&caller, &id, objective, request.once).await?))
}
