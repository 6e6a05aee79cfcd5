//! Permissions between agents: contacts, blocks, and authorization to use messages at all.

mod changes;
mod model;
mod store;
#[cfg(test)]
mod tests;

pub use model::{AgentAuthorization, AgentBlock, AgentContact, AuthorizationStatus, PermissionCheck};

use super::{error::Result, model::PermissionRefusal};
use am_audit::AuditLog;
use am_core::{ambient::Clock, boxed, ids::AgentId};
use am_db::{Connection, Database, codec::Timestamp, page::PageRequest};
use am_security::reputation::get_reputations;

/// Reputation, of 10 000, that a sender needs to write to an agent that is not a contact.
pub const MIN_SENDER_REPUTATION: f64 = 1_000.0;

/// The relations between agents. Cheap to clone.
#[derive(Clone)]
pub struct AgentRelations {
    db: Database,
    clock: Clock,
    audit: AuditLog,
    must_be_authorised: bool,
}

/// Relation between a sender and a recipient.
struct RelationFacts {
    sender: Option<AgentAuthorization>,
    recipient: Option<AgentAuthorization>,
    /// Whether the recipient has blocked the sender.
    blocked_by_recipient: bool,
    /// Whether the sender has blocked the recipient.
    blocked_by_sender: bool,
    contacts: bool,
}

impl AgentRelations {
    /// Create the service on `db`. With `must_be_authorised`, agents without an explicit authorization are refused.
    pub fn new(db: Database, clock: Clock, audit: AuditLog, must_be_authorised: bool) -> Self {
        Self { db, clock, audit, must_be_authorised }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now())
    }

    /// Check whether `sender` may write to `recipient`: both are authorised, neither has blocked the other, and they
    /// are contacts or the sender's reputation is at least [`MIN_SENDER_REPUTATION`].
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn permit(
        &self,
        conn: &mut Connection,
        sender: &AgentId,
        recipient: &AgentId,
    ) -> am_db::Result<std::result::Result<(), PermissionRefusal>> {
        Ok(self.permits(conn, &[(sender, recipient)]).await?.pop().unwrap_or(Ok(())))
    }

    /// Check many pairs, in two queries; results are in their order.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn permits(
        &self,
        conn: &mut Connection,
        pairs: &[(&AgentId, &AgentId)],
    ) -> am_db::Result<Vec<std::result::Result<(), PermissionRefusal>>> {
        let known = store::read_relations(conn, pairs).await?;
        let strangers = pairs.iter().zip(&known).filter(|(_, known)| !known.contacts).map(|((sender, _), _)| *sender);
        let mut strangers: Vec<&AgentId> = strangers.collect();
        strangers.sort_unstable();
        strangers.dedup();
        let reputations = get_reputations(conn, &strangers).await?;
        let judged = pairs.iter().zip(&known).map(|((sender, recipient), known)| {
            self.judge(known, sender, recipient)?;
            match reputations.get(*sender).map(|found| found.reputation) {
                Some(reputation) if !known.contacts && reputation < MIN_SENDER_REPUTATION => {
                    Err(PermissionRefusal::Reputation {
                        agent: (*sender).clone(),
                        reputation,
                        needed: MIN_SENDER_REPUTATION,
                    })
                }
                _ => Ok(()),
            }
        });
        Ok(judged.collect())
    }

    /// Check all conditions except the reputation.
    fn judge(
        &self,
        known: &RelationFacts,
        sender: &AgentId,
        recipient: &AgentId,
    ) -> std::result::Result<(), PermissionRefusal> {
        for (agent, state) in [(sender, known.sender), (recipient, known.recipient)] {
            if !self.is_authorised(state) {
                return Err(PermissionRefusal::NotAuthorised { agent: agent.clone(), revoked: state.is_some() });
            }
        }
        let (agent, blocked) = match known {
            RelationFacts { blocked_by_recipient: true, .. } => (recipient, sender),
            RelationFacts { blocked_by_sender: true, .. } => (sender, recipient),
            _ => return Ok(()),
        };
        Err(PermissionRefusal::Blocked { agent: agent.clone(), blocked: blocked.clone() })
    }

    fn is_authorised(&self, state: Option<AgentAuthorization>) -> bool {
        state.map_or(!self.must_be_authorised, |state| state == AgentAuthorization::Granted)
    }

    /// Check the permission without sending, with the refusal in words.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn verdict(&self, sender: &AgentId, recipient: &AgentId) -> Result<PermissionCheck> {
        let refusal = self.permit(&mut *self.db.read().await?, sender, recipient).await?.err();
        let detail = refusal.as_ref().map(ToString::to_string);
        Ok(PermissionCheck { recipient: recipient.clone(), allowed: refusal.is_none(), refusal, detail })
    }

    /// A page of an agent's contacts, newest first, and their total number.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn contacts(&self, agent: &AgentId, page: &PageRequest) -> Result<(Vec<AgentContact>, i64)> {
        Ok(store::list_contacts(&mut *self.db.read_list().await?, agent, page).await?)
    }

    /// A page of the agents that an agent has blocked, newest first, and their total number.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn blocks(&self, agent: &AgentId, page: &PageRequest) -> Result<(Vec<AgentBlock>, i64)> {
        Ok(store::list_blocks(&mut *self.db.read_list().await?, agent, page).await?)
    }

    /// Authorization of an agent.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn standing(&self, agent: &AgentId) -> Result<AuthorizationStatus> {
        let found = store::get_authorization(&mut *self.db.read().await?, agent).await?;
        Ok(self.shown(agent, found))
    }

    fn shown(&self, agent: &AgentId, found: Option<store::AuthorizationRow>) -> AuthorizationStatus {
        let state = found.as_ref().map(|said| said.state);
        AuthorizationStatus {
            agent_id: agent.clone(),
            authorised: self.is_authorised(state),
            state,
            updated_at: found.as_ref().map(|said| said.updated_at),
            by: found.as_ref().map(|said| said.by.clone()),
            reason: found.and_then(|said| said.reason),
        }
    }
}
