//! What one save of a run writes, separate from the run so that it can be sent to the writer.

use super::{audit_entries, external_tasks::ExternalTask};
use crate::{
    definition::CompiledStep,
    model::{ExecutionStatus, StepType, VerificationLevel},
    run::{Execution, PendingEvent, RunState, StepRun, StepVerification},
};
use am_audit::{AuditEntry, SecurityLevel};
use am_core::{
    ids::{ExecutionId, ExternalTaskId, PrincipalId, StepExecutionId, StepId, TraceId, WorkerId, WorkflowId},
    money::Money,
    value_budget::SizedValue,
};
use am_db::codec::{JsonText, Timestamp};

/// Owner of a run after a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Any worker may claim it.
    Ready,
    /// This worker drives it.
    Driven,
    /// The run has ended.
    Ended,
}

impl Ownership {
    /// The word in the column `am_runs.state`.
    pub fn stored(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Driven => "driven",
            Self::Ended => "ended",
        }
    }
}

/// All changes of a run that one save writes, separate from the run so that they can be sent to the writer.
pub struct RunCheckpoint {
    pub run: RunRow,
    pub steps: Vec<StepRow>,
    pub events: Vec<PendingEvent>,
    /// Audit entries of the changes.
    pub trail: Vec<AuditEntry>,
    /// External tasks of steps that are about to begin.
    pub orders: Vec<ExternalTask>,
    /// External tasks to cancel.
    pub take_back: Vec<ExternalTaskId>,
    /// Wall-clock time at which these are submitted and cancelled.
    pub ordered_at: Timestamp,
    pub hold: Ownership,
    /// What the run has cost since it was last saved.
    pub cost: Money,
    /// Whether budgets reserve what the run may cost.
    pub is_bound: bool,
    /// Worker that saves the run.
    pub worker_id: WorkerId,
}

/// Columns written only when a run is created.
pub struct NewExecution {
    pub definition_hash: String,
    pub definition: std::sync::Arc<str>,
    pub inputs: String,
    pub level: VerificationLevel,
    pub security: SecurityLevel,
    pub max_execution_time: i64,
    pub max_cost_budget: Money,
    pub trace_id: Option<TraceId>,
}

/// Columns of `agent_executions` and `am_runs` that change.
pub struct RunRow {
    pub id: ExecutionId,
    pub workflow_id: WorkflowId,
    pub client_id: PrincipalId,
    pub fence: i64,
    pub status: ExecutionStatus,
    pub step_states: String,
    pub final_result: JsonText,
    pub receipt: JsonText,
    pub proof: JsonText,
    pub error: Option<String>,
    pub failed_step: Option<String>,
    pub started_at: Option<Timestamp>,
    pub completed_at: Option<Timestamp>,
    pub total_cost: Money,
    pub total_steps: i64,
    pub completed_steps: i64,
    pub created_at: Timestamp,
    pub now: Timestamp,
    pub active_seconds: f64,
    pub reserved_cost: Money,
    /// Whether it has ended, and the proof of a step that requires one is to be made.
    pub wants_proof: bool,
}

/// Row of `agent_step_executions`.
pub struct StepRow {
    pub row_id: StepExecutionId,
    pub step_id: StepId,
    pub step_type: StepType,
    /// Columns `input_data` and `output_data`.
    pub input: String,
    pub output: String,
    /// Whether the proof that it requires is still to be made.
    pub awaits_proof: bool,
    pub step: StepRun,
}

impl RunCheckpoint {
    /// Collect the changes in `run` since its last save, and mark them as saved.
    pub fn from_run(run: &mut RunState, hold: Ownership, worker_id: &WorkerId, now: Timestamp) -> Self {
        let row = RunRow {
            id: run.id.clone(),
            workflow_id: run.workflow_id.clone(),
            client_id: run.client_id.clone(),
            fence: run.fence,
            status: run.status,
            step_states: run.step_states().to_string(),
            final_result: run.final_result.clone(),
            receipt: run.receipt.clone(),
            proof: run.proof.clone(),
            error: run.error.clone(),
            failed_step: run.failed_step.clone(),
            started_at: run.started_at,
            completed_at: run.completed_at,
            total_cost: run.total_cost,
            total_steps: run.steps.len() as i64,
            completed_steps: run.completed_steps() as i64,
            created_at: run.created_at,
            now,
            active_seconds: run.active_seconds(now),
            reserved_cost: run.steps.iter().map(|step| step.reserved).sum(),
            wants_proof: hold == Ownership::Ended
                && run.plan.steps.iter().zip(&run.steps).any(|(spec, step)| awaits_proof(spec, step)),
        };
        let steps = run
            .steps
            .iter_mut()
            .zip(&run.plan.steps)
            .filter(|(step, _)| step.dirty)
            .map(|(step, spec)| {
                step.dirty = false;
                StepRow {
                    row_id: step.row_id.clone(),
                    step_id: step.step_id.clone(),
                    step_type: spec.step_type,
                    input: json_text(&step.input),
                    output: json_text(&step.output),
                    awaits_proof: awaits_proof(spec, step),
                    step: step.clone(),
                }
            })
            .collect();
        let trail = audit_entries::build_entries(run, now);
        run.is_new = false;
        let cost = run.total_cost - std::mem::replace(&mut run.posted_cost, run.total_cost);
        let events = std::mem::take(&mut run.events);
        Self {
            run: row,
            steps,
            events,
            trail,
            orders: Vec::new(),
            take_back: Vec::new(),
            ordered_at: now,
            hold,
            cost,
            is_bound: run.is_bound,
            worker_id: worker_id.clone(),
        }
    }

    /// Return the execution as it is stored with this save.
    pub fn execution(&self) -> Execution {
        let run = &self.run;
        let states = serde_json::value::RawValue::from_string(run.step_states.clone());
        Execution {
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
}

/// Whether a step requires a proof by its definition and none came with its result.
fn awaits_proof(spec: &CompiledStep, step: &StepRun) -> bool {
    spec.requires_proof && step.verification.as_ref().is_some_and(StepVerification::lacks_proof)
}

/// Serialize a step's input or output as JSON.
fn json_text(value: &Option<SizedValue>) -> String {
    value.as_ref().map_or_else(|| "null".to_owned(), |value| value.to_string())
}

impl NewExecution {
    /// Collect the columns of `run`, which has never been saved.
    pub fn from_run(run: &RunState) -> Self {
        Self {
            definition_hash: run.plan.hash.clone(),
            definition: run.plan.body.clone(),
            inputs: run.inputs.to_string(),
            level: run.level,
            security: run.security,
            max_execution_time: run.limits.seconds,
            max_cost_budget: run.limits.budget,
            trace_id: run.trace_id.clone(),
        }
    }
}
