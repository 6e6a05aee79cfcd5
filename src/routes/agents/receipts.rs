//! Receipts: what an execution did, signed; and how to check one.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, value::RawValue};
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
    },
    routes::recorded_response::record_response,
};
use am_core::{
    crypto::Ed25519PublicKey,
    ids::{ExecutionId, ReceiptId, WorkflowId},
};
use am_db::codec::{JsonText, Timestamp};
use am_orchestration::{model::ExecutionStatus, receipts};

/// The receipt of an execution.
#[derive(Serialize, ToSchema)]
#[schema(as = Receipt)]
pub struct ReceiptDocument {
    /// Id of the execution.
    execution_id: ExecutionId,
    /// Id of the workflow.
    workflow_id: WorkflowId,
    /// Status of the execution: completed.
    status: ExecutionStatus,
    /// Id of the receipt; null: there is none.
    receipt_id: Option<ReceiptId>,
    /// Signatures of the miners' own receipts by step; null: no job left one.
    #[schema(value_type = Option<Object>)]
    miner_signature: Value,
    /// This service's signature; empty: there is no receipt.
    coordinator_attestations: Vec<ReceiptAttestation>,
    /// Always null: there is no chain to mint on.
    #[schema(value_type = Option<f64>)]
    minted_amount: Option<f64>,
    /// When the receipt was issued; null: there is none.
    recorded_at: Option<Timestamp>,
    /// Whether the signature is valid, checked now against this service's key.
    verified: bool,
    /// Always null: there is no chain.
    block_hash: Option<String>,
    /// Always null: there is no chain.
    transaction_hash: Option<String>,
    /// Why there is no receipt; null: there is one.
    reason: Option<&'static str>,
    /// The signed receipt, `payload` and `signature`, as `receipts/verify` and the command `verify-receipt` take it;
    /// null: there is none.
    #[schema(value_type = Option<Object>)]
    receipt: JsonText,
}

/// A signature of this service.
#[derive(Serialize, ToSchema)]
#[schema(as = ReceiptAttestation)]
pub struct ReceiptAttestation {
    /// Id of the key that signed.
    coordinator_id: String,
    /// The signature: `alg`, `key_id` and `sig`.
    #[schema(value_type = Object)]
    signature: Value,
    /// When the receipt was issued.
    #[schema(value_type = Option<Object>)]
    timestamp: Value,
}

/// Get the signed receipt of a completed execution
#[utoipa::path(
    get, path = "/api/v1/agents/executions/{execution_id}/receipt", operation_id = "executions_get_receipt",
    tag = "executions", security(("ApiKey" = ["admin"])),
    params(("execution_id" = String, Path, description = "Id of the execution: `exec_` and hexadecimal digits")),
    responses(
        (status = 200, body = ReceiptDocument, description = "The receipt"),
        (status = 400, description = "The execution is not completed (`invalid_state`)"),
        (status = 404, description = "The caller has no execution of this id"),
    )
)]
pub async fn get_execution_receipt(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<ExecutionId>,
) -> Result<JsonBody<ReceiptDocument>, ApiError> {
    let execution = app.executions.get(&caller, &id).await?;
    if execution.status != ExecutionStatus::Completed {
        let detail = format!("Execution has no receipt: it is {}, not completed", execution.status);
        return Err(ApiError::bad_request(detail).code("invalid_state"));
    }
    let parsed: Value = execution.execution_receipt.parse().map_err(ApiError::internal)?.unwrap_or(Value::Null);
    let payload = |name: &str| parsed.pointer(&format!("/payload/{name}")).cloned().unwrap_or(Value::Null);
    let attestations = parsed.get("signature").map(|signature| ReceiptAttestation {
        coordinator_id: signature.get("key_id").and_then(Value::as_str).unwrap_or_default().to_owned(),
        signature: signature.clone(),
        timestamp: payload("issued_at"),
    });
    let verdict = receipts::verify_receipt(&parsed, std::slice::from_ref(app.signer.public_key()));
    Ok(JsonBody(ReceiptDocument {
        execution_id: execution.id,
        workflow_id: execution.workflow_id,
        status: execution.status,
        receipt_id: payload("receipt_id").as_str().map(ReceiptId::from),
        miner_signature: miner_signatures(&execution.step_states).map_err(ApiError::internal)?,
        coordinator_attestations: attestations.into_iter().collect(),
        minted_amount: None,
        recorded_at: serde_json::from_value(payload("issued_at")).unwrap_or(None),
        verified: verdict.valid,
        block_hash: None,
        transaction_hash: None,
        reason: parsed.is_null().then_some("the execution was run by the coordinator, which left no receipt"),
        receipt: execution.execution_receipt,
    }))
}

fn miner_signatures(step_states: &JsonText) -> Result<Value, serde_json::Error> {
    let states: Map<String, Value> = step_states.parse()?.unwrap_or_default();
    let signed = states
        .iter()
        .filter_map(|(step, state)| Some((step.clone(), state.pointer("/miner_receipt/signature")?.clone())));
    let signatures: Map<String, Value> = signed.collect();
    Ok(if signatures.is_empty() { Value::Null } else { Value::Object(signatures) })
}

/// A receipt to verify.
#[derive(Deserialize, ToSchema)]
#[schema(as = ReceiptVerifyRequest)]
pub struct VerifyReceiptRequest {
    /// The receipt: an answer of the receipt route, its member `receipt`, or a receipt of the coordinator's.
    #[schema(value_type = Object)]
    receipt: Box<RawValue>,
    /// Ed25519 public key to verify against, in hexadecimal digits. Default: this service's key.
    public_key: Option<String>,
}

/// Verify a receipt
///
/// Everything that it shows must be signed or agree with what is signed; a document in which a name is given twice is not
/// valid.
#[utoipa::path(
    post, path = "/api/v1/agents/receipts/verify", operation_id = "receipts_verify", tag = "receipts",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = VerifyReceiptRequest,
    responses((status = 200, body = receipts::ReceiptVerification, description = "Whether it is valid, and if not, why"))
)]
pub async fn verify_receipt(
    State(app): State<App>,
    _: AdminKey,
    request: IdempotentJson<VerifyReceiptRequest>,
) -> Result<IdempotentOk<receipts::ReceiptVerification>, ApiError> {
    let VerifyReceiptRequest { receipt, public_key } = request.body;
    let key = match public_key {
        None => app.signer.public_key().clone(),
        Some(hex) => Ed25519PublicKey::from_hex(&hex).map_err(|error| {
            ApiError::invalid_field(vec!["body".into(), "public_key".into()], error.to_string(), "value_error")
        })?,
    };
    let result = receipts::verify_receipt_text(receipt.get().as_bytes(), &[key]);
    Ok(IdempotentOk(record_response(&app, request.once, result).await?))
}

/// The public keys that receipts are signed with.
#[derive(Serialize, ToSchema)]
pub struct ReceiptKeys {
    /// The keys; one at present.
    keys: Vec<ReceiptKey>,
}

/// A public key that receipts are signed with.
#[derive(Serialize, ToSchema)]
pub struct ReceiptKey {
    /// Signature algorithm: `Ed25519`.
    alg: &'static str,
    /// Id of the key, which receipts name.
    key_id: String,
    /// The public key, 32 bytes in hexadecimal digits.
    public_key_hex: String,
    /// What the key signs: `receipts`.
    #[serde(rename = "use")]
    key_use: &'static str,
}

/// List the public keys that receipts are signed with
#[utoipa::path(
    get, path = "/api/v1/agents/receipts/keys", operation_id = "receipts_list_keys", tag = "receipts",
    security(("ApiKey" = ["admin"])),
    responses((status = 200, body = ReceiptKeys, description = "The public keys"))
)]
pub async fn list_receipt_keys(State(app): State<App>, _: AdminKey) -> JsonBody<ReceiptKeys> {
    let key = ReceiptKey {
        alg: "Ed25519",
        key_id: app.signer.key_id().to_owned(),
        public_key_hex: app.signer.public_key_hex(),
        key_use: "receipts",
    };
    JsonBody(ReceiptKeys { keys: vec![key] })
}
