//! `/api/v1/agents`: the directory of agents, as the coordinator's present clients use it. Its agents are those of the
//! registry.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    directory_entry::{DirectoryEntry, DirectoryQuery, DirectorySearch, ListedAgent},
    registry::metadata_document,
};
use crate::routes::recorded_response::record_response;
use crate::{
    app::App,
    http::{
        ActingKey, AdminKey, ApiError, JsonBody, PathParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
    },
};
use am_core::{ids::AgentId, money::Money};
use am_db::codec::Timestamp;
use am_orchestration::{
    agents::{AgentDraft, AgentProfile, GpuTier, HeartbeatReport, TaskType},
    directory::{DirectoryFilter, DirectoryState},
    registry::MeasuredAgent,
};

/// Agents that a search finds at most, and without `limit`.
const LIMITS: (u32, u32) = (1000, 100);
/// What is said of a state that is none.
const STATE_MESSAGE: &str = "Input should be 'active', 'inactive', 'busy', 'maintenance' or 'error'";

/// The answer to a registration.
#[derive(Serialize, ToSchema)]
#[schema(as = DirectoryRegistered)]
pub struct RegistrationResponse {
    /// Always the word `success`.
    status: &'static str,
    /// What was done, in words.
    message: String,
    /// Name of the agent.
    agent_id: AgentId,
    /// When the agent was registered.
    registered_at: Timestamp,
}

/// Enter an agent into the directory
///
/// The same as `POST /registry` in the words of the coordinator's present clients: capabilities may be any words. Its owner may
/// enter it again: the entry is replaced, and the agent is active.
#[utoipa::path(
    post, path = "/api/v1/agents/register", operation_id = "directory_register", tag = "directory",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = DirectoryEntry,
    responses(
        (status = 200, body = RegistrationResponse, description = "The agent is registered"),
        (status = 409, description = "The name is another owner's"),
    )
)]
pub async fn register_agent(
    State(app): State<App>,
    AdminKey(owner): AdminKey,
    request: IdempotentJson<DirectoryEntry>,
) -> Result<IdempotentOk<RegistrationResponse>, ApiError> {
    let body = request.body;
    let (mut task_types, mut words) = (Vec::new(), Vec::new());
    for word in body.capabilities.unwrap_or_default() {
        match TaskType::from_value(&word) {
            Some(kind) => task_types.push(kind),
            None if words.contains(&word) => {}
            None => words.push(word),
        }
    }
    let known = AgentProfile::default();
    let profile = AgentProfile {
        words,
        services: body.services.unwrap_or_default(),
        endpoints: body.endpoints.unwrap_or_default(),
        version: body.version.unwrap_or(known.version),
        tags: body.tags.unwrap_or_default(),
        chain_id: body.chain_id.unwrap_or_default(),
        island_id: body.island_id.unwrap_or_default(),
        state: None,
        load_metrics: BTreeMap::new(),
    };
    let draft = AgentDraft {
        agent_id: app.shared.keyring.shown(&body.agent_id).into(),
        agent_type: body.agent_type.filter(|kind| !kind.is_empty()).unwrap_or_else(|| "worker".to_owned()),
        description: String::new(),
        task_types,
        gpu_tier: GpuTier::CpuOnly,
        max_concurrent_tasks: 1,
        performance: 0.5,
        reliability: 0.5,
        cost_per_hour: Money::ZERO,
        endpoint_url: None,
        metadata: metadata_document(body.metadata)?,
        profile: Some(profile),
    };
    let done = app.registry.register(&owner, draft, request.once).await?;
    Ok(IdempotentOk(done.map(|MeasuredAgent { agent, .. }| RegistrationResponse {
        status: "success",
        message: format!("Agent {} registered successfully", agent.id),
        registered_at: agent.updated_at,
        agent_id: agent.id,
    })))
}

/// Agents that were found in the directory.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = DirectoryFound)]
pub struct DirectoryResponse {
    /// Always the word `success`.
    status: String,
    /// Search that was carried out.
    query: DirectoryQuery,
    /// The agents, the healthiest first.
    agents: Vec<ListedAgent>,
    /// Number of agents in this answer.
    count: usize,
    /// Time of the answer.
    timestamp: Timestamp,
}

/// Search the directory of agents
///
/// Of all owners, online or not, the healthiest first. Changes nothing.
#[utoipa::path(
    post, path = "/api/v1/agents/discover", operation_id = "directory_discover", tag = "directory",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = Option<DirectorySearch>,
    responses((status = 200, body = DirectoryResponse, description = "The agents that were found"))
)]
pub async fn discover_agents(
    State(app): State<App>,
    _: AdminKey,
    request: IdempotentJson<Option<DirectorySearch>>,
) -> Result<IdempotentOk<DirectoryResponse>, ApiError> {
    let query = request.body.unwrap_or_default().into_query();
    let (most, usual) = LIMITS;
    let limit = query.limit.unwrap_or(usual);
    let min_health = query.min_health_score.unwrap_or(0.0);
    if !(1..=most).contains(&limit) {
        return Err(invalid("limit", "Input should be from 1 to 1000"));
    }
    if !(0.0..=1.0).contains(&min_health) {
        return Err(invalid("min_health_score", "Input should be from 0 to 1"));
    }
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let filter = DirectoryFilter {
        agent_type: given(&query.agent_type),
        state: given(&query.status).map(|word| known_state(&word)).transpose()?,
        capabilities: query.capabilities.clone().unwrap_or_default(),
        services: query.services.clone().unwrap_or_default(),
        tags: query.tags.clone().unwrap_or_default(),
        chain_id: given(&query.chain_id),
        island_id: given(&query.island_id),
        min_health,
        limit: limit as usize,
    };
    let agents: Vec<ListedAgent> = app.registry.search(&filter).await?.into_iter().map(ListedAgent::from).collect();
    let timestamp = Timestamp(app.clock.now());
    let found = DirectoryResponse { status: "success".to_owned(), query, count: agents.len(), agents, timestamp };
    Ok(IdempotentOk(record_response(&app, request.once, found).await?))
}

fn invalid(member: &'static str, message: &str) -> ApiError {
    ApiError::invalid_field(vec!["body".into(), member.into()], message, "value_error")
}

fn known_state(word: &str) -> Result<DirectoryState, ApiError> {
    DirectoryState::from_word(word).ok_or_else(|| invalid("status", STATE_MESSAGE))
}

/// An entry of the directory, and that it was found.
#[derive(Serialize, ToSchema)]
#[schema(as = DirectoryAnswer)]
pub struct EntryResponse {
    /// Always the word `success`.
    status: &'static str,
    /// The agent that was found.
    agent: ListedAgent,
    /// Time of the answer.
    timestamp: Timestamp,
}

/// Get an agent of the directory
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}", operation_id = "directory_get", tag = "directory",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
    ),
    responses(
        (status = 200, body = EntryResponse, description = "The agent"),
        (status = 404, description = "No agent is registered by this name"),
    )
)]
pub async fn get_agent(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<AgentId>,
) -> Result<JsonBody<EntryResponse>, ApiError> {
    let agent = app.registry.get(&id).await?.into();
    Ok(JsonBody(EntryResponse { status: "success", agent, timestamp: Timestamp(app.clock.now()) }))
}

/// State that an agent reports of itself.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = DirectoryStatusUpdate)]
pub struct StatusReport {
    /// `active` or `busy`: the agent is online. `inactive`, `maintenance` or `error`: it is taken offline, and other agents get
    /// its assignments. `online` and `offline` are understood too.
    status: String,
    /// Loads by name, added to those that were reported before. Their mean counts as the agent's load if all are shares, 0 to
    /// 1. Default: none.
    load_metrics: Option<BTreeMap<String, f64>>,
}

/// The answer to a reported state.
#[derive(Serialize, ToSchema)]
#[schema(as = DirectoryStatusAnswer)]
pub struct StatusResponse {
    /// Always the word `success`.
    status: &'static str,
    /// What was done, in words.
    message: String,
    /// Name of the agent.
    agent_id: AgentId,
    /// State of the agent afterwards.
    new_status: &'static str,
    /// When the state was reported.
    updated_at: Timestamp,
}

/// Report the state of an agent
#[utoipa::path(
    put, path = "/api/v1/agents/{agent_id}/status", operation_id = "directory_update_status", tag = "directory",
    security(("ApiKey" = ["admin", "agent"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
    ),
    request_body = StatusReport,
    responses(
        (status = 200, body = StatusResponse, description = "The state was taken"),
        (status = 403, description = "The agent is another owner's"),
        (status = 404, description = "No agent is registered by this name"),
    )
)]
pub async fn update_agent_status(
    State(app): State<App>,
    caller: ActingKey,
    PathParams(id): PathParams<AgentId>,
    JsonBody(body): JsonBody<StatusReport>,
) -> Result<JsonBody<StatusResponse>, ApiError> {
    let caller = caller.acting_for("agent_id", &id)?;
    let state = known_state(&body.status)?;
    let MeasuredAgent { agent, .. } =
        app.registry.report_state(&caller, &id, state, body.load_metrics.unwrap_or_default()).await?;
    Ok(JsonBody(StatusResponse {
        status: "success",
        message: format!("Agent {} status updated", agent.id),
        new_status: DirectoryState::of(&agent).word(),
        updated_at: agent.last_seen,
        agent_id: agent.id,
    }))
}

/// The answer to a heartbeat in the directory.
#[derive(Serialize, ToSchema)]
#[schema(as = DirectoryHeartbeat)]
pub struct DirectoryHeartbeatResponse {
    /// Always the word `success`.
    status: &'static str,
    /// What was done, in words.
    message: String,
    /// Name of the agent.
    agent_id: AgentId,
    /// When this heartbeat came.
    heartbeat_at: Timestamp,
}

/// Send a heartbeat of an agent of the directory
///
/// The same as the registry's heartbeat, in the words of the coordinator's present clients; a body is ignored.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/heartbeat", operation_id = "directory_send_heartbeat", tag = "directory",
    security(("ApiKey" = ["admin", "agent"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = DirectoryHeartbeatResponse, description = "The heartbeat was taken"),
        (status = 403, description = "The agent is another owner's"),
        (status = 404, description = "No agent is registered by this name"),
    )
)]
pub async fn record_agent_heartbeat(
    State(app): State<App>,
    caller: ActingKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<DirectoryHeartbeatResponse>, ApiError> {
    let caller = caller.acting_for("agent_id", &id)?;
    let done = app.registry.beat(&caller, &id, HeartbeatReport::default(), request.once).await?;
    Ok(IdempotentOk(done.map(|agent| DirectoryHeartbeatResponse {
        status: "success",
        message: format!("Heartbeat received from {}", agent.id),
        heartbeat_at: agent.last_seen,
        agent_id: agent.id,
    })))
}

/// The answer to a deregistration.
#[derive(Serialize, ToSchema)]
#[schema(as = DirectoryDeregistered)]
pub struct DeregistrationResponse {
    /// Always the word `success`.
    status: &'static str,
    /// What was done, in words.
    message: String,
    /// Name of the agent.
    agent_id: AgentId,
    /// When the agent was deregistered.
    deregistered_at: Timestamp,
}

/// Take an agent out of the directory
///
/// The same as deleting it from the registry.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/deregister", operation_id = "directory_deregister", tag = "directory",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = DeregistrationResponse, description = "The agent is not registered any more"),
        (status = 403, description = "The agent is another owner's"),
        (status = 404, description = "No agent is registered by this name"),
    )
)]
pub async fn deregister_agent(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<DeregistrationResponse>, ApiError> {
    let done = app.registry.deregister(&caller, &id, request.once).await?;
    Ok(IdempotentOk(done.map(|agent| DeregistrationResponse {
        status: "success",
        message: format!("Agent {} deregistered successfully", agent.id),
        deregistered_at: agent.updated_at,
        agent_id: agent.id,
    })))
}
