//! The policies as they are kept: names with immutable versions, aliases, and which calls go to a second version.
//!
//! Weights lie in files named by their hash, everything else in the database. What is kept is told to [`Policies`], which
//! serves it.

mod changes;
mod files;
mod mirror;
mod model;
mod names;
mod store;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use self::model::{AliasMove, NewVersion, Policy, Stored, Upload, VersionRecord};
use self::names::names;
pub(super) use self::{
    files::{keep, write_atomically},
    names::check_aliases,
};
use super::{
    builtin,
    error::{Error, Result},
    export::{Format, export},
    model::{ActError, PRODUCTION, Pick, PolicyReference},
    network::{Network, with_support},
    serving::{Entry, Policies, Version, read_weights},
};
use am_audit::{Audit, EventType};
use am_core::ambient::{Clock, Ids, pause};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    owner,
    page::Page,
    principal::Principal,
};

/// How often what other processes have changed is looked for.
const LOOK: Duration = Duration::from_secs(2);

/// The kept policies. Cheap to clone.
#[derive(Clone)]
pub struct Library(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
    policies: Policies,
    /// The newest revision that `policies` knows.
    seen: AtomicI64,
}

impl Library {
    /// The policies in `db`, told to `policies`; the built-in one is entered on the first start.
    ///
    /// # Errors
    /// As the database.
    pub async fn open(db: Database, clock: Clock, ids: Ids, audit: Audit, policies: Policies) -> Result<Self> {
        let library = Self(Arc::new(Inner { db, clock, ids, audit, policies, seen: AtomicI64::new(0) }));
        library.enter_builtin().await?;
        library.refresh().await?;
        Ok(library)
    }

    async fn enter_builtin(&self) -> Result<()> {
        let (ids, audit, now) = (self.0.ids.clone(), self.0.audit.clone(), self.now());
        let builtin = NewVersion {
            name: builtin::BUILTIN_NAME.to_owned(),
            file: Stored { sha256: builtin::BUILTIN_SHA256.to_owned(), size: builtin::BYTES.len() as u64 },
            form: Network::from_safetensors(builtin::BYTES)?.form().clone(),
            action_names: super::ACTIONS.map(str::to_owned).into(),
            state_names: super::FEATURES.map(str::to_owned).into(),
            environment: None,
            source: "builtin",
            seed: None,
            training: None,
            scores: None,
            aliases: Vec::new(),
        };
        self.0
            .db
            .write(async move |tx: &mut Tx| match store::get(tx.conn().await?, builtin::BUILTIN_NAME).await? {
                Some(_) => Ok(()),
                None => {
                    let told = (&audit, told(now).on_behalf_of(owner::SYSTEM));
                    publish(tx, &ids, told, owner::SYSTEM, builtin, now).await.map(drop)
                }
            })
            .await
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// What is told of every change in these rooms.
    pub(super) fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Where the policies are served.
    pub fn policies(&self) -> &Policies {
        &self.0.policies
    }

    /// Tell [`Policies`] what has changed, in this process or another.
    ///
    /// # Errors
    /// As the database.
    pub async fn refresh(&self) -> Result<()> {
        let mut conn = self.0.db.read().await?;
        let (names, newest) = store::changed(&mut conn, self.0.seen.load(Ordering::Acquire)).await?;
        for name in names {
            let Some(policy) = store::get(&mut conn, &name).await? else { continue };
            let versions = store::all_versions(&mut conn, &name).await?;
            let versions = versions.into_iter().map(|record| (record.version, Arc::new(served(record))));
            let entry = Entry { versions: versions.collect(), aliases: policy.aliases, split: policy.split };
            self.0.policies.put(&name, entry);
        }
        self.0.seen.fetch_max(newest, Ordering::AcqRel);
        Ok(())
    }

    /// Load what is in production, so that its first call does not wait for that.
    ///
    /// # Errors
    /// As the database; a policy that can't be loaded is only told of, since the others serve without it.
    pub async fn warm_up(&self) -> Result<()> {
        let names = store::in_production(&mut *self.0.db.read().await?).await?;
        // The latest last, so that it stays where there is not room for all.
        for name in names.into_iter().rev() {
            let reference = PolicyReference { name, pick: Pick::Serving };
            if let Err(error) = self.0.policies.load(&reference).await {
                tracing::error!(policy = reference.name, %error, "a policy in production can't be loaded");
            }
        }
        Ok(())
    }

    /// Look for what other processes have changed, until `stop`.
    pub async fn watch(self, stop: CancellationToken) {
        while pause(&stop, LOOK).await {
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "could not look for changed policies");
            }
        }
    }

    /// Keep uploaded weights as the next version of `name`, which is made if it is new.
    ///
    /// # Errors
    /// [`Error::Invalid`] for names that don't fit, [`ActError::Load`] for weights that are refused, [`Error::Forbidden`] for
    /// another owner's policy.
    pub async fn upload(
        &self,
        caller: &Principal,
        name: &str,
        bytes: Bytes,
        upload: Upload,
        once: Option<Once>,
    ) -> Result<Done<VersionRecord>> {
        let named = PolicyReference::named(name);
        named.map_err(|error| Error::invalid("name", error.to_string()))?;
        check_aliases("aliases", &upload.aliases)?;
        let directory = self.0.policies.directory().to_owned();
        self.may_publish(caller, name).await?;
        let support = upload.support;
        let (form, file) = blocking(move || {
            let bytes = match support {
                Some((least, most)) => with_support(&bytes, least, most)?.into(),
                None => bytes,
            };
            let form = Network::from_safetensors(&bytes)?.form().clone();
            Ok((form, keep(&directory, &bytes)?))
        })
        .await?;
        let (action_names, state_names) = names(&upload, &form)?;
        let new = NewVersion {
            name: name.to_owned(),
            file,
            form,
            action_names,
            state_names,
            environment: upload.environment,
            source: "uploaded",
            seed: None,
            training: None,
            scores: None,
            aliases: upload.aliases,
        };
        let (ids, caller, now, audit) = (self.0.ids.clone(), caller.clone(), self.now(), self.0.audit.clone());
        let done = self
            .0
            .db
            .write_once(&self.0.clock, once, async move |tx: &mut Tx| {
                let found = store::get(tx.conn().await?, &new.name).await?;
                // A policy keeps the owner under whom it was made.
                let owner = may_change(&caller, found.as_ref())?;
                publish(tx, &ids, (&audit, told(now).by(&caller)), &owner, new, now).await
            })
            .await?;
        self.refresh().await?;
        Ok(done)
    }

    /// One policy.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn get(&self, name: &str) -> Result<Policy> {
        store::get(&mut *self.0.db.read().await?, name).await?.ok_or_else(|| unknown(name))
    }

    /// A page of policies, newest first, and how many there are in all.
    ///
    /// # Errors
    /// As the database.
    pub async fn list(&self, page: &Page) -> Result<(Vec<Policy>, i64)> {
        store::list(&mut *self.0.db.read().await?, page).await
    }

    /// A page of a policy's versions, newest first, and how many there are in all.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn versions(&self, name: &str, page: &Page) -> Result<(Vec<VersionRecord>, i64)> {
        self.get(name).await?;
        store::versions(&mut *self.0.db.read().await?, name, page).await
    }

    /// The version that `reference` names.
    ///
    /// # Errors
    /// [`Error::Act`] where there is none.
    pub async fn version(&self, reference: &PolicyReference) -> Result<VersionRecord> {
        let version = self.0.policies.resolve(reference)?;
        let found = store::version_of(&mut *self.0.db.read().await?, &version.name, version.version).await?;
        found.ok_or_else(|| unknown(&version.reference))
    }

    /// A version's safetensors file.
    ///
    /// # Errors
    /// As [`Library::version`]; [`ActError::Storage`] when the file is not what it was.
    pub async fn weights(&self, reference: &PolicyReference) -> Result<(VersionRecord, Vec<u8>)> {
        let record = self.version(reference).await?;
        let (directory, sha256) = (self.0.policies.directory().to_owned(), record.sha256.clone());
        let bytes = blocking(move || Ok(read_weights(&directory, &sha256)?)).await?;
        Ok((record, bytes))
    }

    /// A version in another format.
    ///
    /// # Errors
    /// As [`Library::weights`]; when libtorch can't write it.
    pub async fn export(&self, reference: &PolicyReference, format: Format) -> Result<(VersionRecord, Vec<u8>)> {
        let (record, weights) = self.weights(reference).await?;
        let exported = blocking(move || Ok(export(&weights, format)?)).await?;
        Ok((record, exported))
    }

    /// Whether a policy of this name is `caller`'s, or free.
    ///
    /// # Errors
    /// [`Error::Forbidden`], [`Error::Invalid`].
    pub async fn may_publish(&self, caller: &Principal, name: &str) -> Result<()> {
        PolicyReference::named(name).map_err(|error| Error::invalid("policy", error.to_string()))?;
        let found = store::get(&mut *self.0.db.read().await?, name).await?;
        may_change(caller, found.as_ref()).map(drop)
    }
}

/// What the audit log gets to know of a change here, for which it has no word.
pub(super) fn told(now: Timestamp) -> am_audit::Entry {
    am_audit::Entry::new(EventType::WorkflowUpdated, now)
}

/// Store the next version of a policy, in the transaction of what made it, and tell the audit log by an entry that says who
/// did it. [`Library::refresh`] makes it known after.
///
/// # Errors
/// [`Error::Forbidden`] when it is not `owner`'s.
pub(super) async fn publish(
    tx: &mut Tx,
    ids: &Ids,
    (audit, told): (&Audit, am_audit::Entry),
    owner: &str,
    new: NewVersion,
    now: Timestamp,
) -> Result<VersionRecord> {
    // Somebody else may have taken the name since it was found free.
    if let Some(policy) = store::get(tx.conn().await?, &new.name).await?
        && policy.owner_id != owner
    {
        return Err(anothers(&policy.name));
    }
    let version = store::count_up(tx, &new.name, owner, now).await?;
    let id = ids.prefixed("policy_", 12);
    store::insert(tx, &id, version, &new, owner, now).await?;
    mirror::store::published(tx, &ids.prefixed("rl_", 8), version, &new, now).await?;
    for alias in &new.aliases {
        store::move_alias(tx, (&new.name, alias), Some(version), false, owner, now).await?;
        if alias == PRODUCTION {
            mirror::store::deployed(tx, &new.name, true, now).await?;
        }
    }
    let made = json!({"policy": new.name, "version": version, "sha256": new.file.sha256, "aliases": new.aliases});
    let told = told.of("policy", "published").data("source", json!(new.source)).change(None, Some(made));
    audit.append(tx, vec![told]).await?;
    store::version_of(tx.conn().await?, &new.name, version).await?.ok_or_else(|| unknown(&new.name))
}

/// Tell the coordinator's table whose policy it is.
pub(super) async fn belongs_to(tx: &mut Tx, name: &str, agent_id: &str) -> Result<()> {
    mirror::store::belongs_to(tx, name, agent_id).await
}

/// The owner under whom `caller` may change a policy, which may be new.
fn may_change(caller: &Principal, policy: Option<&Policy>) -> Result<String> {
    match policy {
        None => Ok(caller.name.to_string()),
        Some(policy) if caller.owns(&policy.owner_id) => Ok(policy.owner_id.clone()),
        Some(policy) => Err(anothers(&policy.name)),
    }
}

fn anothers(name: &str) -> Error {
    Error::Forbidden(format!("policy '{name}' is another owner's"))
}

fn unknown(name: &str) -> Error {
    ActError::UnknownPolicy(name.to_owned()).into()
}

fn served(record: VersionRecord) -> Version {
    Version {
        reference: record.reference,
        name: record.name,
        version: record.version,
        sha256: record.sha256,
        form: record.form,
        action_names: record.action_names,
        state_names: record.state_names,
    }
}

/// Run what reads and writes files off the asynchronous threads.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(ActError::Runtime(error.to_string()).into()))
}
