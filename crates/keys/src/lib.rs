//! API keys that are created, rotated and revoked at runtime, in addition to the configured ones. A secret is shown
//! once and stored as a salted hash; the principal of a key outlives its secrets.

mod model;
mod ring;
mod secret;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use parking_lot::RwLock;
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use model::{ApiKey, Issued, Role, State, Term};
pub use ring::Known;

use ring::Ring;
use secret::Salted;

use am_audit::{Audit, Entry, EventType, SecurityLevel};
use am_core::{
    ambient::{Clock, Ids, pause},
    validation::{self, Violation, Violations},
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    owner::{self, Owner},
};

/// Interval at which changes by other processes are looked for: a revoked key is refused within two seconds.
const LOOK: Duration = Duration::from_secs(1);

/// Error of an API key operation. No message contains a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::Error),
    /// An argument is invalid.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// The name is in use; the value is the name.
    #[error("there is a key '{0}' already (a revoked one keeps its name)")]
    Taken(String),
    /// There is no key with this name or id.
    #[error("there is no key '{0}'")]
    NotFound(String),
    /// The key's state forbids the operation: the key and the reason.
    #[error("key '{0}' {1}")]
    State(String, &'static str),
}

/// Result of an API key operation.
pub type Result<T> = std::result::Result<T, Error>;

/// The API keys. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
    /// Cache of valid keys, read for each request with an API key and replaced when a key has changed.
    ring: RwLock<Arc<Ring>>,
    /// Revision that the cache was built from.
    seen: AtomicI64,
}

impl Keys {
    /// Load the keys of `db`.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub async fn open(db: Database, clock: Clock, ids: Ids, audit: Audit) -> Result<Self> {
        let ring = RwLock::new(Arc::new(Ring::new(HashMap::new(), &ids)));
        let keys = Self(Arc::new(Inner { db, clock, ids, audit, ring, seen: AtomicI64::new(0) }));
        keys.refresh().await?;
        Ok(keys)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// The principal of a presented key; `None` when the key is unknown or invalid now. Does not access the database.
    pub fn find(&self, presented: &str) -> Option<Known> {
        let ring = self.0.ring.read().clone();
        ring.find(presented, || self.now())
    }

    /// Reload the keys when this or another process has changed them. Returns whether they had changed.
    ///
    /// # Errors
    /// Returns a database error when a query fails; the cached keys stay in use then.
    pub async fn refresh(&self) -> Result<bool> {
        let mut conn = self.0.db.read().await?;
        // Read before the keys, so that a change in between is noticed by the next call.
        let revision = store::revision(&mut conn).await?;
        if revision == self.0.seen.load(Ordering::Acquire) {
            return Ok(false);
        }
        let ring = Arc::new(Ring::new(store::held(&mut conn).await?, &self.0.ids));
        *self.0.ring.write() = ring;
        self.0.seen.store(revision, Ordering::Release);
        Ok(true)
    }

    /// Reload changed keys at intervals until `stop` is cancelled.
    pub async fn watch(self, stop: CancellationToken) {
        while pause(&stop, LOOK).await {
            match self.refresh().await {
                Ok(false) => {}
                Ok(true) => tracing::info!("API keys have changed"),
                Err(error) => {
                    tracing::warn!(%error, "could not reload changed API keys; the cached keys stay in use");
                }
            }
        }
    }

    /// All keys including revoked ones, in order of creation.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub async fn list(&self) -> Result<Vec<ApiKey>> {
        Ok(store::list(&mut *self.0.db.read().await?, self.now()).await?)
    }

    /// Create a key with a principal of its own.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`] for an invalid name or time, [`Error::Taken`] for a name in use.
    pub async fn create(&self, name: &str, role: Role, expires: Term) -> Result<Issued> {
        let now = self.now();
        let mut violations = Violations::default();
        violations.take(model::check_name(name));
        let expires_at = violations.take(expires.end("expires", now));
        let expires_at = violations.finish_with(expires_at).map_err(Error::Invalid)?;
        let (name, ids, audit) = (name.to_owned(), self.0.ids.clone(), self.0.audit.clone());
        let secret = secret::draw_secret(&ids);
        let salted = Salted::of(&secret, &ids);
        let made = self.0.db.write(async move |tx: &mut Tx| {
            if store::get(tx.conn().await?, &name, now).await?.is_some() {
                return Err(Error::Taken(name));
            }
            let mut id = secret::draw_id(&ids);
            while store::get(tx.conn().await?, &id, now).await?.is_some() {
                id = secret::draw_id(&ids);
            }
            let principal = Owner::drawn(&ids).into();
            let key = ApiKey {
                id,
                name,
                role,
                principal,
                state: State::Active,
                created_at: now,
                expires_at,
                rotated_at: None,
                previous_until: None,
                revoked_at: None,
            };
            store::insert(tx, &key, &salted).await?;
            audit.append(tx, vec![entry("created", &key, now).change(None, Some(key.told()))]).await?;
            Ok(key)
        });
        Ok(issued(made.await?, &secret))
    }

    /// Revoke a key; it is refused from then on.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`]; [`Error::State`] for a key that was revoked before.
    pub async fn revoke(&self, name_or_id: &str) -> Result<ApiKey> {
        self.change(name_or_id, "revoked", async move |tx: &mut Tx, key: &mut ApiKey, now: Timestamp| {
            (key.revoked_at, key.previous_until, key.state) = (Some(now), None, State::Revoked);
            Ok(store::revoke(tx, key).await?)
        })
        .await
    }

    /// Replace a key's secret. The previous secret stays valid for `grace`; an older one does not. `expires`, if given,
    /// sets a new expiry.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`]; [`Error::State`] for a key that was revoked, or has expired and gets no new expiry;
    /// [`Error::Invalid`] for an invalid time.
    pub async fn rotate(&self, name_or_id: &str, grace: Duration, expires: Option<Term>) -> Result<Issued> {
        let ids = self.0.ids.clone();
        let secret = secret::draw_secret(&ids);
        let salted = Salted::of(&secret, &ids);
        let changed = self.change(name_or_id, "rotated", async move |tx: &mut Tx, key: &mut ApiKey, now: Timestamp| {
            match expires {
                Some(term) => key.expires_at = term.end("expires", now).map_err(invalid)?,
                None if key.state == State::Expired => {
                    return Err(Error::State(key.name.clone(), "has expired: give a new expiry"));
                }
                None => {}
            }
            let grace = if grace.is_zero() { Term::Open } else { Term::For(grace) };
            let previous_until = grace.end("grace", now).map_err(invalid)?;
            (key.rotated_at, key.previous_until, key.state) = (Some(now), previous_until, State::Active);
            Ok(store::rotate(tx, key, &salted).await?)
        });
        Ok(issued(changed.await?, &secret))
    }

    /// Change a key that was not revoked, and append the audit entry.
    async fn change<F>(&self, name_or_id: &str, action: &'static str, change: F) -> Result<ApiKey>
    where
        F: AsyncFnOnce(&mut Tx, &mut ApiKey, Timestamp) -> Result<()> + Send + 'static,
    {
        let (wanted, now, audit) = (name_or_id.to_owned(), self.now(), self.0.audit.clone());
        let changed = self.0.db.write(async move |tx: &mut Tx| {
            let found = store::get(tx.conn().await?, &wanted, now).await?;
            let mut key = found.ok_or(Error::NotFound(wanted))?;
            if key.state == State::Revoked {
                return Err(Error::State(key.name, "was revoked"));
            }
            let before = key.told();
            change(tx, &mut key, now).await?;
            audit.append(tx, vec![entry(action, &key, now).change(Some(before), Some(key.told()))]).await?;
            Ok(key)
        });
        changed.await
    }
}

/// Audit entry of a change. Keys are changed on the command line and not over the API, so the acting user is the
/// system.
fn entry(action: &str, key: &ApiKey, now: Timestamp) -> Entry {
    let entry = Entry::new(EventType::WorkflowUpdated, now).on_behalf_of(owner::SYSTEM).of("api_key", action);
    entry.level(SecurityLevel::Confidential).data("key_id", json!(key.id)).data("name", json!(key.name))
}

fn invalid(violation: Violation) -> Error {
    Error::Invalid(vec![violation])
}

fn issued(key: ApiKey, secret: &str) -> Issued {
    let written = secret::written(&key.id, secret);
    Issued { key, secret: written.into() }
}
