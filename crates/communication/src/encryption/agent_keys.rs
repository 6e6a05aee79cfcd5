//! Public keys that agents register.

use serde_json::json;

use super::{
    EncryptionService,
    envelope::RecipientPublicKey,
    error::{EncryptionError, Result},
    model::{AgentKey, NewAgentKey},
    store,
};
use am_audit::{AuditEntry, EventType};
use am_core::boxed;
use am_core::ids::{AgentId, AgentKeyId};
use am_db::{
    Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};

/// Maximum number of active keys of one agent: enough to replace keys on several machines.
const MAX_ACTIVE_KEYS: usize = 16;

fn audit_entry(action: &str, agent: &AgentId, key: &AgentKey, caller: &Principal, now: Timestamp) -> AuditEntry {
    let entry = AuditEntry::new(EventType::WorkflowUpdated, now).by(caller).of("agent_key", action);
    entry.data("agent_id", json!(agent)).data("key_id", json!(key.key_id)).data("kind", json!(key.kind))
}

impl EncryptionService {
    /// Register a public key of an agent. From then on messages to the agent are encrypted to it, or with an Ed25519 key
    /// the agent's signatures are verified by it. Repeating it changes nothing.
    ///
    /// # Errors
    /// Returns [`EncryptionError::Invalid`] for a malformed key, [`EncryptionError::InvalidState`] for one that was revoked, or beyond 16
    /// keys.
    #[boxed]
    pub async fn register_key(
        &self,
        caller: &Principal,
        agent: &AgentId,
        new: NewAgentKey,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<AgentKey>> {
        let (kind, key) = (new.kind, RecipientPublicKey::parse(new.kind, &new.public_key)?);
        if new.key_id.is_some_and(|id| id != key.id()) {
            return Err(EncryptionError::invalid(&["key_id"], format!("is not the key's: it has {}", key.id())));
        }
        let (now, audit) = (self.now(), self.0.audit.clone());
        let (agent, caller) = (agent.clone(), caller.clone());
        let new = AgentKey {
            key_id: key.id(),
            kind,
            public_key: key.text(),
            owner_id: caller.id(),
            created_at: now,
            revoked_at: None,
        };
        self.0
            .db
            .write_idempotent(&self.0.clock, once, async move |tx: &mut Tx| {
                let known = store::keys_of_agent(tx.conn().await?, &agent).await?;
                match known.iter().find(|known| known.key_id == new.key_id) {
                    Some(known) if known.revoked_at.is_none() && known.kind == new.kind => return Ok(known.clone()),
                    Some(known) if known.revoked_at.is_none() => {
                        return Err(EncryptionError::InvalidState(format!(
                            "Key {} is registered as an {} key: one key is not used for both",
                            new.key_id, known.kind
                        )));
                    }
                    Some(_) => {
                        return Err(EncryptionError::InvalidState(format!(
                            "Key {} was revoked: register another one",
                            new.key_id
                        )));
                    }
                    None => {}
                }
                if known.iter().filter(|known| known.revoked_at.is_none()).count() >= MAX_ACTIVE_KEYS {
                    return Err(EncryptionError::InvalidState(format!(
                        "The agent has {MAX_ACTIVE_KEYS} active keys: revoke one first"
                    )));
                }
                store::insert_key(tx, &agent, &new).await?;
                let told = audit_entry("registered", &agent, &new, &caller, now).change(None, Some(json!(new)));
                audit.append(tx, vec![told]).await?;
                Ok(new)
            })
            .await
    }

    /// A page of an agent's keys including revoked ones, newest first, and their total number.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn keys(&self, agent: &AgentId, page: &PageRequest) -> Result<(Vec<AgentKey>, i64)> {
        Ok(store::list_keys(&mut *self.0.db.read_list().await?, agent, page).await?)
    }

    /// Revoke a key: nothing more is encrypted to it, and envelopes and signatures that name it are refused. Stored messages are not
    /// changed. Repeating it changes nothing.
    ///
    /// # Errors
    /// Returns [`EncryptionError::NotFound`] when the agent has no such key.
    #[boxed]
    pub async fn revoke_key(&self, caller: &Principal, agent: &AgentId, key_id: &AgentKeyId) -> Result<AgentKey> {
        let (now, audit) = (self.now(), self.0.audit.clone());
        let (agent, key_id) = (agent.clone(), key_id.clone());
        let caller = caller.clone();
        self.0
            .db
            .write(async move |tx: &mut Tx| {
                let found = store::get_key(tx.conn().await?, &agent, &key_id).await?;
                let mut key = found.ok_or(EncryptionError::NotFound("Key"))?;
                if key.revoked_at.is_some() {
                    return Ok(key);
                }
                store::revoke_key(tx, &agent, &key_id, now).await?;
                let before = json!(key);
                key.revoked_at = Some(now);
                let told = audit_entry("revoked", &agent, &key, &caller, now).change(Some(before), Some(json!(key)));
                audit.append(tx, vec![told]).await?;
                Ok(key)
            })
            .await
    }
}
