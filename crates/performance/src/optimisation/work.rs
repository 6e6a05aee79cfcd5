//! Optimisation as background work: which search it is, and what its end writes.

use am_audit::{AuditEntry, AuditLog, EventType};
use am_background::{EndedWork, WorkContext, WorkFault, WorkKind, WorkMachine, WorkStatus};
use am_db::{DatabaseError, Tx};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    allocation_search::{AllocationOrder, AllocationSearch},
    model::OptimisationOutcome,
    policy_search::{PolicyOrder, PolicySearch},
    store,
    workflow_search::{WorkflowOrder, WorkflowSearch},
};

/// Name of the kind of work.
pub(super) const OPTIMISATION_KIND: &str = "optimisation";

/// What a task is to do, whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct OptimisationOrder {
    /// Id of the optimisation.
    pub(super) optimization_id: String,
    /// The search itself.
    pub(super) search: SearchOrder,
}

/// A search, by what is tuned.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SearchOrder {
    /// Of a policy's settings.
    Policy(Box<PolicyOrder>),
    /// Of a workflow's retries and parallelism.
    Workflow(Box<WorkflowOrder>),
    /// Of an allocation's amounts.
    Allocation(Box<AllocationOrder>),
}

/// Optimisations as work.
pub(super) struct OptimisationWork {
    pub(super) audit: AuditLog,
}

impl WorkKind for OptimisationWork {
    fn name(&self) -> &'static str {
        OPTIMISATION_KIND
    }

    fn open(&self, context: &WorkContext, checkpoint: Option<&str>) -> Result<Box<dyn WorkMachine>, WorkFault> {
        let order: OptimisationOrder = context.parameters()?;
        let seed = context.task().seed;
        Ok(match order.search {
            SearchOrder::Policy(order) => Box::new(PolicySearch::open(*order, seed, checkpoint)?),
            SearchOrder::Workflow(order) => Box::new(WorkflowSearch::open(*order, seed, checkpoint)?),
            SearchOrder::Allocation(order) => Box::new(AllocationSearch::open(*order, seed, checkpoint)?),
        })
    }

    fn settle<'a>(&'a self, tx: &'a mut Tx, ended: &'a EndedWork) -> BoxFuture<'a, am_db::Result<()>> {
        Box::pin(self.record_end(tx, ended))
    }
}

impl OptimisationWork {
    async fn record_end(&self, tx: &mut Tx, ended: &EndedWork) -> am_db::Result<()> {
        let id = ended.task.parameters.get("optimization_id").and_then(|id| id.as_str()).unwrap_or_default();
        // Whoever deleted it wants no result.
        let Some(mut record) = store::get(tx.conn().await?, id).await? else { return Ok(()) };
        let before = record.status.clone();
        record.status = ended.status.stored().to_owned();
        record.updated_at = ended.now;
        record.completed_at = Some(ended.now);
        record.optimization_duration = Some(ended.seconds);
        record.error.clone_from(&ended.error);
        if let (WorkStatus::Completed, Some(result)) = (ended.status, &ended.result) {
            let outcome = OptimisationOutcome::deserialize(result);
            let outcome = outcome.map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
            record.iterations_required = outcome.candidates.len() as i64;
            // The coordinator's columns take no null: what is not known is 0 there, and null in this service's answers.
            record.performance_improvement = outcome.performance_improvement.unwrap_or_default();
            record.resource_savings = outcome.resource_savings.unwrap_or_default();
            record.cost_savings = outcome.cost_savings.unwrap_or_default();
            record.outcome = Some(outcome);
            record.overall_efficiency_gain = record.clone().document().overall_efficiency_gain.unwrap_or_default();
        }
        store::save_end(tx, &record).await?;
        let entry = AuditEntry::new(EventType::WorkflowUpdated, ended.now)
            .of("optimization", &record.status)
            .on_behalf_of(&ended.task.owner_id)
            .data("optimization_id", json!(record.optimization_id))
            .data("agent", json!(record.agent_id))
            .error("optimization_failed", ended.error.as_deref());
        let entry = entry.change(Some(json!({"status": before})), Some(json!({"status": record.status})));
        self.audit.append(tx, vec![entry]).await
    }
}
