//! `/api/v1/agent/messages`: what agents write to each other. The prefix is an alias, as of every route of this group.

mod discover;
mod past;

mod socket;
mod stream;
mod topics;

use std::time::Duration;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use past::answer;

use super::agent_in;
use crate::{
    app::App,
    communication::{
        Priority,
        messages::{Draft, Receipt, To},
        price::MessageType,
        sealing::Encryption,
    },
    http::{
        Admin, ApiError, Json,
        idempotency::{KeyedJson, Replayable},
    },
};

/// The routes of messages.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(send))
        .routes(routes!(broadcast))
        .routes(routes!(past::inbox))
        .routes(routes!(past::history))
        .routes(routes!(past::get))
        .routes(routes!(past::read))
        .routes(routes!(topics::subscribe))
        .routes(routes!(topics::unsubscribe))
        .routes(routes!(topics::subscriptions))
        .routes(routes!(discover::discover))
        .routes(routes!(discover::presence))
        .routes(routes!(discover::everybody))
        .routes(routes!(stream::stream))
}

/// What can be said of every message.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Terms {
    /// text, data, task_request, task_response, collaboration, notification, system, urgent, bulk; default direct, which is
    /// priced as text.
    message_type: Option<MessageType>,
    /// Default true. False asks for no more than is needed: the content is stored in the clear where this service allows
    /// that, else encrypted at rest.
    encrypt: Option<bool>,
    /// hpke, aes256, rsa, hybrid or none, if it must be this one.
    encryption: Option<Encryption>,
    /// low, normal (default), high or urgent.
    priority: Option<Priority>,
    /// Seconds that it waits for its recipient: 1 to 86400, default 300.
    #[schema(minimum = 1, maximum = 86400)]
    ttl: Option<u64>,
    /// What the sender calls it, 1 to 128 characters. The same id again sends nothing and answers the first record.
    message_id: Option<String>,
    /// The message that it answers.
    reply_to: Option<String>,
}

impl Terms {
    /// A draft under these terms.
    pub(super) fn draft(self, sender: String, to: To, content: Value) -> Draft {
        Draft {
            message_id: self.message_id,
            sender,
            to,
            content,
            kind: self.message_type.unwrap_or(MessageType::Direct),
            priority: self.priority.unwrap_or(Priority::Normal),
            encrypt: self.encrypt.unwrap_or(true),
            encryption: self.encryption,
            ttl: Duration::from_secs(self.ttl.unwrap_or(300)),
            reply_to: self.reply_to,
        }
    }
}

/// A message to one agent.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SendRequest {
    /// Who writes.
    sender: String,
    /// To whom.
    recipient: String,
    /// What: at most 100000 bytes as JSON; or an envelope, sealed to a key of the recipient's.
    #[schema(value_type = Object)]
    content: Map<String, Value>,
    #[serde(flatten)]
    terms: Terms,
}

/// Send a message to an agent
///
/// The answer comes when the message is stored. It is delivered over the recipient's sockets, if it has any, and stays
/// `pending` for its next socket and its inbox until it is acknowledged, fetched, or `ttl` is over. Sent again with the same
/// `message_id`, nothing is sent, and the answer is the first record with `repeated: true`. Both agents must be authorised,
/// neither may have blocked the other, and they must know each other or the sender have a reputation of 1000 of 10000; else
/// the answer is 403 `message_refused` with what was missing.
#[utoipa::path(
    post, path = "/api/v1/agents/messages/send", tag = "agents", request_body = SendRequest,
    responses((status = 200, body = Receipt), (status = 403), (status = 409), (status = 422), (status = 503))
)]
pub async fn send(
    State(app): State<App>,
    caller: Admin,
    request: KeyedJson<SendRequest>,
) -> Result<Response, ApiError> {
    let SendRequest { sender, recipient, content, terms } = request.body;
    let sender = agent_in(&app, ("body", "sender"), &sender)?;
    let recipient = agent_in(&app, ("body", "recipient"), &recipient)?;
    let draft = terms.draft(sender, To::Agent(recipient), Value::Object(content));
    let done = app.messages.send(&(&caller.0).into(), draft, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

/// A message to several agents.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BroadcastRequest {
    /// Who writes.
    sender: String,
    /// What: at most 100000 bytes as JSON.
    #[schema(value_type = Object)]
    content: Map<String, Value>,
    /// To whoever has subscribed to it; not together with `channel_id`. Without both: to every agent that was ever seen.
    topic: Option<String>,
    /// To the other members of this channel.
    channel_id: Option<String>,
    #[serde(flatten)]
    terms: Terms,
}

/// Send a message to several agents
///
/// Each recipient gets a copy of its own, sealed for it, as `MESSAGE_ID.N`; `recipients` says how many. Whom the sender may
/// not write to is left out and named in `refused`. Members of a channel and subscribers of a topic have agreed to hear, so
/// that they need not know the sender.
#[utoipa::path(
    post, path = "/api/v1/agents/messages/broadcast", tag = "agents", request_body = BroadcastRequest,
    responses((status = 200, body = Receipt), (status = 400), (status = 403), (status = 404), (status = 409), (status = 422))
)]
pub async fn broadcast(
    State(app): State<App>,
    caller: Admin,
    request: KeyedJson<BroadcastRequest>,
) -> Result<Response, ApiError> {
    let BroadcastRequest { sender, content, topic, channel_id, terms } = request.body;
    let to = match (topic, channel_id) {
        (Some(_), Some(_)) => {
            let loc = vec!["body".into(), "channel_id".into()];
            return Err(ApiError::field(loc, "Give a topic or a channel, not both", "value_error"));
        }
        (Some(topic), None) => To::Topic(topic),
        (None, Some(channel)) => To::Channel(channel),
        (None, None) => To::Everybody,
    };
    let draft = terms.draft(agent_in(&app, ("body", "sender"), &sender)?, to, Value::Object(content));
    let done = app.messages.send(&(&caller.0).into(), draft, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}
