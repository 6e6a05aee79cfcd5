//! Who can be written to, and who is there.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::agent;
use crate::{
    app::App,
    communication::delivery::Presence,
    db::codec::Timestamp,
    http::{Admin, ApiError, Json, Path, Query, page},
};

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
    #[serde(flatten)]
    presence: Presence,
    /// 1 while it has a socket, else 0.
    health_score: f64,
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
/// Those that ever had a socket, the last seen first. Nothing is recorded of their type and capabilities, so that none is
/// found who would have to have one.
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
    let found = match query.capability.is_none() && query.agent_type.is_none() {
        true => app.delivery.seen(least > 0.0, limit).await?,
        false => Vec::new(),
    };
    let health = |presence: Presence| Found { health_score: f64::from(u8::from(presence.online)), presence };
    let agents: Vec<Found> = found.into_iter().map(health).collect();
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
