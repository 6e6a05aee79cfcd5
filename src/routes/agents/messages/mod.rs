//! `/api/v1/agent/messages`: what agents write to each other. The prefix is an alias, as of every route of this group.

mod discover;
mod past;

mod socket;
mod stream;
mod topics;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use past::answer;

use super::agent_in;
use crate::{
    app::App,
    http::{
        Admin, ApiError, Json,
        idempotency::{KeyedJson, Replayable},
    },
};
use am_communication::messages::{Receipt, To};

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

/// A request with a message in it: its own members, and what can be said of every message. Not one struct in another, since a
/// fault in a flattened one is told without its place.
macro_rules! message_request {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$member_meta:meta])* $member:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
        pub struct $name {
            $($(#[$member_meta])* $member: $type,)*
            /// direct (default, priced as text), text, data, task_request, task_response, collaboration, notification, system,
            /// urgent or bulk.
            message_type: Option<am_communication::price::MessageType>,
            /// Default true. False asks for no more than is needed: the content is stored in the clear where this service
            /// allows that, else encrypted at rest.
            encrypt: Option<bool>,
            /// hpke, aes256, rsa, hybrid or none, if it must be this one.
            encryption: Option<am_communication::sealing::Encryption>,
            /// low, normal (default), high or urgent.
            priority: Option<am_communication::Priority>,
            /// Seconds that it waits for its recipient: 1 to 86400, default 300.
            #[schema(minimum = 1, maximum = 86400)]
            ttl: Option<u64>,
            /// What the sender calls it, 1 to 128 characters. The same id again sends nothing and answers the first record.
            message_id: Option<String>,
            /// The message that it answers.
            reply_to: Option<String>,
        }

        impl $name {
            /// The draft of it.
            fn draft(
                self,
                sender: String,
                to: am_communication::messages::To,
                content: serde_json::Value,
            ) -> am_communication::messages::Draft {
                am_communication::messages::Draft {
                    message_id: self.message_id,
                    sender,
                    to,
                    content,
                    kind: self.message_type.unwrap_or(am_communication::price::MessageType::Direct),
                    priority: self.priority.unwrap_or(am_communication::Priority::Normal),
                    encrypt: self.encrypt.unwrap_or(true),
                    encryption: self.encryption,
                    ttl: std::time::Duration::from_secs(self.ttl.unwrap_or(300)),
                    reply_to: self.reply_to,
                }
            }
        }
    };
}
pub(super) use message_request;

message_request! {
    /// A message to one agent.
    pub struct SendRequest {
        /// Who writes.
        sender: String,
        /// To whom.
        recipient: String,
        /// What: at most 100000 bytes as JSON; or an envelope, sealed to a key of the recipient's.
        #[schema(value_type = Object)]
        content: Map<String, Value>,
    }
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
    let mut asked = request.body;
    let sender = agent_in(&app, ("body", "sender"), &asked.sender)?;
    let recipient = agent_in(&app, ("body", "recipient"), &asked.recipient)?;
    let content = Value::Object(std::mem::take(&mut asked.content));
    let draft = asked.draft(sender, To::Agent(recipient), content);
    let done = app.messages.send(&(&caller.0).into(), draft, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

message_request! {
    /// A message to several agents.
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
    }
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
    let mut asked = request.body;
    let to = match (asked.topic.take(), asked.channel_id.take()) {
        (Some(_), Some(_)) => {
            let loc = vec!["body".into(), "channel_id".into()];
            return Err(ApiError::field(loc, "Give a topic or a channel, not both", "value_error"));
        }
        (Some(topic), None) => To::Topic(topic),
        (None, Some(channel)) => To::Channel(channel),
        (None, None) => To::Everybody,
    };
    let sender = agent_in(&app, ("body", "sender"), &asked.sender)?;
    let content = Value::Object(std::mem::take(&mut asked.content));
    let draft = asked.draft(sender, to, content);
    let done = app.messages.send(&(&caller.0).into(), draft, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}
