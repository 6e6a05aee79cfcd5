//! `/api/v1/agents/{agent_id}/channels`: where an agent talks with several, or with one.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::{
    agent, agent_in,
    messages::{answer, message_request},
};
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        idempotency::{IdempotentCreated, IdempotentOk, KeyedJson},
        openapi::IdempotencyHeader,
        page::{PageQuery, Paging},
    },
};
use am_communication::{
    ChannelKind,
    channels::{Channel, NewChannel},
    messages::{Message, Past, Receipt, To},
};

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
    members: Vec<String>,
}

/// Create a channel
///
/// The agent must be allowed to write to every member. Two agents have one open direct channel: if it exists it is
/// answered, and their first message creates it.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/channels", operation_id = "channels_create", tag = "channels",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = ChannelCreate,
    responses(
        (status = 201, body = Channel, description = "The channel; for two agents that have an open direct channel, that one"),
        (status = 403, description = "The agent may not write to a member (`message_refused`)"),
    )
)]
pub async fn create(
    State(app): State<App>,
    Admin(caller): Admin,
    Path(id): Path<String>,
    request: KeyedJson<ChannelCreate>,
) -> Result<IdempotentCreated<Channel>, ApiError> {
    let maker = agent(&app, "agent_id", &id)?;
    let ChannelCreate { kind, name, members } = request.body;
    let members = members.iter().map(|name| agent_in(&app, ("body", "members"), name));
    let members = members.collect::<Result<_, _>>()?;
    let new = NewChannel { kind: kind.unwrap_or(ChannelKind::Direct), name, members };
    Ok(IdempotentCreated(app.channels.create(&caller, &maker, new, request.once).await?))
}

/// List the channels of an agent
///
/// The newest first, closed ones included.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/channels", operation_id = "channels_list", tag = "channels",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        PageQuery,
    ),
    responses((status = 200, body = Vec<Channel>, description = "A page of channels, the newest first"))
)]
pub async fn list(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
    paging: Paging<50>,
) -> Result<Response, ApiError> {
    let found = app.channels.list(&agent(&app, "agent_id", &id)?, &paging.page).await?;
    Ok(paging.answer(found, |channel| (channel.created_at, &channel.channel_id)))
}

/// Get a channel of an agent
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/channels/{channel_id}", operation_id = "channels_get", tag = "channels",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        ("channel_id" = String, Path, description = "Id of the channel"),
    ),
    responses(
        (status = 200, body = Channel, description = "The channel"),
        (status = 404, description = "The agent is in no channel with this id"),
    )
)]
pub async fn get(
    State(app): State<App>,
    _: Admin,
    Path((id, channel)): Path<(String, String)>,
) -> Result<Json<Channel>, ApiError> {
    Ok(Json(app.channels.get(&agent(&app, "agent_id", &id)?, &channel).await?))
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
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        ("channel_id" = String, Path, description = "Id of the channel"),
        CloseQuery,
    ),
    responses(
        (status = 200, body = Channel, description = "The closed channel"),
        (status = 400, description = "The channel is closed already (`invalid_state`)"),
        (status = 403, description = "Only the agent that created the channel may close it"),
        (status = 404, description = "The agent is in no channel with this id"),
    )
)]
pub async fn close(
    State(app): State<App>,
    Admin(caller): Admin,
    Path((id, channel)): Path<(String, String)>,
    Query(query): Query<CloseQuery>,
) -> Result<Json<Channel>, ApiError> {
    let actor = agent(&app, "agent_id", &id)?;
    let done = app.channels.close(&caller, (&actor, &channel), query.reason, None).await?;
    Ok(Json(done.value))
}

/// A member to add.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MemberAdd {
    /// Agent to add. Also taken as `member`.
    #[serde(rename = "agent_id", alias = "member")]
    member: String,
}

/// Add an agent to a channel
///
/// Every member of a group may add agents that it may write to; to a private or a broadcast channel only its creator
/// adds members.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/channels/{channel_id}/members", operation_id = "channels_add_member",
    tag = "channels", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        ("channel_id" = String, Path, description = "Id of the channel"),
        IdempotencyHeader,
    ),
    request_body = MemberAdd,
    responses(
        (status = 200, body = Channel, description = "The channel with its new member"),
        (status = 400, description = "The channel is closed, direct, or full (`invalid_state`)"),
        (status = 403, description = "Only the agent that created the channel may add members, or the agent may not write to the new member (`message_refused`)"),
        (status = 404, description = "The agent is in no channel with this id"),
    )
)]
pub async fn add(
    State(app): State<App>,
    Admin(caller): Admin,
    Path((id, channel)): Path<(String, String)>,
    request: KeyedJson<MemberAdd>,
) -> Result<IdempotentOk<Channel>, ApiError> {
    let actor = agent(&app, "agent_id", &id)?;
    let member = agent_in(&app, ("body", "agent_id"), &request.body.member)?;
    Ok(IdempotentOk(app.channels.add(&caller, (&actor, &channel), &member, request.once).await?))
}

/// Remove an agent from a channel
///
/// A member removes itself, the creator anybody else.
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/channels/{channel_id}/members/{member_id}",
    operation_id = "channels_remove_member", tag = "channels", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        ("channel_id" = String, Path, description = "Id of the channel"),
        ("member_id" = String, Path, description = "Name of the member to remove"),
    ),
    responses(
        (status = 200, body = Channel, description = "The channel without the member"),
        (status = 400, description = "The channel is closed, or the member is its creator (`invalid_state`)"),
        (status = 403, description = "Only the agent that created the channel may remove others"),
        (status = 404, description = "The agent is in no channel with this id, or the member is not in it"),
    )
)]
pub async fn remove(
    State(app): State<App>,
    Admin(caller): Admin,
    Path((id, channel, member)): Path<(String, String, String)>,
) -> Result<Json<Channel>, ApiError> {
    let actor = agent(&app, "agent_id", &id)?;
    let member = agent(&app, "member_id", &member)?;
    let done = app.channels.remove(&caller, (&actor, &channel), &member, None).await?;
    Ok(Json(done.value))
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
    tag = "channels", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        ("channel_id" = String, Path, description = "Id of the channel"),
        IdempotencyHeader,
    ),
    request_body = ChannelMessage,
    responses(
        (status = 200, body = Receipt, description = "The receipt of the stored message"),
        (status = 400, description = "The channel is closed, or has too many members (`invalid_state`)"),
        (status = 403, description = "Only its creator may write into this broadcast channel, or every member refuses the sender (`message_refused`)"),
        (status = 404, description = "The agent is in no channel with this id"),
        (status = 409, description = "`message_id` was used by another sender"),
    )
)]
pub async fn send(
    State(app): State<App>,
    Admin(caller): Admin,
    Path((id, channel)): Path<(String, String)>,
    request: KeyedJson<ChannelMessage>,
) -> Result<IdempotentOk<Receipt>, ApiError> {
    let mut asked = request.body;
    let content = Value::Object(std::mem::take(&mut asked.content));
    let draft = asked.draft(agent(&app, "agent_id", &id)?, To::Channel(channel), content);
    Ok(IdempotentOk(app.messages.send(&caller, draft, request.once).await?))
}

/// List the messages of a channel
///
/// The newest first; of a message to several agents every copy.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/channels/{channel_id}/messages", operation_id = "channels_list_messages",
    tag = "channels", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        ("channel_id" = String, Path, description = "Id of the channel"),
        PageQuery,
    ),
    responses(
        (status = 200, body = Vec<Message>, description = "A page of messages, the newest first"),
        (status = 404, description = "The agent is in no channel with this id"),
    )
)]
pub async fn history(
    State(app): State<App>,
    _: Admin,
    Path((id, channel)): Path<(String, String)>,
    paging: Paging<50>,
) -> Result<Response, ApiError> {
    app.channels.get(&agent(&app, "agent_id", &id)?, &channel).await?;
    answer(&app, &Past { channel: Some(channel), ..Past::default() }, &paging).await
}
