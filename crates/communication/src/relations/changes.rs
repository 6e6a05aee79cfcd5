//! Changes of relations between agents, each with its audit entry.

use serde_json::json;

use super::{
    Relations,
    model::{Authorization, Block, Contact, Standing},
    store::{self, Said},
};
use crate::error::{Error, Result};
use am_audit::{Entry, EventType};
use am_core::validation::Violations;
use am_db::{
    Tx,
    once::{Done, Once},
    principal::Principal,
};

/// Maximum length of a note or reason, in characters.
const LONGEST: usize = 500;
/// Maximum number of contacts, and of blocks, of one agent.
const MOST: i64 = 10_000;

/// # Errors
/// For another that is the agent itself, and a text that is too long.
fn check(agent: &str, (field, other): (&str, &str), (member, text): (&str, Option<&str>)) -> Result<()> {
    let mut violations = check_text(member, text);
    violations.require(agent != other, field, "is the agent itself");
    Ok(violations.finish()?)
}

fn check_text(member: &str, text: Option<&str>) -> Violations {
    let mut violations = Violations::default();
    let message = format!("has over {LONGEST} characters");
    violations.require(text.is_none_or(|text| text.chars().count() <= LONGEST), member, message);
    violations
}

impl Relations {
    fn told(&self, by: &Principal, resource: &str, action: &str, agent: &str) -> Entry {
        let entry = Entry::new(EventType::WorkflowUpdated, self.now()).by(by).of(resource, action);
        entry.data("agent_id", json!(agent))
    }

    /// Add a contact of `agent`. Repeating it changes the note.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`]; [`Error::State`] beyond 10 000 contacts.
    pub async fn add_contact(
        &self,
        by: &Principal,
        agent: &str,
        (contact, note): (&str, Option<String>),
        once: Option<Once>,
    ) -> Result<Done<Contact>> {
        check(agent, ("contact_id", contact), ("note", note.as_deref()))?;
        let entry = self.told(by, "contact", "added", agent).data("contact_id", json!(contact));
        let new = Contact { agent_id: agent.to_owned(), contact_id: contact.to_owned(), note, created_at: self.now() };
        let audit = self.audit.clone();
        let work = async move |tx: &mut Tx| {
            let before = store::contact(tx.conn().await?, &new.agent_id, &new.contact_id).await?;
            if before.is_none() && store::count_contacts(tx.conn().await?, &new.agent_id).await? >= MOST {
                return Err(Error::State(format!("the agent has {MOST} contacts")));
            }
            let created_at = before.as_ref().map_or(new.created_at, |before| before.created_at);
            let new = Contact { created_at, ..new };
            store::put_contact(tx, &new).await?;
            audit.append(tx, vec![entry.change(before.map(|before| json!(before)), Some(json!(new)))]).await?;
            Ok(new)
        };
        self.db.write_once(&self.clock, once, work).await
    }

    /// Remove a contact of `agent`.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`] when it is not a contact.
    pub async fn remove_contact(&self, by: &Principal, agent: &str, contact: &str) -> Result<Contact> {
        let entry = self.told(by, "contact", "removed", agent).data("contact_id", json!(contact));
        let (agent, contact, audit) = (agent.to_owned(), contact.to_owned(), self.audit.clone());
        let work = async move |tx: &mut Tx| {
            let found = store::contact(tx.conn().await?, &agent, &contact).await?;
            let before = found.ok_or(Error::NotFound("Contact"))?;
            store::remove_contact(tx, &agent, &contact).await?;
            audit.append(tx, vec![entry.change(Some(json!(before)), None)]).await?;
            Ok(before)
        };
        self.db.write(work).await
    }

    /// Block an agent for `agent`, which prevents messages in both directions. Repeating it changes the reason.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`]; [`Error::State`] beyond 10 000 blocks.
    pub async fn block(
        &self,
        by: &Principal,
        agent: &str,
        (blocked, reason): (&str, Option<String>),
        once: Option<Once>,
    ) -> Result<Done<Block>> {
        check(agent, ("blocked_id", blocked), ("reason", reason.as_deref()))?;
        let entry = self.told(by, "block", "added", agent).data("blocked_id", json!(blocked));
        let new = Block { agent_id: agent.to_owned(), blocked_id: blocked.to_owned(), reason, created_at: self.now() };
        let audit = self.audit.clone();
        let work = async move |tx: &mut Tx| {
            let before = store::block(tx.conn().await?, &new.agent_id, &new.blocked_id).await?;
            if before.is_none() && store::count_blocks(tx.conn().await?, &new.agent_id).await? >= MOST {
                return Err(Error::State(format!("the agent has blocked {MOST} others")));
            }
            let created_at = before.as_ref().map_or(new.created_at, |before| before.created_at);
            let new = Block { created_at, ..new };
            store::put_block(tx, &new).await?;
            audit.append(tx, vec![entry.change(before.map(|before| json!(before)), Some(json!(new)))]).await?;
            Ok(new)
        };
        self.db.write_once(&self.clock, once, work).await
    }

    /// Remove a block. Other rules may still prevent messages.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`] when the agent is not blocked.
    pub async fn unblock(&self, by: &Principal, agent: &str, blocked: &str) -> Result<Block> {
        let entry = self.told(by, "block", "removed", agent).data("blocked_id", json!(blocked));
        let (agent, blocked, audit) = (agent.to_owned(), blocked.to_owned(), self.audit.clone());
        let work = async move |tx: &mut Tx| {
            let found = store::block(tx.conn().await?, &agent, &blocked).await?;
            let before = found.ok_or(Error::NotFound("Block"))?;
            store::remove_block(tx, &agent, &blocked).await?;
            audit.append(tx, vec![entry.change(Some(json!(before)), None)]).await?;
            Ok(before)
        };
        self.db.write(work).await
    }

    /// Grant or revoke an agent's authorization to send and receive messages.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`] for a reason that is too long.
    pub async fn authorise(
        &self,
        by: &Principal,
        agent: &str,
        (state, reason): (Authorization, Option<String>),
        once: Option<Once>,
    ) -> Result<Done<Standing>> {
        check_text("reason", reason.as_deref()).finish()?;
        let said = Said { state, reason, by: by.name.to_string(), updated_at: self.now() };
        let entry = self.told(by, "authorization", state.value(), agent);
        let (relations, agent) = (self.clone(), agent.to_owned());
        let work = async move |tx: &mut Tx| {
            let found = store::authorization(tx.conn().await?, &agent).await?;
            let before = found.map(|said| json!(relations.shown(&agent, Some(said))));
            store::put_authorization(tx, &agent, &said).await?;
            let after = relations.shown(&agent, Some(said));
            relations.audit.append(tx, vec![entry.change(before, Some(json!(after)))]).await?;
            Ok::<_, Error>(after)
        };
        self.db.write_once(&self.clock, once, work).await
    }
}
