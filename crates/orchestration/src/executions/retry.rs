//! Retry of an execution inside a transaction of the caller, such as a plan's.

use std::time::Duration;

use serde_json::Value;

use super::{ExecutionService, observation::Observed, redefinition::Redefinition, store};
use crate::{
    engine::count_active,
    error::{OrchestrationError, Result, corrupt_json_error},
    guard::{AdmissionRequest, ExecutionConstraints, GuardedResource},
    run::Execution,
    workflows::{CompiledWorkflow, WorkflowService},
};
use am_core::{
    boxed,
    ids::{ExecutionId, PrincipalId},
};
use am_db::{
    Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    owner::PrincipalName,
    principal::Principal,
};
use am_security::policies::CommandFacts;

impl ExecutionService {
    /// Retry a failed execution with the current definition of its workflow. Steps that ended well keep their results where
    /// they, and all that they wait for, are the same as before. Answers as [`ExecutionService::retry`].
    ///
    /// # Errors
    /// As [`ExecutionService::retry`]; [`OrchestrationError::InvalidState`] where the execution is not one of a workflow;
    /// [`OrchestrationError::Refused`].
    #[boxed]
    pub async fn retry_redefined(
        &self,
        caller: &Principal,
        workflows: &WorkflowService,
        id: &ExecutionId,
        wait: Option<Duration>,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<Observed>> {
        if let Some(retried) = self.started(once.as_ref()).await? {
            return self.observe_begun(caller, retried, wait).await;
        }
        let new = self.redefinition(caller, workflows, id).await?;
        let retried = self.retry_run(caller, id, once, Some(new)).await?;
        self.observe_begun(caller, retried, wait).await
    }

    /// The current definition of the workflow of an execution, for its retry.
    ///
    /// # Errors
    /// As [`ExecutionService::retry_redefined`].
    #[boxed]
    pub(crate) async fn redefinition(
        &self,
        caller: &Principal,
        workflows: &WorkflowService,
        id: &ExecutionId,
    ) -> Result<Redefinition> {
        let execution = self.get(caller, id).await?;
        let gone = || {
            OrchestrationError::InvalidState(
                "Execution has no current definition: its workflow is gone, or it is a network's or a plan's".into(),
            )
        };
        let workflow = match workflows.get(caller, &execution.workflow_id).await {
            Err(OrchestrationError::NotFound(_)) => return Err(gone()),
            found => found?,
        };
        let compiled = workflows.compiled(&workflow).await?;
        let (terms, inputs) = {
            let mut conn = self.db.read().await?;
            (store::run_terms(&mut conn, id).await?.ok_or_else(gone)?, store::inputs(&mut conn, id).await?)
        };
        let (level, max_execution_time, security) = terms;
        let security = security.max(workflow.terms().security);
        let terms = ExecutionConstraints { security, level, max_execution_time, ..workflow.terms() };
        let inputs: Value =
            inputs.parse().map_err(|error| corrupt_json_error("am_runs.inputs", error))?.unwrap_or_default();
        self.admit(caller, &workflow.id, terms, &compiled.plan, &inputs).await?;
        let CompiledWorkflow { plan, step_ids } = compiled;
        Ok(Redefinition { plan, step_ids, security, ids: self.engine.ids().clone() })
    }

    /// The principal `owner` as the client of an execution, which the coordinator may have stored by its key.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub(crate) async fn principal_of(&self, owner: &PrincipalId, id: &ExecutionId) -> Result<Principal> {
        let stored = store::client(&mut *self.db.read().await?, id).await?;
        let stored = stored.filter(|client| PrincipalName::from_stored(client).as_str() == owner.as_str());
        let aliases = [Some(owner.to_string()), stored].into_iter().flatten().collect();
        Ok(Principal { name: owner.as_str().into(), aliases, agent: None, origin: None })
    }

    /// Retry an execution within `tx`; the engine is told after the commit.
    pub(crate) async fn retry_in(
        &self,
        tx: &mut Tx,
        caller: &Principal,
        id: &ExecutionId,
        redefinition: Option<Redefinition>,
    ) -> Result<Execution> {
        let (policies, engine) = (self.guard.policies().clone(), self.engine.clone());
        let retry = async move |tx: &mut Tx, execution: Execution, now: Timestamp| {
            let level = store::security_level(tx.conn().await?, &execution.id).await?;
            if policies.bind(level) {
                let others = count_active(tx.conn().await?, &execution.client_id, level).await?;
                policies.check_concurrency(level, others).map_err(OrchestrationError::Refused)?;
            }
            let entry = store::retry(tx, execution.clone(), now, redefinition.as_ref()).await?;
            engine.readmit(tx, &execution).await?;
            Ok(entry)
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
