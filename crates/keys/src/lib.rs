//! API keys that are created, rotated and revoked at runtime, in addition to the configured ones. A secret is shown
//! once and stored as a salted hash; the principal of a key outlives its secrets.

mod key_cache;
mod model;
mod secret;
mod store;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use serde_json::json;
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

pub use key_cache::KeyIdentity;
pub use model::{ApiKey, Expiry, IssuedKey, KeyRole, KeyState};

use key_cache::KeyCache;
use secret::SaltedHash;

use am_audit::{AuditEntry, AuditLog, EventType, SecurityLevel};
use am_core::{
    ambient::{Clock, IdGenerator, sleep_or_cancelled},
    boxed,
    ids::{AgentId, ApiKeyId},
    refresh_gate::RefreshGate,
    validation::{self, Violation, Violations},
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    owner::{self, PrincipalName},
};

/// Interval at which changes by other processes are looked for: a revoked key is refused within two seconds.
const KEY_POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Error of an API key operation. No message contains a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
    /// An argument is invalid.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// The name is in use; the value is the name.
    #[error("there is a key '{0}' already (a revoked one keeps its name)")]
    NameTaken(String),
    /// There is no key with this name or id.
    #[error("there is no key '{0}'")]
    NotFound(String),
    /// The key's state forbids the operation: the key and the reason.
    #[error("key '{0}' {1}")]
    InvalidState(String, &'static str),
}

/// Result of an API key operation.
pub type Result<T> = std::result::Result<T, KeyError>;

/// The API keys. Cheap to clone.
#[derive(Clone)]
pub struct ApiKeyService(Arc<ApiKeyServiceInner>);

struct ApiKeyServiceInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    /// Cache of valid keys, read for each request with an API key and replaced when a key has changed.
    ring: RwLock<Arc<KeyCache>>,
    /// Revision that the cache was built from.
    seen: watch::Sender<i64>,
    /// Held while keys are read and put in the cache, so that older ones never replace newer ones.
    refreshing: Mutex<()>,
    misses: RefreshGate,
}

/// Whether `text` has the form of a managed key, known or not.
pub fn has_key_form(text: &str) -> bool {
    secret::parse_key(text).is_some()
}

impl ApiKeyService {
    /// Load the keys of `db`.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn open(db: Database, clock: Clock, ids: IdGenerator, audit: AuditLog) -> Result<Self> {
        let ring = RwLock::new(Arc::new(KeyCache::new(HashMap::new(), &ids)));
        let (seen, refreshing, misses) = (watch::Sender::new(0), Mutex::default(), RefreshGate::default());
        let keys = Self(Arc::new(ApiKeyServiceInner { db, clock, ids, audit, ring, seen, refreshing, misses }));
        keys.refresh().await?;
        Ok(keys)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// The principal of a presented key; `None` when the key is unknown or invalid now. Does not access the database.
    pub fn find(&self, presented: &str) -> Option<KeyIdentity> {
        let ring = self.0.ring.read().clone();
        ring.find(presented, || self.now())
    }

    /// Whether a key that is valid now is bound to `agent`, as far as this process knows. Does not access the database.
    pub fn has_agent_key(&self, agent: &AgentId) -> bool {
        let ring = self.0.ring.read().clone();
        ring.has_agent(agent, || self.now())
    }

    /// The name of the key with this principal, of a revoked one too; `None`: no key here has it. Does not access the database.
    pub fn name_of(&self, principal: &str) -> Option<Arc<str>> {
        self.0.ring.read().name_of(principal)
    }

    /// The id in a text that has the form of a key, if there is or was a key of this id, whatever its secret; `None`: none is known. Does
    /// not access the database.
    pub fn id_of(&self, presented: &str) -> Option<ApiKeyId> {
        self.0.ring.read().id_of(presented).cloned()
    }

    /// A receiver that is notified when the cached keys have changed, by the revision of the last change.
    pub fn subscribe_changes(&self) -> watch::Receiver<i64> {
        self.0.seen.subscribe()
    }

    /// Return how long an identity stays valid by the clock; `None`: without end.
    pub fn time_left(&self, identity: &KeyIdentity) -> Option<Duration> {
        identity.until.map(|until| (until.0 - self.now().0).to_std().unwrap_or_default())
    }

    /// Look for changes because `presented` is not known, if it has the form of a key: another process may have made it a
    /// moment ago. Returns whether it is known now. However many keys are unknown, few queries are made.
    #[boxed]
    pub async fn find_missed(&self, presented: &str) -> Option<KeyIdentity> {
        secret::parse_key(presented)?;
        let refresh = async { self.refresh().await.map(drop) };
        if let Err(error) = self.0.misses.refresh(refresh).await {
            tracing::warn!(%error, "could not look for a key that is not known");
        }
        self.find(presented)
    }

    /// Return whether `text` has the form of a key.
    pub fn has_key_form(text: &str) -> bool {
        secret::parse_key(text).is_some()
    }

    /// Reload the keys when this or another process has changed them. Returns whether they had changed.
    ///
    /// # Errors
    /// Returns a database error when a query fails; the cached keys stay in use then.
    #[boxed]
    pub async fn refresh(&self) -> Result<bool> {
        let _one = self.0.refreshing.lock().await;
        let mut conn = self.0.db.read().await?;
        // Read before the keys, so that a change in between is noticed by the next call.
        let revision = store::revision(&mut conn).await?;
        if revision == *self.0.seen.borrow() {
            return Ok(false);
        }
        let names = store::load_names(&mut conn).await?;
        let mut ring = KeyCache::new(store::load_cached_keys(&mut conn).await?, &self.0.ids).with_names(names);
        ring.keep_use(&self.0.ring.read());
        *self.0.ring.write() = Arc::new(ring);
        self.0.seen.send_replace(revision);
        Ok(true)
    }

    /// Reload changed keys at intervals until `stop` is cancelled.
    #[boxed]
    pub async fn watch(self, stop: CancellationToken) {
        while sleep_or_cancelled(&stop, KEY_POLL_INTERVAL).await {
            if let Err(error) = self.store_uses().await {
                tracing::warn!(%error, "could not store when API keys were used; it is tried again");
            }
            match self.refresh().await {
                Ok(false) => {}
                Ok(true) => tracing::info!("API keys have changed"),
                Err(error) => {
                    tracing::warn!(%error, "could not reload changed API keys; the cached keys stay in use");
                }
            }
        }
    }

    /// Store when keys were used, once a minute at most for each.
    async fn store_uses(&self) -> Result<()> {
        let ring = self.0.ring.read().clone();
        let uses = ring.due_uses();
        if uses.is_empty() {
            return Ok(());
        }
        let stored = uses.clone();
        self.0.db.write(async move |tx: &mut Tx| store::record_use(tx, &stored).await).await?;
        ring.mark_stored(&uses);
        Ok(())
    }

    /// All keys including revoked ones, in order of creation.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list(&self) -> Result<Vec<ApiKey>> {
        Ok(store::list_keys(&mut *self.0.db.read().await?, self.now()).await?)
    }

    /// Create a key with a principal of its own; `agent_id` is the agent that a key of the role `agent` is bound to.
    ///
    /// # Errors
    /// Returns [`KeyError::Invalid`] for an invalid name, agent or time, [`KeyError::NameTaken`] for a name in use.
    #[boxed]
    pub async fn create(
        &self,
        name: &str,
        role: KeyRole,
        agent_id: Option<AgentId>,
        expires: Expiry,
    ) -> Result<IssuedKey> {
        let now = self.now();
        let mut violations = Violations::default();
        violations.take(model::check_name(name));
        violations.take(model::check_agent(role, agent_id.as_ref()));
        let expires_at = violations.take(expires.end("expires", now));
        let expires_at = violations.finish_with(expires_at).map_err(KeyError::Invalid)?;
        let (ids, audit) = (self.0.ids.clone(), self.0.audit.clone());
        let name = name.to_owned();
        let secret = secret::random_secret(&ids);
        let salted = SaltedHash::hash_secret(&secret, &ids);
        let made = self.0.db.write(async move |tx: &mut Tx| {
            if store::find_key(tx.conn().await?, &name, now).await?.is_some() {
                return Err(KeyError::NameTaken(name));
            }
            let mut id = secret::random_id(&ids);
            while store::find_key(tx.conn().await?, &id, now).await?.is_some() {
                id = secret::random_id(&ids);
            }
            let principal = String::from(PrincipalName::random(&ids)).into();
            let key = ApiKey {
                id,
                name,
                role,
                agent_id,
                principal,
                state: KeyState::Active,
                created_at: now,
                expires_at,
                rotated_at: None,
                previous_until: None,
                revoked_at: None,
                last_used_at: None,
            };
            store::insert_key(tx, &key, &salted).await?;
            audit.append(tx, vec![audit_entry("created", &key, now).change(None, Some(key.told()))]).await?;
            Ok(key)
        });
        Ok(issued_key(made.await?, &secret))
    }

    /// Revoke a key; it is refused from then on.
    ///
    /// # Errors
    /// Returns [`KeyError::NotFound`]; [`KeyError::InvalidState`] for a key that was revoked before.
    #[boxed]
    pub async fn revoke(&self, name_or_id: &str) -> Result<ApiKey> {
        self.change(name_or_id, "revoked", async move |tx: &mut Tx, key: &mut ApiKey, now: Timestamp| {
            (key.revoked_at, key.previous_until, key.state) = (Some(now), None, KeyState::Revoked);
            Ok(store::revoke_key(tx, key).await?)
        })
        .await
    }

    /// Replace a key's secret. The previous secret stays valid for `grace`; an older one does not. `expires`, if given,
    /// sets a new expiry.
    ///
    /// # Errors
    /// Returns [`KeyError::NotFound`]; [`KeyError::InvalidState`] for a key that was revoked, or has expired and gets no new expiry;
    /// [`KeyError::Invalid`] for an invalid time.
    #[boxed]
    pub async fn rotate(&self, name_or_id: &str, grace: Duration, expires: Option<Expiry>) -> Result<IssuedKey> {
        let ids = self.0.ids.clone();
        let secret = secret::random_secret(&ids);
        let salted = SaltedHash::hash_secret(&secret, &ids);
        let changed = self.change(name_or_id, "rotated", async move |tx: &mut Tx, key: &mut ApiKey, now: Timestamp| {
            match expires {
                Some(term) => key.expires_at = term.end("expires", now).map_err(invalid)?,
                None if key.state == KeyState::Expired => {
                    return Err(KeyError::InvalidState(key.name.clone(), "has expired: give a new expiry"));
                }
                None => {}
            }
            let grace = if grace.is_zero() { Expiry::Never } else { Expiry::For(grace) };
            let previous_until = grace.end("grace", now).map_err(invalid)?;
            (key.rotated_at, key.previous_until, key.state) = (Some(now), previous_until, KeyState::Active);
            Ok(store::rotate_key(tx, key, &salted).await?)
        });
        Ok(issued_key(changed.await?, &secret))
    }

    /// Change a key that was not revoked, and append the audit entry.
    async fn change<F>(&self, name_or_id: &str, action: &'static str, change: F) -> Result<ApiKey>
    where
        F: AsyncFnOnce(&mut Tx, &mut ApiKey, Timestamp) -> Result<()> + Send + 'static,
    {
        let (wanted, now) = (name_or_id.to_owned(), self.now());
        let audit = self.0.audit.clone();
        let changed = self.0.db.write(async move |tx: &mut Tx| {
            let found = store::find_key(tx.conn().await?, &wanted, now).await?;
            let mut key = found.ok_or(KeyError::NotFound(wanted))?;
            if key.state == KeyState::Revoked {
                return Err(KeyError::InvalidState(key.name, "was revoked"));
            }
            let before = key.told();
            change(tx, &mut key, now).await?;
            audit.append(tx, vec![audit_entry(action, &key, now).change(Some(before), Some(key.told()))]).await?;
            Ok(key)
        });
        changed.await
    }
}

/// Audit entry of a change. Keys are changed on the command line and not over the API, so the acting user is the
/// system.
fn audit_entry(action: &str, key: &ApiKey, now: Timestamp) -> AuditEntry {
    let entry =
        AuditEntry::new(EventType::WorkflowUpdated, now).on_behalf_of(owner::SYSTEM_PRINCIPAL).of("api_key", action);
    entry.level(SecurityLevel::Confidential).data("key_id", json!(key.id)).data("name", json!(key.name))
}

fn invalid(violation: Violation) -> KeyError {
    KeyError::Invalid(vec![violation])
}

fn issued_key(key: ApiKey, secret: &str) -> IssuedKey {
    let written = secret::format_key(&key.id, secret);
    IssuedKey { key, secret: written.into() }
}
