//! Model of presence and of subscriptions.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use am_core::ids::AgentId;
use am_db::codec::Timestamp;

/// Kind of a frame that a connection is sent, in its member `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SocketFrameKind {
    /// The first frame: the connection is open.
    ConnectionEstablished,
    /// A message for the agent.
    Message,
    /// What became of a message that the client sent.
    HandlerAcknowledgment,
    /// Answer to the client's ping.
    #[serde(rename = "PONG")]
    Pong,
    /// Answer to the client's heartbeat.
    HeartbeatAck,
    /// The agent is subscribed to a topic.
    SubscriptionConfirmed,
    /// The agent is not subscribed to a topic any more.
    UnsubscriptionConfirmed,
    /// The client's frame was not understood.
    Error,
}

/// Presence of an agent.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AgentPresence {
    /// Name of the agent.
    pub agent_id: AgentId,
    /// Whether the agent is connected to any process now.
    pub online: bool,
    /// Time when the agent came or went last; while it is connected, at most an hour and some seconds ago.
    pub last_seen: Timestamp,
}

/// Subscription of an agent to a topic.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TopicSubscription {
    /// Name of the topic.
    pub topic: String,
    /// Members that a message's content must have, with exactly these values; empty: every message.
    #[schema(value_type = Object)]
    pub filter: Map<String, Value>,
    /// Time of subscription.
    pub created_at: Timestamp,
}
