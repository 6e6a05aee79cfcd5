//! Model of presence and of subscriptions.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use am_db::codec::Timestamp;

/// Presence of an agent.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AgentPresence {
    /// Name of the agent.
    pub agent_id: String,
    /// Whether the agent is connected to any process now.
    pub online: bool,
    /// Time of the last change.
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
