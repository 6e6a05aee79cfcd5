//! `/api/v1/agents/{agent_id}/contacts`, `/blocks` and `/authorizations`.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{agent, agent_in};
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        idempotency::{IdempotentCreated, KeyedJson},
        openapi::IdempotencyHeader,
        page::{PageQuery, Paging},
    },
};
use am_communication::relations::{Authorization, Block, Contact, Standing, Verdict};

/// A contact to add.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ContactCreate {
    /// Name of the other agent.
    contact_id: String,
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
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = ContactCreate,
    responses(
        (status = 201, body = Contact, description = "The contact"),
        (status = 400, description = "The agent has 10 000 contacts (`invalid_state`)"),
    )
)]
pub async fn add_contact(
    State(app): State<App>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    request: KeyedJson<ContactCreate>,
) -> Result<IdempotentCreated<Contact>, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let contact = agent_in(&app, ("body", "contact_id"), &request.body.contact_id)?;
    let contact = (contact.as_str(), request.body.note);
    Ok(IdempotentCreated(app.relations.add_contact(&caller, &agent, contact, request.once).await?))
}

/// List the contacts of an agent
///
/// The newest first.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/contacts", operation_id = "contacts_list", tag = "contacts",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        PageQuery,
    ),
    responses((status = 200, body = Vec<Contact>, description = "A page of contacts, the newest first"))
)]
pub async fn contacts(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
    paging: Paging<100>,
) -> Result<Response, ApiError> {
    let found = app.relations.contacts(&agent(&app, "agent_id", &id)?, &paging.page).await?;
    Ok(paging.answer(found, |contact| (contact.created_at, &contact.contact_id)))
}

/// Remove a contact of an agent
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/contacts/{contact_id}", operation_id = "contacts_remove",
    tag = "contacts", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        ("contact_id" = String, Path, description = "Name of the other agent"),
    ),
    responses(
        (status = 200, body = Contact, description = "The removed contact"),
        (status = 404, description = "The agent has no such contact"),
    )
)]
pub async fn remove_contact(
    State(app): State<App>,
    Admin(caller): Admin,
    Path((id, contact)): Path<(String, String)>,
) -> Result<Json<Contact>, ApiError> {
    let (agent, contact) = (agent(&app, "agent_id", &id)?, agent(&app, "contact_id", &contact)?);
    Ok(Json(app.relations.remove_contact(&caller, &agent, &contact).await?))
}

/// A block to add.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BlockCreate {
    /// Name of the agent to block.
    blocked_id: String,
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
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = BlockCreate,
    responses(
        (status = 201, body = Block, description = "The block"),
        (status = 400, description = "The agent has blocked 10 000 others (`invalid_state`)"),
    )
)]
pub async fn block(
    State(app): State<App>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    request: KeyedJson<BlockCreate>,
) -> Result<IdempotentCreated<Block>, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let blocked = agent_in(&app, ("body", "blocked_id"), &request.body.blocked_id)?;
    let blocked = (blocked.as_str(), request.body.reason);
    Ok(IdempotentCreated(app.relations.block(&caller, &agent, blocked, request.once).await?))
}

/// List the blocks of an agent
///
/// The newest first.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/blocks", operation_id = "blocks_list", tag = "blocks",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        PageQuery,
    ),
    responses((status = 200, body = Vec<Block>, description = "A page of blocks, the newest first"))
)]
pub async fn blocks(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
    paging: Paging<100>,
) -> Result<Response, ApiError> {
    let found = app.relations.blocks(&agent(&app, "agent_id", &id)?, &paging.page).await?;
    Ok(paging.answer(found, |block| (block.created_at, &block.blocked_id)))
}

/// Remove a block
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/blocks/{blocked_id}", operation_id = "blocks_remove", tag = "blocks",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        ("blocked_id" = String, Path, description = "Name of the blocked agent"),
    ),
    responses(
        (status = 200, body = Block, description = "The removed block"),
        (status = 404, description = "The agent has not blocked that one"),
    )
)]
pub async fn unblock(
    State(app): State<App>,
    Admin(caller): Admin,
    Path((id, blocked)): Path<(String, String)>,
) -> Result<Json<Block>, ApiError> {
    let (agent, blocked) = (agent(&app, "agent_id", &id)?, agent(&app, "blocked_id", &blocked)?);
    Ok(Json(app.relations.unblock(&caller, &agent, &blocked).await?))
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
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = Option<AuthorizationCreate>,
    responses((status = 201, body = Standing, description = "The agent's authorization"))
)]
pub async fn authorise(
    State(app): State<App>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<AuthorizationCreate>>,
) -> Result<IdempotentCreated<Standing>, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let said = (Authorization::Granted, request.body.and_then(|body| body.reason));
    Ok(IdempotentCreated(app.relations.authorise(&caller, &agent, said, request.once).await?))
}

/// Options of the answer.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StandingQuery {
    /// Agent for which `may_write` is answered.
    recipient: Option<String>,
}

/// The authorization of an agent, and whether it may write to another.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AgentAuthorizationAnswer)]
pub struct StandingAnswer {
    #[serde(flatten)]
    standing: Standing,
    /// Whether the agent may write to `recipient`; absent where none was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    may_write: Option<Verdict>,
}

/// Get the authorization of an agent
///
/// With `recipient` also whether it may write to that agent, and if not, why: authorization of both, blocks between
/// them, and either a contact or a reputation of 1000 of 10 000.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/authorizations", operation_id = "authorizations_get",
    tag = "authorizations", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        StandingQuery,
    ),
    responses((status = 200, body = StandingAnswer, description = "The agent's authorization"))
)]
pub async fn standing(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
    Query(query): Query<StandingQuery>,
) -> Result<Json<StandingAnswer>, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let may_write = match query.recipient {
        Some(other) => {
            let other = agent_in(&app, ("query", "recipient"), &other)?;
            Some(app.relations.verdict(&agent, &other).await?)
        }
        None => None,
    };
    Ok(Json(StandingAnswer { standing: app.relations.standing(&agent).await?, may_write }))
}

/// Why an authorization is revoked.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RevokeQuery {
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
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        RevokeQuery,
    ),
    responses((status = 200, body = Standing, description = "The agent's authorization"))
)]
pub async fn revoke(
    State(app): State<App>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    Query(query): Query<RevokeQuery>,
) -> Result<Json<Standing>, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let said = (Authorization::Revoked, query.reason);
    Ok(Json(app.relations.authorise(&caller, &agent, said, None).await?.value))
}
