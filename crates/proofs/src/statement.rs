//! What this service says of an execution in a proof: signed, it ties the roots to the receipt.

use am_core::crypto::{Ed25519PublicKey, Signature, Signer, verify_signature};
use am_db::codec::Timestamp;
use am_orchestration::receipts::json_hash;
use serde_json::{Value, json};

use crate::model::{CommittedStep, ProofDocument};

/// Version of the statement's format.
const STATEMENT_VERSION: &str = "1.0";

/// What a statement says.
pub(crate) struct StatementParts<'a> {
    /// Payload of the receipt.
    pub(crate) receipt: &'a Value,
    /// Root over the receipt's steps.
    pub(crate) steps_root: &'a str,
    /// Poseidon root; `None`: there is no zero-knowledge proof.
    pub(crate) root: Option<&'a str>,
    /// Commitments to the steps' values.
    pub(crate) commitments: &'a [CommittedStep],
    /// When it is said.
    pub(crate) now: Timestamp,
}

/// Sign a statement about the execution of `document`.
pub(crate) fn sign_statement(signer: &Signer, document: &ProofDocument, parts: &StatementParts<'_>) -> Value {
    let payload = json!({
        "version": STATEMENT_VERSION,
        "proof_id": document.proof_id,
        "execution_id": document.execution_id,
        "workflow_id": document.workflow_id,
        "verification_level": document.verification_level,
        "receipt_id": parts.receipt.get("receipt_id"),
        "receipt_sha256": json_hash(Some(parts.receipt)),
        "steps_root": parts.steps_root,
        "root": parts.root,
        "commitments": parts.commitments,
        "issued_at": parts.now,
    });
    let signature = signer.sign(&payload);
    json!({"payload": payload, "signature": signature})
}

/// Check a statement's signature.
///
/// # Errors
/// Why it is not valid.
pub(crate) fn check_statement(statement: &Value, keys: &[Ed25519PublicKey]) -> Result<(), String> {
    let payload = statement.get("payload").ok_or("the statement has no payload")?;
    let signature = statement.get("signature").cloned().ok_or("the statement has no signature")?;
    let signature: Signature = serde_json::from_value(signature)
        .map_err(|error| format!("the statement's signature is malformed: {error}"))?;
    verify_signature(payload, &signature, keys).map_err(|error| format!("the statement: {error}"))
}
