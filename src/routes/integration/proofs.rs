//! `/api/v1/agents/integration/integrations/zk`: proofs of executions that others can verify.

use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
    },
    routes::recorded_response::record_response,
};
use am_core::ids::ExecutionId;
use am_orchestration::model::VerificationLevel;
use am_proofs::{CircuitDocument, ProofDocument, ProofExport, ProofVerdict, SubmittedProof};

/// What is to be proved.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ProofQuery {
    /// `basic`: each step completed and is in the signed receipt. `full`: and within the limits of time and memory, and done again it
    /// gives the same, where it is deterministic. `zero-knowledge`: and Groth16 proofs of the steps' values. Default `basic`.
    #[param(inline)]
    verification_level: Option<VerificationLevel>,
}

/// Prove an execution
///
/// The levels `basic` and `full` are answered when they are done. At `zero-knowledge` the proofs are made as background work:
/// `integration_status` is `in_progress`, and `task_id` has the progress. While proofs of an execution are being made, another request
/// is answered with them. What was proved is written to the step (`step_proof`, `verification_status`) and to the execution
/// (`verification_proof`).
#[utoipa::path(
    post, path = "/api/v1/agents/integration/integrations/zk/{execution_id}", operation_id = "proofs_create", tag = "proofs",
    security(("ApiKey" = ["admin"])),
    params(
        ("execution_id" = String, Path, description = "Id of the execution: `exec_` and hexadecimal digits"),
        ProofQuery,
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = ProofDocument, description = "What was proved, or is being proved"),
        (status = 404, description = "The caller has no execution of this id"),
        (status = 400, description = "The execution is not completed, or the coordinator ran it (`invalid_state`)"),
        (status = 409, description = "The execution has no receipt of its steps (`no_receipt`), no circuit holds it (`not_provable`), or there are no keys of one that does (`no_circuit_keys`)"),
    )
)]
pub async fn create_proof(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<ExecutionId>,
    QueryParams(query): QueryParams<ProofQuery>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<ProofDocument>, ApiError> {
    let level = query.verification_level.unwrap_or(VerificationLevel::Basic);
    Ok(IdempotentOk(app.proofs.prove(&caller, &id, level, request.once).await?))
}

/// Get the newest proof of an execution
#[utoipa::path(
    get, path = "/api/v1/agents/integration/integrations/zk/{execution_id}", operation_id = "proofs_get", tag = "proofs",
    security(("ApiKey" = ["admin"])),
    params(("execution_id" = String, Path, description = "Id of the execution: `exec_` and hexadecimal digits")),
    responses(
        (status = 200, body = ProofDocument, description = "What was proved, or is being proved"),
        (status = 404, description = "The caller has no execution of this id, or there is no proof of it"),
    )
)]
pub async fn get_proof(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<ExecutionId>,
) -> Result<JsonBody<ProofDocument>, ApiError> {
    Ok(JsonBody(app.proofs.get(&caller, &id).await?))
}

/// Get a zero-knowledge proof with all that is needed to verify it
///
/// `proof`, `public` and `verification_key` are the three files that `snarkjs groth16 verify` takes; the whole answer is a file for
/// `agent-management verify-proof`.
#[utoipa::path(
    get, path = "/api/v1/agents/integration/integrations/zk/{execution_id}/proofs/{number}", operation_id = "proofs_export",
    tag = "proofs", security(("ApiKey" = ["admin"])),
    params(
        ("execution_id" = String, Path, description = "Id of the execution: `exec_` and hexadecimal digits"),
        ("number" = i64, Path, description = "Number of the proof, as `zk_proofs_generated` has it; 0 is that of the whole execution"),
    ),
    responses(
        (status = 200, body = ProofExport, description = "The proof"),
        (status = 404, description = "The caller has no execution of this id, or its newest proof has none of this number"),
    )
)]
pub async fn export_proof(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams((id, number)): PathParams<(ExecutionId, i64)>,
) -> Result<JsonBody<ProofExport>, ApiError> {
    Ok(JsonBody(app.proofs.export(&caller, &id, number).await?))
}

/// Get a circuit whose keys there are
///
/// With its verification key, and who made the keys.
#[utoipa::path(
    get, path = "/api/v1/agents/integration/integrations/zk/circuits/{circuit}", operation_id = "proofs_get_circuit",
    tag = "proofs", security(("ApiKey" = ["admin"])),
    params(("circuit" = String, Path, description = "Name of the circuit, such as `openings-v1-8x4`")),
    responses(
        (status = 200, body = CircuitDocument, description = "The circuit"),
        (status = 404, description = "There are no keys of such a circuit"),
    )
)]
pub async fn get_proof_circuit(
    State(app): State<App>,
    _: AdminKey,
    PathParams(circuit): PathParams<String>,
) -> Result<JsonBody<CircuitDocument>, ApiError> {
    Ok(JsonBody(app.proofs.circuit(&circuit).await?))
}

/// Verify a zero-knowledge proof by this service's keys
///
/// What can't be a proof of the circuit is refused with the member that is wrong: points that are not on the curve or not in the
/// subgroup, public signals beyond the field or too many. What is well formed and does not hold is answered `valid: false`.
#[utoipa::path(
    post, path = "/api/v1/agents/integration/integrations/zk/verify", operation_id = "proofs_verify", tag = "proofs",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = SubmittedProof,
    responses(
        (status = 200, body = ProofVerdict, description = "Whether it is valid"),
        (status = 404, description = "There are no keys of such a circuit"),
    )
)]
pub async fn verify_proof(
    State(app): State<App>,
    _: AdminKey,
    request: IdempotentJson<SubmittedProof>,
) -> Result<IdempotentOk<ProofVerdict>, ApiError> {
    let verdict = app.proofs.verify(request.body).await?;
    Ok(IdempotentOk(record_response(&app, request.once, verdict).await?))
}
