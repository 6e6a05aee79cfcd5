//! Receipts: definition, inputs, results and cost of an execution, signed so that anybody can verify them offline.

use serde_json::{Value, json};

use super::run::RunState;
use am_core::{
    ambient::IdGenerator,
    crypto::{self, Signer},
};
use am_db::codec::{JsonText, Timestamp};

mod verification;

pub use verification::{ReceiptVerification, verify_receipt, verify_receipt_text};

/// Version of the payload's format, a member of the payload.
pub const RECEIPT_VERSION: &str = "1.0";

/// Issue the receipt of a completed run: `{"payload": ..., "signature": {alg, key_id, sig}}`. The payload contains the
/// SHA-256 of the definition, the run's inputs, its result, and each step's input and output, computed over canonical
/// JSON that keeps nulls (the form of `am_definitions.body`), and the signatures that miners gave with their results.
pub fn issue_receipt(run: &RunState, signer: &Signer, ids: &IdGenerator, now: Timestamp) -> JsonText {
    let steps: Vec<Value> = run
        .plan
        .steps
        .iter()
        .zip(&run.steps)
        .map(|(spec, step)| {
            let mut described = json!({
                "step": spec.key,
                "input_sha256": json_hash(step.input.as_deref()),
                "output_sha256": json_hash(step.output.as_deref()),
                "cost": step.cost,
            });
            if let Some(signature) = step.miner_receipt.as_ref().and_then(|receipt| receipt.get("signature")) {
                described["miner_signature"] = signature.clone();
            }
            described
        })
        .collect();
    let payload = json!({
        "version": RECEIPT_VERSION,
        "receipt_id": ids.random_id("receipt_", 16),
        "execution_id": run.id,
        "workflow_id": run.workflow_id,
        "client_id": run.client_id,
        "definition_sha256": run.plan.hash,
        "inputs_sha256": json_hash(Some(&run.inputs)),
        "steps": steps,
        "verification_level": run.level,
        "total_cost": run.total_cost,
        "started_at": run.started_at,
        "completed_at": run.completed_at,
        "issued_at": now,
    });
    let signature = signer.sign(&payload);
    JsonText::from_value(&json!({"payload": payload, "signature": signature})).unwrap_or_else(|_| JsonText::none())
}

/// Return the SHA-256 of a value's canonical JSON, in hex; of null where there is none.
pub fn json_hash(value: Option<&Value>) -> String {
    crypto::sha256_hex(&crypto::canonical_audit_json(value.unwrap_or(&Value::Null)))
}
