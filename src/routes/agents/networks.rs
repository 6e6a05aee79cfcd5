//! `/api/v1/agents/networks`.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{WaitQuery, executions::ExecutionDocument};
use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        context::RequestContextExtractor,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_core::ids::NetworkId;
use am_orchestration::networks::{
    AgentNetwork, CoordinationStrategy, NetworkActivity, NetworkAgent, NetworkDraft, NetworkObjective,
    NetworkOptimization, NetworkStatus, NetworkTask,
};

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
    coordination_strategy: Option<CoordinationStrategy>,
    /// Other name of `coordination_strategy`, which goes before it.
    coordination: Option<CoordinationStrategy>,
}

/// Create a network
#[utoipa::path(
    post, path = "/api/v1/agents/networks", operation_id = "networks_create", tag = "networks",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = NetworkCreate,
    responses((status = 201, body = AgentNetwork, description = "The network"))
)]
pub async fn create_network(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    request: IdempotentJson<NetworkCreate>,
) -> Result<IdempotentCreated<AgentNetwork>, ApiError> {
    let body = request.body;
    let draft = NetworkDraft {
        name: body.name,
        description: body.description.unwrap_or_default(),
        agents: body.agents.unwrap_or_default(),
        strategy: body.coordination_strategy.or(body.coordination).unwrap_or(CoordinationStrategy::Centralized),
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
    responses((status = 200, body = Vec<AgentNetwork>, description = "A page of networks, the newest first"))
)]
pub async fn list_networks(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
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
        (status = 200, body = AgentNetwork, description = "The network"),
        (status = 404, description = "The caller has no network of this id"),
    )
)]
pub async fn get_network(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<NetworkId>,
) -> Result<JsonBody<AgentNetwork>, ApiError> {
    Ok(JsonBody(app.networks.get(&caller, &id).await?))
}

/// How urgent a task is; the agents see it as `$.inputs.priority`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TaskPriority)]
pub enum NetworkTaskPriority {
    /// The task can wait for others.
    Low,
    /// The task takes its turn; the default.
    #[default]
    Normal,
    /// The task goes before others.
    High,
}

/// A task for a network.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NetworkTaskRequest)]
pub struct NetworkTaskRequest {
    /// Task, any JSON. Workflows read it as `$.inputs.task`, and the members of an object also as inputs by name.
    task: Value,
    /// Priority, which workflows read as `$.inputs.priority`. Default `normal`.
    #[serde(default)]
    priority: NetworkTaskPriority,
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
    request_body = NetworkTaskRequest,
    responses(
        (status = 200, body = ExecutionDocument, description = "The execution, as it is stored or, with `wait`, as it is when the wait ends"),
        (status = 403, description = "A security policy refuses the execution (`policy_violation`)"),
        (status = 404, description = "The caller has no network of this id"),
        (status = 409, description = "The network has no agents, an agent is no workflow that the caller may run, or the agents' workflows can't be joined"),
    )
)]
pub async fn execute_network_task(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<NetworkId>,
    QueryParams(wait): QueryParams<WaitQuery>,
    context: RequestContextExtractor,
    request: IdempotentJson<NetworkTaskRequest>,
) -> Result<IdempotentOk<ExecutionDocument>, ApiError> {
    let wait = wait.of(&app)?;
    let mut inputs = Map::new();
    inputs.insert("task".into(), request.body.task);
    inputs.insert("priority".into(), serde_json::to_value(request.body.priority).map_err(ApiError::internal)?);
    let task = NetworkTask { inputs, trace_id: Some(context.trace_id()), wait };
    let done = app.networks.execute(&caller, &id, task, request.once).await?;
    Ok(IdempotentOk(done.map(ExecutionDocument::from)))
}

/// Options of the status.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct NetworkStatusQuery {
    /// Whether to add the statistics: any text but `false`, `0` and `none`. Default: yes.
    metrics: Option<String>,
}

/// A network and its statistics.
#[derive(Serialize, ToSchema)]
#[schema(as = NetworkStatus)]
pub struct NetworkStatusDocument {
    #[serde(flatten)]
    network: AgentNetwork,
    /// Id of the network; the same as `id`.
    network_id: NetworkId,
    /// Status of the newest execution; `idle`: there is none.
    activity: NetworkActivity,
    /// Number of agents.
    agent_count: usize,
    /// Statistics of the network's executions; absent if not wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<NetworkStatus>,
}

/// Get a network and its statistics
///
/// Computed from its executions.
#[utoipa::path(
    get, path = "/api/v1/agents/networks/{network_id}/status", operation_id = "networks_get_status", tag = "networks",
    security(("ApiKey" = ["admin"])),
    params(
        ("network_id" = String, Path, description = "Id of the network: `network_`, its creation time and six hexadecimal digits"),
        NetworkStatusQuery,
    ),
    responses(
        (status = 200, body = NetworkStatusDocument, description = "The network and its statistics"),
        (status = 404, description = "The caller has no network of this id"),
    )
)]
pub async fn get_network_status(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<NetworkId>,
    QueryParams(query): QueryParams<NetworkStatusQuery>,
) -> Result<JsonBody<NetworkStatusDocument>, ApiError> {
    let (network, standing) = app.networks.standing(&caller, &id).await?;
    // Clients name the metrics they want; any word but a no gives them all.
    let wanted = !matches!(query.metrics.as_deref(), Some("false" | "0" | "none"));
    Ok(JsonBody(NetworkStatusDocument {
        network_id: network.id.clone(),
        agent_count: network.agents.len(),
        activity: standing.status,
        metrics: wanted.then_some(standing),
        network,
    }))
}

/// What to order a network's agents by.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = NetworkOptimizeRequest)]
pub struct OptimizeNetworkRequest {
    /// Measure that decides. Default `efficiency`.
    objective: Option<NetworkObjective>,
}

/// Order the agents of a network by their measurements
#[utoipa::path(
    post, path = "/api/v1/agents/networks/{network_id}/optimize", operation_id = "networks_optimize",
    tag = "networks", security(("ApiKey" = ["admin"])),
    params(
        ("network_id" = String, Path, description = "Id of the network: `network_`, its creation time and six hexadecimal digits"),
        IdempotencyHeader,
    ),
    request_body = Option<OptimizeNetworkRequest>,
    responses(
        (status = 200, body = NetworkOptimization, description = "The new order of the agents, and the measurements it follows"),
        (status = 404, description = "The caller has no network of this id"),
    )
)]
pub async fn optimize_network(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<NetworkId>,
    request: IdempotentJson<Option<OptimizeNetworkRequest>>,
) -> Result<IdempotentOk<NetworkOptimization>, ApiError> {
    let objective = request.body.and_then(|body| body.objective).unwrap_or(NetworkObjective::Efficiency);
    Ok(IdempotentOk(app.networks.optimize(&caller, &id, objective, request.once).await?))
}
