//! Optimisation of agents: settings of a policy's training by short trainings, a workflow's retries and parallelism by replaying its
//! recorded executions, and an allocation's amounts by what executions used. Each is background work; its best settings are applied and taken back on request.
//!
//! The coordinator's table `performance_optimizations` has each optimisation, `am_optimisations` what it can't hold.

mod allocation_search;
mod change;
mod model;
mod policy_search;
mod recorded;
mod request;
mod store;
mod work;
mod workflow_search;

use std::sync::Arc;

use am_audit::{AuditEntry, AuditLog, EventType};
use am_background::{BackgroundTasks, NewWork};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::AgentId,
};
use am_db::{
    Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    page::PageRequest,
    principal::Principal,
};
use am_orchestration::{executions::ExecutionService, workflows::WorkflowService};
use am_rl::library::PolicyLibrary;
use serde_json::{Value, json};

pub use self::model::{
    ConvergencePoint, ConvergenceReport, MeasuredCandidate, MeasuredImprovement, OptimisationBudget,
    OptimisationDocument, OptimisationDraft, OptimizationMetric, ScoreSummary, TunedSettings, TunedSubject,
};
use self::{
    model::OptimisationRecord,
    request::{CheckedDraft, checked},
    work::{OPTIMISATION_KIND, OptimisationOrder, OptimisationWork, SearchOrder},
};
use crate::{
    agents::{PerformanceCaller, check_visible, use_agent},
    error::{PerformanceError, Result},
};

/// The service for optimisations. Cheap to clone.
#[derive(Clone)]
pub struct OptimisationService(Arc<OptimisationInner>);

struct OptimisationInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    tasks: BackgroundTasks,
    library: PolicyLibrary,
    workflows: WorkflowService,
    executions: ExecutionService,
    /// Steps of an execution that the engine lets run at once.
    parallel: usize,
}

/// What optimisations are made of.
pub struct OptimisationParts {
    /// Database of the service.
    pub db: Database,
    /// Source of the time.
    pub clock: Clock,
    /// Source of ids.
    pub ids: IdGenerator,
    /// The audit log.
    pub audit: AuditLog,
    /// Background work, which learns of a kind of its own here.
    pub tasks: BackgroundTasks,
    /// Library of the policies.
    pub library: PolicyLibrary,
    /// Service for workflows.
    pub workflows: WorkflowService,
    /// Service for executions.
    pub executions: ExecutionService,
    /// Steps of an execution that the engine lets run at once.
    pub parallel: usize,
}

fn no_optimisation(id: &str) -> PerformanceError {
    PerformanceError::NotFound(format!("No optimization {id}"))
}

impl OptimisationService {
    /// The service of these parts.
    pub fn new(parts: OptimisationParts) -> Self {
        let OptimisationParts { db, clock, ids, audit, tasks, library, workflows, executions, parallel } = parts;
        tasks.register_kind(Arc::new(OptimisationWork { audit: audit.clone() }));
        Self(Arc::new(OptimisationInner { db, clock, ids, audit, tasks, library, workflows, executions, parallel }))
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// The audit entry of what `caller` did with an optimisation.
    fn entry(&self, caller: &Principal, action: &str, record: &OptimisationRecord, now: Timestamp) -> AuditEntry {
        let entry = AuditEntry::new(EventType::WorkflowUpdated, now).by(caller).of("optimization", action);
        entry.data("optimization_id", json!(record.optimization_id)).data("agent", json!(record.agent_id))
    }

    /// Begin an optimisation of an agent.
    ///
    /// # Errors
    /// [`PerformanceError::Invalid`] with all faults; [`PerformanceError::NotFound`] for another's agent;
    /// [`PerformanceError::Conflict`] where nothing can be measured, which says what is missing.
    #[boxed]
    pub async fn optimize(
        &self,
        caller: &PerformanceCaller,
        draft: OptimisationDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<OptimisationDocument>> {
        let checked = checked(draft).map_err(PerformanceError::Invalid)?;
        if let Some(answered) = self.0.db.answered(&self.0.clock, once.as_ref()).await? {
            return Ok(answered);
        }
        let search = self.search(caller, &checked).await?;
        let (me, by, now) = (self.clone(), caller.clone(), self.now());
        let work = async move |tx: &mut Tx| me.begin(tx, &by, checked, search, now).await;
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    async fn begin(
        &self,
        tx: &mut Tx,
        caller: &PerformanceCaller,
        checked: CheckedDraft,
        search: SearchOrder,
        now: Timestamp,
    ) -> Result<OptimisationDocument> {
        use_agent(tx, caller, &checked.agent_id, now).await?;
        let id = format!("opt_{}", self.0.ids.hex(8));
        let order = OptimisationOrder { optimization_id: id.clone(), search };
        let parameters =
            serde_json::to_value(&order).map_err(|error| PerformanceError::invalid("", error.to_string()))?;
        let new = NewWork {
            id: self.0.tasks.new_id(),
            kind: OPTIMISATION_KIND,
            owner_id: caller.principal.id(),
            subject: checked.agent_id.to_string(),
            parameters,
            seed: checked.seed,
            limited: !caller.is_admin,
        };
        let record = OptimisationRecord {
            id: id.clone(),
            optimization_id: id,
            agent_id: checked.agent_id,
            optimization_type: checked.optimization_type,
            target_metric: checked.metric.stored().to_owned(),
            performance_improvement: 0.0,
            resource_savings: 0.0,
            cost_savings: 0.0,
            overall_efficiency_gain: 0.0,
            optimization_duration: None,
            iterations_required: 0,
            status: "running".to_owned(),
            created_at: now,
            updated_at: now,
            completed_at: None,
            owner_id: Some(caller.principal.id()),
            task_id: Some(new.id.clone()),
            tuned: Some(checked.tuned),
            target: Some(checked.target),
            budget: Some(checked.budget),
            outcome: None,
            error: None,
            replaced: None,
            applied_at: None,
            rolled_back_at: None,
        };
        store::insert(tx, &record, &json!(checked.current_performance)).await?;
        self.0.tasks.submit(tx, new, now).await?;
        let entry = self.entry(&caller.principal, "requested", &record, now);
        self.0.audit.append(tx, vec![entry.change(None, Some(json!({"status": record.status})))]).await?;
        Ok(record.document())
    }

    /// One optimisation.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`], also where its agent is another's.
    #[boxed]
    pub async fn get(&self, caller: &PerformanceCaller, id: &str) -> Result<OptimisationDocument> {
        Ok(self.visible(caller, id).await?.document())
    }

    async fn visible(&self, caller: &PerformanceCaller, id: &str) -> Result<OptimisationRecord> {
        let mut conn = self.0.db.read().await?;
        let record = store::get(&mut conn, id).await?.ok_or_else(|| no_optimisation(id))?;
        check_visible(&mut conn, caller, &record.agent_id).await.map_err(|_| no_optimisation(id))?;
        Ok(record)
    }

    /// A page of an agent's optimisations, newest first, and their number.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`] for another's agent.
    #[boxed]
    pub async fn list(
        &self,
        caller: &PerformanceCaller,
        agent: &AgentId,
        (status, metric): (Option<&str>, Option<OptimizationMetric>),
        page: &PageRequest,
    ) -> Result<(Vec<OptimisationDocument>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        check_visible(&mut conn, caller, agent).await?;
        let (records, total) = store::list(&self.0.db, &mut conn, (agent, status, metric), page).await?;
        Ok((records.into_iter().map(OptimisationRecord::document).collect(), total))
    }

    /// The measurements of an optimisation, with its convergence.
    ///
    /// # Errors
    /// As [`OptimisationService::get`].
    #[boxed]
    pub async fn curve(&self, caller: &PerformanceCaller, id: &str) -> Result<ConvergenceReport> {
        let record = self.visible(caller, id).await?;
        let metric = record.metric();
        let lower_is_better = record.tuned == Some(TunedSubject::Workflow) && workflow_search::is_lower_better(metric);
        let outcome = record.outcome.unwrap_or_default();
        Ok(ConvergenceReport {
            optimization_id: record.optimization_id,
            target_metric: metric,
            lower_is_better,
            curve: outcome.curve(lower_is_better),
            candidates: outcome.candidates,
        })
    }

    /// Ask that an optimisation end without a result.
    ///
    /// # Errors
    /// [`PerformanceError::NotFound`]; [`PerformanceError::Conflict`] when it has ended.
    #[boxed]
    pub async fn cancel(
        &self,
        caller: &PerformanceCaller,
        id: &str,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<OptimisationDocument>> {
        self.visible(caller, id).await?;
        let (me, by, id, now) = (self.clone(), caller.clone(), id.to_owned(), self.now());
        let work = async move |tx: &mut Tx| {
            let found = store::get(tx.conn().await?, &id).await?;
            let record = found.ok_or_else(|| no_optimisation(&id))?;
            let task = match &record.task_id {
                Some(task) if record.completed_at.is_none() => task.clone(),
                _ => {
                    let text = format!("The optimization cannot be cancelled: it is {}", record.status);
                    return Err(PerformanceError::Conflict("invalid_state", text));
                }
            };
            me.0.tasks.cancel_in(tx, &task, now).await?;
            let record = store::get(tx.conn().await?, &id).await?.ok_or_else(|| no_optimisation(&id))?;
            let entry = me.entry(&by.principal, "cancel", &record, now);
            me.0.audit.append(tx, vec![entry]).await?;
            Ok(record.document())
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    /// Settings that trainings of a policy begin with, where an optimisation was applied.
    ///
    /// # Errors
    /// A database error.
    #[boxed]
    pub async fn tuned_settings(
        &self,
        policy: &str,
        algorithm: &str,
        environment: &str,
    ) -> Result<Option<TunedSettings>> {
        let mut conn = self.0.db.read().await?;
        Ok(store::tuned_settings(&mut conn, (policy, algorithm, environment)).await?)
    }
}

/// What is missing, as the answer to a request that nothing can be measured for.
fn nothing_to_measure(text: impl Into<String>) -> PerformanceError {
    PerformanceError::Conflict("nothing_to_measure", text.into())
}

/// A member of an object as text.
fn text_of<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}
