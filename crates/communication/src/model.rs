//! Words that all of this room uses.

use super::error::Error;

am_db::stored_enum! {
    /// What a channel is for.
    pub enum ChannelKind {
        /// Two agents.
        Direct = "DIRECT" / "direct",
        /// Members, each of whom writes to the others and may bring more.
        Group = "GROUP" / "group",
        /// One writes, the others hear.
        Broadcast = "BROADCAST" / "broadcast",
        /// A group whose members its maker alone chooses.
        Private = "PRIVATE" / "private",
    }
}

am_db::stored_enum! {
    /// Whether anything is written into a channel.
    pub enum ChannelStatus {
        /// It may be.
        Open = "OPEN" / "open",
        /// Nothing more; what was written stays.
        Closed = "CLOSED" / "closed",
    }
}

am_db::stored_enum! {
    /// How soon a recipient should turn to a message. Delivery keeps the order of the channel whatever it is.
    pub enum Priority {
        /// Can wait.
        Low = "LOW" / "low",
        /// As usual.
        Normal = "NORMAL" / "normal",
        /// Before the usual.
        High = "HIGH" / "high",
        /// First.
        Urgent = "URGENT" / "urgent",
    }
}

am_db::stored_enum! {
    /// What has become of a message.
    pub enum MessageStatus {
        /// Stored; its recipient has not said that it came.
        Pending = "PENDING" / "pending",
        /// Acknowledged by its recipient, or fetched from the inbox.
        Delivered = "DELIVERED" / "delivered",
        /// Its recipient says that it was read.
        Read = "READ" / "read",
        /// Its time was up before it was delivered.
        Expired = "EXPIRED" / "expired",
        /// It can't be delivered: what it is sealed with is not to be had.
        Failed = "FAILED" / "failed",
    }
}

am_db::stored_enum! {
    /// What is recorded of a message's price. Nothing is collected here.
    pub enum PaymentStatus {
        /// It is owed.
        Unpaid = "UNPAID" / "unpaid",
        /// Somebody has said that it was paid.
        Paid = "PAID" / "paid",
        /// It is not asked for.
        Waived = "WAIVED" / "waived",
    }
}

/// The longest name of an agent.
const LONGEST: usize = 128;

/// The name of an agent that the member `field` gives.
///
/// # Errors
/// [`Error::Invalid`] for none, one of over 128 bytes, or one with control characters.
pub fn agent_id(field: &'static str, name: &str) -> Result<String, Error> {
    let name = name.trim();
    if name.is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) {
        return Err(Error::invalid(
            field,
            format!("must be the name of an agent: 1 to {LONGEST} printable characters"),
        ));
    }
    Ok(name.to_owned())
}
