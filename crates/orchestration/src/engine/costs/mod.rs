//! What runs cost, in the ledger: posted in the transaction that stores it, and taken off what budgets reserve for the run.

pub(super) mod store;

use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    Engine, EngineInner,
    checkpoint::{Ownership, RunCheckpoint},
};
use crate::{
    error::{OrchestrationError, Result},
    run::{AttemptPrice, Execution, RunState},
};
use am_audit::{AuditEntry, EventType};
use am_core::{
    ambient::sleep_or_cancelled,
    ids::{ExecutionId, PrincipalId, WorkflowId},
    money::Money,
};
use am_db::{Tx, codec::Timestamp, owner};
use am_ledger::{
    Admission, BudgetUse, CostPayee, EntryTags, LedgerError, LedgerService, NewEntry, SpendingRequest, payer_of,
};

/// Interval at which runs that wait for a budget are let in.
const ADMISSION_INTERVAL: Duration = Duration::from_secs(1);

/// Time for which a driver may still book what a cancelled run costs.
const RESERVATION_GRACE: chrono::TimeDelta = chrono::TimeDelta::seconds(60);

/// What budgets ask of a run before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RunBound {
    /// Most that it can cost; `None`: nobody knows before.
    pub(super) most: Option<Money>,
}

/// The entry of what a run has cost.
pub(super) fn cost_entry(
    client: &PrincipalId,
    workflow: &WorkflowId,
    execution: &ExecutionId,
    cost: Money,
) -> NewEntry {
    let tags = EntryTags {
        principal: Some(payer_of(client)),
        agent: None,
        workflow: Some(workflow.clone()),
        execution: Some(execution.clone()),
    };
    am_ledger::cost_entry(tags, CostPayee::Service, cost).of("execution", execution.as_str())
}

impl RunCheckpoint {
    /// The entry of what the run has cost since it was last saved.
    pub(super) fn cost_entry(&self) -> NewEntry {
        cost_entry(&self.run.client_id, &self.run.workflow_id, &self.run.id, self.cost)
    }
}

impl RunState {
    /// Most that the run can cost: its own limit, or what all steps cost together where each has a price that is known before.
    /// A step is charged once, when it completes.
    fn most_cost(&self, price: impl Fn(usize) -> AttemptPrice, second: Money) -> Option<Money> {
        let limit = Some(self.limits.budget).filter(|limit| limit.is_positive());
        let sum = (0..self.steps.len()).try_fold(Money::ZERO, |sum, at| match price(at) {
            AttemptPrice::Open(_) => None,
            AttemptPrice::AtMost(most) => {
                sum.checked_add(most)?.checked_add(second.scaled(self.plan.steps[at].timeout.as_secs_f64()))
            }
        });
        match (limit, sum) {
            (Some(limit), Some(sum)) => Some(limit.min(sum)),
            (limit, sum) => limit.or(sum),
        }
    }
}

impl Engine {
    /// Return the ledger in which runs' costs are posted.
    pub(crate) fn ledger(&self) -> &LedgerService {
        &self.0.ledger
    }

    /// Ask the budgets whether an execution may go on that had ended, in the transaction that readies it.
    ///
    /// # Errors
    /// [`OrchestrationError::Ledger`] when a budget refuses it; database errors.
    pub(crate) async fn readmit(&self, tx: &mut Tx, execution: &Execution) -> Result<()> {
        let (principal, workflow) = (payer_of(&execution.client_id), execution.workflow_id.clone());
        let ledger = &self.0.ledger;
        if !ledger.binds(&BudgetUse { principal: &principal, agent: None, workflow: Some(&workflow) }) {
            return Ok(());
        }
        let limit = store::cost_limit(tx.conn().await?, &execution.id).await?;
        let spent = execution.total_cost;
        let bound = Some(limit).filter(|limit| limit.is_positive()).map(|limit| (limit - spent).max(Money::ZERO));
        let request = SpendingRequest { execution: execution.id.clone(), principal, workflow, bound };
        let admission = ledger.admit(tx, &request).await?;
        apply_admission(tx, &execution.id, &admission, spent).await
    }

    /// Whether a worker drives the execution.
    ///
    /// # Errors
    /// Database errors.
    pub(crate) async fn is_driven(&self, tx: &mut Tx, id: &ExecutionId) -> Result<bool> {
        store::is_driven(tx.conn().await?, id).await
    }

    /// Set free what budgets reserve for an execution that has ended, unless a job that it left may still cost something.
    ///
    /// # Errors
    /// Database errors.
    pub(crate) async fn end_reservation(&self, tx: &mut Tx, id: &ExecutionId) -> Result<()> {
        end_reservation(&self.0.ledger, tx, id).await
    }
}

/// Store what the budgets answered: the ceiling of the run, beyond what it has spent, or that it waits.
async fn apply_admission(tx: &mut Tx, id: &ExecutionId, admission: &Admission, spent: Money) -> Result<()> {
    match admission {
        Admission::Unbound | Admission::Reserved { ceiling: None } => Ok(()),
        Admission::Reserved { ceiling: Some(ceiling) } => store::set_cost_limit(tx, id, spent + *ceiling).await,
        Admission::Waiting(_) => store::hold_back(tx, id).await,
    }
}

pub(super) async fn end_reservation(ledger: &LedgerService, tx: &mut Tx, id: &ExecutionId) -> Result<()> {
    if store::has_left_jobs(tx.conn().await?, id).await? {
        return Ok(());
    }
    Ok(ledger.release_reservation(tx, id).await?)
}

impl EngineInner {
    /// What budgets ask of a new run; `None`: no budget is about it.
    pub(super) fn run_bound(&self, run: &RunState) -> Option<RunBound> {
        let spending = BudgetUse { principal: &run.client_id, agent: None, workflow: Some(&run.workflow_id) };
        self.ledger.binds(&spending).then(|| {
            let price = |at: usize| self.performer.price(&run.plan.steps[at].action);
            RunBound { most: run.most_cost(price, self.config.compute_price_per_second) }
        })
    }

    /// Ask the budgets whether a new run may begin, in the transaction that has stored it.
    pub(super) async fn admit_run(
        ledger: &LedgerService,
        tx: &mut Tx,
        save: &RunCheckpoint,
        bound: RunBound,
    ) -> Result<()> {
        let request = SpendingRequest {
            execution: save.run.id.clone(),
            principal: payer_of(&save.run.client_id),
            workflow: save.run.workflow_id.clone(),
            bound: bound.most,
        };
        let admission = ledger.admit(tx, &request).await?;
        apply_admission(tx, &save.run.id, &admission, Money::ZERO).await
    }

    /// Take what a save costs off what budgets reserve for the run, and set the rest free at its end.
    pub(super) async fn settle_run(ledger: &LedgerService, tx: &mut Tx, save: &RunCheckpoint) -> Result<()> {
        if !save.is_bound {
            return Ok(());
        }
        if save.cost.is_positive() {
            ledger.settle_reservation(tx, &save.run.id, save.cost).await?;
        }
        if save.hold == Ownership::Ended {
            end_reservation(ledger, tx, &save.run.id).await?;
        }
        Ok(())
    }

    /// Let in runs that wait for a budget, once there is room for them, until `stop`.
    pub(super) async fn admission_loop(self: std::sync::Arc<Self>) {
        let stop: CancellationToken = self.stop.clone();
        while sleep_or_cancelled(&stop, ADMISSION_INTERVAL).await {
            if let Err(error) = self.admit_waiting().await {
                tracing::warn!(%error, "could not let in executions that wait for a budget; it is tried again");
            }
            if let Err(error) = self.free_reservations().await {
                tracing::warn!(%error, "could not set free what budgets reserve for ended executions; it is tried again");
            }
        }
    }

    /// Set free what is still reserved for executions whose driver ended with its process.
    pub(super) async fn free_reservations(&self) -> Result<()> {
        let before = Timestamp(self.clock.now() - RESERVATION_GRACE);
        let left = store::list_left_reservations(&mut *self.db.read_vital().await?, before).await?;
        for id in left {
            let ledger = self.ledger.clone();
            self.db.write(async move |tx: &mut Tx| end_reservation(&ledger, tx, &id).await).await?;
        }
        Ok(())
    }

    async fn admit_waiting(&self) -> Result<()> {
        for id in self.ledger.waiting_executions().await? {
            let (ledger, audit, now) = (self.ledger.clone(), self.audit.clone(), Timestamp(self.clock.now()));
            let work = async move |tx: &mut Tx| {
                let admission = match ledger.admit_waiting(tx, &id).await {
                    // It waits until the limit is raised.
                    Err(LedgerError::BudgetExceeded { .. }) | Ok(None | Some(Admission::Waiting(_))) => {
                        return Ok(false);
                    }
                    admission => admission?.unwrap_or(Admission::Unbound),
                };
                let spent = store::spent(tx.conn().await?, &id).await?;
                apply_admission(tx, &id, &admission, spent).await?;
                if !store::let_in(tx, &id).await? {
                    // It has ended meanwhile, and reserves nothing.
                    ledger.release_reservation(tx, &id).await?;
                    return Ok(false);
                }
                let entry = AuditEntry::new(EventType::WorkflowUpdated, now).on_behalf_of(owner::SYSTEM_PRINCIPAL);
                let entry = entry.of("execution", "let_in").execution(&id).data("waited_for", json!("budget"));
                audit.append(tx, vec![entry]).await?;
                Ok::<_, OrchestrationError>(true)
            };
            if self.db.write(work).await? {
                self.work.notify_one();
            }
        }
        Ok(())
    }
}
