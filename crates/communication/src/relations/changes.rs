//! What changes between agents, each with its entry in the audit log.

use serde_json::json;

use super::{
    Relations,
    model::{Authorization, Block, Contact, Standing},
    store::{self, Said},
};
use crate::error::{Error, Result};
use am_audit::{Entry, EventType};
use am_db::{
    Tx,
    once::{Done, Once},
    principal::Principal,
};

/// The longest note or reason, in characters.
const LONGEST: usize = 500;
/// Contacts and blocks that one agent may have.
const MOST: i64 = 10_000;

fn checked(field: &str, text: Option<String>) -> Result<Option<String>> {
    match text {
        Some(text) if text.chars().count() > LONGEST => {
            Err(Error::invalid(field, format!("has over {LONGEST} characters")))
        }
        text => Ok(text),
    }
}

fn others(field: &str, agent: &str, other: &str) -> Result<()> {
    if agent == other { Err(Error::invalid(field, "is the agent itself")) } else { Ok(()) }
}

impl Relations {
    fn told(&self, by: &Principal, resource: &str, action: &str, agent: &str) -> Entry {
        let entry = Entry::new(EventType::WorkflowUpdated, self.now()).by(by).of(resource, action);
        entry.data("agent_id", json!(agent))
    }

    /// Let `agent` know another. Once more changes the note.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::State`] beyond 10 000 contacts.
    pub async fn add_contact(
        &self,
        by: &Principal,
        agent: &str,
        (contact, note): (&str, Option<String>),
        once: Option<Once>,
    ) -> Result<Done<Contact>> {
        others("contact_id", agent, contact)?;
        let note = checked("note", note)?;
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

    /// Let `agent` forget another.
    ///
    /// # Errors
    /// [`Error::NotFound`].
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

    /// Keep two agents from writing to each other, as `agent` wants. Once more changes the reason.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::State`] beyond 10 000 blocks.
    pub async fn block(
        &self,
        by: &Principal,
        agent: &str,
        (blocked, reason): (&str, Option<String>),
        once: Option<Once>,
    ) -> Result<Done<Block>> {
        others("blocked_id", agent, blocked)?;
        let reason = checked("reason", reason)?;
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

    /// Let them write again, if nothing else is between them.
    ///
    /// # Errors
    /// [`Error::NotFound`].
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

    /// Say whether an agent may send and get messages.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub async fn authorise(
        &self,
        by: &Principal,
        agent: &str,
        (state, reason): (Authorization, Option<String>),
        once: Option<Once>,
    ) -> Result<Done<Standing>> {
        let said = Said { state, reason: checked("reason", reason)?, by: by.name.to_string(), updated_at: self.now() };
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
