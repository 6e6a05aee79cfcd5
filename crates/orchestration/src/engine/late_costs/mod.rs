//! Costs of jobs that no step waits for any more: a miner that has a job when its execution is cancelled, or fails, does it
//! all the same.

pub(super) mod store;

use serde_json::json;

use super::{EngineInner, costs};
use crate::{
    error::{OrchestrationError, Result},
    model::ExecutionStatus,
};
use am_audit::{AuditEntry, EventType};
use am_core::{
    ids::{ExecutionId, ExternalTaskId, JobId},
    money::Money,
};
use am_db::{Tx, codec::Timestamp};
use am_jobs::JobCost;
use am_ledger::LedgerService;

/// Jobs whose costs are booked in one transaction.
const BOOKED_AT_ONCE: usize = 200;

/// Keep in mind that the job `task` of `execution`, which no step waits for any more, may still cost something. Other tasks
/// cost nothing when they are not waited for.
pub(super) async fn leave_job(
    tx: &mut Tx,
    execution: &ExecutionId,
    task: &ExternalTaskId,
    now: Timestamp,
) -> Result<()> {
    let job = JobId::from(task.as_str());
    if am_jobs::may_cost(tx.conn().await?, &job).await? {
        store::insert_left_job(tx, &job, execution, now).await?;
    }
    Ok(())
}

impl EngineInner {
    /// Book the costs of left jobs that have ended.
    pub(super) async fn book_left_jobs(&self) -> Result<()> {
        let left = store::list_left_jobs(&mut *self.db.read().await?).await?;
        if left.is_empty() {
            return Ok(());
        }
        let ended = self.performer.jobs.final_costs(&left).await?;
        for chunk in ended.chunks(BOOKED_AT_ONCE) {
            let (chunk, step_price, now) = (chunk.to_vec(), self.config.step_price, Timestamp(self.clock.now()));
            let (audit, hub, ledger) = (self.audit.clone(), self.hub.clone(), self.ledger.clone());
            let work = async move |tx: &mut Tx| {
                let mut entries = Vec::new();
                for (job, cost) in &chunk {
                    // Another process may have been first.
                    let Some(execution) = store::take_left_job(tx, job).await? else { continue };
                    if let Some(cost) = cost {
                        entries.extend(book_job(tx, &ledger, job, &execution, cost, (step_price, now)).await?);
                    }
                    costs::end_reservation(&ledger, tx, &execution).await?;
                    let hub = hub.clone();
                    tx.after_commit(move || hub.wake(&execution));
                }
                audit.append(tx, entries).await?;
                Ok::<_, OrchestrationError>(())
            };
            self.db.write(work).await?;
        }
        Ok(())
    }
}

/// Book the cost of one job. Returns the audit entry; `None` when the execution is gone.
async fn book_job(
    tx: &mut Tx,
    ledger: &LedgerService,
    job: &JobId,
    execution: &ExecutionId,
    cost: &JobCost,
    (step_price, now): (Money, Timestamp),
) -> Result<Option<AuditEntry>> {
    let Some(run) = store::get_left_run(tx.conn().await?, execution).await? else { return Ok(None) };
    // As for a step that is waited for: of a run with a budget, what was granted for it at most.
    let price = match cost.max_price.filter(|_| run.max_cost_budget.is_positive()) {
        Some(most) => cost.price.min(most),
        None => cost.price,
    };
    let cost = step_price + price;
    // One that has completed has a receipt over its cost.
    let ends = [ExecutionStatus::Cancelled, ExecutionStatus::Failed];
    let booked = store::book_cost(tx, execution, &ends, cost, now).await?;
    if booked {
        ledger.post(tx, costs::cost_entry(&run.client_id, &run.workflow_id, execution, cost)).await?;
        ledger.settle_reservation(tx, execution, cost).await?;
    }
    let action = if booked { "late_cost_booked" } else { "late_cost_noted" };
    let entry = AuditEntry::new(EventType::WorkflowUpdated, now)
        .of("execution", action)
        .on_behalf_of(run.client_id.as_str())
        .workflow(run.workflow_id.as_str())
        .execution(execution.as_str())
        .level(run.security_level)
        .data("cost", json!(cost))
        .data("job_id", json!(job));
    Ok(Some(entry))
}
