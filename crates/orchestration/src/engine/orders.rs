//! External tasks of a step, which continue independently of the run: a job in the coordinator's queue, a training run,
//! or an agent's assignment. A task is submitted in the transaction that saves the step as begun; a worker that takes
//! over waits for the same task.

use serde_json::{Value, json};

use crate::{
    assignments::{self, NewAssignment, is_assignment_id},
    error::{Error, Result},
};
use am_db::{Tx, codec::Timestamp};
use am_jobs::NewJob;
use am_rl::runs::{self, NewRun, is_run_id};

/// An external task to be submitted with the next save.
#[derive(Debug)]
pub enum Order {
    /// Job for one of the coordinator's miners.
    Job(NewJob),
    /// Training run of this service.
    Training(NewRun),
    /// Assignment for an agent of the registry.
    Agent(Box<NewAssignment>),
}

impl Order {
    /// Return the id of the task.
    pub fn id(&self) -> &str {
        match self {
            Self::Job(job) => &job.id,
            Self::Training(run) => &run.id,
            Self::Agent(new) => &new.id,
        }
    }

    /// Return the event of its submission by step `step`.
    pub fn event(&self, step: &str) -> (&'static str, Value) {
        match self {
            Self::Job(job) => ("job_queued", json!({"step": step, "job_id": job.id})),
            Self::Training(run) => ("training_queued", json!({"step": step, "run_id": run.id, "policy": run.policy})),
            Self::Agent(new) => {
                ("assignment_placed", json!({"step": step, "assignment_id": new.id, "task_type": new.need.task_type}))
            }
        }
    }

    /// Submit the task.
    pub async fn place(&self, tx: &mut Tx, now: Timestamp) -> Result<()> {
        match self {
            Self::Job(job) => Ok(am_jobs::enqueue(tx, job).await?),
            Self::Training(run) => runs::enqueue(tx, run, now).await.map_err(of_training),
            Self::Agent(new) => assignments::place(tx, new, now).await,
        }
    }
}

/// Cancel a task that no step waits for. Returns whether it had not begun, or ends at once.
pub async fn take_back(tx: &mut Tx, id: &str, now: Timestamp) -> Result<bool> {
    if is_run_id(id) {
        return runs::withdraw(tx, id, now).await.map_err(of_training);
    }
    if is_assignment_id(id) {
        return assignments::take_back(tx, id, now).await;
    }
    Ok(am_jobs::take_back(tx, id).await?)
}

fn of_training(error: am_rl::Error) -> Error {
    match error {
        am_rl::Error::Db(error) => Error::Db(error),
        other => Error::Conflict(other.to_string()),
    }
}
