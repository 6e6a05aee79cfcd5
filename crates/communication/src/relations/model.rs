//! Model of relations between agents.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::PermissionRefusal;
use am_core::ids::{AgentId, PrincipalId};
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
    pub agent_id: AgentId,
    /// Agent that is the contact.
    pub contact_id: AgentId,
    /// Note for people; null if none.
    pub note: Option<String>,
    /// Time when the contact was added.
    pub created_at: Timestamp,
}

/// A block of one agent by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentBlock {
    /// Agent that has set the block.
    pub agent_id: AgentId,
    /// Agent that is blocked.
    pub blocked_id: AgentId,
    /// Reason of the block; null if none.
    pub reason: Option<String>,
    /// Time when the block was set.
    pub created_at: Timestamp,
}

/// Authorization of an agent to send and receive messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthorizationStatus {
    /// Name of the agent.
    pub agent_id: AgentId,
    /// Whether the agent may send and receive messages.
    pub authorised: bool,
    /// Explicit authorization; null when there is none and the default applies.
    pub state: Option<AgentAuthorization>,
    /// Reason of the authorization; null if none.
    pub reason: Option<String>,
    /// Principal that set the authorization; null without one.
    pub by: Option<PrincipalId>,
    /// Time of the last change; null without an explicit authorization.
    pub updated_at: Option<Timestamp>,
}

/// Permission of one agent to write to another.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = MessagingPermission)]
pub struct PermissionCheck {
    /// Agent that would receive the message.
    pub recipient: AgentId,
    /// Whether the message would be permitted.
    pub allowed: bool,
    /// Reason of the refusal; null when permitted.
    pub refusal: Option<PermissionRefusal>,
    /// Reason in words; null when permitted.
    pub detail: Option<String>,
}
