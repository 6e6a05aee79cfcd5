//! Who can be written to, and who is there.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::agent;
use crate::{
    app::App,
    http::{Admin, ApiError, Json, Path, Query, page},
};
use am_communication::delivery::Presence;
use am_db::codec::Timestamp;
use am_orchestration::registry::{Known, TaskType};

/// What is looked for.
#[derive(Clone, Debug, Deserialize, Serialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub struct DiscoverQuery {
    /// Only agents with this capability.
    capability: Option<String>,
    /// Only agents of this type.
    agent_type: Option<String>,
    /// Only agents of at least this health, 0 to 1.
    min_health_score: Option<f64>,
    /// Agents at most.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// An agent that was found.
#[derive(Serialize, ToSchema)]
pub struct Found {
    /// Of a registered agent: that it is online, and when it was heard of last.
    #[serde(flatten)]
    presence: Presence,
    /// Of a registered agent its reliability, less the longer it is silent; of another 1 while it has a socket, else 0.
    health_score: f64,
    /// Does it stand in the registry?
    registered: bool,
    /// Of a registered agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_type: Option<String>,
    /// Of a registered agent: the types of tasks that it does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    capabilities: Vec<TaskType>,
}

impl From<Known> for Found {
    fn from(known: Known) -> Self {
        let Known { agent, health, .. } = known;
        let presence = Presence { online: agent.is_online(), last_seen: agent.last_seen, agent_id: agent.id };
        let (agent_type, capabilities) = (Some(agent.agent_type), agent.task_types);
        Self { presence, health_score: health, registered: true, agent_type, capabilities }
    }
}

impl From<Presence> for Found {
    fn from(presence: Presence) -> Self {
        let health_score = f64::from(u8::from(presence.online));
        Self { health_score, presence, registered: false, agent_type: None, capabilities: Vec::new() }
    }
}

/// Who was found.
#[derive(Serialize, ToSchema)]
pub struct Discovered {
    agents: Vec<Found>,
    count: usize,
    /// What was looked for.
    query: DiscoverQuery,
    #[schema(value_type = String)]
    timestamp: Timestamp,
}

/// Find agents to write to
///
/// Registered agents that are online, the best first. Where neither a capability (a type of task) nor a type is asked for,
/// those that ever had a socket follow, the last seen first: nothing is known of what they can do.
#[utoipa::path(
    get, path = "/api/v1/agents/messages/discover", tag = "agents", params(DiscoverQuery),
    responses((status = 200, body = Discovered), (status = 422))
)]
pub async fn discover(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<DiscoverQuery>,
) -> Result<Json<Discovered>, ApiError> {
    let least = query.min_health_score.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&least) {
        let loc = vec!["query".into(), "min_health_score".into()];
        return Err(ApiError::field(loc, "Input should be from 0 to 1", "value_error"));
    }
    let limit = page::rows(query.limit, 50)?;
    let (capability, agent_type) = (query.capability.as_deref(), query.agent_type.as_deref());
    let registered = app.registry.find(capability, agent_type, least, limit as usize).await?;
    let mut agents: Vec<Found> = registered.into_iter().map(Found::from).collect();
    if capability.is_none() && agent_type.is_none() {
        for presence in app.delivery.seen(least > 0.0, limit).await? {
            let known = agents.iter().any(|found| found.presence.agent_id == presence.agent_id);
            if !known && agents.len() < limit as usize {
                agents.push(presence.into());
            }
        }
    }
    Ok(Json(Discovered { count: agents.len(), agents, query, timestamp: Timestamp(app.clock.now()) }))
}

/// Whether an agent has a socket
///
/// `last_seen` is when its last one was opened or closed. 404 for one that never had any.
#[utoipa::path(
    get, path = "/api/v1/agents/messages/presence/{agent_id}", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 200, body = Presence), (status = 404))
)]
pub async fn presence(State(app): State<App>, _: Admin, Path(id): Path<String>) -> Result<Json<Presence>, ApiError> {
    Ok(Json(app.delivery.presence(&agent(&app, "agent_id", &id)?).await?))
}

/// Who of all.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PresenceQuery {
    /// Only those who have a socket.
    online: Option<bool>,
    /// Agents at most.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Agents that have or had a socket, the last seen first
#[utoipa::path(
    get, path = "/api/v1/agents/messages/presence", tag = "agents", params(PresenceQuery),
    responses((status = 200, body = Vec<Presence>), (status = 422))
)]
pub async fn everybody(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<PresenceQuery>,
) -> Result<Json<Vec<Presence>>, ApiError> {
    Ok(Json(app.delivery.seen(query.online.unwrap_or(false), page::rows(query.limit, 100)?).await?))
}
