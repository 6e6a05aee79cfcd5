//! `/api/v1/agents/{agent_id}/channels`: where an agent talks with several, or with one.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{
    check_agent_id, check_agent_path,
    messages::{history_response, message_request},
};
use crate::{
    app::App,
    http::{
        ActingKey, AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_communication::{
    ChannelKind,
    channels::{MessageChannel, NewChannel},
    message_log::{HistoryFilter, MessageView},
    messages::{MessageDestination, SendReceipt},
};
use am_core::ids::{AgentId, ChannelId};

/// A channel to create.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChannelCreate {
    /// Kind of the channel. Default `direct`. In a `broadcast` channel only its creator writes; into a `private`
    /// channel only its creator adds members. Also taken as `channel_type`.
    #[serde(rename = "type", alias = "channel_type")]
    kind: Option<ChannelKind>,
    /// Name of the channel, for people; null: none.
    name: Option<String>,
    /// Agents to add beside the creator; for a direct channel the one other agent.
    #[serde(default)]
    members: Vec<AgentId>,
}

/// Create a channel
///
/// The agent must be allowed to write to every member. Two agents have one open direct channel: if it exists it is
/// answered, and their first message creates it.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/channels", operation_id = "channels_create", tag = "channels",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = ChannelCreate,
    responses(
        (status = 201, body = MessageChannel, description = "The channel; for two agents that have an open direct channel, that one"),
        (status = 403, description = "The agent may not write to a member (`message_refused`)"),
    )
)]
pub async fn create_channel(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<ChannelCreate>,
) -> Result<IdempotentCreated<MessageChannel>, ApiError> {
    let maker = check_agent_path(&app, "agent_id", &id)?;
    let ChannelCreate { kind, name, members } = request.body;
    let members = members.iter().map(|name| check_agent_id(&app, ("body", "members"), name));
    let members = members.collect::<Result<_, _>>()?;
    let new = NewChannel { kind: kind.unwrap_or(ChannelKind::Direct), name, members };
    Ok(IdempotentCreated(app.channels.create(&caller, &maker, new, request.once).await?))
}

/// List the channels of an agent
///
/// The newest first, closed ones included.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/channels", operation_id = "channels_list", tag = "channels",
    security(("ApiKey" = ["admin", "agent"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        PageQuery,
    ),
    responses((status = 200, body = Vec<MessageChannel>, description = "A page of channels, the newest first"))
)]
pub async fn list_channels(
    State(app): State<App>,
    caller: ActingKey,
    PathParams(id): PathParams<AgentId>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    caller.acting_for("agent_id", &agent)?;
    let found = app.channels.list(&agent, &paging.page).await?;
    Ok(paging.answer(found, |channel| (channel.created_at, &channel.channel_id)))
}

/// Get a channel of an agent
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/channels/{channel_id}", operation_id = "channels_get", tag = "channels",
    security(("ApiKey" = ["admin", "agent"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        ("channel_id" = String, Path, description = "Id of the channel"),
    ),
    responses(
        (status = 200, body = MessageChannel, description = "The channel"),
        (status = 404, description = "The agent is in no channel with this id"),
    )
)]
pub async fn get_channel(
    State(app): State<App>,
    caller: ActingKey,
    PathParams((id, channel)): PathParams<(AgentId, ChannelId)>,
) -> Result<JsonBody<MessageChannel>, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    caller.acting_for("agent_id", &agent)?;
    Ok(JsonBody(app.channels.get(&agent, &channel).await?))
}

/// Why a channel is closed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CloseQuery {
    /// Reason, stored with the channel.
    reason: Option<String>,
}

/// Close a channel
///
/// Its creator may, and both members of a direct one. No message can be sent to it any more; its messages stay. A
/// channel without a message for 30 days is closed by the service.
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/channels/{channel_id}", operation_id = "channels_close",
    tag = "channels", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        ("channel_id" = String, Path, description = "Id of the channel"),
        CloseQuery,
    ),
    responses(
        (status = 200, body = MessageChannel, description = "The closed channel"),
        (status = 400, description = "The channel is closed already (`invalid_state`)"),
        (status = 403, description = "Only the agent that created the channel may close it"),
        (status = 404, description = "The agent is in no channel with this id"),
    )
)]
pub async fn close_channel(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams((id, channel)): PathParams<(AgentId, ChannelId)>,
    QueryParams(query): QueryParams<CloseQuery>,
) -> Result<JsonBody<MessageChannel>, ApiError> {
    let actor = check_agent_path(&app, "agent_id", &id)?;
    let done = app.channels.close(&caller, (&actor, &channel), query.reason, None).await?;
    Ok(JsonBody(done.value))
}

/// A member to add.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MemberAdd {
    /// Agent to add. Also taken as `member`.
    #[serde(rename = "agent_id", alias = "member")]
    member: AgentId,
}

/// Add an agent to a channel
///
/// Every member of a group may add agents that it may write to; to a private or a broadcast channel only its creator
/// adds members.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/channels/{channel_id}/members", operation_id = "channels_add_member",
    tag = "channels", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        ("channel_id" = String, Path, description = "Id of the channel"),
        IdempotencyHeader,
    ),
    request_body = MemberAdd,
    responses(
        (status = 200, body = MessageChannel, description = "The channel with its new member"),
        (status = 400, description = "The channel is closed, direct, or full (`invalid_state`)"),
        (status = 403, description = "Only the agent that created the channel may add members, or the agent may not write to the new member (`message_refused`)"),
        (status = 404, description = "The agent is in no channel with this id"),
    )
)]
pub async fn add_channel_member(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams((id, channel)): PathParams<(AgentId, ChannelId)>,
    request: IdempotentJson<MemberAdd>,
) -> Result<IdempotentOk<MessageChannel>, ApiError> {
    let actor = check_agent_path(&app, "agent_id", &id)?;
    let member = check_agent_id(&app, ("body", "agent_id"), &request.body.member)?;
    Ok(IdempotentOk(app.channels.add(&caller, (&actor, &channel), &member, request.once).await?))
}

/// Remove an agent from a channel
///
/// A member removes itself, the creator anybody else.
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/channels/{channel_id}/members/{member_id}",
    operation_id = "channels_remove_member", tag = "channels", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        ("channel_id" = String, Path, description = "Id of the channel"),
        ("member_id" = String, Path, description = "Name of the member to remove"),
    ),
    responses(
        (status = 200, body = MessageChannel, description = "The channel without the member"),
        (status = 400, description = "The channel is closed, or the member is its creator (`invalid_state`)"),
        (status = 403, description = "Only the agent that created the channel may remove others"),
        (status = 404, description = "The agent is in no channel with this id, or the member is not in it"),
    )
)]
pub async fn remove_channel_member(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams((id, channel, member)): PathParams<(AgentId, ChannelId, AgentId)>,
) -> Result<JsonBody<MessageChannel>, ApiError> {
    let actor = check_agent_path(&app, "agent_id", &id)?;
    let member = check_agent_path(&app, "member_id", &member)?;
    let done = app.channels.remove(&caller, (&actor, &channel), &member, None).await?;
    Ok(JsonBody(done.value))
}

message_request! {
    /// A message to the other members of a channel.
    pub struct ChannelMessage {
        /// Content of the message: an object of at most 100 000 bytes as JSON.
        #[schema(value_type = Object)]
        content: Map<String, Value>,
    }
}

/// Send a message to a channel
///
/// Each other member receives a copy, as with a broadcast.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/channels/{channel_id}/messages", operation_id = "channels_send",
    tag = "channels", security(("ApiKey" = ["admin", "agent"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        ("channel_id" = String, Path, description = "Id of the channel"),
        IdempotencyHeader,
    ),
    request_body = ChannelMessage,
    responses(
        (status = 200, body = SendReceipt, description = "The receipt of the stored message"),
        (status = 400, description = "The channel is closed, or has too many members (`invalid_state`)"),
        (status = 403, description = "Only its creator may write into this broadcast channel, another key is bound to the sender (`sender_has_key`), or every member refuses the sender (`message_refused`)"),
        (status = 404, description = "The agent is in no channel with this id"),
        (status = 409, description = "`message_id` was used by another sender"),
    )
)]
pub async fn send_channel_message(
    State(app): State<App>,
    caller: ActingKey,
    PathParams((id, channel)): PathParams<(AgentId, ChannelId)>,
    request: IdempotentJson<ChannelMessage>,
) -> Result<IdempotentOk<SendReceipt>, ApiError> {
    let mut asked = request.body;
    let content = Value::Object(std::mem::take(&mut asked.content));
    let sender = check_agent_path(&app, "agent_id", &id)?;
    let caller = caller.sending_as(&app.shared.keyring, "agent_id", &sender)?;
    let draft = asked.draft(sender, MessageDestination::Channel(channel), content);
    Ok(IdempotentOk(app.messages.send(&caller, draft, request.once).await?))
}

/// List the messages of a channel
///
/// The newest first; of a message to several agents every copy.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/channels/{channel_id}/messages", operation_id = "channels_list_messages",
    tag = "channels", security(("ApiKey" = ["admin", "agent"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters; an API key is answered as its principal"),
        ("channel_id" = String, Path, description = "Id of the channel"),
        PageQuery,
    ),
    responses(
        (status = 200, body = Vec<MessageView>, description = "A page of messages, the newest first"),
        (status = 404, description = "The agent is in no channel with this id"),
    )
)]
pub async fn list_channel_messages(
    State(app): State<App>,
    caller: ActingKey,
    PathParams((id, channel)): PathParams<(AgentId, ChannelId)>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    caller.acting_for("agent_id", &agent)?;
    app.channels.get(&agent, &channel).await?;
    history_response(&app, &HistoryFilter { channel: Some(channel), ..HistoryFilter::default() }, &paging).await
}
