//! Receipts: what an execution did, signed; and how to check one.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path,
        idempotency::{KeyedJson, Replayable},
    },
    routes::kept::kept,
};
use am_core::crypto::PublicKey;
use am_db::codec::{Doc, Timestamp};
use am_orchestration::{model::Status, receipts};

/// A receipt as it is answered.
#[derive(Serialize, ToSchema)]
pub struct ReceiptDocument {
    execution_id: String,
    workflow_id: String,
    status: Status,
    receipt_id: Option<String>,
    /// The signatures of the miners' own receipts by step, where their jobs left some.
    #[schema(value_type = Option<Object>)]
    miner_signature: Value,
    coordinator_attestations: Vec<Attestation>,
    /// There is no chain to mint on.
    #[schema(value_type = Option<f64>)]
    minted_amount: Option<f64>,
    #[schema(value_type = Option<String>)]
    recorded_at: Option<Timestamp>,
    /// Checked now, against this service's key.
    verified: bool,
    /// There is no chain.
    block_hash: Option<String>,
    /// There is no chain.
    transaction_hash: Option<String>,
    /// Why there is no receipt, where there is none.
    reason: Option<&'static str>,
    /// `payload` and `signature`: what `verify` and the command `verify-receipt` check.
    #[schema(value_type = Option<Object>)]
    receipt: Doc,
}

/// This service's word for it.
#[derive(Serialize, ToSchema)]
pub struct Attestation {
    /// The key's id.
    coordinator_id: String,
    #[schema(value_type = Object)]
    signature: Value,
    #[schema(value_type = Option<Object>)]
    timestamp: Value,
}

/// The signed receipt of an execution that has ended well
#[utoipa::path(
    get, path = "/api/v1/agents/executions/{execution_id}/receipt", tag = "agents", params(("execution_id" = String, Path)),
    responses((status = 200, body = ReceiptDocument), (status = 400, description = "Not completed"), (status = 403), (status = 404))
)]
pub async fn receipt(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
) -> Result<Json<ReceiptDocument>, ApiError> {
    let execution = app.executions.get(&(&caller.0).into(), &id).await?;
    if execution.status != Status::Completed {
        let detail = format!("Execution has no receipt: it is {}, not completed", execution.status);
        return Err(ApiError::bad_request(detail).code("invalid_state"));
    }
    let parsed: Value = execution.execution_receipt.parse().map_err(ApiError::internal)?.unwrap_or(Value::Null);
    let payload = |name: &str| parsed.pointer(&format!("/payload/{name}")).cloned().unwrap_or(Value::Null);
    let attestations = parsed.get("signature").map(|signature| Attestation {
        coordinator_id: signature.get("key_id").and_then(Value::as_str).unwrap_or_default().to_owned(),
        signature: signature.clone(),
        timestamp: payload("issued_at"),
    });
    let verdict = receipts::verify(&parsed, std::slice::from_ref(app.signer.public_key()));
    Ok(Json(ReceiptDocument {
        execution_id: execution.id,
        workflow_id: execution.workflow_id,
        status: execution.status,
        receipt_id: payload("receipt_id").as_str().map(str::to_owned),
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

fn miner_signatures(step_states: &Doc) -> Result<Value, serde_json::Error> {
    let states: Map<String, Value> = step_states.parse()?.unwrap_or_default();
    let signed = states
        .iter()
        .filter_map(|(step, state)| Some((step.clone(), state.pointer("/miner_receipt/signature")?.clone())));
    let signatures: Map<String, Value> = signed.collect();
    Ok(if signatures.is_empty() { Value::Null } else { Value::Object(signatures) })
}

/// A receipt to be checked.
#[derive(Deserialize, ToSchema)]
pub struct VerifyRequest {
    /// As the receipt route answers it, its member `receipt`, or one of the coordinator's.
    #[schema(value_type = Object)]
    receipt: Value,
    /// Check against this key (hex) instead of this service's.
    public_key: Option<String>,
}

/// Check a receipt's signature
#[utoipa::path(
    post, path = "/api/v1/agents/receipts/verify", tag = "agents", request_body = VerifyRequest,
    responses((status = 200, description = "`valid`, and why not", body = Object), (status = 422))
)]
pub async fn verify(State(app): State<App>, _: Admin, request: KeyedJson<VerifyRequest>) -> Result<Response, ApiError> {
    let VerifyRequest { receipt, public_key } = request.body;
    let key = match public_key {
        None => app.signer.public_key().clone(),
        Some(hex) => PublicKey::from_hex(&hex).map_err(|error| {
            ApiError::field(vec!["body".into(), "public_key".into()], error.to_string(), "value_error")
        })?,
    };
    let done = kept(&app, request.once, receipts::verify(&receipt, &[key])).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

/// The public keys that receipts are signed with
#[utoipa::path(get, path = "/api/v1/agents/receipts/keys", tag = "agents", responses((status = 200, body = Object)))]
pub async fn keys(State(app): State<App>, _: Admin) -> Json<Value> {
    Json(json!({"keys": [{
        "alg": "Ed25519",
        "key_id": app.signer.key_id(),
        "public_key_hex": app.signer.public_key_hex(),
        "use": "receipts",
    }]}))
}
