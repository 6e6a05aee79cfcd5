//! External tasks of a step, which continue independently of the run: a job in the coordinator's queue, a training run,
//! or an agent's assignment. A task is submitted in the transaction that saves the step as begun; a worker that takes
//! over waits for the same task.

use serde_json::{Value, json};

use crate::{
    action::JobSpec,
    assignments::{self, NewAssignment, is_assignment_id},
    error::{OrchestrationError, Result},
    event_kinds::ExecutionEventKind,
};
use am_core::boxed;
use am_core::ids::ExternalTaskId;
use am_db::{Tx, codec::Timestamp};
use am_jobs::NewJob;
use am_rl::runs::{self, NewTrainingRun, is_run_id};

/// An external task to be submitted with the next save.
#[derive(Debug)]
pub enum ExternalTask {
    /// Job for one of the coordinator's miners.
    Job(Box<NewJob>),
    /// Training run of this service.
    Training(Box<NewTrainingRun>),
    /// Assignment for an agent of the registry.
    Agent(Box<NewAssignment>),
}

impl ExternalTask {
    /// Return the id of the task.
    pub fn id(&self) -> ExternalTaskId {
        match self {
            Self::Job(job) => job.id.as_str().into(),
            Self::Training(run) => run.id.as_str().into(),
            Self::Agent(new) => new.id.as_str().into(),
        }
    }

    /// Return the event of its submission by step `step`.
    pub fn event(&self, step: &str, attempt: u32) -> (ExecutionEventKind, Value) {
        match self {
            Self::Job(job) => {
                (ExecutionEventKind::JobQueued, json!({"step": step, "job_id": job.id, "attempt": attempt}))
            }
            Self::Training(run) => {
                let data = json!({"step": step, "run_id": run.id, "policy": run.policy});
                (ExecutionEventKind::TrainingQueued, data)
            }
            Self::Agent(new) => {
                let data = json!({"step": step, "assignment_id": new.id, "task_type": new.need.task_type});
                (ExecutionEventKind::AssignmentPlaced, data)
            }
        }
    }

    /// Submit the task.
    #[boxed]
    pub async fn place(&self, tx: &mut Tx, now: Timestamp) -> Result<()> {
        match self {
            Self::Job(job) => Ok(am_jobs::enqueue(tx, job).await?),
            Self::Training(run) => runs::enqueue_run(tx, run, now).await.map_err(training_error),
            Self::Agent(new) => assignments::place_assignment(tx, new, now).await,
        }
    }
}

/// Cancel a task that no step waits for. Returns whether it had not begun, or ends at once.
#[boxed]
pub async fn cancel(tx: &mut Tx, id: &ExternalTaskId, now: Timestamp) -> Result<bool> {
    if is_run_id(id) {
        return runs::cancel_run(tx, &id.as_str().into(), now).await.map_err(training_error);
    }
    if is_assignment_id(id) {
        return assignments::cancel_assignment(tx, &id.as_str().into(), now).await;
    }
    Ok(am_jobs::cancel_queued(tx, &id.as_str().into()).await?)
}

fn training_error(error: am_rl::RlError) -> OrchestrationError {
    match error {
        am_rl::RlError::Db(error) => OrchestrationError::Db(error),
        other => OrchestrationError::Conflict(other.to_string()),
    }
}

/// Add members of the step's input that the request lacks; the prompt of a language model is taken from the input.
pub fn build_job_request(job: &JobSpec, mut request: Value, input: &Value) -> Value {
    let Some(members) = request.as_object_mut() else { return request };
    if let Some(more) = input.as_object() {
        for (name, value) in more {
            members.entry(name.as_str()).or_insert_with(|| value.clone());
        }
    }
    if job.service == am_jobs::JobService::LlmInference && !members.contains_key("prompt") {
        let text = ["prompt", "text", "input"].iter().find_map(|name| input.get(name).and_then(Value::as_str));
        let prompt = text.or(input.as_str()).map_or_else(|| input.to_string(), str::to_owned);
        members.insert("prompt".into(), Value::String(prompt));
    }
    request
}
