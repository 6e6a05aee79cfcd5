//! Environments that callers send as tables: stored in versions, solved when they are stored, and found by the name that a
//! run gives. Every key may train in them; their owner changes and deletes them.

mod listing;
mod model;
mod store;

use std::sync::Arc;

use serde_json::json;

use self::model::{EnvironmentReference, NewEnvironmentVersion, is_environment_name};
pub use self::{
    listing::ListedEnvironment,
    model::{EnvironmentDraft, OwnEnvironment, OwnEnvironmentVersion, is_own_reference},
};
use crate::{
    environments::{BRIDGE_ENVIRONMENT, TabularDefinition, TabularModel, is_built_in},
    error::{Result, RlError},
    library::run_blocking,
    model::ActError,
};
use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{
    ambient::Clock,
    boxed,
    validation::{self, Violations, within},
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};

/// Most environments of one principal.
const MAX_ENVIRONMENTS: i64 = 200;
/// Most versions of an environment.
const MAX_VERSIONS: u32 = 100;

/// Environments that callers sent as tables. Cheap to clone.
#[derive(Clone)]
pub struct OwnEnvironments(Arc<OwnEnvironmentsInner>);

struct OwnEnvironmentsInner {
    db: Database,
    clock: Clock,
    audit: AuditLog,
}

fn unknown(text: &str) -> RlError {
    RlError::NotFound(format!("there is no environment '{text}'"))
}

/// Refuse a name that is none, or that others have.
fn check_name(name: &str, violations: &mut Violations) {
    let form = "must have 1 to 64 of a-z, 0-9, '_', '.', '-', and begin with a letter or a digit";
    violations.require(is_environment_name(name), "name", form);
    let free = !is_built_in(name) && name != BRIDGE_ENVIRONMENT;
    violations.require(free, "name", format!("'{name}' is the name of an environment of this service"));
}

impl OwnEnvironments {
    /// Create the service on `db`.
    pub fn new(db: Database, clock: Clock, audit: AuditLog) -> Self {
        Self(Arc::new(OwnEnvironmentsInner { db, clock, audit }))
    }

    /// Store tables as the next version of an environment of `caller`, or as a new one. Tables that the newest version has
    /// already make none.
    ///
    /// # Errors
    /// [`RlError::Invalid`] with all faults, [`RlError::Forbidden`] for another owner's name, [`RlError::Quota`].
    #[boxed]
    pub async fn publish(
        &self,
        caller: &Principal,
        draft: EnvironmentDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<OwnEnvironment>> {
        let EnvironmentDraft { name, tables } = draft;
        let mut violations = Violations::default();
        check_name(&name, &mut violations);
        violations.take(tables.check().map_err(|found| within("tables", found)));
        violations.finish()?;
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        // The largest take a second or two.
        let (tables, solution, sha256, description) = run_blocking(move || {
            let model = tables.model("").map_err(|found| RlError::Invalid(within("tables", found)))?;
            Ok((tables, model.solve(), model.sha256().to_owned(), model.description().clone()))
        })
        .await?;
        let (caller, now, audit) = (caller.clone(), Timestamp(self.0.clock.now()), self.0.audit.clone());
        let work = async move |tx: &mut Tx| {
            let before = store::get(tx.conn().await?, &name, None).await?;
            if let Some(before) = &before {
                if !caller.owns(&before.owner_id) {
                    return Err(RlError::Forbidden(format!("environment '{name}' is another owner's")));
                }
                if before.version.sha256 == sha256 {
                    return Ok(before.clone());
                }
            }
            let version = before.as_ref().map_or(1, |before| before.latest + 1);
            if before.is_none() {
                let has = store::count_owned(tx.conn().await?, &caller.aliases).await?;
                if has >= MAX_ENVIRONMENTS {
                    let why = format!("{has} environments are yours, and {MAX_ENVIRONMENTS} is the most: delete one");
                    return Err(RlError::Quota(why));
                }
            }
            if version > MAX_VERSIONS {
                let why =
                    format!("environment '{name}' has {MAX_VERSIONS} versions, which is the most: use another name");
                return Err(RlError::Quota(why));
            }
            let owner = before.as_ref().map_or_else(|| caller.id(), |before| before.owner_id.clone());
            let mut description = description;
            description.name = format!("{name}@{version}");
            let new = NewEnvironmentVersion { name, version, sha256, tables, description, solution };
            store::insert(tx, &new, &owner, now).await?;
            let data = json!({"environment": new.name, "version": version, "sha256": new.sha256});
            let entry = AuditEntry::new(EventType::WorkflowUpdated, now).by(&caller).of("environment", "published");
            audit.append(tx, vec![entry.change(None, Some(data))]).await?;
            store::get(tx.conn().await?, &new.name, None).await?.ok_or_else(|| unknown(&new.name))
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Return an environment, `name` or `name@version`.
    ///
    /// # Errors
    /// [`RlError::NotFound`].
    #[boxed]
    pub async fn get(&self, reference: &str) -> Result<OwnEnvironment> {
        let asked = EnvironmentReference::read(reference).ok_or_else(|| unknown(reference))?;
        let found = store::get(&mut *self.0.db.read().await?, &asked.name, asked.version).await?;
        found.ok_or_else(|| unknown(reference))
    }

    /// Return the tables of an environment, `name` or `name@version`, with the reference of the version.
    ///
    /// # Errors
    /// [`RlError::NotFound`].
    #[boxed]
    pub async fn tables(&self, reference: &str) -> Result<(OwnEnvironment, TabularDefinition)> {
        let found = self.get(reference).await?;
        let tables = store::get_tables(&mut *self.0.db.read().await?, &found.name, found.version.version).await?;
        let tables = tables.ok_or_else(|| unknown(reference))?;
        Ok((found, tables))
    }

    /// Return the model of an environment, `name` or `name@version`, under the reference of its version; `None`: there is
    /// none.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn model(&self, reference: &str) -> Result<Option<(OwnEnvironment, Arc<TabularModel>)>> {
        let (found, tables) = match self.tables(reference).await {
            Ok(found) => found,
            Err(RlError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let name = found.version.id.clone();
        let model = run_blocking(move || {
            let model = tables.model(&name);
            Ok(model.map_err(|found| ActError::Storage(validation::join(&found)))?)
        });
        Ok(Some((found, Arc::new(model.await?))))
    }

    /// Return a page of an environment's versions, newest first, and their total number.
    ///
    /// # Errors
    /// [`RlError::NotFound`].
    #[boxed]
    pub async fn versions(&self, name: &str, page: &PageRequest) -> Result<(Vec<OwnEnvironmentVersion>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        store::get_row(&mut conn, name).await?.ok_or_else(|| unknown(name))?;
        let (mut found, total) = store::versions(&mut conn, name, page).await?;
        found.iter_mut().for_each(OwnEnvironmentVersion::shorten);
        Ok((found, total))
    }

    /// Return a page of all environments, those that are built in as the oldest, and their total number.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list(&self, page: &PageRequest) -> Result<(Vec<ListedEnvironment>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        let own_total = store::count(&mut conn, page).await?;
        let plan = listing::PagePlan::new(page, own_total.unsigned_abs());
        let own = match &plan.own {
            Some(page) => store::list(&mut conn, page).await?,
            None => Vec::new(),
        };
        let total = own_total + plan.built_in_total;
        Ok((plan.merge(own), total))
    }

    /// Delete an environment of `caller` with all its versions.
    ///
    /// # Errors
    /// [`RlError::NotFound`]; [`RlError::Forbidden`] for another owner's; [`RlError::InUse`] while a version of a policy
    /// names it, or a run that has not ended.
    #[boxed]
    pub async fn delete(&self, caller: &Principal, name: &str) -> Result<()> {
        let (caller, name, audit) = (caller.clone(), name.to_owned(), self.0.audit.clone());
        let now = Timestamp(self.0.clock.now());
        self.0
            .db
            .write(async move |tx: &mut Tx| {
                let found = store::get(tx.conn().await?, &name, None).await?.ok_or_else(|| unknown(&name))?;
                if !caller.owns(&found.owner_id) {
                    return Err(RlError::Forbidden(format!("environment '{name}' is another owner's")));
                }
                let references = store::references(tx.conn().await?, &name).await?;
                if let Some(policy) = store::policy_using(tx.conn().await?, &references).await? {
                    return Err(RlError::InUse(format!(
                        "environment '{name}' is used: policy {policy} was made in it"
                    )));
                }
                if let Some(run) = store::run_using(tx.conn().await?, &references).await? {
                    return Err(RlError::InUse(format!("environment '{name}' is used: {run} trains in it")));
                }
                store::delete(tx, &name).await?;
                let data = json!({"environment": name, "version": found.latest, "sha256": found.version.sha256});
                let entry = AuditEntry::new(EventType::WorkflowUpdated, now).by(&caller).of("environment", "deleted");
                audit.append(tx, vec![entry.change(Some(data), None)]).await?;
                Ok(())
            })
            .await
    }
}
