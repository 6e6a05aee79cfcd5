//! Retry of an execution inside a transaction of the caller, such as a plan's.

use super::{ExecutionService, store};
use crate::{
    engine::count_active,
    error::{OrchestrationError, Result},
    guard::{AdmissionRequest, GuardedResource},
    run::Execution,
};
use am_core::{boxed, ids::ExecutionId};
use am_db::{Tx, codec::Timestamp, principal::Principal};
use am_security::policies::CommandFacts;

impl ExecutionService {
    /// Retry an execution within `tx`; the engine is told after the commit.
    pub(crate) async fn retry_in(&self, tx: &mut Tx, caller: &Principal, id: &ExecutionId) -> Result<Execution> {
        let policies = self.guard.policies().clone();
        let retry = async move |tx: &mut Tx, execution: Execution, now: Timestamp| {
            let level = store::security_level(tx.conn().await?, &execution.id).await?;
            if policies.bind(level) {
                let others = count_active(tx.conn().await?, &execution.client_id, level).await?;
                policies.check_concurrency(level, others).map_err(OrchestrationError::Refused)?;
            }
            store::retry(tx, execution, now).await
        };
        let retried = self.change_in(tx, caller, id, retry).await?;
        let (engine, id) = (self.engine.clone(), id.clone());
        tx.after_commit(move || engine.look(&id));
        Ok(retried)
    }

    /// Check what is asked of the sandbox of an execution of `caller` against the policies.
    ///
    /// # Errors
    /// [`OrchestrationError::NotFound`], for another owner's too; [`OrchestrationError::Refused`].
    #[boxed]
    pub async fn check_sandbox(&self, caller: &Principal, id: &ExecutionId, asked: &CommandFacts) -> Result<()> {
        self.get(caller, id).await?;
        let level = store::security_level(&mut *self.db.read().await?, id).await?;
        let Err(refusal) = self.guard.policies().check_sandbox(level, asked) else { return Ok(()) };
        Err(self.audit_refusal(caller, id, OrchestrationError::Refused(refusal)).await)
    }

    /// Audit `error` where a policy refused the retry of an execution. Returns the error to answer.
    pub(crate) async fn audit_refusal(
        &self,
        caller: &Principal,
        id: &ExecutionId,
        error: OrchestrationError,
    ) -> OrchestrationError {
        let OrchestrationError::Refused(refusal) = error else { return error };
        let level = match self.db.read().await {
            Ok(mut conn) => store::security_level(&mut conn, id).await,
            Err(error) => Err(error.into()),
        };
        let level = match level {
            Ok(level) => level,
            Err(error) => return error,
        };
        let (resource, execution_id) = (GuardedResource::Execution, Some(id));
        self.guard.refuse(&AdmissionRequest { resource, caller, workflow_id: None, execution_id }, level, refusal).await
    }
}
