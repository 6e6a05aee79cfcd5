//! `/api/v1/agents/{agent_id}/contacts`, `/blocks` and `/authorizations`.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{check_agent_id, check_agent_path};
use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson},
        pagination::{PageQuery, Paginator},
    },
};
use am_communication::relations::{AgentAuthorization, AgentBlock, AgentContact, AuthorizationStatus, PermissionCheck};
use am_core::ids::AgentId;

/// A contact to add.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ContactCreate {
    /// Name of the other agent.
    contact_id: AgentId,
    /// Note for people, at most 500 characters; null: none.
    #[serde(default)]
    note: Option<String>,
}

/// Add a contact of an agent
///
/// Two agents of whom one is a contact of the other may write to each other whatever their reputation. The same
/// contact again changes the note.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/contacts", operation_id = "contacts_add", tag = "contacts",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = ContactCreate,
    responses(
        (status = 201, body = AgentContact, description = "The contact"),
        (status = 400, description = "The agent has 10 000 contacts (`invalid_state`)"),
    )
)]
pub async fn add_contact(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<ContactCreate>,
) -> Result<IdempotentCreated<AgentContact>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    let contact = check_agent_id(&app, ("body", "contact_id"), &request.body.contact_id)?;
    let contact = (&contact, request.body.note);
    Ok(IdempotentCreated(app.relations.add_contact(&caller, &agent, contact, request.once).await?))
}

/// List the contacts of an agent
///
/// The newest first.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/contacts", operation_id = "contacts_list", tag = "contacts",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        PageQuery,
    ),
    responses((status = 200, body = Vec<AgentContact>, description = "A page of contacts, the newest first"))
)]
pub async fn list_contacts(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<AgentId>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let found = app.relations.contacts(&check_agent_path(&app, "agent_id", &id)?, &paging.page).await?;
    Ok(paging.answer(found, |contact| (contact.created_at, &contact.contact_id)))
}

/// Remove a contact of an agent
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/contacts/{contact_id}", operation_id = "contacts_remove",
    tag = "contacts", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        ("contact_id" = String, Path, description = "Name of the other agent"),
    ),
    responses(
        (status = 200, body = AgentContact, description = "The removed contact"),
        (status = 404, description = "The agent has no such contact"),
    )
)]
pub async fn remove_contact(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams((id, contact)): PathParams<(AgentId, AgentId)>,
) -> Result<JsonBody<AgentContact>, ApiError> {
    let (agent, contact) = (check_agent_path(&app, "agent_id", &id)?, check_agent_path(&app, "contact_id", &contact)?);
    Ok(JsonBody(app.relations.remove_contact(&caller, &agent, &contact).await?))
}

/// A block to add.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BlockCreate {
    /// Name of the agent to block.
    blocked_id: AgentId,
    /// Reason, at most 500 characters; null: none.
    #[serde(default)]
    reason: Option<String>,
}

/// Block an agent
///
/// From then on neither can write to the other, contacts or not. The same block again changes the reason.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/blocks", operation_id = "blocks_add", tag = "blocks",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = BlockCreate,
    responses(
        (status = 201, body = AgentBlock, description = "The block"),
        (status = 400, description = "The agent has blocked 10 000 others (`invalid_state`)"),
    )
)]
pub async fn block_agent(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<BlockCreate>,
) -> Result<IdempotentCreated<AgentBlock>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    let blocked = check_agent_id(&app, ("body", "blocked_id"), &request.body.blocked_id)?;
    let blocked = (&blocked, request.body.reason);
    Ok(IdempotentCreated(app.relations.block(&caller, &agent, blocked, request.once).await?))
}

/// List the blocks of an agent
///
/// The newest first.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/blocks", operation_id = "blocks_list", tag = "blocks",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        PageQuery,
    ),
    responses((status = 200, body = Vec<AgentBlock>, description = "A page of blocks, the newest first"))
)]
pub async fn list_blocks(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<AgentId>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let found = app.relations.blocks(&check_agent_path(&app, "agent_id", &id)?, &paging.page).await?;
    Ok(paging.answer(found, |block| (block.created_at, &block.blocked_id)))
}

/// Remove a block
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/blocks/{blocked_id}", operation_id = "blocks_remove", tag = "blocks",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        ("blocked_id" = String, Path, description = "Name of the blocked agent"),
    ),
    responses(
        (status = 200, body = AgentBlock, description = "The removed block"),
        (status = 404, description = "The agent has not blocked that one"),
    )
)]
pub async fn unblock_agent(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams((id, blocked)): PathParams<(AgentId, AgentId)>,
) -> Result<JsonBody<AgentBlock>, ApiError> {
    let (agent, blocked) = (check_agent_path(&app, "agent_id", &id)?, check_agent_path(&app, "blocked_id", &blocked)?);
    Ok(JsonBody(app.relations.unblock(&caller, &agent, &blocked).await?))
}

/// An authorization to grant.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct AuthorizationCreate {
    /// Reason, at most 500 characters; null: none.
    #[serde(default)]
    reason: Option<String>,
}

/// Authorise an agent to send and receive messages
///
/// Also one that was revoked before. An agent that was never authorised or revoked may take part unless
/// `MESSAGES_REQUIRE_AUTHORIZATION` is set.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/authorizations", operation_id = "authorizations_grant",
    tag = "authorizations", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = Option<AuthorizationCreate>,
    responses((status = 201, body = AuthorizationStatus, description = "The agent's authorization"))
)]
pub async fn authorize_agent(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<Option<AuthorizationCreate>>,
) -> Result<IdempotentCreated<AuthorizationStatus>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    let said = (AgentAuthorization::Granted, request.body.and_then(|body| body.reason));
    Ok(IdempotentCreated(app.relations.authorise(&caller, &agent, said, request.once).await?))
}

/// Options of the answer.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuthorizationQuery {
    /// Agent for which `may_write` is answered.
    recipient: Option<AgentId>,
}

/// The authorization of an agent, and whether it may write to another.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AgentAuthorizationAnswer)]
pub struct AuthorizationResponse {
    #[serde(flatten)]
    standing: AuthorizationStatus,
    /// Whether the agent may write to `recipient`; absent where none was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    may_write: Option<PermissionCheck>,
}

/// Get the authorization of an agent
///
/// With `recipient` also whether it may write to that agent, and if not, why: authorization of both, blocks between
/// them, and either a contact or a reputation of 1000 of 10 000.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/authorizations", operation_id = "authorizations_get",
    tag = "authorizations", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        AuthorizationQuery,
    ),
    responses((status = 200, body = AuthorizationResponse, description = "The agent's authorization"))
)]
pub async fn get_authorization(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<AgentId>,
    QueryParams(query): QueryParams<AuthorizationQuery>,
) -> Result<JsonBody<AuthorizationResponse>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    let may_write = match query.recipient {
        Some(other) => {
            let other = check_agent_id(&app, ("query", "recipient"), &other)?;
            Some(app.relations.verdict(&agent, &other).await?)
        }
        None => None,
    };
    Ok(JsonBody(AuthorizationResponse { standing: app.relations.standing(&agent).await?, may_write }))
}

/// Why an authorization is revoked.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RevokeAuthorizationQuery {
    /// Reason, at most 500 characters.
    reason: Option<String>,
}

/// Revoke the authorization of an agent
///
/// From then on it neither sends nor receives messages, until it is authorised again.
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/authorizations", operation_id = "authorizations_revoke",
    tag = "authorizations", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        RevokeAuthorizationQuery,
    ),
    responses((status = 200, body = AuthorizationStatus, description = "The agent's authorization"))
)]
pub async fn revoke_authorization(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    QueryParams(query): QueryParams<RevokeAuthorizationQuery>,
) -> Result<JsonBody<AuthorizationStatus>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    let said = (AgentAuthorization::Revoked, query.reason);
    Ok(JsonBody(app.relations.authorise(&caller, &agent, said, None).await?.value))
}
