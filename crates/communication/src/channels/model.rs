//! Channels as they are stored and shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{ChannelKind, ChannelStatus};
use am_db::codec::Timestamp;

/// A channel.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Channel {
    /// `channel_` and 12 hex digits.
    pub channel_id: String,
    /// direct, group, broadcast or private.
    #[serde(rename = "type")]
    pub kind: ChannelKind,
    /// What it is called; of a topic's channel, the topic.
    pub name: Option<String>,
    /// The agent that made it.
    pub owner: String,
    /// Who is in it, the maker first.
    pub members: Vec<String>,
    /// open or closed.
    pub status: ChannelStatus,
    /// The number of its last message.
    pub last_seq: i64,
    /// When it was made.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// When the last message was written into it.
    #[schema(value_type = String)]
    pub last_activity: Timestamp,
    /// When it was closed.
    #[schema(value_type = Option<String>)]
    pub closed_at: Option<Timestamp>,
    /// Why.
    pub closed_reason: Option<String>,
}

impl Channel {
    /// Is `agent` in it?
    pub fn has(&self, agent: &str) -> bool {
        self.owner == agent || self.members.iter().any(|member| member == agent)
    }
}

/// A channel to be made.
#[derive(Clone, Debug)]
pub struct NewChannel {
    /// Its kind.
    pub kind: ChannelKind,
    /// What it is to be called.
    pub name: Option<String>,
    /// Who is to be in it beside its maker.
    pub members: Vec<String>,
}

/// What finds the one open channel of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place(pub String);

impl Place {
    /// Of two agents, whichever of them writes.
    pub fn of_pair(one: &str, other: &str) -> Self {
        let pair = if one <= other { [one, other] } else { [other, one] };
        Self(serde_json::json!(pair).to_string())
    }

    /// Of a topic.
    pub fn of_topic(topic: &str) -> Self {
        Self(format!("topic:{topic}"))
    }

    /// Of what an agent tells everybody.
    pub fn of_all(sender: &str) -> Self {
        Self(format!("all:{sender}"))
    }
}

/// A channel as whoever writes into it needs it.
#[derive(Clone, Debug)]
pub struct Spot {
    /// The channel's id.
    pub id: String,
    /// Its kind.
    pub kind: ChannelKind,
    /// Whose it is.
    pub owner: String,
    /// Whether anything may be written into it.
    pub status: ChannelStatus,
    /// The number of its last message.
    pub last_seq: i64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn two_agents_have_one_place_and_no_other_has_it(one in "\\PC{1,20}", other in "\\PC{1,20}", third in "\\PC{1,20}") {
            let place = Place::of_pair(&one, &other);
            prop_assert_eq!(&place, &Place::of_pair(&other, &one));
            prop_assert!(place != Place::of_topic(&third) && place != Place::of_all(&third));
            prop_assert_eq!(place == Place::of_pair(&one, &third), other == third);
        }
    }
}
