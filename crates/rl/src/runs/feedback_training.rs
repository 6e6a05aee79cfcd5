//! Training runs that learn from feedback instead of an environment.

use tch::Device;

use super::{
    TrainingCaller, TrainingRuns, TrainingRunsInner,
    labels::RunLabels,
    model::{FeedbackTask, TrainingRun, TrainingTask},
    store,
};
use crate::{
    PolicyReference,
    error::{Result, RlError, corrupt_json_error},
    library::run_blocking,
    training::{FeedbackSample, OfflineSettings, OfflineTrainer},
};
use am_core::{
    crypto::sha256_hex,
    ids::{AgentId, TrainingRunId},
};
use am_db::idempotency::{IdempotencyKey, IdempotentResult};

/// A request for training an agent's policy by feedback.
#[derive(Clone, Debug)]
pub struct FeedbackTraining {
    /// Id of the agent.
    pub agent_id: AgentId,
    /// Name of its policy, whose newest version is the starting point.
    pub policy: String,
    /// Settings of the training.
    pub settings: OfflineSettings,
    /// Rows of feedback.
    pub feedback: Vec<FeedbackSample>,
}

impl TrainingRuns {
    /// Queue a run that trains the newest version of `caller`'s policy by feedback.
    ///
    /// # Errors
    /// [`RlError::Invalid`] for feedback that does not fit the policy, [`RlError::Forbidden`] for another owner's policy,
    /// [`RlError::Quota`] when the caller has too many runs.
    pub async fn queue_feedback_training(
        &self,
        caller: &TrainingCaller,
        teaching: FeedbackTraining,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<TrainingRun>> {
        let FeedbackTraining { agent_id, policy, settings, feedback } = teaching;
        self.0.library.check_may_publish(&caller.principal, &policy).await?;
        let (from, weights) = self.0.library.weights(&PolicyReference::newest(&policy)).await?;
        let rows = feedback.len();
        let text = serde_json::to_string(&feedback).map_err(|error| corrupt_json_error("feedback", error))?;
        let checked = settings.clone();
        run_blocking(move || {
            OfflineTrainer::new(&weights, &feedback, checked, Device::Cpu)
                .map(drop)
                .map_err(RlError::from_feedback_error)
        })
        .await?;
        let feedback_sha256 = sha256_hex(text.as_bytes());
        let lesson = FeedbackTask { agent_id, from: from.reference, settings, rows, feedback_sha256 };
        self.queue(caller, (policy, RunLabels::default()), TrainingTask::Learn(lesson), Some(text), once).await
    }
}

fn invalid_policy_error(error: impl std::fmt::Display) -> RlError {
    RlError::invalid("policy", error.to_string())
}

impl TrainingRunsInner {
    /// Create the trainer of run `id`.
    pub(super) async fn learner(
        &self,
        id: &TrainingRunId,
        lesson: &FeedbackTask,
        device: Device,
    ) -> Result<OfflineTrainer> {
        let from = lesson.from.parse().map_err(invalid_policy_error)?;
        let (_, weights) = self.library.weights(&from).await?;
        let text = store::get_feedback(&mut *self.db.read().await?, id).await?;
        let text = text.ok_or_else(|| RlError::InvalidState("the feedback no longer exists".into()))?;
        let feedback: Vec<FeedbackSample> =
            serde_json::from_str(&text).map_err(|error| corrupt_json_error("feedback", error))?;
        OfflineTrainer::new(&weights, &feedback, lesson.settings.clone(), device).map_err(RlError::from_plan_error)
    }
}
