//! Types of executions and their steps, as shown to clients.

use serde::{Deserialize, Serialize};

use crate::{
    engine::{RunCheckpoint, round_progress},
    model::ExecutionStatus,
};
use am_db::{
    codec::{JsonText, Timestamp},
    owner,
    page::PageRequest,
};

/// An execution: a row of `agent_executions`, with whether it is paused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Execution {
    /// Id: `exec_` and 10 hex digits.
    pub id: String,
    /// Workflow, network or plan that it is a run of.
    pub workflow_id: String,
    /// Client as stored; shown as a principal.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub client_id: String,
    /// Status of the execution.
    pub status: ExecutionStatus,
    /// Whether it is paused: no step begins until it is resumed.
    pub paused: bool,
    /// Number of steps done.
    pub current_step: i64,
    /// State by step key: status, attempts, cost, times.
    pub step_states: JsonText,
    /// Results by step key, as the member `step_results`, once it has completed.
    pub final_result: JsonText,
    /// Signed receipt, once it has completed.
    pub execution_receipt: JsonText,
    /// Verification of the results.
    pub verification_proof: JsonText,
    /// Error message of a failed execution.
    pub error_message: Option<String>,
    /// Key of the step that failed.
    pub failed_step: Option<String>,
    /// Time when the first step began.
    pub started_at: Option<Timestamp>,
    /// Time when it ended.
    pub completed_at: Option<Timestamp>,
    /// Seconds between the two.
    pub total_execution_time: Option<f64>,
    /// Cost settled so far.
    pub total_cost: f64,
    /// Total number of steps.
    pub total_steps: i64,
    /// Number of steps that ended well.
    pub completed_steps: i64,
    /// Time of the request.
    pub created_at: Timestamp,
    /// Time of the last save.
    pub updated_at: Timestamp,
}

impl Execution {
    /// Build it from a save, as that has just been written.
    pub(crate) fn from_checkpoint(save: &RunCheckpoint) -> Self {
        let run = &save.run;
        let states = serde_json::value::RawValue::from_string(run.step_states.clone());
        Self {
            id: run.id.clone(),
            workflow_id: run.workflow_id.clone(),
            client_id: run.client_id.clone(),
            status: run.status,
            paused: false,
            current_step: run.completed_steps,
            step_states: states.map_or_else(|_| JsonText::none(), JsonText::from_raw),
            final_result: run.final_result.clone(),
            execution_receipt: run.receipt.clone(),
            verification_proof: run.proof.clone(),
            error_message: run.error.clone(),
            failed_step: run.failed_step.clone(),
            started_at: run.started_at,
            completed_at: run.completed_at,
            total_execution_time: run.completed_at.zip(run.started_at).map(|(end, start)| end.seconds_since(start)),
            total_cost: run.total_cost,
            total_steps: run.total_steps,
            completed_steps: run.completed_steps,
            created_at: run.created_at,
            updated_at: run.now,
        }
    }

    /// Return the progress in percent, 0 to 100.
    pub fn progress(&self) -> f64 {
        match (self.status, self.total_steps) {
            (ExecutionStatus::Completed, _) => 100.0,
            (_, 0) => 0.0,
            (_, total) => round_progress(100.0 * self.completed_steps.min(total) as f64 / total as f64),
        }
    }
}

/// Filter for listing executions.
#[derive(Clone, Debug, Default)]
pub struct ExecutionFilter {
    /// Restricts the list to this workflow's executions.
    pub workflow_id: Option<String>,
    /// Restricts the list to this status.
    pub status: Option<ExecutionStatus>,
    /// Page to return.
    pub page: PageRequest,
}

/// Log of a step of an execution.
#[derive(Clone, Debug)]
pub struct StepLog {
    /// Key of the step in the definition, where known.
    pub key: Option<String>,
    /// Id of the row in `agent_steps`.
    pub step_id: String,
    /// Status of the step.
    pub status: ExecutionStatus,
    /// Time when its last attempt began.
    pub started_at: Option<Timestamp>,
    /// Time when it ended.
    pub completed_at: Option<Timestamp>,
    /// Seconds of all its attempts.
    pub execution_time: Option<f64>,
    /// Error message of a failed step.
    pub error_message: Option<String>,
    /// Whether a GPU was used.
    pub gpu_accelerated: bool,
    /// Memory in MB, where measured.
    pub memory_usage: Option<f64>,
    /// Number of attempts after the first.
    pub retry_count: i64,
    /// Result of the verification: `verified` or `failed`; null: not verified.
    pub verification_status: Option<String>,
    /// Input of the step.
    pub input: JsonText,
    /// Output of the step.
    pub output: JsonText,
    /// Checks of the verification, one by one.
    pub proof: JsonText,
}
