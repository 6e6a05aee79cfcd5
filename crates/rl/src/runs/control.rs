//! Control requests for a training run: pause, resume, cancel.

use std::time::Duration;

use super::{
    TrainingCaller, TrainingRuns,
    labels::{LabelChange, RunLabels},
    model::{ControlRequest, RunStatus, TrainingRun},
    store,
    training_event::TrainingEventKind,
};
use crate::{
    error::{Result, RlError},
    model::PolicyReference,
};
use am_core::boxed;
use am_core::ids::TrainingRunId;
use am_db::{
    Tx,
    idempotency::{IdempotencyKey, IdempotentResult},
};

impl TrainingRuns {
    /// Look for changes if `reference` names nothing that is known; see [`crate::library::PolicyLibrary::look_for`].
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn look_for(&self, reference: &PolicyReference) -> Result<()> {
        self.0.library.look_for(reference).await
    }

    /// Return a run that was queued just now; with `wait` as it is once it has ended or the time is up.
    ///
    /// # Errors
    /// As [`TrainingRuns::get`].
    #[boxed]
    pub async fn observe(
        &self,
        caller: &TrainingCaller,
        queued: IdempotentResult<TrainingRun>,
        wait: Option<Duration>,
    ) -> Result<IdempotentResult<TrainingRun>> {
        let Some(wait) = wait else { return Ok(queued) };
        let value = self.wait(caller, &queued.value.id, wait).await?;
        Ok(IdempotentResult { value, replayed: queued.replayed })
    }

    /// Request that a run stop at its next step, with a checkpoint. A queued run is paused at once.
    ///
    /// # Errors
    /// [`RlError::InvalidState`] when it is paused or has ended.
    #[boxed]
    pub async fn pause(
        &self,
        caller: &TrainingCaller,
        id: &TrainingRunId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<TrainingRun>> {
        self.change(caller, id, "pause", once, async |tx: &mut Tx, run: &TrainingRun, now| match run.status {
            RunStatus::Running => store::set_control_request(tx, &run.id, Some(ControlRequest::Pause)).await,
            RunStatus::Queued => {
                store::save_release(tx, &run.id, RunStatus::Paused, &store::RunEnding::default(), now).await?;
                store::append_event(tx, &run.id, TrainingEventKind::Paused, serde_json::json!({}), now).await
            }
            status => Err(wrong_state_error("paused", status)),
        })
        .await
    }

    /// Queue a paused run again.
    ///
    /// # Errors
    /// [`RlError::InvalidState`] when it is neither paused nor about to be.
    #[boxed]
    pub async fn resume(
        &self,
        caller: &TrainingCaller,
        id: &TrainingRunId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<TrainingRun>> {
        self.change(caller, id, "resume", once, async |tx: &mut Tx, run: &TrainingRun, now| {
            match (run.status, run.wish) {
                (RunStatus::Running, Some(ControlRequest::Pause)) => {
                    store::set_control_request(tx, &run.id, None).await
                }
                (RunStatus::Paused, _) => {
                    store::save_release(tx, &run.id, RunStatus::Queued, &store::RunEnding::default(), now).await?;
                    let data = serde_json::json!({"steps": run.steps_done});
                    store::append_event(tx, &run.id, TrainingEventKind::Queued, data, now).await
                }
                (status, _) => Err(wrong_state_error("resumed", status)),
            }
        })
        .await
    }

    /// Give a run another name or other tags, whatever its status.
    ///
    /// # Errors
    /// [`RlError::Invalid`] for a name or a tag that does not fit; [`RlError::NotFound`].
    #[boxed]
    pub async fn relabel(
        &self,
        caller: &TrainingCaller,
        id: &TrainingRunId,
        labels: LabelChange,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<TrainingRun>> {
        RunLabels::default().changed(labels.clone()).faults().finish()?;
        self.change(caller, id, "relabel", once, async move |tx: &mut Tx, run: &TrainingRun, now| {
            let before = RunLabels { name: run.name.clone(), tags: run.tags.clone() };
            store::save_labels(tx, run, &before.changed(labels), now).await
        })
        .await
    }

    /// Request that a run end without a version.
    ///
    /// # Errors
    /// [`RlError::InvalidState`] when it has ended.
    #[boxed]
    pub async fn cancel(
        &self,
        caller: &TrainingCaller,
        id: &TrainingRunId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<TrainingRun>> {
        self.change(caller, id, "cancel", once, async |tx: &mut Tx, run: &TrainingRun, now| match run.status {
            status if status.is_final() => Err(wrong_state_error("cancelled", status)),
            _ => super::cancel_open_run(tx, run, now).await,
        })
        .await
    }
}

fn wrong_state_error(action: &str, status: RunStatus) -> RlError {
    RlError::InvalidState(format!("The training run cannot be {action}: it is {status}"))
}
