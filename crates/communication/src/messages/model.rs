//! Messages as they are sent, stored and shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    error::{Error, Result},
    model::{MessageStatus, PaymentStatus, Priority, agent_id},
    price::{MOST_BYTES, MessageType},
    sealing::{Encryption, Scope},
};
use am_db::codec::Timestamp;

/// The longest a message waits for its recipient.
pub const LONGEST_TTL: Duration = Duration::from_secs(24 * 3600);
/// The longest id that a sender may give a message.
const LONGEST_ID: usize = 128;
/// The longest name of a topic.
const LONGEST_TOPIC: usize = 200;

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// One agent, over the channel of the two.
    Agent(String),
    /// All others in a channel.
    Channel(String),
    /// Whoever has subscribed to the topic with a filter that the content passes.
    Topic(String),
    /// Every agent that this service has seen.
    Everybody,
}

/// A message to be sent.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What the sender calls it: the same id again sends nothing.
    pub message_id: Option<String>,
    /// Who writes.
    pub sender: String,
    /// To whom.
    pub to: To,
    /// What.
    pub content: Value,
    /// What it is about.
    pub kind: MessageType,
    /// How soon the recipient should turn to it.
    pub priority: Priority,
    /// Is it to be encrypted?
    pub encrypt: bool,
    /// By what, if the sender says.
    pub encryption: Option<Encryption>,
    /// How long it waits for its recipient.
    pub ttl: Duration,
    /// The message that it answers.
    pub reply_to: Option<String>,
}

impl Draft {
    /// The draft with its names as they are stored, and the size of its content as JSON.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the first member that is out of its bounds.
    pub fn checked(mut self) -> Result<(Self, usize)> {
        self.sender = agent_id("sender", &self.sender)?;
        self.to = match self.to {
            To::Agent(name) => To::Agent(agent_id("recipient", &name)?),
            To::Topic(topic) => To::Topic(checked_topic(&topic)?),
            other => other,
        };
        if self.to == To::Agent(self.sender.clone()) {
            return Err(Error::invalid("recipient", "is the sender"));
        }
        for (field, id) in [("message_id", &self.message_id), ("reply_to", &self.reply_to)] {
            if id.as_ref().is_some_and(|id| id.is_empty() || id.len() > LONGEST_ID || id.chars().any(char::is_control))
            {
                return Err(Error::invalid(field, format!("must be 1 to {LONGEST_ID} printable characters")));
            }
        }
        if self.ttl.is_zero() || self.ttl > LONGEST_TTL {
            return Err(Error::invalid("ttl", format!("must be 1 to {} seconds", LONGEST_TTL.as_secs())));
        }
        let bytes = serde_json::to_vec(&self.content).map_or(usize::MAX, |json| json.len());
        if bytes > MOST_BYTES {
            return Err(Error::invalid("content", format!("has {bytes} bytes as JSON, over {MOST_BYTES}")));
        }
        Ok((self, bytes))
    }
}

/// The name of a topic.
///
/// # Errors
/// [`Error::Invalid`].
pub fn checked_topic(topic: &str) -> Result<String> {
    let topic = topic.trim();
    if topic.is_empty() || topic.len() > LONGEST_TOPIC || topic.chars().any(char::is_control) {
        return Err(Error::invalid("topic", format!("must be 1 to {LONGEST_TOPIC} printable characters")));
    }
    Ok(topic.to_owned())
}

/// What a sender gets to know.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// Always `success`.
    pub status: String,
    /// Its id.
    pub message_id: String,
    /// Who wrote.
    pub sender: String,
    /// To whom; none: to several.
    pub recipient: Option<String>,
    /// The channel it is in.
    pub channel_id: String,
    /// Its number in the channel; of several copies the last one's.
    pub seq: i64,
    /// Is the content stored as ciphertext?
    pub encrypted: bool,
    /// By what; none for several copies, which may differ.
    pub encryption: Option<Encryption>,
    /// Who could read it: end_to_end, sealed_on_arrival, at_rest or none.
    pub scope: Option<Scope>,
    /// The key it is sealed to.
    pub key_id: Option<String>,
    /// The recipient has a socket in this process, and was given it there.
    pub ws_delivered: bool,
    /// pending until the recipient acknowledges or fetches it, then delivered.
    pub message_status: MessageStatus,
    /// When it was stored.
    #[schema(value_type = String)]
    pub sent_at: Timestamp,
    /// Until when it waits for its recipient.
    #[schema(value_type = Option<String>)]
    pub expires_at: Option<Timestamp>,
    /// What it costs, all copies together.
    pub price: f64,
    /// What is recorded of that.
    pub payment_status: PaymentStatus,
    /// Of a message to several: how many have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients: Option<i64>,
    /// Of a message to several: how many were given it on a socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pushed: Option<i64>,
    /// Of a message to several: who was left out, the first hundred, and why.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub refused: Vec<LeftOut>,
    /// It was sent before under this id, and nothing was sent now.
    pub repeated: bool,
}

/// One whom a message to several did not go to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LeftOut {
    /// The agent.
    pub agent_id: String,
    /// Why.
    pub reason: String,
}

/// A message as those get it who may read it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Message {
    /// Its number among all; what a client goes on after.
    pub id: i64,
    /// Its id: the same message again has the same.
    pub message_id: String,
    /// The channel it is in.
    pub channel_id: String,
    /// Its number there.
    pub seq: i64,
    /// Who wrote.
    pub sender: String,
    /// To whom.
    pub recipient: String,
    /// What it is about.
    pub message_type: MessageType,
    /// How soon the recipient should turn to it.
    pub priority: Priority,
    /// What was written, or an envelope that the recipient alone can open; null where it can't be opened any more.
    #[schema(value_type = Object)]
    pub content: Value,
    /// Is the content stored as ciphertext?
    pub encrypted: bool,
    /// By what.
    pub encryption: Encryption,
    /// Who could read it.
    pub scope: Scope,
    /// The key it is sealed to.
    pub key_id: Option<String>,
    /// The content's size as it was sent, as JSON.
    pub size_bytes: i64,
    /// What it costs.
    pub price: f64,
    /// What is recorded of that.
    pub payment_status: PaymentStatus,
    /// What has become of it.
    pub status: MessageStatus,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The topic it was written to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The message that it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The message to several that it is one copy of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast_id: Option<String>,
    /// When it was stored.
    #[schema(value_type = String)]
    pub sent_at: Timestamp,
    /// Until when it waits for its recipient.
    #[schema(value_type = String)]
    pub expires_at: Timestamp,
    /// When its recipient said that it came, or fetched it.
    #[schema(value_type = Option<String>)]
    pub delivered_at: Option<Timestamp>,
    /// When its recipient said that it was read.
    #[schema(value_type = Option<String>)]
    pub read_at: Option<Timestamp>,
}

/// Which messages of the past.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// Only this agent's.
    pub sender: Option<String>,
    /// Only those to this agent.
    pub recipient: Option<String>,
    /// Only those of this channel.
    pub channel: Option<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn draft() -> Draft {
        Draft {
            message_id: None,
            sender: " a ".into(),
            to: To::Agent("b".into()),
            content: json!({"x": 1}),
            kind: MessageType::Text,
            priority: Priority::Normal,
            encrypt: true,
            encryption: None,
            ttl: Duration::from_secs(300),
            reply_to: None,
        }
    }

    #[test]
    fn bounds_are_named() {
        assert_eq!(draft().checked().unwrap().0.sender, "a");
        let long = "x".repeat(MOST_BYTES);
        let bad = [
            ("sender", Draft { sender: "\n".into(), ..draft() }),
            ("recipient", Draft { to: To::Agent("a".into()), ..draft() }),
            ("recipient", Draft { to: To::Agent("x".repeat(129)), ..draft() }),
            ("topic", Draft { to: To::Topic(String::new()), ..draft() }),
            ("message_id", Draft { message_id: Some(String::new()), ..draft() }),
            ("reply_to", Draft { reply_to: Some("x".repeat(129)), ..draft() }),
            ("ttl", Draft { ttl: Duration::ZERO, ..draft() }),
            ("ttl", Draft { ttl: LONGEST_TTL + Duration::from_secs(1), ..draft() }),
            ("content", Draft { content: json!({ "x": long }), ..draft() }),
        ];
        for (field, draft) in bad {
            match draft.checked() {
                Err(Error::Invalid { field: named, .. }) => assert_eq!(named, field),
                other => panic!("{field}: {other:?}"),
            }
        }
        let (_, bytes) = Draft { content: json!("x".repeat(MOST_BYTES - 2)), ..draft() }.checked().unwrap();
        assert_eq!(bytes, MOST_BYTES, "the whole size may be used");
    }
}
