//! Types that all modules of communication use.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use am_core::{
    ids::AgentId,
    validation::{Violation, has_length},
};

am_db::stored_enum! {
    /// Kind of a channel.
    pub enum ChannelKind {
        /// Between two agents.
        Direct = "DIRECT" / "direct",
        /// Between members, each of whom may write and add others.
        Group = "GROUP" / "group",
        /// Messages of a single agent, which the other members read.
        Broadcast = "BROADCAST" / "broadcast",
        /// A group whose members are chosen by its creator only.
        Private = "PRIVATE" / "private",
    }
}

am_db::stored_enum! {
    /// Status of a channel.
    pub enum ChannelStatus {
        /// Messages may be written into it.
        Open = "OPEN" / "open",
        /// No further messages; existing ones are kept.
        Closed = "CLOSED" / "closed",
    }
}

am_db::stored_enum! {
    /// Priority of a message for its recipient. Delivery keeps the order of the channel whatever the priority is.
    #[schema(as = MessagePriority)]
    pub enum MessagePriority {
        /// Lower than usual.
        Low = "LOW" / "low",
        /// The usual priority.
        Normal = "NORMAL" / "normal",
        /// Higher than usual.
        High = "HIGH" / "high",
        /// The highest priority.
        Urgent = "URGENT" / "urgent",
        /// The highest priority, under the coordinator's name.
        Critical = "CRITICAL" / "critical",
    }
}

am_db::stored_enum! {
    /// Status of a message.
    pub enum MessageStatus {
        /// Stored, and not acknowledged by its recipient yet.
        Pending = "PENDING" / "pending",
        /// Acknowledged by its recipient, or fetched from the inbox.
        Delivered = "DELIVERED" / "delivered",
        /// Marked as read by its recipient.
        Read = "READ" / "read",
        /// Expired before its delivery.
        Expired = "EXPIRED" / "expired",
        /// Failed, because it can't be decrypted.
        Failed = "FAILED" / "failed",
    }
}

am_db::stored_enum! {
    /// Payment status of a message. Payments are recorded here and not collected.
    pub enum PaymentStatus {
        /// The price is due.
        Unpaid = "UNPAID" / "unpaid",
        /// The price was recorded as paid.
        Paid = "PAID" / "paid",
        /// The price is waived.
        Waived = "WAIVED" / "waived",
    }
}

/// Reason why an agent may not write to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
#[schema(as = MessagingRefusal)]
pub enum PermissionRefusal {
    /// The sender or the recipient is not authorised.
    #[error("agent '{agent}' is not authorised to send or receive messages{}", if *revoked { ": it was revoked" } else { "" })]
    NotAuthorised {
        /// Name of the agent that is not authorised.
        agent: AgentId,
        /// True: its authorization was revoked; false: it has none, and the service requires one.
        revoked: bool,
    },
    /// A block of one agent by the other.
    #[error("agent '{agent}' has blocked '{blocked}'")]
    Blocked {
        /// Agent that has set the block.
        agent: AgentId,
        /// Agent that is blocked.
        blocked: AgentId,
    },
    /// The agents are not contacts, and the sender's reputation is too low.
    #[error(
        "agent '{agent}' has a reputation of {reputation}, and needs {needed} to write to an agent that is not a contact"
    )]
    Reputation {
        /// Agent that wants to send.
        agent: AgentId,
        /// Reputation of the sender, 0 to 10 000.
        reputation: f64,
        /// Reputation that is needed.
        needed: f64,
    },
}

/// Maximum length of an agent's name in characters.
const MAX_AGENT_NAME_LEN: usize = 128;
/// Maximum length of a topic's name in characters.
const MAX_TOPIC_LEN: usize = 200;

/// Return whether a text has 1 to `most` characters, none of which controls a terminal.
pub fn is_printable(text: &str, most: usize) -> bool {
    has_length(text, &(1..=most)) && !text.chars().any(char::is_control)
}

/// Validate the name of an agent in the member `field`, and trim it.
///
/// # Errors
/// For none, one of over 128 characters, or one with control characters.
pub fn validate_agent_name(field: &'static str, name: &str) -> Result<AgentId, Violation> {
    let name = name.trim();
    if !is_printable(name, MAX_AGENT_NAME_LEN) {
        let message = format!("must be the name of an agent: 1 to {MAX_AGENT_NAME_LEN} printable characters");
        return Err(Violation::new(field, message));
    }
    Ok(name.into())
}

/// Validate the name of a topic, and trim it.
///
/// # Errors
/// For none, one of over 200 characters, or one with control characters.
pub fn validate_topic(topic: &str) -> Result<String, Violation> {
    let topic = topic.trim();
    if !is_printable(topic, MAX_TOPIC_LEN) {
        let message = format!("must be 1 to {MAX_TOPIC_LEN} printable characters");
        return Err(Violation::new("topic", message));
    }
    Ok(topic.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_topics_are_counted_in_characters() {
        assert!(validate_agent_name("sender", &"ü".repeat(128)).is_ok());
        assert!(
            validate_agent_name("sender", &"ü".repeat(129)).unwrap_err().message.contains("128 printable characters")
        );
        assert!(validate_topic(&"日".repeat(200)).is_ok());
        assert!(validate_topic(&"日".repeat(201)).is_err());
        assert!(!is_printable("a\n", 5) && !is_printable("", 5) && is_printable("日本", 2));
    }
}
