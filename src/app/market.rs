//! Construction of the marketplace, and what it needs of the engine: runs of services' workflows, and their receipts.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};
use serde_json::Value;

use am_audit::AuditLog;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
    crypto::{self, Signer},
    ids::{ExecutionId, PrincipalId, WorkflowId},
};
use am_db::{Database, codec::Timestamp, idempotency::IdempotencyKey, owner::PrincipalName, principal::Principal};
use am_ledger::LedgerService;
use am_marketplace::{
    MarketParts, MarketSettings, Marketplace, RunFault, RunOrder, RunOutcome, VerifiedReceipt, WorkflowRunner,
};
use am_orchestration::{
    error::OrchestrationError,
    executions::{ExecutionRequest, ExecutionService},
    model::ExecutionStatus,
    receipts::verify_receipt_text,
    workflows::WorkflowService,
};

/// Build the marketplace.
pub(super) fn open_market(
    config: &Config,
    ledger: &LedgerService,
    runner: WorkflowRuns,
    db: &Database,
    clock: &Clock,
    ids: &IdGenerator,
    audit: &AuditLog,
) -> Marketplace {
    let settings = &config.market;
    Marketplace::new(MarketParts {
        db: db.clone(),
        clock: clock.clone(),
        ids: ids.clone(),
        audit: audit.clone(),
        ledger: ledger.clone(),
        runner: Arc::new(runner),
        settings: MarketSettings {
            review: settings.review,
            arbitration: settings.arbitration,
            trust_interval: settings.trust_interval,
            trusted_raters: settings.trusted_clients.clone(),
            trusted_agents: settings.trusted_agents.clone(),
        },
    })
}

/// Runs workflows of services, and checks receipts.
pub(super) struct WorkflowRuns {
    executions: ExecutionService,
    workflows: WorkflowService,
    signer: Arc<Signer>,
}

impl WorkflowRuns {
    /// By these services; receipts must be signed by `signer`.
    pub(super) fn new(executions: &ExecutionService, workflows: &WorkflowService, signer: &Arc<Signer>) -> Self {
        Self { executions: executions.clone(), workflows: workflows.clone(), signer: signer.clone() }
    }
}

/// Whether a run may be possible later.
fn fault_of(error: &OrchestrationError) -> RunFault {
    match error {
        OrchestrationError::Db(am_db::DatabaseError::InvalidValue(_))
        | OrchestrationError::NotFound(_)
        | OrchestrationError::Forbidden
        | OrchestrationError::Invalid(_)
        | OrchestrationError::Refused(_) => RunFault::Permanent(error.to_string()),
        _ => RunFault::Transient(error.to_string()),
    }
}

impl WorkflowRunner for WorkflowRuns {
    fn check_workflow<'a>(
        &'a self,
        caller: &'a Principal,
        workflow: &'a WorkflowId,
    ) -> BoxFuture<'a, Result<(), String>> {
        let checked = async move {
            match self.workflows.get(caller, workflow).await {
                Ok(_) => Ok(()),
                Err(_) => Err("is no workflow that you may run".to_owned()),
            }
        };
        checked.boxed()
    }

    fn start_run<'a>(&'a self, order: &'a RunOrder) -> BoxFuture<'a, Result<ExecutionId, RunFault>> {
        let started = async move {
            let caller = Principal::named(order.provider_id.as_str());
            let once = IdempotencyKey {
                scope: format!("market:{}", order.provider_id),
                key: order.request_id.to_string(),
                fingerprint: crypto::sha256_hex(order.workflow_id.as_bytes()),
            };
            let request = ExecutionRequest {
                inputs: order.inputs.clone(),
                max_cost_budget: Some(order.budget),
                ..ExecutionRequest::default()
            };
            let begun =
                self.executions.execute(&caller, &self.workflows, &order.workflow_id, request, Some(once)).await;
            begun.map(|begun| begun.value.execution.id).map_err(|error| fault_of(&error))
        };
        started.boxed()
    }

    fn run_outcome<'a>(
        &'a self,
        provider: &'a PrincipalId,
        execution: &'a ExecutionId,
    ) -> BoxFuture<'a, Result<RunOutcome, RunFault>> {
        let looked_at = async move {
            let found = self.executions.get(&Principal::named(provider.as_str()), execution).await;
            let found = found.map_err(|error| fault_of(&error))?;
            let unreadable = |error: serde_json::Error| RunFault::Permanent(format!("it can't be read: {error}"));
            match found.status {
                ExecutionStatus::Completed => {
                    let result: Value = found.final_result.parse().map_err(unreadable)?.unwrap_or_default();
                    let results_hash = crypto::sha256_hex(&crypto::canonical_results_json(&result));
                    match found.execution_receipt.get() {
                        Some(receipt) => Ok(RunOutcome::Completed { receipt: receipt.get().to_owned(), results_hash }),
                        None => Ok(RunOutcome::Failed("it left no receipt".to_owned())),
                    }
                }
                status if status.is_final() => {
                    Ok(RunOutcome::Failed(found.error_message.unwrap_or_else(|| status.to_string())))
                }
                _ => Ok(RunOutcome::Running),
            }
        };
        looked_at.boxed()
    }

    fn verify_receipt(&self, receipt: &str) -> Result<VerifiedReceipt, String> {
        let verified = verify_receipt_text(receipt.as_bytes(), std::slice::from_ref(self.signer.public_key()));
        let (true, Some(execution_id)) = (verified.valid, verified.execution_id) else {
            return Err(verified.reason.unwrap_or_else(|| "it names no execution".to_owned()));
        };
        let document: Value = serde_json::from_str(receipt).map_err(|error| error.to_string())?;
        let envelope = document.get("receipt").filter(|inner| inner.is_object()).unwrap_or(&document);
        let payload = envelope.get("payload").unwrap_or(envelope);
        let text = |name: &str| payload.get(name).and_then(Value::as_str);
        let started = payload.get("started_at").cloned().unwrap_or_default();
        Ok(VerifiedReceipt {
            receipt_id: verified.receipt_id,
            execution_id,
            workflow_id: text("workflow_id").map(WorkflowId::from),
            client_id: text("client_id").map(|client| PrincipalName::from_stored(client).as_str().into()),
            started_at: serde_json::from_value::<Option<Timestamp>>(started).unwrap_or_default(),
        })
    }
}
