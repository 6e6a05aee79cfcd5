//! `/api/v1/agents/{agent_id}/reputation`.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::check_agent_path;
use crate::{
    app::App,
    http::{AdminKey, ApiError, JsonBody, PathParams},
};
use am_core::ids::AgentId;
use am_security::reputation::{AgentReputationScore, get_reputation};

/// An agent's reputation.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentReputation {
    /// Name of the agent.
    agent_id: AgentId,
    #[serde(flatten)]
    reputation: AgentReputationScore,
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
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
    ),
    responses((status = 200, body = AgentReputation, description = "The agent's reputation"))
)]
pub async fn get_agent_reputation(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<AgentId>,
) -> Result<JsonBody<AgentReputation>, ApiError> {
    let agent_id = check_agent_path(&app, "agent_id", &id)?;
    let reputation = get_reputation(&mut *app.db.read().await?, &agent_id).await?;
    Ok(JsonBody(AgentReputation { agent_id, reputation }))
}
