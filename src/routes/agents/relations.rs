//! `/api/v1/agents/{agent_id}/contacts`, `/blocks` and `/authorizations`.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{agent, agent_in};
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
};
use am_communication::relations::{Authorization, Block, Contact, Standing, Verdict};

/// A contact to be added.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ContactCreate {
    /// Which agent.
    contact_id: String,
    /// For people, at most 500 characters.
    #[serde(default)]
    note: Option<String>,
}

/// Add a contact of an agent
///
/// Two agents of whom one is a contact of the other may write to each other whatever their reputation is. The same contact
/// again changes the note. An agent has at most 10 000.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/contacts", tag = "agents", params(("agent_id" = String, Path)),
    request_body = ContactCreate, responses((status = 201, body = Contact), (status = 400), (status = 422))
)]
pub async fn add_contact(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<ContactCreate>,
) -> Result<Response, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let contact = agent_in(&app, ("body", "contact_id"), &request.body.contact_id)?;
    let (by, note) = ((&caller.0).into(), request.body.note);
    let done = app.relations.add_contact(&by, &agent, (&contact, note), request.once).await?;
    Ok((StatusCode::CREATED, Replayable(Json(done.value), done.replayed)).into_response())
}

/// List the contacts of an agent
///
/// The newest first.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/contacts", tag = "agents", params(("agent_id" = String, Path), PageQuery),
    responses((status = 200, body = Vec<Contact>))
)]
pub async fn contacts(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let page = paging.page(100)?;
    let (contacts, total) = app.relations.contacts(&agent(&app, "agent_id", &id)?, &page).await?;
    let last = contacts.last().map(|contact| (contact.created_at, contact.contact_id.as_str()));
    Ok(paging.answer(&page, &contacts, total.cast_unsigned(), last))
}

/// Remove a contact of an agent
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/contacts/{contact_id}", tag = "agents",
    params(("agent_id" = String, Path), ("contact_id" = String, Path)),
    responses((status = 200, body = Contact), (status = 404))
)]
pub async fn remove_contact(
    State(app): State<App>,
    caller: Admin,
    Path((id, contact)): Path<(String, String)>,
) -> Result<Json<Contact>, ApiError> {
    let (agent, contact) = (agent(&app, "agent_id", &id)?, agent(&app, "contact_id", &contact)?);
    Ok(Json(app.relations.remove_contact(&(&caller.0).into(), &agent, &contact).await?))
}

/// A block to be set.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BlockCreate {
    /// Which agent.
    blocked_id: String,
    /// Why, at most 500 characters.
    #[serde(default)]
    reason: Option<String>,
}

/// Block an agent
///
/// From then on neither writes to the other, contacts or not. The same block again changes the reason.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/blocks", tag = "agents", params(("agent_id" = String, Path)),
    request_body = BlockCreate, responses((status = 201, body = Block), (status = 400), (status = 422))
)]
pub async fn block(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<BlockCreate>,
) -> Result<Response, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let blocked = agent_in(&app, ("body", "blocked_id"), &request.body.blocked_id)?;
    let (by, reason) = ((&caller.0).into(), request.body.reason);
    let done = app.relations.block(&by, &agent, (&blocked, reason), request.once).await?;
    Ok((StatusCode::CREATED, Replayable(Json(done.value), done.replayed)).into_response())
}

/// List whom an agent has blocked
///
/// The newest first.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/blocks", tag = "agents", params(("agent_id" = String, Path), PageQuery),
    responses((status = 200, body = Vec<Block>))
)]
pub async fn blocks(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let page = paging.page(100)?;
    let (blocks, total) = app.relations.blocks(&agent(&app, "agent_id", &id)?, &page).await?;
    let last = blocks.last().map(|block| (block.created_at, block.blocked_id.as_str()));
    Ok(paging.answer(&page, &blocks, total.cast_unsigned(), last))
}

/// Take a block away
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/blocks/{blocked_id}", tag = "agents",
    params(("agent_id" = String, Path), ("blocked_id" = String, Path)),
    responses((status = 200, body = Block), (status = 404))
)]
pub async fn unblock(
    State(app): State<App>,
    caller: Admin,
    Path((id, blocked)): Path<(String, String)>,
) -> Result<Json<Block>, ApiError> {
    let (agent, blocked) = (agent(&app, "agent_id", &id)?, agent(&app, "blocked_id", &blocked)?);
    Ok(Json(app.relations.unblock(&(&caller.0).into(), &agent, &blocked).await?))
}

/// Why an agent may take part.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct AuthorizationCreate {
    /// At most 500 characters.
    #[serde(default)]
    reason: Option<String>,
}

/// Authorise an agent to send and get messages
///
/// Also one that was revoked before. An agent of whom nobody has spoken may take part unless
/// `MESSAGES_REQUIRE_AUTHORIZATION` is set.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/authorizations", tag = "agents", params(("agent_id" = String, Path)),
    request_body = AuthorizationCreate, responses((status = 201, body = Standing), (status = 422))
)]
pub async fn authorise(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<AuthorizationCreate>>,
) -> Result<Response, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let said = (Authorization::Granted, request.body.and_then(|body| body.reason));
    let done = app.relations.authorise(&(&caller.0).into(), &agent, said, request.once).await?;
    Ok((StatusCode::CREATED, Replayable(Json(done.value), done.replayed)).into_response())
}

/// Whom it would write to.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StandingQuery {
    /// Also say whether the agent may write to this one now.
    recipient: Option<String>,
}

/// Whether an agent may take part, and write to another.
#[derive(Debug, Serialize, ToSchema)]
pub struct StandingAnswer {
    #[serde(flatten)]
    standing: Standing,
    /// Whether it may write to the recipient that was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    may_write: Option<Verdict>,
}

/// Whether an agent may send and get messages
///
/// With `recipient` also whether it may write to that one, and if not, why: authorization of both, blocks between them, and
/// either a contact or a reputation of 1000 of 10 000.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/authorizations", tag = "agents",
    params(("agent_id" = String, Path), StandingQuery), responses((status = 200, body = StandingAnswer))
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

/// Why it may not any more.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RevokeQuery {
    /// At most 500 characters.
    reason: Option<String>,
}

/// Revoke an agent's authorization
///
/// From then on it neither sends nor gets messages, until it is authorised again.
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/authorizations", tag = "agents",
    params(("agent_id" = String, Path), RevokeQuery), responses((status = 200, body = Standing), (status = 422))
)]
pub async fn revoke(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    Query(query): Query<RevokeQuery>,
) -> Result<Json<Standing>, ApiError> {
    let agent = agent(&app, "agent_id", &id)?;
    let said = (Authorization::Revoked, query.reason);
    Ok(Json(app.relations.authorise(&(&caller.0).into(), &agent, said, None).await?.value))
}
