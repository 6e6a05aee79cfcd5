//! Proofs that steps require: the engine orders them with the end of an execution, and this worker begins each once.

use std::time::Duration;

use am_audit::{AuditEntry, EventType};
use am_core::{ambient::sleep_or_cancelled, ids::ExecutionId};
use am_db::{DatabaseError, Tx, owner::PrincipalName, principal::Principal};
use am_orchestration::{
    error::OrchestrationError,
    executions::RecordedRun,
    model::{ExecutionStatus, VerificationLevel},
};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    error::{ProofError, Result},
    model::{IntegrationStatus, ProofDocument, ProofProblem, ProofRecord},
    service::{CheckedRun, ProofService},
    store,
};

/// Time between two looks for orders.
const ORDER_INTERVAL: Duration = Duration::from_millis(500);
/// Orders of one look.
const ORDER_BATCH: i64 = 16;

/// A proof that begins, or whose document says why there is none.
struct OrderedProof {
    caller: Principal,
    run: RecordedRun,
    level: VerificationLevel,
    checked: CheckedRun,
}

/// What becomes of an order.
enum OrderOutcome {
    /// A proof begins.
    Begun(Box<OrderedProof>),
    /// Nothing can be said of the execution but that its steps get no proof, and why.
    Closed(String),
}

/// The client that an execution is stored with.
fn principal_of(stored: &str) -> Principal {
    let name = PrincipalName::from_stored(stored);
    Principal { name: name.as_str().into(), aliases: [stored.to_owned()].into(), agent: None, origin: None }
}

/// The level that an execution was verified at when it ended.
fn own_level(run: &RecordedRun) -> VerificationLevel {
    let summary: Option<Value> = run.execution.verification_proof.parse().unwrap_or(None);
    let level = summary.as_ref().and_then(|summary| summary.get("level"));
    level.and_then(|level| VerificationLevel::deserialize(level).ok()).unwrap_or(VerificationLevel::Basic)
}

/// Whether a proof is what a step requires, or becomes it.
fn is_proof(found: &ProofRecord) -> bool {
    let ProofDocument { verification_level: level, integration_status: status, .. } = found.document;
    level == VerificationLevel::ZeroKnowledge
        && matches!(status, IntegrationStatus::InProgress | IntegrationStatus::Success)
}

/// Whether an error says nothing of the execution, so that its order is looked at again.
fn is_passing(error: &ProofError) -> bool {
    match error {
        ProofError::Db(error) | ProofError::Orchestration(OrchestrationError::Db(error)) => {
            !matches!(error, DatabaseError::InvalidValue(_))
        }
        _ => false,
    }
}

impl ProofService {
    /// Begin the proofs that steps require, until the service stops.
    pub async fn work(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.begin_ordered(&stop).await {
                tracing::warn!(%error, "orders of proofs could not be read");
            }
            if !sleep_or_cancelled(&stop, ORDER_INTERVAL).await {
                return;
            }
        }
    }

    async fn begin_ordered(&self, stop: &CancellationToken) -> Result<()> {
        let orders = store::ordered(&mut *self.0.db.read().await?, ORDER_BATCH).await?;
        for execution in orders {
            if stop.is_cancelled() {
                return Ok(());
            }
            let settled = match self.provable(&execution).await {
                Ok(outcome) => self.settle(&execution, outcome).await,
                Err(error) if is_passing(&error) => Err(error),
                Err(error) => self.settle(&execution, OrderOutcome::Closed(error.to_string())).await,
            };
            if let Err(error) = settled {
                let execution = execution.as_str();
                tracing::warn!(%error, execution, "a proof that a step requires could not be begun; it will be tried again");
            }
        }
        Ok(())
    }

    /// What becomes of an order.
    async fn provable(&self, id: &ExecutionId) -> Result<OrderOutcome> {
        let client = store::client(&mut *self.0.db.read().await?, id).await?;
        let gone = || ProofError::NotFound(format!("Execution {id} is gone"));
        let caller = principal_of(&client.ok_or_else(gone)?);
        let execution = self.0.executions.get(&caller, id).await?;
        if execution.status != ExecutionStatus::Completed {
            return Ok(OrderOutcome::Closed(format!("the execution is {}", execution.status)));
        }
        let run = self.0.executions.recorded(&caller, id, self.0.workflows.names()).await?;
        let (level, checked) = match self.check_provable(&run).await {
            Ok(checked) => (VerificationLevel::ZeroKnowledge, checked),
            // The document has the reason, and what holds without a proof.
            Err(error @ (ProofError::Conflict(..) | ProofError::KeyFile(_))) => {
                let level = own_level(&run);
                let mut checked = self.check(&run, level).await?;
                checked.problems.push(ProofProblem { step: None, reason: error.to_string() });
                (level, checked)
            }
            Err(error) => return Err(error),
        };
        Ok(OrderOutcome::Begun(Box::new(OrderedProof { caller, run, level, checked })))
    }

    /// Take the order, and do what becomes of it, in one transaction.
    async fn settle(&self, id: &ExecutionId, outcome: OrderOutcome) -> Result<()> {
        let (me, id, now) = (self.clone(), id.clone(), self.now());
        let work = async move |tx: &mut Tx| {
            if !store::take_order(tx, &id).await? {
                return Ok(());
            }
            // Its client may have asked meanwhile.
            if store::latest(tx.conn().await?, &id).await?.is_some_and(|found| is_proof(&found)) {
                return Ok(());
            }
            match outcome {
                OrderOutcome::Begun(proof) => {
                    let OrderedProof { caller, run, level, checked } = *proof;
                    me.begin(tx, &caller, run, level, checked, now).await?;
                }
                OrderOutcome::Closed(reason) => {
                    store::fail_pending(tx, &id, now).await?;
                    let entry = AuditEntry::new(EventType::WorkflowUpdated, now).of("proof", "not_made");
                    me.0.audit.append(tx, vec![entry.execution(&id).data("reason", json!(reason))]).await?;
                }
            }
            am_core::crash_point!("proofs.before_begin");
            Ok::<_, ProofError>(())
        };
        self.0.db.write(work).await?;
        am_core::crash_point!("proofs.after_begin");
        Ok(())
    }
}
