//! Control requests for a training run: pause, resume, cancel.

use super::{
    Runs,
    model::{RunStatus, TrainingRun, Wish},
    store,
};
use crate::error::{Error, Result};
use am_db::{
    Tx,
    once::{Done, Once},
    principal::Principal,
};

impl Runs {
    /// Load policies that other processes have published.
    ///
    /// # Errors
    /// Returns a database error when a query or the transaction fails.
    pub async fn look_for_policies(&self) -> Result<()> {
        self.0.library.refresh().await
    }

    /// Request that a run stop at its next step, with a checkpoint. A queued run is paused at once.
    ///
    /// # Errors
    /// [`Error::State`] when it is paused or has ended.
    pub async fn pause(&self, caller: &Principal, id: &str, once: Option<Once>) -> Result<Done<TrainingRun>> {
        self.change(caller, id, "pause", once, async |tx: &mut Tx, run: &TrainingRun, now| match run.status {
            RunStatus::Running => store::wish(tx, &run.id, Some(Wish::Pause)).await,
            RunStatus::Queued => {
                store::release(tx, &run.id, RunStatus::Paused, &store::Ending::default(), now).await?;
                store::tell(tx, &run.id, "paused", serde_json::json!({}), now).await
            }
            status => Err(forbids("paused", status)),
        })
        .await
    }

    /// Queue a paused run again.
    ///
    /// # Errors
    /// [`Error::State`] when it is neither paused nor about to be.
    pub async fn resume(&self, caller: &Principal, id: &str, once: Option<Once>) -> Result<Done<TrainingRun>> {
        self.change(caller, id, "resume", once, async |tx: &mut Tx, run: &TrainingRun, now| {
            match (run.status, run.wish) {
                (RunStatus::Running, Some(Wish::Pause)) => store::wish(tx, &run.id, None).await,
                (RunStatus::Paused, _) => {
                    store::release(tx, &run.id, RunStatus::Queued, &store::Ending::default(), now).await?;
                    store::tell(tx, &run.id, "queued", serde_json::json!({"steps": run.steps_done}), now).await
                }
                (status, _) => Err(forbids("resumed", status)),
            }
        })
        .await
    }

    /// Request that a run end without a version.
    ///
    /// # Errors
    /// [`Error::State`] when it has ended.
    pub async fn cancel(&self, caller: &Principal, id: &str, once: Option<Once>) -> Result<Done<TrainingRun>> {
        self.change(caller, id, "cancel", once, async |tx: &mut Tx, run: &TrainingRun, now| match run.status {
            status if status.is_final() => Err(forbids("cancelled", status)),
            _ => super::withdraw_run(tx, run, now).await,
        })
        .await
    }
}

fn forbids(action: &str, status: RunStatus) -> Error {
    Error::State(format!("The training run cannot be {action}: it is {status}"))
}
