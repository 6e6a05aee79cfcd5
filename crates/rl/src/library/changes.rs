//! Changes that the owner of a policy makes to it: aliases and the traffic split.

use serde_json::json;

use super::{
    Library, Policy, VersionRecord, may_change, mirror, model::AliasMove, names::check_aliases, served, store, told,
    unknown,
};
use crate::{
    error::{Error, Result},
    model::{ActError, PRODUCTION},
    serving::{Canary, Shadow, Split},
};
use am_core::validation::within;
use am_db::{
    Tx,
    codec::Timestamp,
    once::{Done, Once},
    principal::Principal,
};

impl Library {
    /// Set an alias to a version.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a malformed alias or a version that does not exist; [`Error::Forbidden`].
    pub async fn set_alias(
        &self,
        caller: &Principal,
        name: &str,
        alias: &str,
        version: u32,
        once: Option<Once>,
    ) -> Result<Done<Policy>> {
        check_aliases("alias", std::slice::from_ref(&alias.to_owned()))?;
        self.change_alias(caller, name, alias, once, async move |tx: &mut Tx, policy: &Policy, _: &str| {
            exists(tx, policy, version).await?;
            Ok((Some(version), false))
        })
        .await
    }

    /// Remove an alias.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Forbidden`].
    pub async fn remove_alias(
        &self,
        caller: &Principal,
        name: &str,
        alias: &str,
        once: Option<Once>,
    ) -> Result<Done<Policy>> {
        self.change_alias(caller, name, alias, once, async move |_: &mut Tx, policy: &Policy, alias: &str| match policy
            .aliases
            .contains_key(alias)
        {
            true => Ok((None, false)),
            false => Err(no_alias(policy, alias)),
        })
        .await
    }

    /// Set an alias back to its version before the last move; a second call goes one move further back.
    ///
    /// # Errors
    /// [`Error::State`] when the alias has never pointed elsewhere; [`Error::Forbidden`].
    pub async fn roll_back(
        &self,
        caller: &Principal,
        name: &str,
        alias: &str,
        once: Option<Once>,
    ) -> Result<Done<Policy>> {
        self.change_alias(caller, name, alias, once, async move |tx: &mut Tx, policy: &Policy, alias: &str| {
            let moves = store::moves(tx.conn().await?, &policy.name, alias).await?;
            match before(&moves) {
                Some(version) => Ok((Some(version), true)),
                None if moves.is_empty() => Err(no_alias(policy, alias)),
                None => Err(Error::State(format!("alias '{alias}' has no earlier version to roll back to"))),
            }
        })
        .await
    }

    async fn change_alias<F>(
        &self,
        caller: &Principal,
        name: &str,
        alias: &str,
        once: Option<Once>,
        change: F,
    ) -> Result<Done<Policy>>
    where
        F: AsyncFnOnce(&mut Tx, &Policy, &str) -> Result<(Option<u32>, bool)> + Send + 'static,
    {
        let (alias, by) = (alias.to_owned(), caller.name.to_string());
        self.change(caller, name, once, async move |tx: &mut Tx, policy: &Policy, now: Timestamp| {
            let (to, rollback) = change(tx, policy, &alias).await?;
            let at = |version: Option<u32>| Some(json!({"alias": alias, "version": version}));
            let entry = told(now).of("policy", if rollback { "alias_rolled_back" } else { "alias_moved" });
            let entry = entry.change(at(policy.aliases.get(&alias).copied()), at(to));
            store::move_alias(tx, (&policy.name, &alias), to, rollback, &by, now).await?;
            if alias == PRODUCTION {
                mirror::store::deployed(tx, &policy.name, to.is_some(), now).await?;
            }
            Ok(entry)
        })
        .await
    }

    /// Return the moves of an alias, the last first.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub async fn moves(&self, name: &str, alias: &str) -> Result<Vec<AliasMove>> {
        self.get(name).await?;
        store::moves(&mut *self.0.db.read().await?, name, alias).await
    }

    /// Set the split: a second version answers a share of the calls that name no version (canary), or receives them too
    /// without answering (shadow). An empty split removes it.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a version that does not exist or has another interface; [`Error::Forbidden`].
    pub async fn set_split(
        &self,
        caller: &Principal,
        name: &str,
        split: Split,
        once: Option<Once>,
    ) -> Result<Done<Policy>> {
        if let Some(Canary { share, .. }) = split.canary
            && !(0.0..=1.0).contains(&share)
        {
            return Err(Error::at(["canary", "share"], "must be from 0 to 1"));
        }
        self.change(caller, name, once, async move |tx: &mut Tx, policy: &Policy, now: Timestamp| {
            let serving = served(exists(tx, policy, policy.serving).await?);
            let others = [
                ("canary", split.canary.map(|Canary { version, .. }| version)),
                ("shadow", split.shadow.map(|Shadow { version }| version)),
            ];
            for (member, version) in others {
                let Some(version) = version else { continue };
                let refused = |message: String| Error::at([member, "version"], message);
                let second = exists(tx, policy, version).await.map_err(|error| match error {
                    Error::Invalid(found) => Error::Invalid(within(member, found)),
                    other => other,
                })?;
                if !served(second).speaks_as(&serving) {
                    return Err(refused(format!(
                        "version {version} takes other states or actions than the serving one"
                    )));
                }
            }
            store::set_split(tx, &policy.name, &split).await?;
            Ok(told(now).of("policy", "split").change(Some(json!(policy.split)), Some(json!(split))))
        })
        .await
    }

    /// Apply one change to a policy of `caller`, together with its entry in the audit log.
    async fn change<F>(&self, caller: &Principal, name: &str, once: Option<Once>, change: F) -> Result<Done<Policy>>
    where
        F: AsyncFnOnce(&mut Tx, &Policy, Timestamp) -> Result<am_audit::Entry> + Send + 'static,
    {
        let (caller, name, now, audit) = (caller.clone(), name.to_owned(), self.now(), self.0.audit.clone());
        let done = self
            .0
            .db
            .write_once(&self.0.clock, once, async move |tx: &mut Tx| {
                let policy = store::get(tx.conn().await?, &name).await?.ok_or_else(|| unknown(&name))?;
                may_change(&caller, Some(&policy))?;
                let entry = change(tx, &policy, now).await?.by(&caller).data("policy", json!(name));
                audit.append(tx, vec![entry]).await?;
                store::touch(tx, &name, now).await?;
                store::get(tx.conn().await?, &name).await?.ok_or_else(|| unknown(&name))
            })
            .await?;
        self.refresh().await?;
        Ok(done)
    }
}

async fn exists(tx: &mut Tx, policy: &Policy, version: u32) -> Result<VersionRecord> {
    let found = store::version_of(tx.conn().await?, &policy.name, version).await?;
    found.ok_or_else(|| Error::invalid("version", format!("policy '{}' has no version {version}", policy.name)))
}

/// Return the alias's version before its last move that has not been rolled back.
fn before(moves: &[AliasMove]) -> Option<u32> {
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

fn no_alias(policy: &Policy, alias: &str) -> Error {
    ActError::UnknownAlias { name: policy.name.clone(), alias: alias.to_owned() }.into()
}
