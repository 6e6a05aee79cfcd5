//! Stored policies: names with immutable versions, aliases, and a split of calls to a second version.
//!
//! Weights are files named by their hash; everything else is in the database. Changes are passed on to [`PolicyServer`],
//! which serves the policies.

mod alias_changes;
mod alias_check;
mod mirror;
mod model;
mod name_resolution;
mod same_settings;
mod store;
mod weights_files;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use self::alias_check::AliasCheck;
pub use self::model::{AliasMove, NewVersion, PolicyRecord, StoredWeights, VersionRecord, WeightsUpload};
use self::name_resolution::resolve_names;
pub use self::same_settings::{NEIGHBOURS, SeedVersion};
pub(super) use self::{
    name_resolution::check_aliases,
    weights_files::{store_weights, write_atomically_with},
};
use super::{
    builtin,
    error::{Result, RlError},
    export::{ExportFormat, export_policy},
    model::{ActError, PRODUCTION_ALIAS, PolicyReference, VersionSelector},
    network::{PolicyNetwork, with_support},
    serving::{PolicyServer, ServedPolicy, ServedVersion, read_weights, weights_path},
};
use am_audit::{AuditLog, EventType};
use am_core::{
    ambient::{Clock, IdGenerator, sleep_or_cancelled},
    boxed,
    ids::{AgentId, PrincipalId},
    refresh_gate::RefreshGate,
    validation::{Violation, Violations},
};
use am_db::{
    Connection, Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    owner,
    page::PageRequest,
    principal::Principal,
};

/// Interval at which changes made by other processes are looked for.
const LIBRARY_POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Library of stored policies. Cheap to clone.
#[derive(Clone)]
pub struct PolicyLibrary(Arc<PolicyLibraryInner>);

struct PolicyLibraryInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    policies: PolicyServer,
    /// Newest revision that `policies` has loaded.
    seen: AtomicI64,
    misses: RefreshGate,
    /// Part of the service that may refuse that an alias is moved.
    alias_check: std::sync::OnceLock<Arc<dyn AliasCheck>>,
    /// Held while policies are read and passed on, so that older ones never replace newer ones.
    refreshing: tokio::sync::Mutex<()>,
}

impl PolicyLibrary {
    /// Open the library in `db` and load its policies into `policies`. The first start stores the built-in policy.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn open(
        db: Database,
        clock: Clock,
        ids: IdGenerator,
        audit: AuditLog,
        policies: PolicyServer,
    ) -> Result<Self> {
        let (seen, misses, alias_check, refreshing) = Default::default();
        let library = PolicyLibraryInner { db, clock, ids, audit, policies, seen, misses, alias_check, refreshing };
        let library = Self(Arc::new(library));
        library.insert_builtin().await?;
        library.refresh().await?;
        Ok(library)
    }

    async fn insert_builtin(&self) -> Result<()> {
        let (ids, audit, now) = (self.0.ids.clone(), self.0.audit.clone(), self.now());
        let builtin = NewVersion {
            name: builtin::BUILTIN_NAME.to_owned(),
            file: StoredWeights {
                sha256: builtin::BUILTIN_SHA256.to_owned(),
                size: builtin::BUILTIN_BYTES.len() as u64,
            },
            form: PolicyNetwork::from_safetensors(builtin::BUILTIN_BYTES)?.form().clone(),
            action_names: super::ACTION_NAMES.map(str::to_owned).into(),
            state_names: super::FEATURE_NAMES.map(str::to_owned).into(),
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
                    let told = (&audit, audit_entry(now).on_behalf_of(owner::SYSTEM_PRINCIPAL));
                    publish_version(tx, &ids, told, &owner::SYSTEM_PRINCIPAL.into(), builtin, now).await.map(drop)
                }
            })
            .await
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// Return the audit log, which records every change of policies and runs.
    pub(super) fn audit(&self) -> &AuditLog {
        &self.0.audit
    }

    /// Return the server of the policies.
    pub fn policies(&self) -> &PolicyServer {
        &self.0.policies
    }

    /// Load changed policies, from this process or another, into [`PolicyServer`].
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn refresh(&self) -> Result<()> {
        let _one = self.0.refreshing.lock().await;
        let mut conn = self.0.db.read().await?;
        let (names, newest) = store::changed_since(&mut conn, self.0.seen.load(Ordering::Acquire)).await?;
        for name in names {
            let Some(policy) = store::get(&mut conn, &name).await? else { continue };
            let versions = store::all_versions(&mut conn, &name).await?;
            let versions = versions.into_iter().map(|record| (record.version, Arc::new(served_version(record))));
            let entry = ServedPolicy { versions: versions.collect(), aliases: policy.aliases, split: policy.split };
            self.0.policies.put(&name, entry);
        }
        self.0.seen.fetch_max(newest, Ordering::AcqRel);
        Ok(())
    }

    /// Look for changes if `reference` names nothing that is known: another process may have published it a moment ago.
    /// Afterwards it is known, if there is such a version. However many are missed, few queries are made.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn look_for(&self, reference: &PolicyReference) -> Result<()> {
        if self.0.policies.resolve(reference).is_ok() {
            return Ok(());
        }
        self.0.misses.refresh(self.refresh()).await
    }

    /// Load the versions with the alias `production`, so that their first call need not wait.
    ///
    /// # Errors
    /// Returns a database error if the query fails. A policy that cannot be loaded is only logged: the others are
    /// served.
    #[boxed]
    pub async fn warm_up(&self) -> Result<()> {
        let names = store::names_in_production(&mut *self.0.db.read().await?).await?;
        // The latest is loaded last, so that it stays when memory does not suffice for all.
        for name in names.into_iter().rev() {
            let reference = PolicyReference { name, pick: VersionSelector::Serving };
            if let Err(error) = self.0.policies.load(&reference).await {
                tracing::error!(policy = reference.name, %error, "a policy in production cannot be loaded");
            }
        }
        Ok(())
    }

    /// Poll for changes made by other processes, until `stop`.
    #[boxed]
    pub async fn watch(self, stop: CancellationToken) {
        while sleep_or_cancelled(&stop, LIBRARY_POLL_INTERVAL).await {
            if let Err(error) = self.refresh().await {
                tracing::warn!(%error, "could not poll for changed policies");
            }
        }
    }

    /// Store uploaded weights as the next version of `name`; the policy is created if it is new.
    ///
    /// # Errors
    /// [`RlError::Invalid`] for names that do not fit, [`ActError::Load`] for refused weights, [`RlError::Forbidden`] for
    /// another owner's policy, [`RlError::Quota`] when the caller has too many bytes of weights.
    #[boxed]
    pub async fn upload(
        &self,
        caller: &Principal,
        name: &str,
        bytes: Bytes,
        upload: WeightsUpload,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<VersionRecord>> {
        let named = PolicyReference::named(name);
        let mut violations = Violations::default();
        violations.take(named.map_err(|error| Violation::new("name", error.to_string())));
        violations.take(check_aliases("aliases", &upload.aliases));
        violations.finish()?;
        let (directory, files) = (self.0.policies.directory().to_owned(), self.0.policies.directory().to_owned());
        self.check_may_publish(caller, name).await?;
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        // Before the file is written, and again when it is stored.
        let (quota, size) = (self.0.policies.upload_quota(), bytes.len() as u64);
        check_quota(&mut *self.0.db.read().await?, caller, size, quota).await?;
        let support = upload.support;
        let (form, file) = run_blocking(move || {
            let bytes = match support {
                Some((least, most)) => with_support(&bytes, least, most)?.into(),
                None => bytes,
            };
            let form = PolicyNetwork::from_safetensors(&bytes)?.form().clone();
            Ok((form, store_weights(&files, &bytes)?))
        })
        .await?;
        let (action_names, state_names) = resolve_names(&upload, &form)?;
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
        let library = self.clone();
        let done = self
            .0
            .db
            .write_idempotent(&self.0.clock, once, async move |tx: &mut Tx| {
                check_quota(tx.conn().await?, &caller, new.file.size, quota).await?;
                check_present(&directory, &new.file)?;
                let found = store::get(tx.conn().await?, &new.name).await?;
                // The policy keeps the owner that created it.
                let owner = owner_for_change(&caller, found.as_ref())?;
                library.check_new_aliases(tx, &new.name, &new.aliases).await?;
                publish_version(tx, &ids, (&audit, audit_entry(now).by(&caller)), &owner, new, now).await
            })
            .await?;
        self.refresh().await?;
        Ok(done)
    }

    /// Return one policy.
    ///
    /// # Errors
    /// [`RlError::NotFound`].
    #[boxed]
    pub async fn get(&self, name: &str) -> Result<PolicyRecord> {
        store::get(&mut *self.0.db.read().await?, name).await?.ok_or_else(|| not_found_error(name))
    }

    /// Return a page of policies, newest first, and their total number.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    #[boxed]
    pub async fn list(&self, page: &PageRequest) -> Result<(Vec<PolicyRecord>, i64)> {
        store::list(&mut *self.0.db.read_list().await?, page).await
    }

    /// Return a page of a policy's versions, newest first, and their total number.
    ///
    /// # Errors
    /// [`RlError::NotFound`].
    #[boxed]
    pub async fn versions(&self, name: &str, page: &PageRequest) -> Result<(Vec<VersionRecord>, i64)> {
        self.get(name).await?;
        store::versions(&mut *self.0.db.read_list().await?, name, page).await
    }

    /// Return the version that `reference` names.
    ///
    /// # Errors
    /// [`RlError::Act`] when it does not exist.
    #[boxed]
    pub async fn version(&self, reference: &PolicyReference) -> Result<VersionRecord> {
        self.look_for(reference).await?;
        let version = self.0.policies.resolve(reference)?;
        let found = store::get_version(&mut *self.0.db.read().await?, &version.name, version.version).await?;
        found.ok_or_else(|| not_found_error(&version.reference))
    }

    /// Return a version and its safetensors file.
    ///
    /// # Errors
    /// As [`PolicyLibrary::version`]; [`ActError::Storage`] when the file is missing or its hash differs.
    #[boxed]
    pub async fn weights(&self, reference: &PolicyReference) -> Result<(VersionRecord, Vec<u8>)> {
        let record = self.version(reference).await?;
        let (directory, sha256) = (self.0.policies.directory().to_owned(), record.sha256.clone());
        let bytes = run_blocking(move || Ok(read_weights(&directory, &sha256)?)).await?;
        Ok((record, bytes))
    }

    /// Return a version converted to another format.
    ///
    /// # Errors
    /// As [`PolicyLibrary::weights`]; an error when libtorch cannot write it.
    #[boxed]
    pub async fn export(&self, reference: &PolicyReference, format: ExportFormat) -> Result<(VersionRecord, Vec<u8>)> {
        let (record, weights) = self.weights(reference).await?;
        let exported = run_blocking(move || Ok(export_policy(&weights, format)?)).await?;
        Ok((record, exported))
    }

    /// Check that a policy of this name belongs to `caller` or does not exist yet.
    ///
    /// # Errors
    /// [`RlError::Forbidden`], [`RlError::Invalid`].
    #[boxed]
    pub async fn check_may_publish(&self, caller: &Principal, name: &str) -> Result<()> {
        PolicyReference::named(name).map_err(|error| RlError::invalid("policy", error.to_string()))?;
        let found = store::get(&mut *self.0.db.read().await?, name).await?;
        owner_for_change(caller, found.as_ref()).map(drop)
    }
}

/// Refuse `size` more bytes of weights where the caller would have more than `quota`.
async fn check_quota(conn: &mut Connection, caller: &Principal, size: u64, quota: u64) -> Result<()> {
    let has = store::uploaded_bytes(conn, &caller.aliases).await?.unsigned_abs();
    if has.saturating_add(size) <= quota {
        return Ok(());
    }
    let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Err(RlError::Quota(format!(
        "your uploaded weights have {:.1} MB, and {:.0} MB is the most (POLICY_UPLOAD_QUOTA_MB): delete versions first",
        megabytes(has),
        megabytes(quota)
    )))
}

/// Refuse weights whose file was deleted with another version since it was stored.
pub(super) fn check_present(directory: &Path, file: &StoredWeights) -> Result<()> {
    match fs::metadata(weights_path(directory, &file.sha256)) {
        Ok(_) => Ok(()),
        Err(_) => {
            Err(RlError::InvalidState("the weights were deleted while they were stored: repeat the request".into()))
        }
    }
}

/// Build an audit entry of the generic kind for a change.
pub(super) fn audit_entry(now: Timestamp) -> am_audit::AuditEntry {
    am_audit::AuditEntry::new(EventType::WorkflowUpdated, now)
}

/// Store the next version of a policy, in the transaction of the change that made it, with the audit entry `told`. Call
/// [`PolicyLibrary::refresh`] after the commit to serve it.
///
/// # Errors
/// [`RlError::Forbidden`] when the policy does not belong to `owner`.
pub(super) async fn publish_version(
    tx: &mut Tx,
    ids: &IdGenerator,
    (audit, told): (&AuditLog, am_audit::AuditEntry),
    owner: &PrincipalId,
    new: NewVersion,
    now: Timestamp,
) -> Result<VersionRecord> {
    // The name may have been taken by another owner since it was checked.
    let before = store::get(tx.conn().await?, &new.name).await?;
    if let Some(policy) = before.as_ref().filter(|policy| policy.owner_id != *owner) {
        return Err(not_owner_error(&policy.name));
    }
    let version = store::next_version(tx, &new.name, owner, now).await?;
    let id = ids.random_id("policy_", 12).into();
    store::insert_version(tx, &id, version, &new, owner, now).await?;
    mirror::store::upsert_configuration(tx, &ids.random_id("rl_", 8), version, &new, now).await?;
    for alias in &new.aliases {
        store::move_alias(tx, (&new.name, alias), Some(version), false, owner, now).await?;
        if alias == PRODUCTION_ALIAS {
            mirror::store::set_deployed(tx, &new.name, true, now).await?;
        }
    }
    let serving = store::get(tx.conn().await?, &new.name).await?.map(|policy| policy.serving);
    if serving != before.map(|policy| policy.serving) {
        store::set_serving_since(tx, &new.name, now).await?;
    }
    let made = json!({"policy": new.name, "version": version, "sha256": new.file.sha256, "aliases": new.aliases});
    let told = told.of("policy", "published").data("source", json!(new.source)).change(None, Some(made));
    audit.append(tx, vec![told]).await?;
    store::get_version(tx.conn().await?, &new.name, version).await?.ok_or_else(|| not_found_error(&new.name))
}

/// Read the aliases of a policy with their versions; none if it does not exist yet.
pub(super) async fn present_aliases(tx: &mut Tx, name: &str) -> Result<BTreeMap<String, u32>> {
    Ok(store::get(tx.conn().await?, name).await?.map(|policy| policy.aliases).unwrap_or_default())
}

/// Read since when the versions answer a policy's calls that do, in the stored form of a time; empty: since before that was
/// noted.
pub(super) async fn serving_since(conn: &mut Connection, name: &str) -> Result<String> {
    store::serving_since(conn, name).await
}

/// Store the agent that owns a policy in the coordinator's table.
pub(super) async fn set_agent(tx: &mut Tx, name: &str, agent_id: &AgentId) -> Result<()> {
    mirror::store::set_agent(tx, name, agent_id).await
}

/// Return the owner under which `caller` may change a policy, or create it.
fn owner_for_change(caller: &Principal, policy: Option<&PolicyRecord>) -> Result<PrincipalId> {
    match policy {
        None => Ok(caller.id()),
        Some(policy) if caller.owns(&policy.owner_id) => Ok(policy.owner_id.clone()),
        Some(policy) => Err(not_owner_error(&policy.name)),
    }
}

fn not_owner_error(name: &str) -> RlError {
    RlError::Forbidden(format!("policy '{name}' is another owner's"))
}

fn not_found_error(name: &str) -> RlError {
    ActError::UnknownPolicy(name.to_owned()).into()
}

fn served_version(record: VersionRecord) -> ServedVersion {
    ServedVersion {
        reference: record.reference,
        name: record.name,
        version: record.version,
        sha256: record.sha256,
        form: record.form,
        action_names: record.action_names,
        state_names: record.state_names,
    }
}

/// Run file operations on a thread for blocking work.
pub(super) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(ActError::Runtime(error.to_string()).into()))
}
