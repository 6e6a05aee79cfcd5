//! Changes of relations between agents, each with its audit entry.

use serde_json::json;

use super::{
    AgentRelations,
    model::{AgentAuthorization, AgentBlock, AgentContact, AuthorizationStatus},
    store::{self, AuthorizationRow},
};
use crate::error::{CommunicationError, Result};
use am_audit::{AuditEntry, EventType};
use am_core::{boxed, ids::AgentId, validation::Violations};
use am_db::{
    Tx,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};

/// Maximum length of a note or reason, in characters.
const MAX_NOTE_LEN: usize = 500;
/// Maximum number of contacts, and of blocks, of one agent.
const MAX_RELATIONS: i64 = 10_000;

/// # Errors
/// For another that is the agent itself, and a text that is too long.
fn check(agent: &AgentId, (field, other): (&str, &AgentId), (member, text): (&str, Option<&str>)) -> Result<()> {
    let mut violations = check_text(member, text);
    violations.require(agent != other, field, "is the agent itself");
    Ok(violations.finish()?)
}

fn check_text(member: &str, text: Option<&str>) -> Violations {
    let mut violations = Violations::default();
    let message = format!("has over {MAX_NOTE_LEN} characters");
    violations.require(text.is_none_or(|text| text.chars().count() <= MAX_NOTE_LEN), member, message);
    violations
}

impl AgentRelations {
    fn told(&self, by: &Principal, resource: &str, action: &str, agent: &AgentId) -> AuditEntry {
        let entry = AuditEntry::new(EventType::WorkflowUpdated, self.now()).by(by).of(resource, action);
        entry.data("agent_id", json!(agent))
    }

    /// Add a contact of `agent`. Repeating it changes the note.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Invalid`]; [`CommunicationError::InvalidState`] beyond 10 000 contacts.
    #[boxed]
    pub async fn add_contact(
        &self,
        by: &Principal,
        agent: &AgentId,
        (contact, note): (&AgentId, Option<String>),
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AgentContact>> {
        check(agent, ("contact_id", contact), ("note", note.as_deref()))?;
        let entry = self.told(by, "contact", "added", agent).data("contact_id", json!(contact));
        let new = AgentContact { agent_id: agent.clone(), contact_id: contact.clone(), note, created_at: self.now() };
        let audit = self.audit.clone();
        let work = async move |tx: &mut Tx| {
            let before = store::get_contact(tx.conn().await?, &new.agent_id, &new.contact_id).await?;
            if before.is_none() && store::count_contacts(tx.conn().await?, &new.agent_id).await? >= MAX_RELATIONS {
                return Err(CommunicationError::InvalidState(format!("the agent has {MAX_RELATIONS} contacts")));
            }
            let created_at = before.as_ref().map_or(new.created_at, |before| before.created_at);
            let new = AgentContact { created_at, ..new };
            store::upsert_contact(tx, &new).await?;
            audit.append(tx, vec![entry.change(before.map(|before| json!(before)), Some(json!(new)))]).await?;
            Ok(new)
        };
        self.db.write_idempotent(&self.clock, once, work).await
    }

    /// Remove a contact of `agent`.
    ///
    /// # Errors
    /// Returns [`CommunicationError::NotFound`] when it is not a contact.
    #[boxed]
    pub async fn remove_contact(&self, by: &Principal, agent: &AgentId, contact: &AgentId) -> Result<AgentContact> {
        let entry = self.told(by, "contact", "removed", agent).data("contact_id", json!(contact));
        let (agent, contact) = (agent.clone(), contact.clone());
        let audit = self.audit.clone();
        let work = async move |tx: &mut Tx| {
            let found = store::get_contact(tx.conn().await?, &agent, &contact).await?;
            let before = found.ok_or(CommunicationError::NotFound("Contact"))?;
            store::delete_contact(tx, &agent, &contact).await?;
            audit.append(tx, vec![entry.change(Some(json!(before)), None)]).await?;
            Ok(before)
        };
        self.db.write(work).await
    }

    /// Block an agent for `agent`, which prevents messages in both directions. Repeating it changes the reason.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Invalid`]; [`CommunicationError::InvalidState`] beyond 10 000 blocks.
    #[boxed]
    pub async fn block(
        &self,
        by: &Principal,
        agent: &AgentId,
        (blocked, reason): (&AgentId, Option<String>),
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AgentBlock>> {
        check(agent, ("blocked_id", blocked), ("reason", reason.as_deref()))?;
        let entry = self.told(by, "block", "added", agent).data("blocked_id", json!(blocked));
        let new = AgentBlock { agent_id: agent.clone(), blocked_id: blocked.clone(), reason, created_at: self.now() };
        let audit = self.audit.clone();
        let work = async move |tx: &mut Tx| {
            let before = store::get_block(tx.conn().await?, &new.agent_id, &new.blocked_id).await?;
            if before.is_none() && store::count_blocks(tx.conn().await?, &new.agent_id).await? >= MAX_RELATIONS {
                return Err(CommunicationError::InvalidState(format!("the agent has blocked {MAX_RELATIONS} others")));
            }
            let created_at = before.as_ref().map_or(new.created_at, |before| before.created_at);
            let new = AgentBlock { created_at, ..new };
            store::upsert_block(tx, &new).await?;
            audit.append(tx, vec![entry.change(before.map(|before| json!(before)), Some(json!(new)))]).await?;
            Ok(new)
        };
        self.db.write_idempotent(&self.clock, once, work).await
    }

    /// Remove a block. Other rules may still prevent messages.
    ///
    /// # Errors
    /// Returns [`CommunicationError::NotFound`] when the agent is not blocked.
    #[boxed]
    pub async fn unblock(&self, by: &Principal, agent: &AgentId, blocked: &AgentId) -> Result<AgentBlock> {
        let entry = self.told(by, "block", "removed", agent).data("blocked_id", json!(blocked));
        let (agent, blocked) = (agent.clone(), blocked.clone());
        let audit = self.audit.clone();
        let work = async move |tx: &mut Tx| {
            let found = store::get_block(tx.conn().await?, &agent, &blocked).await?;
            let before = found.ok_or(CommunicationError::NotFound("Block"))?;
            store::delete_block(tx, &agent, &blocked).await?;
            audit.append(tx, vec![entry.change(Some(json!(before)), None)]).await?;
            Ok(before)
        };
        self.db.write(work).await
    }

    /// Grant or revoke an agent's authorization to send and receive messages.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Invalid`] for a reason that is too long.
    #[boxed]
    pub async fn authorise(
        &self,
        by: &Principal,
        agent: &AgentId,
        (state, reason): (AgentAuthorization, Option<String>),
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AuthorizationStatus>> {
        check_text("reason", reason.as_deref()).finish()?;
        let said = AuthorizationRow { state, reason, by: by.id(), updated_at: self.now() };
        let entry = self.told(by, "authorization", state.value(), agent);
        let (relations, agent) = (self.clone(), agent.clone());
        let work = async move |tx: &mut Tx| {
            let found = store::get_authorization(tx.conn().await?, &agent).await?;
            let before = found.map(|said| json!(relations.shown(&agent, Some(said))));
            store::upsert_authorization(tx, &agent, &said).await?;
            let after = relations.shown(&agent, Some(said));
            relations.audit.append(tx, vec![entry.change(before, Some(json!(after)))]).await?;
            Ok::<_, CommunicationError>(after)
        };
        self.db.write_idempotent(&self.clock, once, work).await
    }
}
