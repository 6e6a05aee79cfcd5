//! Training runs that learn from feedback instead of an environment.

use tch::Device;

use super::{
    Inner, Runs,
    model::{Lesson, Task, TrainingRun},
    store,
};
use crate::{
    PolicyReference,
    error::{Error, Result, unreadable},
    library::blocking,
    training::{Feedback, Offline, OfflineSettings},
};
use am_core::crypto::sha256_hex;
use am_db::{
    once::{Done, Once},
    principal::Principal,
};

/// A request for training an agent's policy by feedback.
#[derive(Clone, Debug)]
pub struct Teaching {
    /// Id of the agent.
    pub agent_id: String,
    /// Name of its policy, whose newest version is the starting point.
    pub policy: String,
    /// Settings of the training.
    pub settings: OfflineSettings,
    /// Rows of feedback.
    pub feedback: Vec<Feedback>,
}

impl Runs {
    /// Queue a run that trains the newest version of `caller`'s policy by feedback.
    ///
    /// # Errors
    /// [`Error::Invalid`] for feedback that does not fit the policy, [`Error::Forbidden`] for another owner's policy.
    pub async fn teach(&self, caller: &Principal, teaching: Teaching, once: Option<Once>) -> Result<Done<TrainingRun>> {
        let Teaching { agent_id, policy, settings, feedback } = teaching;
        self.0.library.may_publish(caller, &policy).await?;
        let (from, weights) = self.0.library.weights(&PolicyReference::newest(&policy)).await?;
        let rows = feedback.len();
        let text = serde_json::to_string(&feedback).map_err(|error| unreadable("feedback", error))?;
        let checked = settings.clone();
        blocking(move || Offline::new(&weights, &feedback, checked, Device::Cpu).map(drop).map_err(Error::of_lesson))
            .await?;
        let feedback_sha256 = sha256_hex(text.as_bytes());
        let lesson = Lesson { agent_id, from: from.reference, settings, rows, feedback_sha256 };
        self.queue(caller, policy, Task::Learn(lesson), Some(text), once).await
    }
}

fn bad_name(error: impl std::fmt::Display) -> Error {
    Error::invalid("policy", error.to_string())
}

impl Inner {
    /// Create the trainer of run `id`.
    pub(super) async fn learner(&self, id: &str, lesson: &Lesson, device: Device) -> Result<Offline> {
        let from = lesson.from.parse().map_err(bad_name)?;
        let (_, weights) = self.library.weights(&from).await?;
        let text = store::feedback(&mut *self.db.read().await?, id).await?;
        let text = text.ok_or_else(|| Error::State("the feedback no longer exists".into()))?;
        let feedback: Vec<Feedback> = serde_json::from_str(&text).map_err(|error| unreadable("feedback", error))?;
        Offline::new(&weights, &feedback, lesson.settings.clone(), device).map_err(Error::of_plan)
    }
}
