//! API keys that are made, rotated and taken back while the service runs, beside the configured ones. Their secrets are
//! told once and stored as salted hashes; what they stand for, a principal, outlives each secret.

mod model;
mod ring;
mod secret;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use model::{ApiKey, Issued, Role, State, Term};
pub use ring::Known;

use ring::Ring;
use secret::Salted;

use am_audit::{Audit, Entry, EventType, SecurityLevel};
use am_core::ambient::{Clock, Ids, pause};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    owner::{self, Owner},
};

/// How often what other processes have changed is looked for: a key that was taken back is refused within two seconds.
const LOOK: Duration = Duration::from_secs(1);

/// What can go wrong with keys. No message shows one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Db(#[from] am_db::Error),
    /// Something that was asked for can't be.
    #[error("{field}: {message}")]
    Invalid {
        /// What.
        field: &'static str,
        /// Why.
        message: String,
    },
    /// A key of this name was made before.
    #[error("there is a key '{0}' already (a revoked one keeps its name)")]
    Taken(String),
    /// There is no key of this name or id.
    #[error("there is no key '{0}'")]
    NotFound(String),
    /// Its state forbids it.
    #[error("key '{0}' {1}")]
    State(String, &'static str),
}

/// A result of this room.
pub type Result<T> = std::result::Result<T, Error>;

/// The keys. Cheap to clone.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
    /// Read for each request that presents such a key; written when one has changed.
    ring: RwLock<Arc<Ring>>,
    /// The revision that the ring was made from.
    seen: AtomicI64,
}

impl Keys {
    /// The keys in `db`.
    ///
    /// # Errors
    /// As the database.
    pub async fn open(db: Database, clock: Clock, ids: Ids, audit: Audit) -> Result<Self> {
        let ring = RwLock::new(Arc::new(Ring::new(HashMap::new(), &ids)));
        let keys = Self(Arc::new(Inner { db, clock, ids, audit, ring, seen: AtomicI64::new(0) }));
        keys.refresh().await?;
        Ok(keys)
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// Whom a presented key stands for, if it is one of these and good now. Asks no database.
    pub fn find(&self, presented: &str) -> Option<Known> {
        let ring = self.0.ring.read().unwrap_or_else(PoisonError::into_inner).clone();
        ring.find(presented, || self.now())
    }

    /// Take over what has changed, in this process or another; true: something has.
    ///
    /// # Errors
    /// As the database; what was known before holds on then.
    pub async fn refresh(&self) -> Result<bool> {
        let mut conn = self.0.db.read().await?;
        // Read before the keys: what changes in between is then taken over the next time.
        let revision = store::revision(&mut conn).await?;
        if revision == self.0.seen.load(Ordering::Acquire) {
            return Ok(false);
        }
        let ring = Arc::new(Ring::new(store::held(&mut conn).await?, &self.0.ids));
        *self.0.ring.write().unwrap_or_else(PoisonError::into_inner) = ring;
        self.0.seen.store(revision, Ordering::Release);
        Ok(true)
    }

    /// Look for what other processes have changed, until `stop`.
    pub async fn watch(self, stop: CancellationToken) {
        while pause(&stop, LOOK).await {
            match self.refresh().await {
                Ok(false) => {}
                Ok(true) => tracing::info!("API keys have changed"),
                Err(error) => {
                    tracing::warn!(%error, "could not look for changed API keys; those known before hold on");
                }
            }
        }
    }

    /// All keys, revoked ones among them, in the order in which they were made.
    ///
    /// # Errors
    /// As the database.
    pub async fn list(&self) -> Result<Vec<ApiKey>> {
        Ok(store::list(&mut *self.0.db.read().await?, self.now()).await?)
    }

    /// Make a key with a principal of its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name or a time that can't be, [`Error::Taken`].
    pub async fn create(&self, name: &str, role: Role, expires: Term) -> Result<Issued> {
        model::check_name(name)?;
        let now = self.now();
        let expires_at = expires.end("expires", now)?;
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

    /// Take a key back: from then on it is nobody's.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::State`] for one that was taken back before.
    pub async fn revoke(&self, name_or_id: &str) -> Result<ApiKey> {
        self.change(name_or_id, "revoked", async move |tx: &mut Tx, key: &mut ApiKey, now: Timestamp| {
            (key.revoked_at, key.previous_until, key.state) = (Some(now), None, State::Revoked);
            Ok(store::revoke(tx, key).await?)
        })
        .await
    }

    /// Give a key another secret. The one before is taken for `grace`, if there is any; one before that is not any more.
    /// Its time is set anew by `expires`, if given.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::State`] for one that was taken back, or that has expired and gets no new time;
    /// [`Error::Invalid`] for a time that can't be.
    pub async fn rotate(&self, name_or_id: &str, grace: Duration, expires: Option<Term>) -> Result<Issued> {
        let ids = self.0.ids.clone();
        let secret = secret::draw_secret(&ids);
        let salted = Salted::of(&secret, &ids);
        let changed = self.change(name_or_id, "rotated", async move |tx: &mut Tx, key: &mut ApiKey, now: Timestamp| {
            match expires {
                Some(term) => key.expires_at = term.end("expires", now)?,
                None if key.state == State::Expired => {
                    return Err(Error::State(key.name.clone(), "has expired: say how long it is to be good now"));
                }
                None => {}
            }
            let grace = if grace.is_zero() { Term::Open } else { Term::For(grace) };
            (key.rotated_at, key.previous_until, key.state) = (Some(now), grace.end("grace", now)?, State::Active);
            Ok(store::rotate(tx, key, &salted).await?)
        });
        Ok(issued(changed.await?, &secret))
    }

    /// One change of a key that was not taken back, with its entry in the audit log.
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

/// Nobody who calls changes keys; whoever may run the executable does.
fn entry(action: &str, key: &ApiKey, now: Timestamp) -> Entry {
    let entry = Entry::new(EventType::WorkflowUpdated, now).on_behalf_of(owner::SYSTEM).of("api_key", action);
    entry.level(SecurityLevel::Confidential).data("key_id", json!(key.id)).data("name", json!(key.name))
}

fn issued(key: ApiKey, secret: &str) -> Issued {
    let written = secret::written(&key.id, secret);
    Issued { key, secret: written.into() }
}
