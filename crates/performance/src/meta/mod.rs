//! Meta-learning: models that are trained in the background, versions and aliases of their names, and their adaptation to tasks.
//!
//! The mathematics stands in `am_rl::meta_learning`. A model's file stands in the database, since it is small.

mod adaptation;
mod draft;
mod model;
mod store;
mod training;

use std::{collections::HashMap, sync::Arc};

use am_audit::{AuditEntry, AuditLog, EventType};
use am_background::{BackgroundTasks, NewWork};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
};
use am_db::{
    Connection, Database, DatabaseError, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

pub use self::draft::is_alias;
pub use self::model::{
    AdaptationReport, AdaptationRequest, LearningStrategy, MetaModelDocument, MetaModelDraft, MetaModelFilter,
    MetaModelStatus, SettingsDraft, TrainingOutline,
};
use self::{
    draft::CheckedModel,
    model::MetaModelRecord,
    training::{MetaTraining, TRAINING_KIND},
};
use crate::{
    PerformanceCaller,
    error::{PerformanceError, Result},
};

/// The service for meta-learning. Cheap to clone.
#[derive(Clone)]
pub struct MetaService(Arc<MetaInner>);

struct MetaInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    tasks: BackgroundTasks,
}

fn no_model(id: &str) -> PerformanceError {
    PerformanceError::NotFound(format!("No model {id}"))
}

/// A model with its aliases.
async fn document(conn: &mut Connection, record: MetaModelRecord) -> Result<MetaModelDocument> {
    let aliases = store::aliases(conn, std::slice::from_ref(&record.id)).await?;
    Ok(MetaModelDocument::of(record, sorted(aliases.into_iter().map(|(_, alias)| alias).collect())))
}

fn sorted(mut aliases: Vec<String>) -> Vec<String> {
    aliases.sort_unstable();
    aliases
}

/// A model that `caller` may see, by its id, or as `name@version` or `name@alias` of its own.
async fn visible(conn: &mut Connection, caller: &PerformanceCaller, id: &str) -> Result<MetaModelRecord> {
    let found = match id.rsplit_once('@') {
        None => store::get(conn, id).await?,
        Some((name, selector)) => {
            let owner = caller.principal.id();
            match selector.parse::<i64>() {
                Ok(version) => store::get_version(conn, &owner, name, version).await?,
                Err(_) => match store::get_alias(conn, &owner, name, selector).await? {
                    Some(model) => store::get(conn, &model).await?,
                    None => None,
                },
            }
        }
    };
    found.filter(|model| caller.may_see(model.owner_id.as_str())).ok_or_else(|| no_model(id))
}

impl MetaService {
    /// The service on `db`, whose trainings are background work. Its kind of work is made known here.
    pub fn new(db: Database, clock: Clock, ids: IdGenerator, audit: AuditLog, tasks: BackgroundTasks) -> Self {
        tasks.register_kind(Arc::new(MetaTraining { db: db.clone(), audit: audit.clone() }));
        Self(Arc::new(MetaInner { db, clock, ids, audit, tasks }))
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    fn new_id(&self) -> String {
        format!("meta_{}", self.0.ids.hex(12))
    }

    fn entry(&self, caller: &Principal, action: &str, model: &MetaModelRecord, now: Timestamp) -> AuditEntry {
        let entry = AuditEntry::new(EventType::WorkflowUpdated, now).by(caller).of("meta_model", action);
        entry.data("model_id", json!(model.id))
    }

    /// Queue the training of a model.
    ///
    /// # Errors
    /// [`PerformanceError::Invalid`] with all faults; a quota of background work.
    #[boxed]
    pub async fn create_model(
        &self,
        caller: &PerformanceCaller,
        draft: MetaModelDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MetaModelDocument>> {
        let CheckedModel { name, base_algorithms, meta_strategy, adaptation_targets, plan } = draft::checked(draft)?;
        let (me, caller, now, id) = (self.clone(), caller.clone(), self.now(), self.new_id());
        let parameters = serde_json::to_value(&plan).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
        let outline = draft::outline(&plan);
        let work = async move |tx: &mut Tx| {
            let owner = caller.principal.id();
            let new = NewWork {
                id: me.0.tasks.new_id(),
                kind: TRAINING_KIND,
                owner_id: owner.clone(),
                subject: id.clone(),
                parameters,
                seed: outline.seed,
                limited: !caller.is_admin,
            };
            let task = me.0.tasks.submit(tx, new, now).await?;
            let version = store::next_version(tx.conn().await?, &owner, &name).await?;
            let model = MetaModelRecord {
                id,
                owner_id: owner,
                name,
                version,
                meta_strategy,
                status: MetaModelStatus::Training,
                base_algorithms,
                adaptation_targets,
                plan: outline,
                task_id: Some(task.id),
                origin_id: None,
                sha256: None,
                measures: None,
                training_time: None,
                error: None,
                created_at: now,
                updated_at: now,
                trained_at: None,
            };
            store::put(tx, &model).await?;
            me.0.audit.append(tx, vec![me.entry(&caller.principal, "created", &model, now)]).await?;
            Ok(MetaModelDocument::of(model, Vec::new()))
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// A model that the caller may see, by its id, or `name@version` or `name@alias` of the caller's own.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`].
    #[boxed]
    pub async fn model(&self, caller: &PerformanceCaller, id: &str) -> Result<MetaModelDocument> {
        let mut conn = self.0.db.read().await?;
        let found = visible(&mut conn, caller, id).await?;
        document(&mut conn, found).await
    }

    /// A page of the caller's models, for an admin of all that were made here, and how many there are; `None`: not counted.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn list_models(
        &self,
        caller: &PerformanceCaller,
        filter: &MetaModelFilter,
        page: &PageRequest,
    ) -> Result<(Vec<MetaModelDocument>, Option<i64>)> {
        let owner = (!caller.is_admin).then(|| caller.principal.id());
        let mut conn = self.0.db.read_list().await?;
        let (records, total) = store::list(&mut conn, owner, filter, page).await?;
        Ok((with_aliases(&mut conn, records).await?, total))
    }

    /// A page of the versions of a model's name, and how many there are.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`].
    #[boxed]
    pub async fn versions(
        &self,
        caller: &PerformanceCaller,
        id: &str,
        page: &PageRequest,
    ) -> Result<(Vec<MetaModelDocument>, Option<i64>)> {
        let mut conn = self.0.db.read_list().await?;
        let model = visible(&mut conn, caller, id).await?;
        let filter = MetaModelFilter { name: Some(model.name), ..MetaModelFilter::default() };
        let (records, total) = store::list(&mut conn, Some(model.owner_id), &filter, page).await?;
        Ok((with_aliases(&mut conn, records).await?, total))
    }

    /// Let an alias of the model's name stand for it; `None` in its place: no longer.
    async fn change_alias(
        &self,
        caller: &PerformanceCaller,
        id: String,
        alias: String,
        stands: bool,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MetaModelDocument>> {
        let (me, caller, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            let model = visible(tx.conn().await?, &caller, &id).await?;
            if stands && model.status != MetaModelStatus::Ready {
                let text = format!("Model {id} is not ready: its status is {}", model.status);
                return Err(PerformanceError::Conflict("not_ready", text));
            }
            if stands {
                store::put_alias(tx, &model, &alias, now).await?;
            } else if !store::delete_alias(tx, &model, &alias).await? {
                return Err(PerformanceError::NotFound(format!("Model {id} has no alias {alias}")));
            }
            let action = if stands { "alias_set" } else { "alias_removed" };
            let entry = me.entry(&caller.principal, action, &model, now).data("alias", json!(alias));
            me.0.audit.append(tx, vec![entry]).await?;
            document(tx.conn().await?, model).await
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Let an alias ([`is_alias`]) of the model's name stand for it.
    ///
    /// # Errors
    /// [`PerformanceError::Invalid`] for what is no alias; [`PerformanceError::NotFound`]; [`PerformanceError::Conflict`] for a model
    /// that is not ready.
    #[boxed]
    pub async fn set_alias(
        &self,
        caller: &PerformanceCaller,
        id: &str,
        alias: &str,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MetaModelDocument>> {
        self.change_alias(caller, id.to_owned(), alias.to_owned(), true, once).await
    }

    /// Remove an alias that stands for the model.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`].
    #[boxed]
    pub async fn remove_alias(&self, caller: &PerformanceCaller, id: &str, alias: &str) -> Result<MetaModelDocument> {
        Ok(self.change_alias(caller, id.to_owned(), alias.to_owned(), false, None).await?.value)
    }

    /// A model's safetensors file, with the model.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Conflict`] for a model that is not ready.
    #[boxed]
    pub async fn file(&self, caller: &PerformanceCaller, id: &str) -> Result<(MetaModelDocument, Vec<u8>)> {
        let mut conn = self.0.db.read().await?;
        let model = visible(&mut conn, caller, id).await?;
        let file = ready_file(&mut conn, &model).await?;
        Ok((document(&mut conn, model).await?, file))
    }
}

/// The file of a model that is ready.
async fn ready_file(conn: &mut Connection, model: &MetaModelRecord) -> Result<Vec<u8>> {
    let (MetaModelStatus::Ready, Some(sha256)) = (model.status, &model.sha256) else {
        let text = format!("Model {} is not ready: its status is {}", model.id, model.status);
        return Err(PerformanceError::Conflict("not_ready", text));
    };
    let text = store::file(conn, sha256).await?;
    let text = text.ok_or_else(|| PerformanceError::Unavailable(format!("The file of model {} is gone", model.id)))?;
    Ok(BASE64_STANDARD.decode(text).map_err(|error| DatabaseError::InvalidValue(error.to_string()))?)
}

/// Models with their aliases.
async fn with_aliases(conn: &mut Connection, records: Vec<MetaModelRecord>) -> Result<Vec<MetaModelDocument>> {
    let ids: Vec<String> = records.iter().map(|record| record.id.clone()).collect();
    let mut named: HashMap<String, Vec<String>> = HashMap::new();
    for (model, alias) in store::aliases(conn, &ids).await? {
        named.entry(model).or_default().push(alias);
    }
    let shown = records.into_iter().map(|record| {
        let aliases = named.remove(&record.id).unwrap_or_default();
        MetaModelDocument::of(record, sorted(aliases))
    });
    Ok(shown.collect())
}
