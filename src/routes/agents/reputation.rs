//! `/api/v1/agents/{agent_id}/reputation`.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::agent;
use crate::{
    app::App,
    http::{Admin, ApiError, Json, Path},
};
use am_security::reputation::{Reputation, reputation};

/// An agent's reputation.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentReputation {
    /// Which agent.
    agent_id: String,
    #[serde(flatten)]
    reputation: Reputation,
}

/// The reputation of an agent
///
/// 0 to 10 000, and where it comes from: `coordinator` (the newest row of `agent_reputation`, times ten) where there is one,
/// else `trust` (the reputation of the trust score of the entity `agent` or `workflow` of this id, times a hundred), else
/// `initial`, 5000.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/reputation", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 200, body = AgentReputation))
)]
pub async fn get(State(app): State<App>, _: Admin, Path(id): Path<String>) -> Result<Json<AgentReputation>, ApiError> {
    let agent_id = agent(&app, "agent_id", &id)?;
    let reputation = reputation(&mut *app.db.read().await?, &agent_id).await?;
    Ok(Json(AgentReputation { agent_id, reputation }))
}
