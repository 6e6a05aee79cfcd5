//! `/api/v1/agent/messages`: what agents write to each other. The prefix is an alias, as of every route of this group.

mod discover;
mod history;
mod socket;
mod socket_token;
mod stream;
mod topics;

use axum::extract::State;
use serde_json::{Map, Value};
use utoipa_axum::router::OpenApiRouter;

pub use history::history_response;

use super::{check_agent_id, deletion};
use crate::{
    app::App,
    http::{
        ActingKey, ApiError,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        openapi::routes,
    },
};
use am_communication::messages::{MessageDestination, SendReceipt};
use am_core::ids::{AgentId, ChannelId};

/// The routes of messages.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(send_message))
        .routes(routes!(broadcast_message))
        .routes(routes!(history::list_inbox))
        .routes(routes!(history::list_message_history))
        .routes(routes!(history::get_message, deletion::delete_message))
        .routes(routes!(history::mark_message_read))
        .routes(routes!(topics::subscribe_topic))
        .routes(routes!(topics::unsubscribe_topic))
        .routes(routes!(topics::list_subscriptions))
        .routes(routes!(discover::discover_agents))
        .routes(routes!(discover::get_agent_presence))
        .routes(routes!(discover::list_agent_presence))
        .routes(routes!(stream::open_message_stream))
}

/// A request with a message in it: its own members, and what can be said of every message. Not one struct in another, since a
/// fault in a flattened one is told without its place.
macro_rules! message_request {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$member_meta:meta])* $member:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
        pub struct $name {
            $($(#[$member_meta])* $member: $type,)*
            /// Type of the message, which decides its price: `direct`, `text`, `data`, `task_request`, `task_response`,
            /// `collaboration`, `notification`, `system`, `urgent` or `bulk`; or any other word, priced like `text`. Default
            /// `direct`.
            #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9_.:-]+$")]
            message_type: Option<am_communication::MessageTypeName>,
            /// Whether the content is encrypted. Default true. False asks for no more than is needed: the content is stored in the
            /// clear where this service allows that, else encrypted at rest.
            encrypt: Option<bool>,
            /// Encryption that must be used; null: the best that sender and recipient have.
            encryption: Option<am_communication::encryption::MessageEncryption>,
            /// Priority of the message. Default `normal`.
            priority: Option<am_communication::MessagePriority>,
            /// Seconds that the message waits for its recipient, 1 to 86 400. Default 300.
            #[schema(minimum = 1, maximum = 86400)]
            ttl: Option<u64>,
            /// Id that the sender gives the message, 1 to 128 characters. The same message again under the same id sends nothing
            /// and is answered with the first record. Default: a new id.
            message_id: Option<am_core::ids::MessageId>,
            /// Id of the message that it answers; null: none.
            reply_to: Option<am_core::ids::MessageId>,
            /// Signature of the sender by an Ed25519 key that it has registered; null: none. Needs `message_id`.
            signature: Option<am_communication::encryption::MessageSignature>,
        }

        impl $name {
            /// The draft of it.
            fn draft(
                self,
                sender: am_core::ids::AgentId,
                to: am_communication::messages::MessageDestination,
                content: serde_json::Value,
            ) -> am_communication::messages::MessageDraft {
                am_communication::messages::MessageDraft {
                    message_id: self.message_id,
                    sender,
                    to,
                    content,
                    kind: self.message_type.unwrap_or(am_communication::price::MessageType::Direct.into()),
                    priority: self.priority.unwrap_or(am_communication::MessagePriority::Normal),
                    encrypt: self.encrypt.unwrap_or(true),
                    encryption: self.encryption,
                    ttl: std::time::Duration::from_secs(self.ttl.unwrap_or(300)),
                    reply_to: self.reply_to,
                    signature: self.signature,
                }
            }
        }
    };
}
pub(super) use message_request;

message_request! {
    /// A message to one agent.
    pub struct SendMessageRequest {
        /// Agent that sends. Also taken as `sender_id`.
        #[serde(alias = "sender_id")]
        sender: AgentId,
        /// Agent that receives. Also taken as `recipient_id`.
        #[serde(alias = "recipient_id")]
        recipient: AgentId,
        /// Content of the message: an object of at most 100 000 bytes as JSON, or an envelope that is encrypted to a
        /// key of the recipient's.
        #[schema(value_type = Object)]
        content: Map<String, Value>,
    }
}

/// Send a message to an agent
///
/// The answer comes when the message is stored. The message is delivered over the recipient's sockets, if it has any,
/// and stays `pending` for its next socket and its inbox until it is acknowledged, fetched, or `ttl` is over. If
/// the sender sent the same under this `message_id` before, nothing is sent, and the answer is the first record with
/// `repeated: true`; another message under a used id is refused with 409. Both
/// agents must be authorised, neither may have blocked the other, and they must be contacts or the sender must have a
/// reputation of 1000 of 10 000; else the answer is 403 `message_refused` with the reason. Once a key is bound to the
/// sender, only such a key sends in its name.
#[utoipa::path(
    post, path = "/api/v1/agents/messages/send", operation_id = "messages_send", tag = "messages",
    security(("ApiKey" = ["admin", "agent"])),
    params(IdempotencyHeader),
    request_body = SendMessageRequest,
    responses(
        (status = 200, body = SendReceipt, description = "The receipt of the stored message"),
        (status = 403, description = "The sender may not write to the recipient (`message_refused`), another key is bound to the sender (`sender_has_key`), or content in the clear is not allowed (`plaintext_not_allowed`)"),
        (status = 409, description = "`message_id` is that of another message of this sender"),
        (status = 503, description = "The server has no key to encrypt with (`message_keys_missing`), or is overloaded or stopping; see Retry-After"),
    )
)]
pub async fn send_message(
    State(app): State<App>,
    caller: ActingKey,
    request: IdempotentJson<SendMessageRequest>,
) -> Result<IdempotentOk<SendReceipt>, ApiError> {
    let mut asked = request.body;
    let sender = check_agent_id(&app, ("body", "sender"), &asked.sender)?;
    let caller = caller.sending_as(&app.shared.keyring, "sender", &sender)?;
    let recipient = check_agent_id(&app, ("body", "recipient"), &asked.recipient)?;
    let content = Value::Object(std::mem::take(&mut asked.content));
    let draft = asked.draft(sender, MessageDestination::Agent(recipient), content);
    Ok(IdempotentOk(app.messages.send(&caller, draft, request.once).await?))
}

message_request! {
    /// A message to several agents.
    pub struct BroadcastRequest {
        /// Agent that sends. Also taken as `sender_id`.
        #[serde(alias = "sender_id")]
        sender: AgentId,
        /// Content of the message: an object of at most 100 000 bytes as JSON.
        #[schema(value_type = Object)]
        content: Map<String, Value>,
        /// Topic whose subscribers receive it; not together with `channel_id`. Without both every agent that was ever
        /// seen receives it.
        topic: Option<String>,
        /// Channel whose other members receive it.
        channel_id: Option<ChannelId>,
    }
}

/// Send a message to several agents
///
/// Each recipient receives a copy of its own, encrypted for it, with an id of its own; `broadcast_id` names the
/// whole, and `recipients` is the number of copies.
/// Agents that the sender may not write to are left out and named in `refused`. Members of a channel and subscribers
/// of a topic need not know the sender.
#[utoipa::path(
    post, path = "/api/v1/agents/messages/broadcast", operation_id = "messages_broadcast", tag = "messages",
    security(("ApiKey" = ["admin", "agent"])),
    params(IdempotencyHeader),
    request_body = BroadcastRequest,
    responses(
        (status = 200, body = SendReceipt, description = "The receipt of the stored copies"),
        (status = 400, description = "The channel is closed, or too many agents would get a copy (`invalid_state`)"),
        (status = 403, description = "The sender may not write to any recipient (`message_refused`), another key is bound to the sender (`sender_has_key`), or only its creator may write into the channel"),
        (status = 404, description = "The sender is in no channel with this id"),
        (status = 409, description = "`message_id` is that of another message of this sender"),
    )
)]
pub async fn broadcast_message(
    State(app): State<App>,
    caller: ActingKey,
    request: IdempotentJson<BroadcastRequest>,
) -> Result<IdempotentOk<SendReceipt>, ApiError> {
    let mut asked = request.body;
    let to = match (asked.topic.take(), asked.channel_id.take()) {
        (Some(_), Some(_)) => {
            let loc = vec!["body".into(), "channel_id".into()];
            return Err(ApiError::invalid_field(loc, "Give a topic or a channel, not both", "value_error"));
        }
        (Some(topic), None) => MessageDestination::Topic(topic),
        (None, Some(channel)) => MessageDestination::Channel(channel),
        (None, None) => MessageDestination::AllAgents,
    };
    let sender = check_agent_id(&app, ("body", "sender"), &asked.sender)?;
    let caller = caller.sending_as(&app.shared.keyring, "sender", &sender)?;
    let content = Value::Object(std::mem::take(&mut asked.content));
    let draft = asked.draft(sender, to, content);
    Ok(IdempotentOk(app.messages.send(&caller, draft, request.once).await?))
}
