//! Failures of runs in the log.

use crate::{model::ExecutionStatus, run::RunState};

/// Log that a run failed, once it is saved: with the kind of failure, without its text, which may hold values of its owner's.
pub fn log_failure(run: &RunState, class: &'static str) {
    if run.status == ExecutionStatus::Failed {
        let (execution, workflow, step) = (run.id.as_str(), run.workflow_id.as_str(), run.failed_step.as_deref());
        tracing::warn!(execution, workflow, step, class, "execution failed");
    }
}
