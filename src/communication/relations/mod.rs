//! Who may write to whom.

mod store;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    db::{self, Connection},
    security::reputation::reputation,
};

/// The reputation that a sender needs who is no contact, of 10 000.
pub const REPUTATION_NEEDED: f64 = 1_000.0;

crate::stored_enum! {
    /// What was said of an agent's taking part.
    pub enum Authorization {
        /// It may.
        Granted = "GRANTED" / "granted",
        /// It may not.
        Revoked = "REVOKED" / "revoked",
    }
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

/// What agents are to each other. Cheap to clone.
#[derive(Clone)]
pub struct Relations {
    must_be_authorised: bool,
}

/// What is known of two agents.
struct Known {
    sender: Option<Authorization>,
    recipient: Option<Authorization>,
    /// The recipient has blocked the sender.
    blocked_by_recipient: bool,
    /// The other way round.
    blocked_by_sender: bool,
    contacts: bool,
}

impl Relations {
    /// With `must_be_authorised` an agent of whom nobody has spoken may not take part.
    pub fn new(must_be_authorised: bool) -> Self {
        Self { must_be_authorised }
    }

    /// May `sender` write to `recipient`? Both are authorised, neither has blocked the other, and one is a contact of the
    /// other or the sender's reputation is at least [`REPUTATION_NEEDED`]. Nobody is refused to write to itself for want of
    /// reputation.
    ///
    /// # Errors
    /// As the database.
    pub async fn permit(
        &self,
        conn: &mut Connection,
        sender: &str,
        recipient: &str,
    ) -> db::Result<Result<(), Refusal>> {
        let known = store::known(conn, sender, recipient).await?;
        if let Err(refusal) = self.judge(&known, sender, recipient) {
            return Ok(Err(refusal));
        }
        if known.contacts || sender == recipient {
            return Ok(Ok(()));
        }
        let found = reputation(conn, sender).await?.reputation;
        Ok(match found >= REPUTATION_NEEDED {
            true => Ok(()),
            false => {
                Err(Refusal::Reputation { agent: sender.to_owned(), reputation: found, needed: REPUTATION_NEEDED })
            }
        })
    }

    /// All but the reputation.
    fn judge(&self, known: &Known, sender: &str, recipient: &str) -> Result<(), Refusal> {
        for (agent, state) in [(sender, known.sender), (recipient, known.recipient)] {
            let fine = match state {
                Some(state) => state == Authorization::Granted,
                None => !self.must_be_authorised,
            };
            if !fine {
                return Err(Refusal::NotAuthorised { agent: agent.to_owned(), revoked: state.is_some() });
            }
        }
        let blocks = [(known.blocked_by_recipient, recipient, sender), (known.blocked_by_sender, sender, recipient)];
        match blocks.into_iter().find(|(blocked, ..)| *blocked) {
            Some((_, agent, blocked)) => Err(Refusal::Blocked { agent: agent.to_owned(), blocked: blocked.to_owned() }),
            None => Ok(()),
        }
    }
}
