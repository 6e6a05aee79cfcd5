//! Types that all modules of communication use.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use am_core::{ids::AgentId, validation::Violation};

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

/// Maximum length of an agent's name in bytes.
const MAX_AGENT_NAME_LEN: usize = 128;
/// Bytes of a topic's name.
const MAX_TOPIC_BYTES: usize = 200;

/// Validate the name of an agent in the member `field`, and trim it.
///
/// # Errors
/// For none, one of over 128 bytes, or one with control characters.
pub fn validate_agent_name(field: &'static str, name: &str) -> Result<AgentId, Violation> {
    let name = name.trim();
    if name.is_empty() || name.len() > MAX_AGENT_NAME_LEN || name.chars().any(char::is_control) {
        let message = format!("must be the name of an agent: 1 to {MAX_AGENT_NAME_LEN} printable characters");
        return Err(Violation::new(field, message));
    }
    Ok(name.into())
}

/// Validate the name of a topic, and trim it.
///
/// # Errors
/// For none, one of over 200 bytes, or one with control characters.
pub fn validate_topic(topic: &str) -> Result<String, Violation> {
    let topic = topic.trim();
    if topic.is_empty() || topic.len() > MAX_TOPIC_BYTES || topic.chars().any(char::is_control) {
        let message = format!("must be 1 to {MAX_TOPIC_BYTES} printable characters");
        return Err(Violation::new("topic", message));
    }
    Ok(topic.to_owned())
}
