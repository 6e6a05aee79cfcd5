//! Types of proofs, as stored and shown.

use am_core::ids::{BackgroundTaskId, ExecutionId, StepExecutionId, StepId, WorkflowId};
use am_db::{codec::Timestamp, stored_enum};
use am_orchestration::model::VerificationLevel;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::key_store::SetupDocument;

stored_enum! {
    /// How far the integration with the proof system is.
    pub enum IntegrationStatus {
        /// Proofs are being made in the background.
        InProgress = "in_progress" / "in_progress",
        /// Everything that the level asks for holds.
        Success = "success" / "success",
        /// Some of what the level asks for does not hold, or could not be shown.
        Partial = "partial_success" / "partial_success",
        /// No proof was made.
        Failed = "failed" / "failed",
    }
}

/// What was proved of an execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProofDocument {
    /// Id of the proof: `proof_` and 12 hexadecimal digits.
    #[schema(example = "proof_0123456789ab")]
    pub proof_id: String,
    /// Id of the execution.
    pub execution_id: ExecutionId,
    /// Id of its workflow.
    pub workflow_id: WorkflowId,
    /// The level that was asked for.
    pub verification_level: VerificationLevel,
    /// How far it is.
    pub integration_status: IntegrationStatus,
    /// Zero-knowledge proofs that were made and verified; empty at the levels below.
    pub zk_proofs_generated: Vec<GeneratedProof>,
    /// What was checked of each step, in the declared order.
    pub verification_results: Vec<StepProofResult>,
    /// What does not hold, and what could not be shown.
    pub integration_errors: Vec<ProofProblem>,
    /// What all steps together commit to; null: the receipt has no steps.
    pub workflow_proof: Option<WorkflowProof>,
    /// What was checked of the whole; null: its proofs are still being made.
    pub workflow_verification: Option<WorkflowCheck>,
    /// The background task that makes zero-knowledge proofs, which has the progress; null: none was needed.
    pub task_id: Option<BackgroundTaskId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was done; null: it is not.
    pub completed_at: Option<Timestamp>,
}

/// A zero-knowledge proof that was made, and verified afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GeneratedProof {
    /// Number of the proof, from 0; 0 is that of the whole execution.
    pub number: i64,
    /// The policy step that it is about; null: the whole execution.
    pub step: Option<String>,
    /// Name of the circuit, with its version.
    #[schema(example = "openings-v1-8x4")]
    pub circuit: String,
    /// SHA-256 of the circuit's constraints in iden3's r1cs format.
    pub circuit_sha256: String,
    /// SHA-256 of the verification key.
    pub key_sha256: String,
    /// Who made the circuit's keys, and what of that has to be trusted.
    pub setup: SetupDocument,
    /// Number of constraints of the circuit.
    pub constraints: u64,
    /// Seconds that making the proof took, without reading the keys.
    pub proving_seconds: f64,
    /// Seconds that verifying it took.
    pub verifying_seconds: f64,
    /// Size of the proof as JSON, in bytes.
    pub proof_bytes: u64,
    /// Names of the public signals, with their values in decimal digits.
    #[schema(value_type = Vec<Vec<String>>)]
    pub signals: Vec<(String, String)>,
}

/// What was checked of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepProofResult {
    /// Key of the step in the definition.
    pub step: String,
    /// Id of the step.
    pub step_id: StepId,
    /// Id of the row of the step in this execution; null: it has none.
    pub row_id: Option<StepExecutionId>,
    /// Level of the checks: the one that was asked for.
    pub verification_level: VerificationLevel,
    /// Whether every check passed.
    pub verified: bool,
    /// Names of the checks that passed.
    pub checks_passed: Vec<String>,
    /// Names of the checks that failed.
    pub checks_failed: Vec<String>,
    /// Names of checks that could not be made: they neither pass nor fail.
    pub not_measured: Vec<String>,
    /// Shows that the step is in the receipt; null: it is not.
    pub inclusion: Option<StepInclusion>,
    /// Why the step was not done again, or its network not proved; null: nothing was left out.
    pub note: Option<String>,
}

/// Shows that a step is a leaf of the Merkle tree (RFC 6962) over a receipt's steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StepInclusion {
    /// Place of the step, from 0.
    pub index: u64,
    /// Number of steps.
    pub size: u64,
    /// The step as the receipt has it; the leaf is the hash of its canonical JSON.
    #[schema(value_type = Object)]
    pub leaf: Value,
    /// Hashes beside the way to the root, the lowest first, in hexadecimal digits.
    pub path: Vec<String>,
}

/// What does not hold or could not be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProofProblem {
    /// The step; null: the whole.
    pub step: Option<String>,
    /// What is wrong.
    pub reason: String,
}

/// What all steps of an execution commit to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkflowProof {
    /// Root of the Merkle tree over the receipt's steps, in hexadecimal digits.
    pub steps_root: String,
    /// Poseidon root over the commitments, in decimal digits; null: there is no zero-knowledge proof.
    pub root: Option<String>,
    /// Commitments to the steps' values, in the declared order; empty: there is no zero-knowledge proof.
    pub commitments: Vec<CommittedStep>,
    /// What this service says of the execution, `payload` and `signature`, signed by the key of receipts: it ties the roots to the
    /// receipt.
    #[schema(value_type = Object)]
    pub statement: Value,
}

/// Commitments to a step's values, in decimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CommittedStep {
    /// Key of the step.
    pub step: String,
    /// How its values become field elements: `json`, or `policy`.
    pub encoding: String,
    /// Commitment to its input.
    pub input: String,
    /// Commitment to its output.
    pub output: String,
}

/// What was checked of the whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WorkflowCheck {
    /// Whether the receipt and every step hold.
    pub verified: bool,
    /// Whether the receipt's signature is valid.
    pub receipt_valid: bool,
    /// Number of steps that hold.
    pub steps_verified: u64,
    /// Number of steps.
    pub steps_total: u64,
}

/// A proof with all that is needed to verify it, in snarkjs's JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProofExport {
    /// Name of the circuit.
    pub circuit: String,
    /// SHA-256 of the circuit's constraints in iden3's r1cs format.
    pub circuit_sha256: String,
    /// SHA-256 of the verification key.
    pub key_sha256: String,
    /// The policy step that it is about; null: the whole execution.
    pub step: Option<String>,
    /// Names of the public signals, in their order.
    pub signals: Vec<String>,
    /// The proof: snarkjs's `proof.json`.
    #[schema(value_type = Object)]
    pub proof: Value,
    /// The public signals: snarkjs's `public.json`.
    #[schema(value_type = Vec<String>)]
    pub public: Value,
    /// The verification key: snarkjs's `verification_key.json`.
    #[schema(value_type = Object)]
    pub verification_key: Value,
}

/// Whether a proof is valid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ProofVerdict {
    /// Whether it is.
    pub valid: bool,
    /// Name of its circuit.
    pub circuit: String,
    /// Names of the public signals, with their values.
    #[schema(value_type = Vec<Vec<String>>)]
    pub signals: Vec<(String, String)>,
    /// SHA-256 of the verification key.
    pub key_sha256: String,
}

/// A proof as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct ProofRecord {
    /// What is shown of it.
    pub(crate) document: ProofDocument,
    /// What its background work is to do; `None`: there is none.
    pub(crate) plan: Option<crate::plan::ProvingPlan>,
}
