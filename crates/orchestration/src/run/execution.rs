//! An execution as it is stored and shown to clients.

use serde::{Deserialize, Serialize};

use super::state::round_progress;
use crate::model::ExecutionStatus;
use am_core::{
    ids::{ExecutionId, PrincipalId, WorkflowId},
    money::Money,
};
use am_db::{
    codec::{JsonText, Timestamp},
    owner,
};

/// An execution: a row of `agent_executions`, with whether it is paused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Execution {
    /// Id: `exec_` and 10 hex digits.
    pub id: ExecutionId,
    /// Workflow, network or plan that it is a run of.
    pub workflow_id: WorkflowId,
    /// Client as stored; shown as a principal.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub client_id: PrincipalId,
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
    pub total_cost: Money,
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
    /// Return the progress in percent, 0 to 100.
    pub fn progress(&self) -> f64 {
        match (self.status, self.total_steps) {
            (ExecutionStatus::Completed, _) => 100.0,
            (_, 0) => 0.0,
            (_, total) => round_progress(100.0 * self.completed_steps.min(total) as f64 / total as f64),
        }
    }
}
