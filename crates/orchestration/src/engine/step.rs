//! One step of a run, and what an attempt at it brings.

use std::sync::Arc;

use serde_json::Value;

use super::verify::Verification;
use crate::model::Status;
use am_db::codec::Timestamp;

/// One step of a run.
#[derive(Clone, Debug)]
pub struct StepRun {
    /// `step_exec_` and 10 hex digits.
    pub row_id: String,
    /// The row in `agent_steps`.
    pub step_id: String,
    pub status: Status,
    /// Attempts begun.
    pub attempts: u32,
    /// Those of them that were made before the run was retried.
    pub attempts_before: u32,
    pub input: Option<Arc<Value>>,
    pub output: Option<Arc<Value>>,
    /// Settled.
    pub cost: f64,
    /// Set aside for the attempt under way.
    pub reserved: f64,
    pub seconds: f64,
    pub memory_mb: Option<f64>,
    pub gpu: bool,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub error: Option<String>,
    /// The order that the attempt under way waits for: a job in the coordinator's queue, or a training run.
    pub job_id: Option<String>,
    /// A failed attempt is tried again from here on.
    pub retry_at: Option<Timestamp>,
    pub verification: Option<Verification>,
    /// The receipt that the job's miner left.
    pub miner_receipt: Option<Value>,
    /// Changed since it was saved.
    pub dirty: bool,
}

impl StepRun {
    pub fn new(step_id: String) -> Self {
        Self {
            row_id: String::new(),
            step_id,
            status: Status::Pending,
            attempts: 0,
            attempts_before: 0,
            input: None,
            output: None,
            cost: 0.0,
            reserved: 0.0,
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
            dirty: true,
        }
    }
}

/// What an attempt brought.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub output: Value,
    /// Measured, in seconds.
    pub seconds: f64,
    /// What the step's own price list and its service ask for it.
    pub cost: f64,
    /// Measured, where it can be.
    pub memory_mb: Option<f64>,
    pub gpu: bool,
    /// A proof that came with it.
    pub proof: Option<Value>,
    /// The miner's receipt, where a job did it.
    pub miner_receipt: Option<Value>,
}
