//! What is checked and written in the transaction in which a plan's run begins.

use futures_util::{FutureExt as _, future::BoxFuture};

use super::{
    audit_entry,
    model::{PlanStatus, TaskPlan},
    store,
};
use crate::{
    engine::StartCondition,
    error::{OrchestrationError, Result},
    run::Execution,
};
use am_audit::AuditLog;
use am_core::ids::PlanId;
use am_db::{
    Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, record_result},
    principal::Principal,
};

/// Condition of a plan's run: the plan is not cancelled and has no run yet, and fewer plans run than may.
pub struct PlanStart {
    pub id: PlanId,
    pub caller: Principal,
    /// Number of plans that may run at once.
    pub most: i64,
    pub now: Timestamp,
    pub audit: AuditLog,
    /// Key of the request, beside the plan's own.
    pub once: Option<IdempotencyKey>,
}

impl StartCondition for PlanStart {
    fn check<'a>(&'a self, tx: &'a mut Tx, execution: &'a Execution) -> BoxFuture<'a, Result<()>> {
        let checked = async move {
            let plan = read_plan(tx, &self.caller, &self.id).await?;
            if plan.status == PlanStatus::Cancelled {
                return Err(OrchestrationError::InvalidState("Plan cannot be executed: it is cancelled".into()));
            }
            if plan.execution_id.is_some() {
                return Err(OrchestrationError::Conflict("the plan was executed at the same moment; try again".into()));
            }
            take_slot(tx, &self.id, self.most, self.now).await?;
            self.audit.append(tx, vec![audit_entry("executed", &self.id, self.now).by(&self.caller)]).await?;
            if let Some(once) = &self.once {
                record_result(tx, once, self.now, execution).await?;
            }
            Ok(())
        };
        checked.boxed()
    }
}

/// Read a plan of `caller` within a transaction.
pub async fn read_plan(tx: &mut Tx, caller: &Principal, id: &PlanId) -> Result<TaskPlan> {
    let found = store::get(tx.conn().await?, id).await?;
    caller.own(found, |plan| &plan.owner_id).ok_or(OrchestrationError::NotFound("Plan"))
}

/// Take one of `most` slots for a plan, or refuse.
pub async fn take_slot(tx: &mut Tx, id: &PlanId, most: i64, now: Timestamp) -> Result<()> {
    match store::take_slot(tx, id, most, now).await? {
        None => Ok(()),
        Some(others) => {
            Err(OrchestrationError::Conflict(format!("{others} plans are running; at most {most} may at once")))
        }
    }
}
