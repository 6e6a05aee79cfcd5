//! State of a step in a run, the result of an attempt, and its verification.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{ExecutionStatus, VerificationLevel};
use am_core::{
    ids::{ExternalTaskId, StepExecutionId, StepId},
    money::Money,
    value_budget::{BudgetExceeded, ByteLimit, SizedValue},
};
use am_db::codec::Timestamp;

/// Name of the check that a proof was made.
pub(super) const PROOF_CHECK: &str = "proof";

/// State of a step in a run.
#[derive(Clone, Debug)]
pub struct StepRun {
    /// Id: `step_exec_` and 10 hex digits.
    pub row_id: StepExecutionId,
    /// Id of the row in `agent_steps`.
    pub step_id: StepId,
    pub status: ExecutionStatus,
    /// Number of attempts begun.
    pub attempts: u32,
    /// Number of attempts made before the run was retried.
    pub attempts_before: u32,
    pub input: Option<SizedValue>,
    pub output: Option<SizedValue>,
    /// Cost settled so far.
    pub cost: Money,
    /// Cost reserved for the attempt in progress.
    pub reserved: Money,
    pub seconds: f64,
    pub memory_mb: Option<f64>,
    pub gpu: bool,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub error: Option<String>,
    /// External task that the attempt in progress waits for: a job, a training run, or an assignment.
    pub job_id: Option<ExternalTaskId>,
    /// Time of the next attempt after a failed one.
    pub retry_at: Option<Timestamp>,
    pub verification: Option<StepVerification>,
    /// Receipt of the job's miner.
    pub miner_receipt: Option<Value>,
    /// Attempt whose call got no answer. The next attempt repeats that call under its `Idempotency-Key`, since the call may
    /// have taken effect; null: the next call is a new one.
    pub repeat_call: Option<u32>,
    /// Whether it has changed since the last save.
    pub dirty: bool,
}

impl StepRun {
    pub fn new(step_id: StepId) -> Self {
        Self {
            row_id: StepExecutionId::default(),
            step_id,
            status: ExecutionStatus::Pending,
            attempts: 0,
            attempts_before: 0,
            input: None,
            output: None,
            cost: Money::ZERO,
            reserved: Money::ZERO,
            seconds: 0.0,
            memory_mb: None,
            gpu: false,
            started_at: None,
            completed_at: None,
            error: None,
            job_id: None,
            retry_at: None,
            verification: None,
            miner_receipt: None,
            repeat_call: None,
            dirty: true,
        }
    }

    /// Number in the `Idempotency-Key` of the attempt in progress: equal for all attempts until one was answered.
    pub fn call_number(&self) -> u32 {
        self.repeat_call.unwrap_or(self.attempts)
    }
}

/// Failure of an attempt.
#[derive(Clone, Debug, Default)]
pub struct AttemptFailure {
    /// Reason, for people.
    pub message: String,
    /// Whether another attempt may succeed.
    pub retryable: bool,
    /// Whether a call to an endpoint was made and not answered, so that it may have taken effect.
    pub unanswered: bool,
    /// Least wait before another attempt, as the endpoint asked for; null: it asked for none.
    pub retry_after: Option<Duration>,
}

/// Output of a successful attempt.
#[derive(Clone, Debug)]
pub enum AttemptOutput {
    /// The step's input, unchanged.
    Input(SizedValue),
    /// A value that was made.
    Made(Value),
}

impl AttemptOutput {
    /// Return the output's value.
    pub fn value(&self) -> &Value {
        match self {
            Self::Input(value) => value,
            Self::Made(value) => value,
        }
    }

    /// Return the output as a value within `limit`.
    ///
    /// # Errors
    /// How it exceeds the limit.
    pub fn measure(self, limit: ByteLimit) -> Result<SizedValue, BudgetExceeded> {
        match self {
            Self::Input(value) => Ok(value),
            Self::Made(value) => SizedValue::measure(value, limit),
        }
    }
}

impl From<Value> for AttemptOutput {
    fn from(value: Value) -> Self {
        Self::Made(value)
    }
}

/// Result of a successful attempt.
#[derive(Clone, Debug)]
pub struct AttemptResult {
    pub output: AttemptOutput,
    /// Measured duration, in seconds.
    pub seconds: f64,
    /// Cost: price of the step and its seconds, plus the service's price.
    pub cost: Money,
    /// Measured memory in MB, where available.
    pub memory_mb: Option<f64>,
    pub gpu: bool,
    /// Proof delivered with the output.
    pub proof: Option<Value>,
    /// Receipt of the miner, for a job.
    pub miner_receipt: Option<Value>,
}

/// Verification of a step's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepVerification {
    /// Level of the verification.
    pub level: VerificationLevel,
    /// Whether every check passed.
    pub verified: bool,
    /// Names of the passed checks.
    pub checks_passed: Vec<String>,
    /// Names of the failed checks.
    pub checks_failed: Vec<String>,
    /// Names of checks without a measurement: they neither pass nor fail.
    pub not_measured: Vec<String>,
}

impl StepVerification {
    /// Whether a proof was asked for and did not come with the result.
    pub fn lacks_proof(&self) -> bool {
        self.checks_failed.iter().any(|check| check == PROOF_CHECK)
    }
}
