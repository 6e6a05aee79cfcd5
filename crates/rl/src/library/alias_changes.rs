//! Changes that the owner of a policy makes to it: aliases and the traffic split.

use serde_json::json;

use super::{
    PolicyLibrary, PolicyRecord, VersionRecord, audit_entry, mirror, model::AliasMove, name_resolution::check_aliases,
    not_found_error, owner_for_change, served_version, store,
};
use crate::{
    error::{Result, RlError},
    model::{ActError, PRODUCTION_ALIAS},
    serving::{CanaryVersion, ShadowVersion, TrafficSplit},
};
use am_core::{boxed, ids::PolicyVersionId, validation::within};
use am_db::{
    Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    principal::Principal,
};

impl PolicyLibrary {
    /// Set an alias to a version.
    ///
    /// # Errors
    /// [`RlError::Invalid`] for a malformed alias or a version that does not exist; [`RlError::Forbidden`];
    /// [`RlError::InvalidState`] for a version that has not passed the alias's gates.
    #[boxed]
    pub async fn set_alias(
        &self,
        caller: &Principal,
        name: &str,
        alias: &str,
        version: u32,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<PolicyRecord>> {
        check_aliases("alias", std::slice::from_ref(&alias.to_owned()))?;
        self.change_alias(caller, name, alias, once, async move |tx: &mut Tx, policy: &PolicyRecord, _: &str| {
            existing_version(tx, policy, version).await?;
            Ok((Some(version), false))
        })
        .await
    }

    /// Remove an alias.
    ///
    /// # Errors
    /// [`RlError::NotFound`], [`RlError::Forbidden`].
    #[boxed]
    pub async fn remove_alias(
        &self,
        caller: &Principal,
        name: &str,
        alias: &str,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<PolicyRecord>> {
        self.change_alias(caller, name, alias, once, async move |_: &mut Tx, policy: &PolicyRecord, alias: &str| {
            match policy.aliases.contains_key(alias) {
                true => Ok((None, false)),
                false => Err(alias_not_found(policy, alias)),
            }
        })
        .await
    }

    /// Set an alias back to its version before the last move; a second call goes one move further back.
    ///
    /// # Errors
    /// [`RlError::InvalidState`] when the alias has never pointed elsewhere; [`RlError::Forbidden`].
    #[boxed]
    pub async fn roll_back(
        &self,
        caller: &Principal,
        name: &str,
        alias: &str,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<PolicyRecord>> {
        self.change_alias(caller, name, alias, once, async move |tx: &mut Tx, policy: &PolicyRecord, alias: &str| {
            let moves = store::alias_moves(tx.conn().await?, &policy.name, alias).await?;
            match previous_version(&moves) {
                Some(version) => {
                    // It may have been deleted since.
                    existing_version(tx, policy, version).await?;
                    Ok((Some(version), true))
                }
                None if moves.is_empty() => Err(alias_not_found(policy, alias)),
                None => Err(RlError::InvalidState(format!("alias '{alias}' has no earlier version to roll back to"))),
            }
        })
        .await
    }

    async fn change_alias<F>(
        &self,
        caller: &Principal,
        name: &str,
        alias: &str,
        once: Option<IdempotencyKey>,
        change: F,
    ) -> Result<IdempotentResult<PolicyRecord>>
    where
        F: AsyncFnOnce(&mut Tx, &PolicyRecord, &str) -> Result<(Option<u32>, bool)> + Send + 'static,
    {
        let (alias, by, library) = (alias.to_owned(), caller.name.to_string(), self.clone());
        self.change(caller, name, once, async move |tx: &mut Tx, policy: &PolicyRecord, now: Timestamp| {
            let (to, rollback) = change(tx, policy, &alias).await?;
            let current = policy.aliases.get(&alias).copied();
            // Nothing keeps an alias from going away, or back to what it was.
            if let (Some(version), false) = (to, rollback)
                && current != to
                && let Some(reason) = library.alias_refusal(tx, (&policy.name, &alias), Some(version), current).await?
            {
                return Err(RlError::InvalidState(reason));
            }
            let at = |version: Option<u32>| Some(json!({"alias": alias, "version": version}));
            let entry = audit_entry(now).of("policy", if rollback { "alias_rolled_back" } else { "alias_moved" });
            let entry = entry.change(at(policy.aliases.get(&alias).copied()), at(to));
            store::move_alias(tx, (&policy.name, &alias), to, rollback, &by, now).await?;
            if alias == PRODUCTION_ALIAS {
                mirror::store::set_deployed(tx, &policy.name, to.is_some(), now).await?;
            }
            Ok(entry)
        })
        .await
    }

    /// Return the moves of an alias, the last first.
    ///
    /// # Errors
    /// [`RlError::NotFound`].
    #[boxed]
    pub async fn moves(&self, name: &str, alias: &str) -> Result<Vec<AliasMove>> {
        self.get(name).await?;
        store::alias_moves(&mut *self.0.db.read().await?, name, alias).await
    }

    /// Set the split: a second version answers a share of the calls that name no version (canary), or receives them too
    /// without answering (shadow). An empty split removes it.
    ///
    /// # Errors
    /// [`RlError::Invalid`] for a version that does not exist or has another interface; [`RlError::Forbidden`].
    #[boxed]
    pub async fn set_split(
        &self,
        caller: &Principal,
        name: &str,
        split: TrafficSplit,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<PolicyRecord>> {
        if let Some(CanaryVersion { share, .. }) = split.canary
            && !(0.0..=1.0).contains(&share)
        {
            return Err(RlError::at(["canary", "share"], "must be from 0 to 1"));
        }
        self.change(caller, name, once, async move |tx: &mut Tx, policy: &PolicyRecord, now: Timestamp| {
            let serving = served_version(existing_version(tx, policy, policy.serving).await?);
            let others = [
                ("canary", split.canary.map(|CanaryVersion { version, .. }| version)),
                ("shadow", split.shadow.map(|ShadowVersion { version }| version)),
            ];
            for (member, version) in others {
                let Some(version) = version else { continue };
                let refused = |message: String| RlError::at([member, "version"], message);
                let second = existing_version(tx, policy, version).await.map_err(|error| match error {
                    RlError::Invalid(found) => RlError::Invalid(within(member, found)),
                    other => other,
                })?;
                if !served_version(second).has_same_interface(&serving) {
                    return Err(refused(format!(
                        "version {version} takes other states or actions than the serving one"
                    )));
                }
            }
            store::set_split(tx, &policy.name, &split).await?;
            Ok(audit_entry(now).of("policy", "split").change(Some(json!(policy.split)), Some(json!(split))))
        })
        .await
    }

    /// Say which row the deletion of a version removes, and what the audit log is told of it. Whoever deletes it archives it first, and
    /// checks in its transaction that no call reaches it.
    ///
    /// # Errors
    /// [`RlError::InvalidState`] while calls may still reach it: it serves, an alias points to it or the split names it;
    /// [`RlError::Invalid`] when it does not exist; [`RlError::Forbidden`].
    #[boxed]
    pub async fn version_deletion(
        &self,
        caller: &Principal,
        name: &str,
        version: u32,
    ) -> Result<(PolicyVersionId, am_audit::AuditEntry)> {
        let mut conn = self.0.db.read().await?;
        let policy = store::get(&mut conn, name).await?.ok_or_else(|| not_found_error(name))?;
        owner_for_change(caller, Some(&policy))?;
        let found = store::get_version(&mut conn, &policy.name, version).await?;
        let deleted = found.ok_or_else(|| unknown_version(&policy, version))?;
        if let Some(why) = use_of_version(&policy, version) {
            return Err(RlError::InvalidState(format!("version {version} cannot be deleted: {why}")));
        }
        let before = json!({"version": version, "sha256": deleted.sha256, "size_bytes": deleted.size_bytes});
        let entry = audit_entry(self.now()).of("policy", "version_deleted").change(Some(before), None);
        Ok((deleted.id, entry.by(caller).data("policy", json!(name))))
    }

    /// Apply one change to a policy of `caller`, together with its entry in the audit log.
    async fn change<F>(
        &self,
        caller: &Principal,
        name: &str,
        once: Option<IdempotencyKey>,
        change: F,
    ) -> Result<IdempotentResult<PolicyRecord>>
    where
        F: AsyncFnOnce(&mut Tx, &PolicyRecord, Timestamp) -> Result<am_audit::AuditEntry> + Send + 'static,
    {
        let (caller, name, now, audit) = (caller.clone(), name.to_owned(), self.now(), self.0.audit.clone());
        let done = self
            .0
            .db
            .write_idempotent(&self.0.clock, once, async move |tx: &mut Tx| {
                let policy = store::get(tx.conn().await?, &name).await?.ok_or_else(|| not_found_error(&name))?;
                owner_for_change(&caller, Some(&policy))?;
                let entry = change(tx, &policy, now).await?.by(&caller).data("policy", json!(name));
                audit.append(tx, vec![entry]).await?;
                store::touch(tx, &name, now).await?;
                let changed = store::get(tx.conn().await?, &name).await?.ok_or_else(|| not_found_error(&name))?;
                if (changed.serving, changed.split) != (policy.serving, policy.split) {
                    store::set_serving_since(tx, &name, now).await?;
                }
                Ok::<_, RlError>(changed)
            })
            .await?;
        self.refresh().await?;
        Ok(done)
    }
}

/// Return why calls may reach a version; `None`: they do not.
fn use_of_version(policy: &PolicyRecord, version: u32) -> Option<String> {
    if let Some((alias, _)) = policy.aliases.iter().find(|(_, target)| **target == version) {
        return Some(format!("the alias '{alias}' points to it"));
    }
    if policy.serving == version {
        return Some("it serves the calls that name no version".into());
    }
    let TrafficSplit { canary, shadow } = &policy.split;
    let split = canary.is_some_and(|one| one.version == version) || shadow.is_some_and(|one| one.version == version);
    split.then(|| "the split names it".into())
}

async fn existing_version(tx: &mut Tx, policy: &PolicyRecord, version: u32) -> Result<VersionRecord> {
    let found = store::get_version(tx.conn().await?, &policy.name, version).await?;
    found.ok_or_else(|| unknown_version(policy, version))
}

fn unknown_version(policy: &PolicyRecord, version: u32) -> RlError {
    RlError::invalid("version", format!("policy '{}' has no version {version}", policy.name))
}

/// Return the alias's version before its last move that has not been rolled back.
fn previous_version(moves: &[AliasMove]) -> Option<u32> {
    let mut undone = 0usize;
    for one in moves {
        match (one.rollback, undone) {
            (true, _) => undone += 1,
            (false, 0) => return one.from_version,
            (false, _) => undone -= 1,
        }
    }
    None
}

fn alias_not_found(policy: &PolicyRecord, alias: &str) -> RlError {
    ActError::UnknownAlias { name: policy.name.clone(), alias: alias.to_owned() }.into()
}
