//! What agents are to each other.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use am_db::codec::Timestamp;

am_db::stored_enum! {
    /// What was said of an agent's taking part.
    pub enum Authorization {
        /// It may.
        Granted = "GRANTED" / "granted",
        /// It may not.
        Revoked = "REVOKED" / "revoked",
    }
}

/// An agent that another knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Contact {
    /// Who knows.
    pub agent_id: String,
    /// Whom.
    pub contact_id: String,
    /// For people.
    pub note: Option<String>,
    /// Since when.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// An agent that another does not want to hear of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Block {
    /// Who does not.
    pub agent_id: String,
    /// Of whom.
    pub blocked_id: String,
    /// Why.
    pub reason: Option<String>,
    /// Since when.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
}

/// Whether an agent may send and get messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Standing {
    /// Which.
    pub agent_id: String,
    /// Whether it may.
    pub authorised: bool,
    /// What was said; none: nobody has spoken.
    pub state: Option<Authorization>,
    /// Why.
    pub reason: Option<String>,
    /// Who said so.
    pub by: Option<String>,
    /// When.
    #[schema(value_type = Option<String>)]
    pub updated_at: Option<Timestamp>,
}

/// Why an agent may not write to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// One of both may not take part.
    #[error("agent '{agent}' is not authorised to send or get messages{}", if *revoked { ": it was revoked" } else { "" })]
    NotAuthorised {
        /// Which.
        agent: String,
        /// True: it was taken back; false: nobody has spoken for it, and here somebody must.
        revoked: bool,
    },
    /// One of both does not want to hear of the other.
    #[error("agent '{agent}' has blocked '{blocked}'")]
    Blocked {
        /// Who.
        agent: String,
        /// Whom.
        blocked: String,
    },
    /// They don't know each other, and the sender's reputation is too low to write to strangers.
    #[error(
        "agent '{agent}' has a reputation of {reputation}, and needs {needed} to write to an agent that is no contact"
    )]
    Reputation {
        /// The sender.
        agent: String,
        /// 0 to 10 000.
        reputation: f64,
        /// The least.
        needed: f64,
    },
}

/// Whether one agent may write to another.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct Verdict {
    /// To whom.
    pub recipient: String,
    /// Whether it may.
    pub allowed: bool,
    /// Why not.
    #[schema(value_type = Option<Object>)]
    pub refusal: Option<Refusal>,
    /// The same in words.
    pub detail: Option<String>,
}
