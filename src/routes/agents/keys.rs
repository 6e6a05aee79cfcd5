//! `/api/v1/agents/{agent_id}/keys`.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::check_agent_path;
use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson},
        pagination::{PageQuery, Paginator},
    },
};
use am_communication::encryption::{AgentKey, KeyKind, NewAgentKey};
use am_core::ids::{AgentId, AgentKeyId};

/// A public key to register.
#[derive(Debug, Deserialize, ToSchema)]
pub struct KeyCreate {
    /// Kind of the key: `x25519`, or `rsa` for peers that have nothing else; `ed25519` to verify the agent's signatures.
    kind: KeyKind,
    /// Public key, in base64 or PEM: X25519 and Ed25519 as 32 bytes or SubjectPublicKeyInfo, RSA (2048 to 8192 bits) as
    /// SubjectPublicKeyInfo.
    public_key: String,
    /// Id of the key, as `agent-management agent-key new` prints it; refused when the key has another. Default: not compared.
    key_id: Option<AgentKeyId>,
}

impl From<KeyCreate> for NewAgentKey {
    fn from(KeyCreate { kind, public_key, key_id }: KeyCreate) -> Self {
        Self { kind, public_key, key_id }
    }
}

/// Register a public key of an agent
///
/// From then on messages to the agent are encrypted to it: by their senders (`end_to_end`), or by this service on
/// arrival (`sealed_on_arrival`). Of several keys the newest X25519 key is used, and if there is none the newest RSA
/// key. An Ed25519 key encrypts nothing: it verifies the agent's
/// signatures. The private key stays with the agent: `agent-management agent-key new` makes one. The same key again changes
/// nothing. An agent has at most 16 keys in use.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/keys", operation_id = "agent_keys_create", tag = "agent_keys",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = KeyCreate,
    responses(
        (status = 201, body = AgentKey, description = "The registered key"),
        (status = 400, description = "The key was revoked before, or the agent has 16 keys in use (`invalid_state`)"),
    )
)]
pub async fn create_agent_key(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<KeyCreate>,
) -> Result<IdempotentCreated<AgentKey>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    Ok(IdempotentCreated(app.sealing.register_key(&caller, &agent, request.body.into(), request.once).await?))
}

/// List the public keys of an agent
///
/// The newest first; revoked ones have `revoked_at`. Senders encrypt to the first X25519 key without it.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/keys", operation_id = "agent_keys_list", tag = "agent_keys",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        PageQuery,
    ),
    responses((status = 200, body = Vec<AgentKey>, description = "A page of keys, the newest first"))
)]
pub async fn list_agent_keys(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<AgentId>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let found = app.sealing.keys(&check_agent_path(&app, "agent_id", &id)?, &paging.page).await?;
    Ok(paging.answer(found, |key| (key.created_at, &key.key_id)))
}

/// Revoke a public key of an agent
///
/// No message is encrypted to it any more, and messages that senders encrypt to it or sign with it are refused. Stored messages stay
/// as they are.
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/keys/{key_id}", operation_id = "agent_keys_revoke", tag = "agent_keys",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        ("key_id" = String, Path, description = "Id of the public key"),
    ),
    responses(
        (status = 200, body = AgentKey, description = "The revoked key"),
        (status = 404, description = "The agent has no key with this id"),
    )
)]
pub async fn revoke_agent_key(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams((id, key_id)): PathParams<(AgentId, AgentKeyId)>,
) -> Result<JsonBody<AgentKey>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    Ok(JsonBody(app.sealing.revoke_key(&caller, &agent, &key_id).await?))
}
