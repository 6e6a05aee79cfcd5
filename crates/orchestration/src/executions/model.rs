//! Types of requests for executions, and of their steps' logs.

use crate::model::ExecutionStatus;
use am_core::ids::{StepId, WorkflowId};
use am_db::{
    codec::{JsonText, Timestamp},
    page::{PageRequest, TimeSpan},
};

/// Filter for listing executions.
#[derive(Clone, Debug, Default)]
pub struct ExecutionFilter {
    /// Restricts the list to this workflow's executions.
    pub workflow_id: Option<WorkflowId>,
    /// Restricts the list to these statuses; empty: any.
    pub status: Vec<ExecutionStatus>,
    /// Restricts the list to executions that ended in this time.
    pub ended: TimeSpan,
    /// Page to return.
    pub page: PageRequest,
}

/// Log of a step of an execution.
#[derive(Clone, Debug)]
pub struct StepLog {
    /// Key of the step in the definition, where known.
    pub key: Option<String>,
    /// Id of the row in `agent_steps`.
    pub step_id: StepId,
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
    /// Result of the verification: `verified`, `failed`, or `pending` while a proof is made; null: not verified.
    pub verification_status: Option<String>,
    /// Input of the step.
    pub input: JsonText,
    /// Output of the step.
    pub output: JsonText,
    /// Checks of the verification, one by one.
    pub proof: JsonText,
}
