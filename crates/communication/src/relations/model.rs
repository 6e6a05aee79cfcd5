//! Model of relations between agents.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use am_db::codec::Timestamp;

am_db::stored_enum! {
    /// Explicit authorization of an agent.
    pub enum AgentAuthorization {
        /// The agent may use messages.
        Granted = "GRANTED" / "granted",
        /// The agent must not use messages.
        Revoked = "REVOKED" / "revoked",
    }
}

/// A contact of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentContact {
    /// Agent that has the contact.
    pub agent_id: String,
    /// Agent that is the contact.
    pub contact_id: String,
    /// Note for people; null if none.
    pub note: Option<String>,
    /// Time when the contact was added.
    pub created_at: Timestamp,
}

/// A block of one agent by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentBlock {
    /// Agent that has set the block.
    pub agent_id: String,
    /// Agent that is blocked.
    pub blocked_id: String,
    /// Reason of the block; null if none.
    pub reason: Option<String>,
    /// Time when the block was set.
    pub created_at: Timestamp,
}

/// Authorization of an agent to send and receive messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorizationStatus {
    /// Name of the agent.
    pub agent_id: String,
    /// Whether the agent may send and receive messages.
    pub authorised: bool,
    /// Explicit authorization; null when there is none and the default applies.
    pub state: Option<AgentAuthorization>,
    /// Reason of the authorization; null if none.
    pub reason: Option<String>,
    /// Principal that set the authorization; null without one.
    pub by: Option<String>,
    /// Time of the last change; null without an explicit authorization.
    pub updated_at: Option<Timestamp>,
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
        agent: String,
        /// True: its authorization was revoked; false: it has none, and the service requires one.
        revoked: bool,
    },
    /// A block of one agent by the other.
    #[error("agent '{agent}' has blocked '{blocked}'")]
    Blocked {
        /// Agent that has set the block.
        agent: String,
        /// Agent that is blocked.
        blocked: String,
    },
    /// The agents are not contacts, and the sender's reputation is too low.
    #[error(
        "agent '{agent}' has a reputation of {reputation}, and needs {needed} to write to an agent that is not a contact"
    )]
    Reputation {
        /// Agent that wants to send.
        agent: String,
        /// Reputation of the sender, 0 to 10 000.
        reputation: f64,
        /// Reputation that is needed.
        needed: f64,
    },
}

/// Permission of one agent to write to another.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = MessagingPermission)]
pub struct PermissionCheck {
    /// Agent that would receive the message.
    pub recipient: String,
    /// Whether the message would be permitted.
    pub allowed: bool,
    /// Reason of the refusal; null when permitted.
    pub refusal: Option<PermissionRefusal>,
    /// Reason in words; null when permitted.
    pub detail: Option<String>,
}
