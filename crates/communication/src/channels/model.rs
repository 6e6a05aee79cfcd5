//! Model of a channel.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{ChannelKind, ChannelStatus};
use am_core::ids::{AgentId, ChannelId};
use am_db::codec::Timestamp;

/// A channel of messages.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MessageChannel {
    /// Id: `channel_` and 12 hex digits.
    pub channel_id: ChannelId,
    /// Kind of the channel: direct, group, broadcast or private.
    #[serde(rename = "type")]
    pub kind: ChannelKind,
    /// Name of the channel; of a topic's channel, the topic. Null when it has none.
    pub name: Option<String>,
    /// Agent that created the channel.
    pub owner: AgentId,
    /// Members, the creator first.
    pub members: Vec<AgentId>,
    /// Status: open or closed.
    pub status: ChannelStatus,
    /// Number of the last message; 0 without messages.
    pub last_seq: i64,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last message, or of creation.
    pub last_activity: Timestamp,
    /// Time when the channel was closed; null while it is open.
    pub closed_at: Option<Timestamp>,
    /// Reason for closing; null while the channel is open.
    pub closed_reason: Option<String>,
}

impl MessageChannel {
    /// A channel that `owner` opens at the time `now`.
    pub fn opened(channel_id: ChannelId, owner: AgentId, new: NewChannel, now: Timestamp) -> Self {
        Self {
            channel_id,
            kind: new.kind,
            name: new.name,
            members: std::iter::once(owner.clone()).chain(new.members).collect(),
            owner,
            status: ChannelStatus::Open,
            last_seq: 0,
            created_at: now,
            last_activity: now,
            closed_at: None,
            closed_reason: None,
        }
    }

    /// Whether `agent` is a member.
    pub fn has(&self, agent: &AgentId) -> bool {
        self.owner == *agent || self.members.contains(agent)
    }
}

/// Request to create a channel.
#[derive(Clone, Debug)]
pub struct NewChannel {
    /// Kind of the channel.
    pub kind: ChannelKind,
    /// Name of the channel.
    pub name: Option<String>,
    /// Members besides the creator.
    pub members: Vec<AgentId>,
}

/// Key under which the single open channel of a pair, topic or broadcaster is found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChannelKey(pub String);

impl ChannelKey {
    /// Key for two agents, in either order.
    pub fn for_pair(one: &AgentId, other: &AgentId) -> Self {
        let pair = if one <= other { [one, other] } else { [other, one] };
        Self(serde_json::json!(pair).to_string())
    }

    /// Key for a topic.
    pub fn for_topic(topic: &str) -> Self {
        Self(format!("topic:{topic}"))
    }

    /// Key for an agent's messages to everybody.
    pub fn for_broadcast(sender: &AgentId) -> Self {
        Self(format!("all:{sender}"))
    }
}

/// The data of a channel that writing messages needs.
#[derive(Clone, Debug)]
pub struct ChannelRef {
    /// Id of the channel.
    pub id: ChannelId,
    /// Kind of the channel.
    pub kind: ChannelKind,
    /// Agent that created the channel.
    pub owner: AgentId,
    /// Status of the channel.
    pub status: ChannelStatus,
    /// Number of the last message.
    pub last_seq: i64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn two_agents_have_one_place_and_no_other_has_it(one in "\\PC{1,20}", other in "\\PC{1,20}", third in "\\PC{1,20}") {
            let [one, other, third] = [one, other, third].map(AgentId::from);
            let place = ChannelKey::for_pair(&one, &other);
            prop_assert_eq!(&place, &ChannelKey::for_pair(&other, &one));
            prop_assert!(place != ChannelKey::for_topic(&third) && place != ChannelKey::for_broadcast(&third));
            prop_assert_eq!(place == ChannelKey::for_pair(&one, &third), other == third);
        }
    }
}
