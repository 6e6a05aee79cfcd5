//! `/api/v1/agents/registry`.

use axum::{extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        ActingKey, AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_core::{
    ids::{AgentId, PrincipalId},
    money::Money,
};
use am_db::{
    codec::{JsonText, Timestamp},
    owner::PrincipalName,
    principal::Principal,
};
use am_orchestration::{
    agents::{
        AgentChange, AgentDraft, AgentFilter, AgentStatus, GpuTier, HeartbeatReport, MeasureSource, OfflineReason,
        TaskType,
    },
    registry::{MeasuredAgent, RegistryUtilisation},
};

/// An agent to register. Members that are not named here are refused.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AgentRegister {
    /// Name of the agent: 1 to 128 letters, digits, `.`, `_`, `:` and `-`.
    agent_id: AgentId,
    /// Types of tasks that the agent does, at least one. Also taken as `supported_task_types` and `task_types`.
    #[serde(alias = "supported_task_types", alias = "task_types")]
    capabilities: Vec<TaskType>,
    /// Type of the agent. Default `worker`.
    agent_type: Option<String>,
    /// Description, for people. Default: empty.
    description: Option<String>,
    /// GPU of the agent. Default `cpu_only`.
    gpu_tier: Option<GpuTier>,
    /// Number of tasks that the agent does at once, 1 to 1000. Default 1.
    max_concurrent_tasks: Option<i64>,
    /// Speed that the agent claims, 0 to 1. Default 0.5. Used until enough was measured.
    performance: Option<f64>,
    /// Reliability that the agent claims, 0 to 1. Default 0.5. Used until enough was measured.
    reliability: Option<f64>,
    /// Price of an hour, in AITBC tokens. Default 0.
    cost_per_hour: Option<Money>,
    /// Address at which the agent is called. Without one it is told by message, or asks for its assignments. Also
    /// taken as `endpoint`.
    #[serde(alias = "endpoint")]
    endpoint_url: Option<String>,
    /// Further facts, at most 16 KB as JSON. Default: none.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// Changes of a registered agent. A member that is left out or null keeps its value.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct AgentUpdate {
    /// Types of tasks that the agent does, at least one. Also taken as `supported_task_types` and `task_types`.
    #[serde(alias = "supported_task_types", alias = "task_types")]
    capabilities: Option<Vec<TaskType>>,
    /// Type of the agent.
    agent_type: Option<String>,
    /// Description, for people.
    description: Option<String>,
    /// GPU of the agent.
    gpu_tier: Option<GpuTier>,
    /// Number of tasks that the agent does at once, 1 to 1000.
    max_concurrent_tasks: Option<i64>,
    /// Speed that the agent claims, 0 to 1.
    performance: Option<f64>,
    /// Reliability that the agent claims, 0 to 1.
    reliability: Option<f64>,
    /// Price of an hour, in AITBC tokens.
    cost_per_hour: Option<Money>,
    /// Address at which the agent is called; the empty text removes it.
    endpoint_url: Option<String>,
    /// Further facts, at most 16 KB as JSON.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// A figure and its source.
#[derive(Serialize, ToSchema)]
#[schema(as = AgentFigure)]
pub struct SourcedFigure {
    /// The figure, 0 to 1.
    value: f64,
    /// Source of the figure: `claimed` at registration, `reported` with a heartbeat, or `measured` from assignments
    /// that have ended.
    source: MeasureSource,
}

/// A registered agent.
#[derive(Serialize, ToSchema)]
pub struct RegisteredAgent {
    /// Name of the agent.
    agent_id: AgentId,
    /// Principal of the owner.
    owner_id: PrincipalId,
    /// Type of the agent.
    agent_type: String,
    /// Description, for people.
    description: String,
    /// Types of tasks that the agent does.
    capabilities: Vec<TaskType>,
    /// GPU of the agent.
    gpu_tier: GpuTier,
    /// Number of tasks that the agent does at once.
    max_concurrent_tasks: i64,
    /// Speed of the agent.
    performance: SourcedFigure,
    /// Reliability of the agent.
    reliability: SourcedFigure,
    /// Price of an hour, in AITBC tokens.
    cost_per_hour: Money,
    /// Whether the agent is called at an address of its own.
    has_endpoint: bool,
    /// That address; null: there is none, or the caller is not the owner.
    endpoint_url: Option<String>,
    /// Further facts about the agent, as it registered them.
    #[schema(value_type = Object)]
    metadata: JsonText,
    /// Whether the agent is online.
    status: AgentStatus,
    /// Why the agent is offline: `silent` (no heartbeat came in time) or `requested`; null: it is online.
    offline_reason: Option<OfflineReason>,
    /// When the agent was last heard of.
    last_seen: Timestamp,
    /// Number of assignments that the agent has now.
    open_assignments: i64,
    /// Open assignments as a share of `max_concurrent_tasks`, or `reported_load` if that is more.
    load: f64,
    /// Load that the agent reported, 0 to 1; null: none.
    reported_load: Option<f64>,
    /// Health, 0 to 1: the reliability, lowered the longer the agent is silent; 0 when it is offline.
    health_score: f64,
    /// Rank among agents: 0.4 performance + 0.3 min(1, 0.05 / cost_per_hour) + 0.2 reliability + 0.1 (1 - load).
    score: f64,
    /// Number of attempts that completed.
    completed: i64,
    /// Number of attempts that failed.
    failed: i64,
    /// Number of attempts that were lost because the agent went silent or did not answer.
    lost: i64,
    /// Mean duration in seconds of completed attempts; null: there is none.
    mean_seconds: Option<f64>,
    /// When the agent was registered first.
    created_at: Timestamp,
    /// When the entry was last changed.
    updated_at: Timestamp,
}

impl RegisteredAgent {
    fn new(known: MeasuredAgent, reader: &Principal) -> Self {
        let MeasuredAgent { agent, performance, reliability, health, score } = known;
        let (total, load) = (agent.total(), agent.load());
        let figure = |(value, source)| SourcedFigure { value, source };
        let mine = reader.owns(&agent.owner_id);
        Self {
            agent_id: agent.id,
            owner_id: PrincipalName::from_stored(&agent.owner_id).as_str().into(),
            agent_type: agent.agent_type,
            description: agent.description,
            capabilities: agent.task_types,
            gpu_tier: agent.gpu_tier,
            max_concurrent_tasks: agent.max_concurrent_tasks,
            performance: figure(performance),
            reliability: figure(reliability),
            cost_per_hour: agent.cost_per_hour,
            has_endpoint: agent.endpoint_url.is_some(),
            endpoint_url: agent.endpoint_url.filter(|_| mine),
            metadata: agent.metadata.or_empty_object(),
            status: agent.status,
            offline_reason: agent.offline_reason,
            last_seen: agent.last_seen,
            open_assignments: agent.open,
            load,
            reported_load: agent.reported_load,
            health_score: health,
            score,
            completed: total.completed,
            failed: total.failed,
            lost: total.lost,
            mean_seconds: total.mean(),
            created_at: agent.created_at,
            updated_at: agent.updated_at,
        }
    }
}

pub(super) fn metadata_document(members: Option<Map<String, Value>>) -> Result<JsonText, ApiError> {
    JsonText::from_value(&members.unwrap_or_default()).map_err(ApiError::internal)
}

/// Register an agent
///
/// Its owner may register it again: the entry is replaced, and the agent is online. Without a heartbeat for
/// `AGENT_OFFLINE_SECONDS` (300) it is offline.
#[utoipa::path(
    post, path = "/api/v1/agents/registry", operation_id = "registry_register", tag = "registry",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = AgentRegister,
    responses(
        (status = 201, body = RegisteredAgent, description = "The registered agent"),
        (status = 409, description = "The name is another owner's"),
    )
)]
pub async fn register_agent(
    State(app): State<App>,
    AdminKey(owner): AdminKey,
    request: IdempotentJson<AgentRegister>,
) -> Result<IdempotentCreated<RegisteredAgent>, ApiError> {
    let body = request.body;
    let draft = AgentDraft {
        agent_id: app.shared.keyring.shown(&body.agent_id).into(),
        agent_type: body.agent_type.unwrap_or_else(|| "worker".to_owned()),
        description: body.description.unwrap_or_default(),
        task_types: body.capabilities,
        gpu_tier: body.gpu_tier.unwrap_or(GpuTier::CpuOnly),
        max_concurrent_tasks: body.max_concurrent_tasks.unwrap_or(1),
        performance: body.performance.unwrap_or(0.5),
        reliability: body.reliability.unwrap_or(0.5),
        cost_per_hour: body.cost_per_hour.unwrap_or_default(),
        endpoint_url: body.endpoint_url.filter(|url| !url.is_empty()),
        metadata: metadata_document(body.metadata)?,
        profile: None,
    };
    let done = app.registry.register(&owner, draft, request.once).await?;
    Ok(IdempotentCreated(done.map(|known| RegisteredAgent::new(known, &owner))))
}

/// Filter of agents.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RegistryQuery {
    /// Only agents in this status.
    status: Option<AgentStatus>,
    /// Only agents with this capability.
    task_type: Option<TaskType>,
    /// Only agents with this GPU.
    gpu_tier: Option<GpuTier>,
    /// Only agents of this type.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    agent_type: Option<String>,
}

/// List registered agents
///
/// Of all owners, the newest first, 100 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/registry", operation_id = "registry_list", tag = "registry",
    security(("ApiKey" = ["admin"])),
    params(RegistryQuery, PageQuery),
    responses((status = 200, body = Vec<RegisteredAgent>, description = "A page of agents, the newest first"))
)]
pub async fn list_agents(
    State(app): State<App>,
    AdminKey(reader): AdminKey,
    QueryParams(query): QueryParams<RegistryQuery>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let RegistryQuery { status, task_type, gpu_tier, agent_type } = query;
    let filter = AgentFilter { status, task_type, gpu_tier, agent_type, page: paging.page.clone() };
    let found = app.registry.list(&filter).await?;
    let shown = |known| RegisteredAgent::new(known, &reader);
    Ok(paging.answer_shown(found, |known| (known.agent.created_at, &known.agent.id), shown))
}

/// Get a registered agent
#[utoipa::path(
    get, path = "/api/v1/agents/registry/{agent_id}", operation_id = "registry_get", tag = "registry",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
    ),
    responses(
        (status = 200, body = RegisteredAgent, description = "The agent"),
        (status = 404, description = "No agent is registered by this name"),
    )
)]
pub async fn get_agent(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
) -> Result<JsonBody<RegisteredAgent>, ApiError> {
    Ok(JsonBody(RegisteredAgent::new(app.registry.get(&id).await?, &caller)))
}

/// Change a registered agent
#[utoipa::path(
    put, path = "/api/v1/agents/registry/{agent_id}", operation_id = "registry_update", tag = "registry",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
    ),
    request_body = AgentUpdate,
    responses(
        (status = 200, body = RegisteredAgent, description = "The changed agent"),
        (status = 403, description = "The agent is another owner's"),
        (status = 404, description = "No agent is registered by this name"),
    )
)]
pub async fn update_agent(
    State(app): State<App>,
    AdminKey(owner): AdminKey,
    PathParams(id): PathParams<AgentId>,
    JsonBody(body): JsonBody<AgentUpdate>,
) -> Result<JsonBody<RegisteredAgent>, ApiError> {
    let change = AgentChange {
        agent_type: body.agent_type,
        description: body.description,
        task_types: body.capabilities,
        gpu_tier: body.gpu_tier,
        max_concurrent_tasks: body.max_concurrent_tasks,
        performance: body.performance,
        reliability: body.reliability,
        cost_per_hour: body.cost_per_hour,
        endpoint_url: body.endpoint_url,
        metadata: body.metadata.map(|members| metadata_document(Some(members))).transpose()?,
    };
    Ok(JsonBody(RegisteredAgent::new(app.registry.update(&owner, &id, change).await?, &owner)))
}

/// Deregister an agent
///
/// Other agents get its assignments. Its measurements are kept.
#[utoipa::path(
    delete, path = "/api/v1/agents/registry/{agent_id}", operation_id = "registry_deregister", tag = "registry",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
    ),
    responses(
        (status = 204, description = "The agent is not registered any more"),
        (status = 403, description = "The agent is another owner's"),
        (status = 404, description = "No agent is registered by this name"),
    )
)]
pub async fn deregister_agent(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
) -> Result<StatusCode, ApiError> {
    app.registry.deregister(&caller, &id, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A heartbeat of an agent.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = HeartbeatRequest)]
pub struct HeartbeatRequest {
    /// Load of the agent, 0 to 1, work of others included; null: unchanged.
    load: Option<f64>,
    /// Speed that the agent measured, 0 to 1; null: unchanged.
    performance: Option<f64>,
}

/// The answer to a heartbeat.
#[derive(Serialize, ToSchema)]
#[schema(as = HeartbeatAnswer)]
pub struct HeartbeatResponse {
    /// Name of the agent.
    agent_id: AgentId,
    /// Status of the agent afterwards.
    status: AgentStatus,
    /// When this heartbeat came.
    last_seen: Timestamp,
    /// Seconds within which the next heartbeat must come.
    offline_after_seconds: f64,
    /// Number of assignments that the agent has now.
    open_assignments: i64,
}

/// Send a heartbeat of an agent
///
/// Brings an agent back online that was silent; not one that was taken offline.
#[utoipa::path(
    post, path = "/api/v1/agents/registry/{agent_id}/heartbeat", operation_id = "registry_send_heartbeat",
    tag = "registry", security(("ApiKey" = ["admin", "agent"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = Option<HeartbeatRequest>,
    responses(
        (status = 200, body = HeartbeatResponse, description = "The heartbeat was taken"),
        (status = 403, description = "The agent is another owner's"),
        (status = 404, description = "No agent is registered by this name"),
    )
)]
pub async fn record_agent_heartbeat(
    State(app): State<App>,
    caller: ActingKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<Option<HeartbeatRequest>>,
) -> Result<IdempotentOk<HeartbeatResponse>, ApiError> {
    let caller = caller.acting_for("agent_id", &id)?;
    let body = request.body.unwrap_or_default();
    let beat = HeartbeatReport { load: body.load, performance: body.performance };
    let done = app.registry.beat(&caller, &id, beat, request.once).await?;
    Ok(IdempotentOk(done.map(|agent| HeartbeatResponse {
        agent_id: agent.id,
        status: agent.status,
        last_seen: agent.last_seen,
        offline_after_seconds: app.registry.offline_after().as_secs_f64(),
        open_assignments: agent.open,
    })))
}

async fn switch_agent(
    app: App,
    caller: ActingKey,
    id: AgentId,
    online: bool,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<RegisteredAgent>, ApiError> {
    let owner = caller.acting_for("agent_id", &id)?;
    let done = app.registry.set_online(&owner, &id, online, request.once).await?;
    Ok(IdempotentOk(done.map(|known| RegisteredAgent::new(known, &owner))))
}

/// Take an agent offline
///
/// Other agents get its assignments. It stays offline until it is brought online.
#[utoipa::path(
    post, path = "/api/v1/agents/registry/{agent_id}/offline", operation_id = "registry_take_offline",
    tag = "registry", security(("ApiKey" = ["admin", "agent"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = RegisteredAgent, description = "The agent"),
        (status = 400, description = "The agent is offline already (`invalid_state`)"),
        (status = 403, description = "The agent is another owner's"),
        (status = 404, description = "No agent is registered by this name"),
    )
)]
pub async fn take_agent_offline(
    State(app): State<App>,
    caller: ActingKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<RegisteredAgent>, ApiError> {
    switch_agent(app, caller, id, false, request).await
}

/// Bring an agent online
#[utoipa::path(
    post, path = "/api/v1/agents/registry/{agent_id}/online", operation_id = "registry_bring_online",
    tag = "registry", security(("ApiKey" = ["admin", "agent"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = RegisteredAgent, description = "The agent"),
        (status = 400, description = "The agent is online already (`invalid_state`)"),
        (status = 403, description = "The agent is another owner's"),
        (status = 404, description = "No agent is registered by this name"),
    )
)]
pub async fn bring_agent_online(
    State(app): State<App>,
    caller: ActingKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<RegisteredAgent>, ApiError> {
    switch_agent(app, caller, id, true, request).await
}

/// Get the utilisation of the registered agents
///
/// Counted from their open assignments.
#[utoipa::path(
    get, path = "/api/v1/agents/registry/utilisation", operation_id = "registry_get_utilisation", tag = "registry",
    security(("ApiKey" = ["admin"])),
    responses((status = 200, body = RegistryUtilisation, description = "Capacity and use of all agents"))
)]
pub async fn get_registry_utilisation(
    State(app): State<App>,
    _: AdminKey,
) -> Result<JsonBody<RegistryUtilisation>, ApiError> {
    Ok(JsonBody(app.registry.utilisation().await?))
}
