//! Who can be written to, and who is there.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::check_agent_path;
use crate::{
    app::App,
    http::{AdminKey, ApiError, JsonBody, PathParams, QueryParams, pagination},
};
use am_communication::delivery::AgentPresence;
use am_core::ids::AgentId;
use am_db::codec::Timestamp;
use am_orchestration::registry::MeasuredAgent;

/// Filter of agents.
#[derive(Clone, Debug, Deserialize, Serialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub struct DiscoverQuery {
    /// Only agents with this capability, a type of task or a word of the agent's own; null: any.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    capability: Option<String>,
    /// Only agents of this type; null: any.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    agent_type: Option<String>,
    /// Only agents of at least this health, 0 to 1; null: any.
    min_health_score: Option<f64>,
    /// Number of agents at most, 1 to 500. Default 50.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// An agent that was found.
#[derive(Serialize, ToSchema)]
#[schema(as = DiscoveredAgent)]
pub struct DiscoveredAgent {
    /// Of a registered agent: that it is online, and when it was heard of last.
    #[serde(flatten)]
    presence: AgentPresence,
    /// Health, 0 to 1. Of a registered agent its reliability, lowered the longer it is silent; of another 1 while it
    /// has a socket, else 0.
    health_score: f64,
    /// Whether the agent is registered.
    registered: bool,
    /// Type of a registered agent; absent for others.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_type: Option<String>,
    /// Types of tasks that a registered agent does, and capabilities in its own words; absent for others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    capabilities: Vec<String>,
}

impl From<MeasuredAgent> for DiscoveredAgent {
    fn from(known: MeasuredAgent) -> Self {
        let MeasuredAgent { agent, health, .. } = known;
        let online = agent.is_online();
        let capabilities = agent.capabilities();
        let agent_type = Some(agent.agent_type);
        let presence = AgentPresence { online, last_seen: agent.last_seen, agent_id: agent.id };
        Self { presence, health_score: health, registered: true, agent_type, capabilities }
    }
}

impl From<AgentPresence> for DiscoveredAgent {
    fn from(presence: AgentPresence) -> Self {
        let health_score = f64::from(u8::from(presence.online));
        Self { health_score, presence, registered: false, agent_type: None, capabilities: Vec::new() }
    }
}

/// Agents that were found.
#[derive(Serialize, ToSchema)]
#[schema(as = DiscoveredAgents)]
pub struct DiscoveredAgents {
    /// The agents, the best first.
    agents: Vec<DiscoveredAgent>,
    /// Number of agents in this answer.
    count: usize,
    /// Filter that was used.
    query: DiscoverQuery,
    /// Time of the answer.
    timestamp: Timestamp,
}

/// Find agents to write to
///
/// Registered agents that are online, the best first. Without a filter by capability or type, agents that ever had a
/// socket follow, the last seen first; nothing is known of their capabilities.
#[utoipa::path(
    get, path = "/api/v1/agents/messages/discover", operation_id = "messages_discover", tag = "messages",
    security(("ApiKey" = ["admin"])),
    params(DiscoverQuery),
    responses((status = 200, body = DiscoveredAgents, description = "The agents that were found"))
)]
pub async fn discover_agents(
    State(app): State<App>,
    _: AdminKey,
    QueryParams(query): QueryParams<DiscoverQuery>,
) -> Result<JsonBody<DiscoveredAgents>, ApiError> {
    let least = query.min_health_score.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&least) {
        let loc = vec!["query".into(), "min_health_score".into()];
        return Err(ApiError::invalid_field(loc, "Input should be from 0 to 1", "value_error"));
    }
    let limit = pagination::row_limit(query.limit, 50)?;
    let (capability, agent_type) = (query.capability.as_deref(), query.agent_type.as_deref());
    let registered = app.registry.find(capability, agent_type, least, limit as usize).await?;
    let mut agents: Vec<DiscoveredAgent> = registered.into_iter().map(DiscoveredAgent::from).collect();
    if capability.is_none() && agent_type.is_none() {
        for presence in app.delivery.seen(least > 0.0, limit).await? {
            let known = agents.iter().any(|found| found.presence.agent_id == presence.agent_id);
            if !known && agents.len() < limit as usize {
                agents.push(presence.into());
            }
        }
    }
    Ok(JsonBody(DiscoveredAgents { count: agents.len(), agents, query, timestamp: Timestamp(app.clock.now()) }))
}

/// Get the presence of an agent
///
/// `last_seen` is when its last socket was opened or closed.
#[utoipa::path(
    get, path = "/api/v1/agents/messages/presence/{agent_id}", operation_id = "presence_get", tag = "presence",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
    ),
    responses(
        (status = 200, body = AgentPresence, description = "The agent's presence"),
        (status = 404, description = "The agent never had a socket"),
    )
)]
pub async fn get_agent_presence(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<AgentId>,
) -> Result<JsonBody<AgentPresence>, ApiError> {
    Ok(JsonBody(app.delivery.presence(&check_agent_path(&app, "agent_id", &id)?).await?))
}

/// Filter of agents.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PresenceQuery {
    /// Whether to list only agents that have a socket now. Default false.
    online: Option<bool>,
    /// Number of agents at most, 1 to 500. Default 100.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// List agents that have or had a socket
///
/// The last seen first.
#[utoipa::path(
    get, path = "/api/v1/agents/messages/presence", operation_id = "presence_list", tag = "presence",
    security(("ApiKey" = ["admin"])),
    params(PresenceQuery),
    responses(
        (status = 200, body = Vec<AgentPresence>, description = "Agents that have or had a socket, the last seen first"),
    )
)]
pub async fn list_agent_presence(
    State(app): State<App>,
    _: AdminKey,
    QueryParams(query): QueryParams<PresenceQuery>,
) -> Result<JsonBody<Vec<AgentPresence>>, ApiError> {
    Ok(JsonBody(app.delivery.seen(query.online.unwrap_or(false), pagination::row_limit(query.limit, 100)?).await?))
}
