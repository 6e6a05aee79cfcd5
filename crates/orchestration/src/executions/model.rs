//! What an execution and its steps are to a client.

use serde::{Deserialize, Serialize};

use crate::{
    engine::{Save, round},
    model::Status,
};
use am_db::{
    codec::{Doc, Timestamp},
    owner,
    page::Page,
};

/// A row of `agent_executions`, with whether it is paused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Execution {
    /// `exec_` and 10 hex digits.
    pub id: String,
    /// The workflow, or the network, that it is a run of.
    pub workflow_id: String,
    /// As stored; shown as a principal.
    #[serde(serialize_with = "owner::shown")]
    pub client_id: String,
    /// Where it stands.
    pub status: Status,
    /// Begin nothing until it is resumed?
    pub paused: bool,
    /// Steps done.
    pub current_step: i64,
    /// By step key: status, attempts, cost, times.
    pub step_states: Doc,
    /// `step_results` by step key, once it has ended well.
    pub final_result: Doc,
    /// The signed receipt.
    pub execution_receipt: Doc,
    /// How it was verified.
    pub verification_proof: Doc,
    /// Why it failed.
    pub error_message: Option<String>,
    /// The step that made it fail.
    pub failed_step: Option<String>,
    /// When the first step began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Seconds between the two.
    pub total_execution_time: Option<f64>,
    /// Settled cost.
    pub total_cost: f64,
    /// Steps in all.
    pub total_steps: i64,
    /// Steps that ended well.
    pub completed_steps: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was saved last.
    pub updated_at: Timestamp,
}

impl Execution {
    /// What a save has just written.
    pub(crate) fn of_save(save: &Save) -> Self {
        let run = &save.run;
        let states = serde_json::value::RawValue::from_string(run.step_states.clone());
        Self {
            id: run.id.clone(),
            workflow_id: run.workflow_id.clone(),
            client_id: run.client_id.clone(),
            status: run.status,
            paused: false,
            current_step: run.completed_steps,
            step_states: states.map_or_else(|_| Doc::none(), Doc::raw),
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

    /// Percent done, 0 to 100.
    pub fn progress(&self) -> f64 {
        match (self.status, self.total_steps) {
            (Status::Completed, _) => 100.0,
            (_, 0) => 0.0,
            (_, total) => round(100.0 * self.completed_steps.min(total) as f64 / total as f64),
        }
    }
}

/// Which executions to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this workflow's.
    pub workflow_id: Option<String>,
    /// Only in this state.
    pub status: Option<Status>,
    /// Which of them.
    pub page: Page,
}

/// One step of an execution, as its log shows it.
#[derive(Clone, Debug)]
pub struct StepLog {
    /// Its key in the definition, where that is known.
    pub key: Option<String>,
    /// The row in `agent_steps`.
    pub step_id: String,
    /// Where it stands.
    pub status: Status,
    /// When its last attempt began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Seconds of all its attempts.
    pub execution_time: Option<f64>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// Did a GPU do it?
    pub gpu_accelerated: bool,
    /// MB, where it was measured.
    pub memory_usage: Option<f64>,
    /// Attempts after the first.
    pub retry_count: i64,
    /// `verified` or `failed`.
    pub verification_status: Option<String>,
    /// What went in.
    pub input: Doc,
    /// What came out.
    pub output: Doc,
    /// The checks, one by one.
    pub proof: Doc,
}
