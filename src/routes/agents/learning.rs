//! `/api/v1/agents/{agent_id}/learning`: known to clients, and not there yet.

use crate::http::{Admin, ApiError, Path};

fn not_yet() -> ApiError {
    ApiError::not_implemented(
        "Learning is not part of this version: agents' policies can be asked by inference steps, but not yet trained",
    )
}

/// Let an agent learn (not available yet)
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/learning/enable", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 501, description = "Not available yet"))
)]
pub async fn enable(_: Admin, _: Path<String>) -> ApiError {
    not_yet()
}

/// Train an agent (not available yet)
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/learning/train", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 501, description = "Not available yet"))
)]
pub async fn train(_: Admin, _: Path<String>) -> ApiError {
    not_yet()
}

/// How an agent's training goes (not available yet)
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/learning/progress", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 501, description = "Not available yet"))
)]
pub async fn progress(_: Admin, _: Path<String>) -> ApiError {
    not_yet()
}

/// An agent's trained policy (not available yet)
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/learning/export", tag = "agents", params(("agent_id" = String, Path)),
    responses((status = 501, description = "Not available yet"))
)]
pub async fn export(_: Admin, _: Path<String>) -> ApiError {
    not_yet()
}
