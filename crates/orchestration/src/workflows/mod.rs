//! Workflows: made, listed, changed and deleted by their owners, read by everybody where they are public.

mod model;
mod store;

use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

pub use model::{Change, Draft, Filter, Workflow, check_limits, etag_of};

use super::{
    action::Names,
    definition::{Definition, Plan},
    error::{Error, Result},
    guard::{Asked, Guard},
    model::Fault,
};
use am_audit::{Audit, Entry, EventType};
use am_core::ambient::{Clock, Ids};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    principal::Principal,
};

/// Compiled workflows that are kept.
const PLANS: std::num::NonZeroUsize = std::num::NonZeroUsize::new(512).unwrap();

/// The workflows. Cheap to clone.
#[derive(Clone)]
pub struct Workflows {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
    names: Names,
    guard: Guard,
    plans: Arc<Mutex<LruCache<[u8; 32], Compiled>>>,
}

/// A workflow ready to run: its plan, and the ids of its rows in `agent_steps` by step.
#[derive(Clone)]
pub struct Compiled {
    /// The plan.
    pub plan: Arc<Plan>,
    /// For each step its row's id.
    pub step_ids: Arc<[String]>,
}

impl Workflows {
    /// The workflows of `db`, whose actions may use `names` and that `guard` admits.
    pub fn new(db: Database, clock: Clock, ids: Ids, audit: Audit, names: Names, guard: Guard) -> Self {
        Self { db, clock, ids, audit, names, guard, plans: Arc::new(Mutex::new(LruCache::new(PLANS))) }
    }

    /// What actions may name.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Check `draft` and store it for `owner`.
    ///
    /// # Errors
    /// [`Error::Invalid`] with every fault; [`Error::Refused`].
    pub async fn create(&self, owner: &Principal, draft: Draft, once: Option<Once>) -> Result<Done<Workflow>> {
        draft.check().map_err(Error::Invalid)?;
        let definition = Definition::new(draft.steps.clone(), draft.dependencies.clone());
        let plan = definition.compiled(&self.names).await.map_err(Error::Invalid)?;
        let mut workflow = draft.into_workflow(owner, Timestamp(self.clock.now()))?;
        let asked = Asked { resource: "workflow", caller: owner, workflow_id: None, execution_id: None };
        if let Err(refusal) = self.guard.admit(&asked, workflow.terms(), &plan, None).await {
            // What was made before the policy is answered again.
            return self.db.answered(&self.clock, once.as_ref()).await?.ok_or(refusal);
        }
        loop {
            workflow.id = self.ids.next("agent_", 8);
            let mut rows = store::rows(&workflow, &plan, &self.ids);
            let entry = changed(EventType::WorkflowCreated, "created", owner, &workflow, workflow.created_at);
            self.audit.add_to(&mut rows, [entry.change(None, Some(workflow.state()))]);
            let done = match &once {
                None => self.db.insert(rows, || {}).await.map(|()| Done::fresh(workflow.clone())),
                Some(_) => {
                    let workflow = workflow.clone();
                    let work = async move |tx: &mut Tx| rows.execute(tx).await.map(|()| workflow);
                    self.db.write_once(&self.clock, once.clone(), work).await
                }
            };
            match done {
                // Eight digits are few enough for two ids to meet.
                Err(am_db::Error::Duplicate(_)) => self.ids.jump(),
                done => return Ok(done?),
            }
        }
    }

    /// A workflow that `reader` may see.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Forbidden`] for another owner's private one.
    pub async fn get(&self, reader: &Principal, id: &str) -> Result<Workflow> {
        let workflow = store::get(&mut *self.db.read().await?, id).await?.ok_or(Error::NotFound("Workflow"))?;
        if workflow.is_public || reader.owns(&workflow.owner_id) { Ok(workflow) } else { Err(Error::Forbidden) }
    }

    /// A page of the workflows that `reader` may see, newest first, and how many there are in all.
    ///
    /// # Errors
    /// As the database.
    pub async fn list(&self, reader: &Principal, filter: &Filter) -> Result<(Vec<Workflow>, i64)> {
        store::list(&mut *self.db.read().await?, reader, filter).await
    }

    /// Change what `change` names, if the workflow still is what `expected` (an ETag test) accepts.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for another owner's, public or not; [`Error::Changed`]; [`Error::Invalid`]; [`Error::Refused`].
    pub async fn update(
        &self,
        owner: &Principal,
        id: &str,
        change: Change,
        expected: impl FnOnce(&str) -> bool + Send + 'static,
    ) -> Result<Workflow> {
        // The definition is compiled before the transaction: the writer has others to serve.
        let mut wanted = self.get(owner, id).await?;
        let plan = match change.clone().apply(&mut wanted).map_err(Error::Invalid)? {
            true => Some(wanted.definition()?.compiled(&self.names).await.map_err(Error::Invalid)?),
            false => None,
        };
        if !owner.owns(&wanted.owner_id) {
            return Err(Error::Forbidden);
        }
        if self.guard.policies().bind(wanted.terms().security) {
            let known = match &plan {
                Some(plan) => Arc::new(plan.clone()),
                None => self.compiled(&wanted).await?.plan,
            };
            let asked = Asked { resource: "workflow", caller: owner, workflow_id: Some(id), execution_id: None };
            self.guard.admit(&asked, wanted.terms(), &known, None).await?;
        }
        let (owner, id, ids, now) = (owner.clone(), id.to_owned(), self.ids.clone(), Timestamp(self.clock.now()));
        let audit = self.audit.clone();
        self.db
            .write(async move |tx: &mut Tx| {
                let mut workflow = store::get(tx.conn().await?, &id).await?.ok_or(Error::NotFound("Workflow"))?;
                if !owner.owns(&workflow.owner_id) {
                    return Err(Error::Forbidden);
                }
                if !expected(&workflow.etag()) {
                    return Err(Error::Changed);
                }
                let before = workflow.state();
                change.apply(&mut workflow).map_err(Error::Invalid)?;
                // Two changes within a microsecond still are two versions.
                workflow.updated_at = now.max(Timestamp(workflow.updated_at.0 + chrono::Duration::microseconds(1)));
                if let Some(plan) = plan {
                    if !workflow.is_defined_as(&wanted) {
                        return Err(Error::Conflict("the workflow changed at the same moment; try again".into()));
                    }
                    store::replace_steps(tx, &workflow, &plan, &ids).await?;
                }
                store::update(tx, &workflow).await?;
                let entry = changed(EventType::WorkflowUpdated, "updated", &owner, &workflow, now);
                audit.append(tx, vec![entry.change(Some(before), Some(workflow.state()))]).await?;
                Ok(workflow)
            })
            .await
    }

    /// Delete a workflow that nothing runs of. Its past executions stay.
    ///
    /// # Errors
    /// [`Error::Conflict`] while executions of it are under way; [`Error::Forbidden`], [`Error::Changed`].
    pub async fn delete(
        &self,
        owner: &Principal,
        id: &str,
        expected: impl FnOnce(&str) -> bool + Send + 'static,
    ) -> Result<()> {
        let (owner, id, now, audit) = (owner.clone(), id.to_owned(), Timestamp(self.clock.now()), self.audit.clone());
        self.db
            .write(async move |tx: &mut Tx| {
                let workflow = store::get(tx.conn().await?, &id).await?.ok_or(Error::NotFound("Workflow"))?;
                if !owner.owns(&workflow.owner_id) {
                    return Err(Error::Forbidden);
                }
                if !expected(&workflow.etag()) {
                    return Err(Error::Changed);
                }
                let open = store::open_executions(tx.conn().await?, &id).await?;
                if open > 0 {
                    return Err(Error::Conflict(format!(
                        "{open} executions of this workflow are under way; cancel them first"
                    )));
                }
                store::delete(tx, &id).await?;
                let entry = changed(EventType::WorkflowDeleted, "deleted", &owner, &workflow, now);
                Ok(audit.append(tx, vec![entry.change(Some(workflow.state()), None)]).await?)
            })
            .await
    }

    /// The plan of `workflow`, compiled once for each of its versions.
    ///
    /// # Errors
    /// [`Error::Invalid`]: the coordinator stores what nobody has checked.
    pub async fn compiled(&self, workflow: &Workflow) -> Result<Compiled> {
        let key = workflow.definition_key();
        if let Some(found) = self.plans.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(found.clone());
        }
        let plan = Arc::new(workflow.definition()?.compiled(&self.names).await.map_err(Error::Invalid)?);
        let step_ids = store::step_ids(&mut *self.db.read().await?, &workflow.id, &plan).await?;
        let compiled = Compiled { plan, step_ids };
        self.plans.lock().unwrap_or_else(PoisonError::into_inner).put(key, compiled.clone());
        Ok(compiled)
    }
}

/// What the audit log gets to know of a change.
fn changed(event: EventType, action: &str, owner: &Principal, workflow: &Workflow, now: Timestamp) -> Entry {
    Entry::new(event, now).of("workflow", action).by(owner).workflow(&workflow.id).level(workflow.terms().security)
}

impl From<super::mapping::ParseError> for Fault {
    fn from(error: super::mapping::ParseError) -> Self {
        Self::new([error.entry], error.message)
    }
}
