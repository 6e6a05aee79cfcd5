//! `/api/v1/agents/{agent_id}/keys`.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::agent;
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path,
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
};
use am_communication::sealing::{AgentKey, KeyKind};

/// A public key to be registered.
#[derive(Debug, Deserialize, ToSchema)]
pub struct KeyCreate {
    /// x25519, or rsa for peers that have nothing else.
    kind: KeyKind,
    /// In base64, or PEM: X25519 as 32 bytes or SubjectPublicKeyInfo, RSA (2048 to 8192 bits) as SubjectPublicKeyInfo.
    public_key: String,
}

/// Register a public key of an agent
///
/// From then on messages to the agent are sealed to it: by their senders (`end_to_end`), or by this service on arrival
/// (`sealed_on_arrival`). Of several the newest X25519 key is used, and where there is none the newest RSA key. The private
/// key stays with the agent: `agent-management agent-key new` makes one. The same key again changes nothing. An agent has at
/// most 16 keys in use.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/keys", tag = "agents", params(("agent_id" = String, Path)),
    request_body = KeyCreate, responses((status = 201, body = AgentKey), (status = 400), (status = 422))
)]
pub async fn create(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<KeyCreate>,
) -> Result<Response, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let KeyCreate { kind, public_key } = request.body;
    let done = app.sealing.register_key(&(&caller.0).into(), &agent, (kind, &public_key), request.once).await?;
    Ok((StatusCode::CREATED, Replayable(Json(done.value), done.replayed)).into_response())
}

/// List the public keys of an agent
///
/// The newest first; revoked ones have `revoked_at`. Whoever seals to the agent takes the first X25519 key without it.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/keys", tag = "agents", params(("agent_id" = String, Path), PageQuery),
    responses((status = 200, body = Vec<AgentKey>))
)]
pub async fn list(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let page = paging.page(50)?;
    let (keys, total) = app.sealing.keys(&agent(&app, "agent_id", &id)?, &page).await?;
    let last = keys.last().map(|key| (key.created_at, key.key_id.as_str()));
    Ok(paging.answer(&page, &keys, total.cast_unsigned(), last))
}

/// Revoke a public key of an agent
///
/// Nothing is sealed to it any more, and what senders seal to it is refused. What is stored stays as it is.
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/keys/{key_id}", tag = "agents",
    params(("agent_id" = String, Path), ("key_id" = String, Path)),
    responses((status = 200, body = AgentKey), (status = 404))
)]
pub async fn revoke(
    State(app): State<App>,
    caller: Admin,
    Path((id, key_id)): Path<(String, String)>,
) -> Result<Json<AgentKey>, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    Ok(Json(app.sealing.revoke_key(&(&caller.0).into(), &agent, &key_id).await?))
}
