//! What was written: the inbox, the history, one message.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::check_agent_id;
use crate::{
    app::App,
    http::{
        ActingKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::{self, PageQuery, Paginator},
    },
};
use am_communication::{
    MessageStatus,
    message_log::{HistoryFilter, MessageView},
};
use am_core::ids::{AgentId, ChannelId, MessageId};
use am_db::codec::Timestamp;

/// Which messages of the inbox to read.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct InboxQuery {
    /// Agent whose inbox is read.
    agent_id: AgentId,
    /// Number of messages at most, 1 to 500. Default 100.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Whether to list only unread messages, the oldest first. Default false: all, the newest first.
    unread_only: Option<bool>,
    /// Continues after the message with this number, the `id` of the last message of the answer before.
    from: Option<i64>,
}

/// Messages that an agent received.
#[derive(Serialize, ToSchema)]
pub struct InboxPage {
    /// Agent whose inbox it is.
    agent_id: AgentId,
    /// Messages on this page of the inbox.
    messages: Vec<MessageView>,
    /// Number of messages in this answer.
    count: usize,
    /// Time of the answer.
    timestamp: Timestamp,
}

/// Read the inbox of an agent
///
/// Messages that are read here count as delivered and are not sent over sockets any more; they stay in the inbox
/// until they are marked as read.
#[utoipa::path(
    get, path = "/api/v1/agents/messages/inbox", operation_id = "messages_get_inbox", tag = "messages",
    security(("ApiKey" = ["admin", "agent"])),
    params(InboxQuery),
    responses((status = 200, body = InboxPage, description = "The messages in the inbox"))
)]
pub async fn list_inbox(
    State(app): State<App>,
    caller: ActingKey,
    QueryParams(query): QueryParams<InboxQuery>,
) -> Result<JsonBody<InboxPage>, ApiError> {
    let agent_id = check_agent_id(&app, ("query", "agent_id"), &query.agent_id)?;
    caller.acting_for("agent_id", &agent_id)?;
    let limit = pagination::row_limit(query.limit, 100)?;
    let unread_only = query.unread_only.unwrap_or(false);
    let messages = app.messages.inbox(&agent_id, unread_only, query.from, limit).await?;
    Ok(JsonBody(InboxPage { agent_id, count: messages.len(), messages, timestamp: Timestamp(app.clock.now()) }))
}

/// Filter of messages.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// Only messages from this agent.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    sender_id: Option<AgentId>,
    /// Only messages to this agent.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    receiver_id: Option<AgentId>,
    /// Only messages of this channel.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    channel_id: Option<ChannelId>,
}

/// List past messages
///
/// The newest first. Listing does not change them. Content that this service can't decrypt comes as its envelope. An
/// agent's key lists what the agent sent or received: `sender_id` or `receiver_id` names the agent.
#[utoipa::path(
    get, path = "/api/v1/agents/messages/history", operation_id = "messages_list", tag = "messages",
    security(("ApiKey" = ["admin", "agent"])),
    params(HistoryQuery, PageQuery),
    responses((status = 200, body = Vec<MessageView>, description = "A page of messages, the newest first"))
)]
pub async fn list_message_history(
    State(app): State<App>,
    caller: ActingKey,
    QueryParams(query): QueryParams<HistoryQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let named =
        |field, name: Option<AgentId>| name.map(|name| check_agent_id(&app, ("query", field), &name)).transpose();
    let past = HistoryFilter {
        sender: named("sender_id", query.sender_id)?,
        recipient: named("receiver_id", query.receiver_id)?,
        channel: query.channel_id,
    };
    if let Some(bound) = caller.bound_agent()
        && ![&past.sender, &past.recipient].into_iter().flatten().any(|named| named == bound)
    {
        return Err(ActingKey::refused("sender_id` or `receiver_id"));
    }
    history_response(&app, &past, &paging).await
}

/// A page of the past.
pub async fn history_response(app: &App, past: &HistoryFilter, paging: &Paginator<50>) -> Result<Response, ApiError> {
    let (messages, total) = app.messages.past(past, &paging.page).await?;
    let next = paging.last_of(&messages).map(|message| (message.sent_at, message.id.to_string()));
    let next = next.as_ref().map(|(at, id)| (*at, id.as_str()));
    Ok(paging.respond_partial(&messages, Some(total.cast_unsigned()), next))
}

/// Which of several messages with one id.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MessageQuery {
    /// Sender of the message, needed where several agents used the same id.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    sender_id: Option<AgentId>,
}

/// Get a message
///
/// An agent's key gets what the agent sent or received.
#[utoipa::path(
    get, path = "/api/v1/agents/messages/id/{message_id}", operation_id = "messages_get", tag = "messages",
    security(("ApiKey" = ["admin", "agent"])),
    params(("message_id" = String, Path, description = "Id of the message"), MessageQuery),
    responses(
        (status = 200, body = MessageView, description = "The message"),
        (status = 404, description = "No message has this id"),
        (status = 409, description = "Several agents sent a message with this id: give `sender_id`"),
    )
)]
pub async fn get_message(
    State(app): State<App>,
    caller: ActingKey,
    PathParams(id): PathParams<MessageId>,
    QueryParams(query): QueryParams<MessageQuery>,
) -> Result<JsonBody<MessageView>, ApiError> {
    let sender = query.sender_id.map(|name| check_agent_id(&app, ("query", "sender_id"), &name)).transpose()?;
    Ok(JsonBody(app.messages.get(&id, sender.as_ref(), caller.bound_agent()).await?))
}

/// Who read a message.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MarkReadRequest {
    /// Recipient of the message; another agent's message is then answered 404. Null: any.
    agent_id: Option<AgentId>,
    /// Sender of the message, needed where several agents used the same id. Null: any.
    sender_id: Option<AgentId>,
}

/// The new status of a message.
#[derive(Serialize, ToSchema)]
pub struct MarkReadResponse {
    /// Always the word `success`.
    status: &'static str,
    /// Id of the message.
    message_id: MessageId,
    /// Status of the message.
    message_status: MessageStatus,
    /// Always true: the message is marked as read.
    read: bool,
}

/// Mark a message as read
///
/// It then counts as delivered too. Again changes nothing. An agent's key marks what the agent received.
#[utoipa::path(
    post, path = "/api/v1/agents/messages/id/{message_id}/read", operation_id = "messages_mark_read",
    tag = "messages", security(("ApiKey" = ["admin", "agent"])),
    params(("message_id" = String, Path, description = "Id of the message"), IdempotencyHeader),
    request_body = Option<MarkReadRequest>,
    responses(
        (status = 200, body = MarkReadResponse, description = "The message's new status"),
        (status = 400, description = "The message has expired or failed (`invalid_state`)"),
        (status = 404, description = "No message has this id, or it is for another agent"),
        (status = 409, description = "Several agents sent a message with this id: give `sender_id`"),
    )
)]
pub async fn mark_message_read(
    State(app): State<App>,
    caller: ActingKey,
    PathParams(message_id): PathParams<MessageId>,
    request: IdempotentJson<Option<MarkReadRequest>>,
) -> Result<IdempotentOk<MarkReadResponse>, ApiError> {
    let (agent, sender) = request.body.map_or((None, None), |body| (body.agent_id, body.sender_id));
    let agent = agent.map(|name| check_agent_id(&app, ("body", "agent_id"), &name)).transpose()?;
    let sender = sender.map(|name| check_agent_id(&app, ("body", "sender_id"), &name)).transpose()?;
    let agent = agent.or_else(|| caller.bound_agent().cloned());
    let caller = match &agent {
        Some(agent) => caller.acting_for("agent_id", agent)?,
        None => caller.unchecked(),
    };
    let done = app.messages.read(&caller, agent.as_ref(), sender.as_ref(), &message_id, request.once).await?;
    let answer = |message_status| MarkReadResponse { status: "success", message_id, message_status, read: true };
    Ok(IdempotentOk(done.map(answer)))
}
