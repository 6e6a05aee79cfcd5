//! Receipts: definition, inputs, results and cost of an execution, signed so that anybody can verify them offline.

use serde_json::{Value, json};

use super::engine::Run;
use am_core::{
    ambient::Ids,
    crypto::{self, PublicKey, Signature, Signer},
};
use am_db::codec::{Doc, Timestamp};

/// Version of the payload's format, a member of the payload.
pub const VERSION: &str = "1.0";

/// Issue the receipt of a completed run: `{"payload": ..., "signature": {alg, key_id, sig}}`. The payload contains the
/// SHA-256 of the definition, the run's inputs, its result, and each step's input and output, computed over canonical
/// JSON that keeps nulls (the form of `am_definitions.body`).
pub fn issue(run: &Run, signer: &Signer, ids: &Ids, now: Timestamp) -> Doc {
    let steps: Vec<Value> = run
        .plan
        .steps
        .iter()
        .zip(&run.steps)
        .map(|(spec, step)| {
            json!({
                "step": spec.key,
                "input_sha256": hash(step.input.as_deref()),
                "output_sha256": hash(step.output.as_deref()),
                "cost": step.cost,
            })
        })
        .collect();
    let payload = json!({
        "version": VERSION,
        "receipt_id": ids.prefixed("receipt_", 16),
        "execution_id": run.id,
        "workflow_id": run.workflow_id,
        "client_id": run.client_id,
        "definition_sha256": run.plan.hash,
        "inputs_sha256": hash(Some(&run.inputs)),
        "steps": steps,
        "verification_level": run.level,
        "total_cost": run.total_cost,
        "started_at": run.started_at,
        "completed_at": run.completed_at,
        "issued_at": now,
    });
    let signature = signer.sign(&payload);
    Doc::of(&json!({"payload": payload, "signature": signature})).unwrap_or_else(|_| Doc::none())
}

/// Return the SHA-256 of a value's canonical JSON, in hex; of null where there is none.
pub fn hash(value: Option<&Value>) -> String {
    crypto::sha256_hex(&crypto::audit(value.unwrap_or(&Value::Null)))
}

/// Result of verifying a receipt.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[schema(as = ReceiptVerification)]
pub struct Verdict {
    /// Whether one of the keys has signed exactly this payload.
    pub valid: bool,
    /// Reason why it is not valid.
    pub reason: Option<String>,
    /// Id of the key that it names.
    pub key_id: Option<String>,
    /// Id of the receipt.
    pub receipt_id: Option<String>,
    /// Id of its execution.
    pub execution_id: Option<String>,
}

/// Verify `receipt` by `keys`. Accepted are this service's form (`payload` and `signature`), a response of the receipt
/// route that contains them, and the coordinator's form (a payload that contains the signature).
pub fn verify(receipt: &Value, keys: &[PublicKey]) -> Verdict {
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
            let result = crypto::verify(payload, signature, keys);
            (Some(signature.key_id.clone()), result.err().map(|error| error.to_string()))
        }
    };
    Verdict {
        valid: reason.is_none(),
        reason,
        key_id,
        receipt_id: found(payload.as_ref(), "receipt_id"),
        execution_id: found(payload.as_ref(), "execution_id"),
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
        assert!(verify(&ours, &keys).valid);
        assert!(verify(&json!({"execution_id": "e", "receipt": ours}), &keys).valid);
        let mut flat = payload.clone();
        flat["signature"] = signature;
        assert!(verify(&flat, &keys).valid);
        assert_eq!(verify(&flat, &keys).execution_id.as_deref(), Some("e"));
        flat["cost"] = json!(0.02);
        assert!(!verify(&flat, &keys).valid);
        assert!(!verify(&payload, &keys).valid);
        assert!(!verify(&json!([1]), &keys).valid);
        assert!(!verify(&ours, &[Signer::from_hex(&"8".repeat(64)).unwrap().public_key().clone()]).valid);
    }
}
