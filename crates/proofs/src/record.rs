//! How a proof ends: what its document says then, and what is written of it to the coordinator's rows.

use am_audit::EventType;
use am_db::{
    DatabaseError, Result, Tx,
    codec::{JsonText, Timestamp},
};
use am_orchestration::model::VerificationLevel;
use serde_json::{Value, json};

use crate::{
    model::{IntegrationStatus, ProofDocument, ProofProblem, StepProofResult, WorkflowCheck},
    store,
};

/// How the problem of a receipt that is not valid begins.
pub(crate) const RECEIPT_REFUSED: &str = "the receipt is not valid";

/// Say what the checks add up to.
pub(crate) fn finish_document(document: &mut ProofDocument, now: Timestamp) {
    let level = document.verification_level;
    for found in &mut document.verification_results {
        found.verified = found.checks_failed.is_empty();
        // Failures of single steps are told once.
        let told = |problem: &ProofProblem| problem.step.as_deref() == Some(&*found.step);
        if !found.verified && !document.integration_errors.iter().any(told) {
            let reason = format!("failed: {}", found.checks_failed.join(", "));
            document.integration_errors.push(ProofProblem { step: Some(found.step.clone()), reason });
        }
    }
    let verified = document.verification_results.iter().filter(|found| found.verified).count() as u64;
    let total = document.verification_results.len() as u64;
    let refused = |problem: &ProofProblem| problem.step.is_none() && problem.reason.starts_with(RECEIPT_REFUSED);
    let receipt_valid = document.workflow_proof.is_some() && !document.integration_errors.iter().any(refused);
    document.workflow_verification = Some(WorkflowCheck {
        verified: receipt_valid && verified == total,
        receipt_valid,
        steps_verified: verified,
        steps_total: total,
    });
    let none_made = level == VerificationLevel::ZeroKnowledge && document.zk_proofs_generated.is_empty();
    document.integration_status = match (receipt_valid && verified == total, none_made) {
        (true, false) => IntegrationStatus::Success,
        (_, true) => IntegrationStatus::Failed,
        (false, false) => IntegrationStatus::Partial,
    };
    document.completed_at = Some(now);
}

fn read(text: &JsonText) -> Result<Value> {
    let read = text.parse::<Value>().map_err(|error| DatabaseError::InvalidValue(error.to_string()))?;
    Ok(read.filter(Value::is_object).unwrap_or_else(|| json!({})))
}

/// The event that the audit log tells of a proof. A good one is no news about the execution, which was verified at its end; a step that is
/// not in its receipt, or gives something else when it is done again, is.
pub(crate) fn audited_event(document: &ProofDocument) -> EventType {
    let is_altered = |check: &String| matches!(check.as_str(), "receipt_inclusion" | "repeated");
    let altered = document.verification_results.iter().any(|found| found.checks_failed.iter().any(is_altered));
    if altered { EventType::VerificationFailed } else { EventType::WorkflowUpdated }
}

/// The members of a step's verification, as the engine writes them, and which proofs there are.
fn step_members(document: &ProofDocument, found: &StepProofResult, before: Value) -> Value {
    let numbers: Vec<i64> = document
        .zk_proofs_generated
        .iter()
        .filter(|proof| proof.step.as_deref().is_none_or(|step| step == found.step))
        .map(|proof| proof.number)
        .collect();
    let mut members = before;
    members["level"] = json!(found.verification_level);
    members["verified"] = json!(found.verified);
    members["checks_passed"] = json!(found.checks_passed);
    members["checks_failed"] = json!(found.checks_failed);
    members["not_measured"] = json!(found.not_measured);
    members["proof"] = json!({
        "proof_id": document.proof_id,
        "steps_root": document.workflow_proof.as_ref().map(|proof| &proof.steps_root),
        "inclusion": found.inclusion,
        "zk_proofs": numbers,
    });
    members
}

/// Write a finished proof to the rows of its steps and its execution.
pub(crate) async fn write_results(tx: &mut Tx, document: &ProofDocument, now: Timestamp) -> Result<()> {
    let rows = store::step_values(tx.conn().await?, &document.execution_id).await?;
    let mut execution = read(&store::execution_proof(tx.conn().await?, &document.execution_id).await?)?;
    execution["level"] = json!(document.verification_level);
    execution["verified"] = json!(document.workflow_verification.as_ref().is_some_and(|check| check.verified));
    let mut steps = execution.get("steps").cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
    for found in &document.verification_results {
        let Some(row) = found.row_id.as_ref().and_then(|id| rows.iter().find(|row| row.id == *id)) else { continue };
        let members = step_members(document, found, read(&row.proof)?);
        store::write_step(tx, &row.id, &members, found.verified, now).await?;
        steps[&found.step] = members;
    }
    execution["steps"] = steps;
    execution["proof"] = json!({
        "proof_id": document.proof_id,
        "status": document.integration_status,
        "workflow_proof": document.workflow_proof,
        "zk_proofs": document.zk_proofs_generated.iter().map(|proof| &proof.circuit).collect::<Vec<_>>(),
    });
    store::write_execution(tx, &document.execution_id, &execution, now).await
}
