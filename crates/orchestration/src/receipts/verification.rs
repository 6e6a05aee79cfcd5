//! Verification of receipts: everything that a document shows is signed, equal to what is signed, or named as neither.

use serde_json::{Map, Value, json};

use am_core::{
    crypto::{self, Ed25519PublicKey, Signature},
    ids::{ExecutionId, ReceiptId},
    strict_json::parse_strict_json,
};

/// Result of verifying a receipt.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[schema(as = ReceiptVerification)]
pub struct ReceiptVerification {
    /// Whether one of the keys has signed exactly this payload, and everything beside it agrees with the payload.
    pub valid: bool,
    /// Reason why it is not valid.
    pub reason: Option<String>,
    /// Id of the key that it names.
    pub key_id: Option<String>,
    /// Id of the receipt.
    pub receipt_id: Option<ReceiptId>,
    /// Id of its execution.
    pub execution_id: Option<ExecutionId>,
    /// Members that are signed, or beside the payload and equal to what is signed, as JSON Pointers into the document.
    /// Empty when it is not valid.
    #[serde(default)]
    pub verified_members: Vec<String>,
    /// Members that the signature does not cover: nulls, which are left out of what is signed, and a `verified` of false.
    /// JSON Pointers; empty when it is not valid.
    #[serde(default)]
    pub unverified_members: Vec<String>,
}

/// Verify the text of a receipt by `keys`, as [`verify_receipt`] does. A text in which a name is given twice is not valid:
/// readers differ in which of both they take.
pub fn verify_receipt_text(text: &[u8], keys: &[Ed25519PublicKey]) -> ReceiptVerification {
    match parse_strict_json(text) {
        Ok(receipt) => verify_receipt(&receipt, keys),
        Err(error) => refused(format!("it is not a JSON document with one meaning: {error}")),
    }
}

/// Verify `receipt` by `keys`. Accepted are this service's form (`payload` and `signature`), a response of the receipt
/// route that contains them, and the coordinator's form (a payload that contains the signature). A member beside the
/// payload that the payload does not confirm makes it invalid.
pub fn verify_receipt(receipt: &Value, keys: &[Ed25519PublicKey]) -> ReceiptVerification {
    let signed = match SignedReceipt::read(receipt) {
        Ok(signed) => signed,
        Err(reason) => return refused(reason),
    };
    let mut result = refused(String::new());
    let text = |name: &str| signed.payload.get(name).and_then(Value::as_str);
    result.receipt_id = text("receipt_id").map(ReceiptId::from);
    result.execution_id = text("execution_id").map(ExecutionId::from);
    result.key_id = signed.signature.get("key_id").and_then(Value::as_str).map(str::to_owned);
    match signed.check(keys) {
        Err(reason) => result.reason = Some(reason),
        Ok((verified, unverified)) => {
            result.reason = None;
            result.valid = true;
            result.verified_members = verified;
            result.unverified_members = unverified;
        }
    }
    result
}

fn refused(reason: String) -> ReceiptVerification {
    ReceiptVerification {
        valid: false,
        reason: Some(reason),
        key_id: None,
        receipt_id: None,
        execution_id: None,
        verified_members: Vec::new(),
        unverified_members: Vec::new(),
    }
}

/// The parts of a document with a signed payload.
struct SignedReceipt<'a> {
    payload: Map<String, Value>,
    /// JSON Pointer of the payload.
    at: &'static str,
    signature: &'a Value,
    /// Response around it; `None`: it stands alone.
    response: Option<&'a Map<String, Value>>,
}

impl<'a> SignedReceipt<'a> {
    fn read(receipt: &'a Value) -> Result<Self, String> {
        let document = receipt.as_object().ok_or("it is not an object")?;
        let inner = document.get("receipt").and_then(Value::as_object).filter(|_| !document.contains_key("signature"));
        let envelope = inner.unwrap_or(document);
        let signature = envelope.get("signature").ok_or("it has no signature")?;
        let response = inner.map(|_| document);
        let mut payload = envelope.clone();
        payload.retain(|name, _| name != "signature");
        let at = match (payload.get("payload"), inner) {
            (None, None) => "",
            (None, Some(_)) => "/receipt",
            (Some(Value::Object(_)), None) => "/payload",
            (Some(Value::Object(_)), Some(_)) => "/receipt/payload",
            (Some(_), _) => return Err("its payload is not an object".into()),
        };
        if let Some(Value::Object(found)) = payload.get("payload") {
            if let Some(name) = payload.keys().find(|name| *name != "payload") {
                return Err(format!("the member `{name}` stands beside the signed payload, and is not signed"));
            }
            payload = found.clone();
        }
        if payload.is_empty() {
            return Err("it has no payload".into());
        }
        Ok(Self { payload, at, signature, response })
    }

    /// The members that are covered and those that are not, or the reason why it is not valid.
    fn check(&self, keys: &[Ed25519PublicKey]) -> Result<(Vec<String>, Vec<String>), String> {
        let signature: Signature = serde_json::from_value(self.signature.clone())
            .map_err(|error| format!("its signature is malformed: {error}"))?;
        if self.signature.as_object().is_none_or(|members| members.len() != 3) {
            return Err("its signature has members beside alg, key_id and sig".into());
        }
        let payload = Value::Object(self.payload.clone());
        crypto::verify_signature(&payload, &signature, keys).map_err(|error| error.to_string())?;
        let (mut verified, mut unverified) = (Vec::new(), Vec::new());
        for (name, value) in &self.payload {
            let pointer = format!("{}/{}", self.at, escaped(name));
            if !value.is_null() {
                verified.push(pointer.clone());
            }
            find_nulls(value, pointer, &mut unverified);
        }
        for (name, value) in self.response.into_iter().flatten().filter(|(name, _)| *name != "receipt") {
            let pointer = format!("/{}", escaped(name));
            if name == "verified" && *value == json!(false) {
                unverified.push(pointer);
            } else if self.confirmed(name).as_ref() == Some(value) {
                verified.push(pointer);
            } else {
                return Err(format!("the member `{name}` beside the receipt is not what was signed"));
            }
        }
        Ok((verified, unverified))
    }

    /// What a member of the response must be according to the payload; `None`: the payload says nothing of it.
    fn confirmed(&self, name: &str) -> Option<Value> {
        let issued_at = || self.payload.get("issued_at").cloned().unwrap_or_default();
        Some(match name {
            // A receipt is of an execution that completed.
            "status" => json!("completed"),
            "verified" => json!(true),
            "recorded_at" => issued_at(),
            "coordinator_attestations" => json!([{
                "coordinator_id": self.signature.get("key_id"),
                "signature": self.signature,
                "timestamp": issued_at(),
            }]),
            "miner_signature" => self.miner_signatures(),
            "minted_amount" | "block_hash" | "transaction_hash" | "reason" => Value::Null,
            _ => return self.payload.get(name).cloned(),
        })
    }

    /// The miners' signatures by step; null without any.
    fn miner_signatures(&self) -> Value {
        let steps = self.payload.get("steps").and_then(Value::as_array).into_iter().flatten();
        let signed = steps.filter_map(|step| {
            let signature = step.get("miner_signature").filter(|signature| !signature.is_null())?;
            Some((step.get("step")?.as_str()?.to_owned(), signature.clone()))
        });
        let signatures: Map<String, Value> = signed.collect();
        if signatures.is_empty() { Value::Null } else { signatures.into() }
    }
}

/// A name as a segment of a JSON Pointer (RFC 6901).
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn find_nulls(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Null => found.push(at),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| find_nulls(item, format!("{at}/{index}"), found));
        }
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| find_nulls(member, format!("{at}/{}", escaped(name)), found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use am_core::crypto::Signer;

    use super::*;

    fn signer() -> Signer {
        Signer::from_hex(&"7".repeat(64)).unwrap()
    }

    fn signed() -> (Value, Value, [Ed25519PublicKey; 1]) {
        let miner = json!({"alg": "Ed25519", "key_id": "m", "sig": "s"});
        let payload = json!({
            "receipt_id": "r", "execution_id": "e", "workflow_id": "w", "total_cost": 0.03, "issued_at": "2026-05-01T00:00:00Z",
            "steps": [{"step": "a", "cost": 0.03, "miner_signature": miner}, {"step": "b", "note": null}],
        });
        let signature = serde_json::to_value(signer().sign(&payload)).unwrap();
        (payload, signature, [signer().public_key().clone()])
    }

    fn response() -> Value {
        let (payload, signature, _) = signed();
        json!({
            "execution_id": "e", "workflow_id": "w", "status": "completed", "receipt_id": "r", "total_cost": 0.03,
            "miner_signature": {"a": payload["steps"][0]["miner_signature"]}, "recorded_at": payload["issued_at"],
            "coordinator_attestations": [
                {"coordinator_id": signature["key_id"], "signature": signature, "timestamp": payload["issued_at"]},
            ],
            "minted_amount": null, "verified": true, "block_hash": null, "transaction_hash": null, "reason": null,
            "receipt": {"payload": payload, "signature": signature},
        })
    }

    #[test]
    fn each_form_is_taken_and_a_changed_one_is_not() {
        let (payload, signature, keys) = signed();
        let ours = json!({"payload": payload, "signature": signature});
        assert!(verify_receipt(&ours, &keys).valid);
        assert!(verify_receipt(&json!({"execution_id": "e", "receipt": ours}), &keys).valid);
        let mut flat = payload.clone();
        flat["signature"] = signature;
        assert!(verify_receipt(&flat, &keys).valid);
        assert_eq!(verify_receipt(&flat, &keys).execution_id.as_deref(), Some("e"));
        flat["total_cost"] = json!(0.02);
        assert!(!verify_receipt(&flat, &keys).valid);
        assert!(!verify_receipt(&payload, &keys).valid);
        assert!(!verify_receipt(&json!([1]), &keys).valid);
        assert!(!verify_receipt(&ours, &[Signer::from_hex(&"8".repeat(64)).unwrap().public_key().clone()]).valid);
    }

    #[test]
    fn what_was_verified_is_named() {
        let (_, _, keys) = signed();
        let result = verify_receipt(&response(), &keys);
        assert!(result.valid, "{result:?}");
        for member in ["/receipt/payload/total_cost", "/receipt/payload/steps", "/miner_signature", "/status"] {
            assert!(result.verified_members.iter().any(|found| found == member), "{member}: {result:?}");
        }
        assert_eq!(result.unverified_members, ["/receipt/payload/steps/1/note"]);
        let mut before = response();
        before["verified"] = json!(false);
        let result = verify_receipt(&before, &keys);
        assert!(result.valid && result.unverified_members.contains(&"/verified".to_owned()), "{result:?}");
    }

    #[test]
    fn whatever_is_shown_beside_the_payload_must_agree_with_it() {
        let (payload, signature, keys) = signed();
        for name in response().as_object().unwrap().keys().filter(|name| *name != "receipt") {
            for value in [json!("changed"), json!(7), json!({}), json!([])] {
                let mut changed = response();
                changed[name] = value;
                let result = verify_receipt(&changed, &keys);
                assert!(!result.valid && result.reason.as_ref().unwrap().contains(name.as_str()), "{result:?}");
                assert!(result.verified_members.is_empty());
            }
        }
        let mut added = response();
        added["note"] = json!("paid");
        assert!(!verify_receipt(&added, &keys).valid);
        for place in ["", "/receipt", "/receipt/signature"] {
            let mut added = response();
            added.pointer_mut(place).unwrap()["more"] = json!(null);
            assert!(!verify_receipt(&added, &keys).valid, "{place}");
        }
        // An envelope around, or beside, another document.
        let ours = json!({"payload": payload, "signature": signature});
        for odd in [
            json!({"receipt": ours, "payload": {"total_cost": 0.0}}),
            json!({"receipt": ours, "signature": signature}),
            json!({"receipt": ours, "payload": {"total_cost": 0.0}, "signature": signature}),
            json!({"payload": payload, "signature": signature, "receipt": ours}),
            json!({"payload": [], "signature": signature}),
            json!({"signature": signature}),
        ] {
            assert!(!verify_receipt(&odd, &keys).valid, "{odd}");
        }
    }

    #[test]
    fn a_text_with_two_meanings_is_not_valid() {
        let (_, _, keys) = signed();
        let text = response().to_string();
        assert!(verify_receipt_text(text.as_bytes(), &keys).valid);
        for (first, second) in [
            ("\"total_cost\":0.03", "\"total_cost\":0.01,\"total_cost\":0.03"),
            ("\"cost\":0.03", "\"cost\":0.01,\"cost\":0.03"),
            ("\"receipt\":{", "\"receipt\":{\"payload\":{\"total_cost\":0},"),
            ("\"alg\":", "\"alg\":\"none\",\"alg\":"),
            ("\"status\":", "\"status\":\"failed\",\"status\":"),
        ] {
            let twice = text.replace(first, second);
            assert_ne!(twice, text);
            let result = verify_receipt_text(twice.as_bytes(), &keys);
            assert!(!result.valid && result.reason.unwrap().contains("twice"), "{twice}");
        }
        for broken in ["", "{", "nothing"] {
            assert!(!verify_receipt_text(broken.as_bytes(), &keys).valid);
        }
    }
}
