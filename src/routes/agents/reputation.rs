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
    /// Name of the agent.
    agent_id: String,
    #[serde(flatten)]
    reputation: Reputation,
}

/// Get the reputation of an agent
///
/// 0 to 10 000, and its source: `coordinator` (the newest row of `agent_reputation`, times ten) if there is one, else
/// `trust` (the reputation of the trust score of the entity `agent` or `workflow` of this id, times a hundred), else
/// `initial`, 5000.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/reputation", operation_id = "reputation_get", tag = "reputation",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
    ),
    responses((status = 200, body = AgentReputation, description = "The agent's reputation"))
)]
pub async fn get(State(app): State<App>, _: Admin, Path(id): Path<String>) -> Result<Json<AgentReputation>, ApiError> {
    let agent_id = agent(&app, "agent_id", &id)?;
    let reputation = reputation(&mut *app.db.read().await?, &agent_id).await?;
    Ok(Json(AgentReputation { agent_id, reputation }))
}
