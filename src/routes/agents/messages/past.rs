//! What was written: the inbox, the history, one message.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::agent_in;
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        idempotency::{KeyedJson, Replayable},
        page::{self, PageQuery, Paging},
    },
};
use am_communication::{
    MessageStatus,
    messages::{Message, Past},
};
use am_db::codec::Timestamp;

/// Whose inbox.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct InboxQuery {
    /// Whose.
    agent_id: String,
    /// Messages at most.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Only what is not read yet, the oldest first; else the newest first.
    unread_only: Option<bool>,
    /// Go on from the message with this number (`id`), the last one of the answer before.
    from: Option<i64>,
}

/// What came for an agent.
#[derive(Serialize, ToSchema)]
pub struct Inbox {
    agent_id: String,
    messages: Vec<Message>,
    count: usize,
    #[schema(value_type = String)]
    timestamp: Timestamp,
}

/// Look into an agent's inbox
///
/// What is fetched counts as delivered, and is not sent over sockets any more; it stays in the inbox until it is read.
#[utoipa::path(
    get, path = "/api/v1/agents/messages/inbox", tag = "agents", params(InboxQuery),
    responses((status = 200, body = Inbox), (status = 422))
)]
pub async fn inbox(State(app): State<App>, _: Admin, Query(query): Query<InboxQuery>) -> Result<Json<Inbox>, ApiError> {
    let agent_id = agent_in(&app, ("query", "agent_id"), &query.agent_id)?;
    let limit = page::rows(query.limit, 100)?;
    let unread_only = query.unread_only.unwrap_or(false);
    let messages = app.messages.inbox(&agent_id, unread_only, query.from, limit).await?;
    Ok(Json(Inbox { agent_id, count: messages.len(), messages, timestamp: Timestamp(app.clock.now()) }))
}

/// Which messages.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// Only from this agent.
    sender_id: Option<String>,
    /// Only to this agent.
    receiver_id: Option<String>,
    /// Only those of this channel.
    channel_id: Option<String>,
}

/// List messages of the past
///
/// The newest first. Looking changes nothing of them. What this service can't open comes as its envelope.
#[utoipa::path(
    get, path = "/api/v1/agents/messages/history", tag = "agents", params(HistoryQuery, PageQuery),
    responses((status = 200, body = Vec<Message>), (status = 422))
)]
pub async fn history(
    State(app): State<App>,
    _: Admin,
    Query(query): Query<HistoryQuery>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let named = |field, name: Option<String>| name.map(|name| agent_in(&app, ("query", field), &name)).transpose();
    let past = Past {
        sender: named("sender_id", query.sender_id)?,
        recipient: named("receiver_id", query.receiver_id)?,
        channel: query.channel_id,
    };
    answer(&app, &past, &paging).await
}

/// A page of the past.
pub async fn answer(app: &App, past: &Past, paging: &Paging) -> Result<Response, ApiError> {
    let page = paging.page(50)?;
    let (messages, total) = app.messages.past(past, &page).await?;
    let last = messages.last().map(|message| (message.sent_at, message.id.to_string()));
    let last = last.as_ref().map(|(at, id)| (*at, id.as_str()));
    Ok(paging.answer(&page, &messages, total.cast_unsigned(), last))
}

/// A message
#[utoipa::path(
    get, path = "/api/v1/agents/messages/id/{message_id}", tag = "agents", params(("message_id" = String, Path)),
    responses((status = 200, body = Message), (status = 404))
)]
pub async fn get(State(app): State<App>, _: Admin, Path(id): Path<String>) -> Result<Json<Message>, ApiError> {
    Ok(Json(app.messages.get(&id).await?))
}

/// Who has read a message.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ReadRequest {
    /// Its recipient, if that is to be made sure of.
    agent_id: Option<String>,
}

/// What has become of a message.
#[derive(Serialize, ToSchema)]
pub struct ReadAnswer {
    /// Always `success`.
    status: &'static str,
    message_id: String,
    message_status: MessageStatus,
    /// Always true.
    read: bool,
}

/// Say that a message was read
///
/// That says as well that it was delivered. Once more changes nothing; 400 for one that has expired or failed.
#[utoipa::path(
    post, path = "/api/v1/agents/messages/id/{message_id}/read", tag = "agents", params(("message_id" = String, Path)),
    request_body = Option<ReadRequest>, responses((status = 200, body = ReadAnswer), (status = 400), (status = 404))
)]
pub async fn read(
    State(app): State<App>,
    caller: Admin,
    Path(message_id): Path<String>,
    request: KeyedJson<Option<ReadRequest>>,
) -> Result<Response, ApiError> {
    let agent = request.body.and_then(|body| body.agent_id);
    let agent = agent.map(|name| agent_in(&app, ("body", "agent_id"), &name)).transpose()?;
    let done = app.messages.read(&(&caller.0).into(), agent.as_deref(), &message_id, request.once).await?;
    let answer = ReadAnswer { status: "success", message_id, message_status: done.value, read: true };
    Ok(Replayable(Json(answer), done.replayed).into_response())
}
