//! `/api/v1/agents/{agent_id}/channels`: where an agent talks with several, or with one.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
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
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
};
use am_communication::{
    ChannelKind,
    channels::{Channel, NewChannel},
    messages::{Message, Past, Receipt, To},
};

/// A channel to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ChannelCreate {
    /// direct (default), group, broadcast (its maker alone writes) or private (its maker alone brings members).
    #[serde(rename = "type", alias = "channel_type")]
    kind: Option<ChannelKind>,
    /// What it is called.
    name: Option<String>,
    /// Who is to be in it beside its maker; of a direct one the other agent.
    #[serde(default)]
    members: Vec<String>,
}

/// Make a channel in an agent's name
///
/// The agent must be allowed to write to every member. Two agents have one open direct channel, which is answered where it is
/// there, and made by itself with their first message.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/channels", tag = "agents", params(("agent_id" = String, Path)),
    request_body = ChannelCreate, responses((status = 201, body = Channel), (status = 403), (status = 422))
)]
pub async fn create(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<ChannelCreate>,
) -> Result<Response, ApiError> {
    let maker = agent(&app, "agent_id", &id)?;
    let ChannelCreate { kind, name, members } = request.body;
    let members = members.iter().map(|name| agent_in(&app, ("body", "members"), name));
    let members = members.collect::<Result<_, _>>()?;
    let new = NewChannel { kind: kind.unwrap_or(ChannelKind::Direct), name, members };
    let done = app.channels.create(&(&caller.0).into(), &maker, new, request.once).await?;
    Ok((StatusCode::CREATED, Replayable(Json(done.value), done.replayed)).into_response())
}

/// List the channels that an agent is in
///
/// The newest first, closed ones too.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/channels", tag = "agents", params(("agent_id" = String, Path), PageQuery),
    responses((status = 200, body = Vec<Channel>))
)]
pub async fn list(
    State(app): State<App>,
    _: Admin,
    Path(id): Path<String>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let page = paging.page(50)?;
    let (channels, total) = app.channels.list(&agent(&app, "agent_id", &id)?, &page).await?;
    let last = channels.last().map(|channel| (channel.created_at, channel.channel_id.as_str()));
    Ok(paging.answer(&page, &channels, total.cast_unsigned(), last))
}

/// A channel that an agent is in
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/channels/{channel_id}", tag = "agents",
    params(("agent_id" = String, Path), ("channel_id" = String, Path)),
    responses((status = 200, body = Channel), (status = 404))
)]
pub async fn get(
    State(app): State<App>,
    _: Admin,
    Path((id, channel)): Path<(String, String)>,
) -> Result<Json<Channel>, ApiError> {
    Ok(Json(app.channels.get(&agent(&app, "agent_id", &id)?, &channel).await?))
}

/// Why.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CloseQuery {
    /// Kept with the channel.
    reason: Option<String>,
}

/// Close a channel
///
/// Its maker may, and of a direct one both. Nothing is written into it any more; what was written stays. One that nobody
/// writes into for 30 days is closed by itself.
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/channels/{channel_id}", tag = "agents",
    params(("agent_id" = String, Path), ("channel_id" = String, Path), CloseQuery),
    responses((status = 200, body = Channel), (status = 400), (status = 403), (status = 404))
)]
pub async fn close(
    State(app): State<App>,
    caller: Admin,
    Path((id, channel)): Path<(String, String)>,
    Query(query): Query<CloseQuery>,
) -> Result<Json<Channel>, ApiError> {
    let actor = agent(&app, "agent_id", &id)?;
    let done = app.channels.close(&(&caller.0).into(), (&actor, &channel), query.reason, None).await?;
    Ok(Json(done.value))
}

/// Who is to come in.
#[derive(Debug, Deserialize, ToSchema)]
pub struct MemberAdd {
    /// The agent.
    #[serde(rename = "agent_id", alias = "member")]
    member: String,
}

/// Bring an agent into a channel
///
/// Every member of a group may bring whom it may write to; into a private or a broadcast channel its maker alone.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/channels/{channel_id}/members", tag = "agents",
    params(("agent_id" = String, Path), ("channel_id" = String, Path)), request_body = MemberAdd,
    responses((status = 200, body = Channel), (status = 400), (status = 403), (status = 404), (status = 422))
)]
pub async fn add(
    State(app): State<App>,
    caller: Admin,
    Path((id, channel)): Path<(String, String)>,
    request: KeyedJson<MemberAdd>,
) -> Result<Response, ApiError> {
    let actor = agent(&app, "agent_id", &id)?;
    let member = agent_in(&app, ("body", "agent_id"), &request.body.member)?;
    let done = app.channels.add(&(&caller.0).into(), (&actor, &channel), &member, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

/// Take an agent out of a channel
///
/// A member takes itself out, the maker anybody else.
#[utoipa::path(
    delete, path = "/api/v1/agents/{agent_id}/channels/{channel_id}/members/{member_id}", tag = "agents",
    params(("agent_id" = String, Path), ("channel_id" = String, Path), ("member_id" = String, Path)),
    responses((status = 200, body = Channel), (status = 400), (status = 403), (status = 404))
)]
pub async fn remove(
    State(app): State<App>,
    caller: Admin,
    Path((id, channel, member)): Path<(String, String, String)>,
) -> Result<Json<Channel>, ApiError> {
    let actor = agent(&app, "agent_id", &id)?;
    let member = agent(&app, "member_id", &member)?;
    let done = app.channels.remove(&(&caller.0).into(), (&actor, &channel), &member, None).await?;
    Ok(Json(done.value))
}

message_request! {
    /// A message to the other members of a channel.
    pub struct ChannelMessage {
        /// What: at most 100000 bytes as JSON.
        #[schema(value_type = Object)]
        content: Map<String, Value>,
    }
}

/// Write into a channel
///
/// Each other member gets a copy, as with a broadcast.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/channels/{channel_id}/messages", tag = "agents",
    params(("agent_id" = String, Path), ("channel_id" = String, Path)), request_body = ChannelMessage,
    responses((status = 200, body = Receipt), (status = 400), (status = 403), (status = 404), (status = 422))
)]
pub async fn send(
    State(app): State<App>,
    caller: Admin,
    Path((id, channel)): Path<(String, String)>,
    request: KeyedJson<ChannelMessage>,
) -> Result<Response, ApiError> {
    let mut asked = request.body;
    let content = Value::Object(std::mem::take(&mut asked.content));
    let draft = asked.draft(agent(&app, "agent_id", &id)?, To::Channel(channel), content);
    let done = app.messages.send(&(&caller.0).into(), draft, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

/// List what was written into a channel
///
/// The newest first; of a message to several every copy. 404 for who is not in the channel.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/channels/{channel_id}/messages", tag = "agents",
    params(("agent_id" = String, Path), ("channel_id" = String, Path), PageQuery),
    responses((status = 200, body = Vec<Message>), (status = 404))
)]
pub async fn history(
    State(app): State<App>,
    _: Admin,
    Path((id, channel)): Path<(String, String)>,
    paging: Paging,
) -> Result<Response, ApiError> {
    app.channels.get(&agent(&app, "agent_id", &id)?, &channel).await?;
    answer(&app, &Past { channel: Some(channel), ..Past::default() }, &paging).await
}
