//! Receipts: definition, inputs, results and cost of an execution, signed so that anybody can verify them offline.

use serde_json::{Value, json};

use super::run::RunState;
use am_core::{
    ambient::IdGenerator,
    crypto::{self, Ed25519PublicKey, Signature, Signer},
    ids::{ExecutionId, ReceiptId},
};
use am_db::codec::{JsonText, Timestamp};

/// Version of the payload's format, a member of the payload.
pub const RECEIPT_VERSION: &str = "1.0";

/// Issue the receipt of a completed run: `{"payload": ..., "signature": {alg, key_id, sig}}`. The payload contains the
/// SHA-256 of the definition, the run's inputs, its result, and each step's input and output, computed over canonical
/// JSON that keeps nulls (the form of `am_definitions.body`).
pub fn issue_receipt(run: &RunState, signer: &Signer, ids: &IdGenerator, now: Timestamp) -> JsonText {
    let steps: Vec<Value> = run
        .plan
        .steps
        .iter()
        .zip(&run.steps)
        .map(|(spec, step)| {
            json!({
                "step": spec.key,
                "input_sha256": json_hash(step.input.as_deref()),
                "output_sha256": json_hash(step.output.as_deref()),
                "cost": step.cost,
            })
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

/// Result of verifying a receipt.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[schema(as = ReceiptVerification)]
pub struct ReceiptVerification {
    /// Whether one of the keys has signed exactly this payload.
    pub valid: bool,
    /// Reason why it is not valid.
    pub reason: Option<String>,
    /// Id of the key that it names.
    pub key_id: Option<String>,
    /// Id of the receipt.
    pub receipt_id: Option<ReceiptId>,
    /// Id of its execution.
    pub execution_id: Option<ExecutionId>,
}

/// Verify `receipt` by `keys`. Accepted are this service's form (`payload` and `signature`), a response of the receipt
/// route that contains them, and the coordinator's form (a payload that contains the signature).
pub fn verify_receipt(receipt: &Value, keys: &[Ed25519PublicKey]) -> ReceiptVerification {
    let inner = receipt.get("receipt").filter(|inner| inner.get("signature").is_some()).unwrap_or(receipt);
    let found = |payload: Option<&Value>, name: &str| {
        payload.and_then(|payload| payload.get(name)).and_then(Value::as_str).map(str::to_owned)
    };
    let signature = inner.get("signature").cloned().map(serde_json::from_value::<Signature>);
    let payload = match inner.get("payload") {
        Some(payload) => Some(payload.clone()),
        None => inner.as_object().map(|members| {
            let rest = members.iter().filter(|(name, _)| name.as_str() != "signature");
            Value::Object(rest.map(|(name, value)| (name.clone(), value.clone())).collect())
        }),
    };
    let (key_id, reason) = match (&signature, &payload) {
        (None, _) => (None, Some("it has no signature".to_owned())),
        (Some(Err(error)), _) => (None, Some(format!("its signature is malformed: {error}"))),
        (_, None) => (None, Some("it has no payload".to_owned())),
        (Some(Ok(signature)), Some(payload)) => {
            let result = crypto::verify_signature(payload, signature, keys);
            (Some(signature.key_id.clone()), result.err().map(|error| error.to_string()))
        }
    };
    ReceiptVerification {
        valid: reason.is_none(),
        reason,
        key_id,
        receipt_id: found(payload.as_ref(), "receipt_id").map(ReceiptId::from),
        execution_id: found(payload.as_ref(), "execution_id").map(ExecutionId::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_taken_and_a_changed_one_is_not() {
        let signer = Signer::from_hex(&"7".repeat(64)).unwrap();
        let payload = json!({"receipt_id": "r", "execution_id": "e", "cost": 0.03});
        let signature = serde_json::to_value(signer.sign(&payload)).unwrap();
        let ours = json!({"payload": payload, "signature": signature});
        let keys = [signer.public_key().clone()];
        assert!(verify_receipt(&ours, &keys).valid);
        assert!(verify_receipt(&json!({"execution_id": "e", "receipt": ours}), &keys).valid);
        let mut flat = payload.clone();
        flat["signature"] = signature;
        assert!(verify_receipt(&flat, &keys).valid);
        assert_eq!(verify_receipt(&flat, &keys).execution_id.as_deref(), Some("e"));
        flat["cost"] = json!(0.02);
        assert!(!verify_receipt(&flat, &keys).valid);
        assert!(!verify_receipt(&payload, &keys).valid);
        assert!(!verify_receipt(&json!([1]), &keys).valid);
        assert!(!verify_receipt(&ours, &[Signer::from_hex(&"8".repeat(64)).unwrap().public_key().clone()]).valid);
    }
}
