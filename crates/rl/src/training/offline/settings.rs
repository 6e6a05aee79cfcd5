//! Settings of learning from feedback, and the form of feedback.

use serde::{Deserialize, Serialize};

use super::super::{TrainingError, check_learning_rate, check_positive, check_range};

/// An action with its reward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedbackSample {
    /// State in which the action was done.
    pub state: Vec<f64>,
    /// Action that was done.
    pub action: FeedbackAction,
    /// Reward of the action; more is better.
    pub reward: f64,
}

/// An action in feedback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum FeedbackAction {
    /// Index of a discrete action.
    Index(u64),
    /// Vector of a continuous action.
    Vector(Vec<f64>),
}

/// Mode of learning: which layers change, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = LearningMode)]
pub enum LearningMode {
    /// Train all layers on the feedback.
    #[default]
    Reinforcement,
    /// Train only the output layers; the layers before them keep what they have learned.
    Transfer,
    /// Train all layers towards weights from which each part of the feedback is learned quickly (Reptile: Nichol et al.
    /// 2018, arXiv:1803.02999).
    Meta,
}

/// Settings of learning from feedback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OfflineSettings {
    /// Mode of learning.
    pub mode: LearningMode,
    /// Learning rate of Adam: 1e-10 to 1.
    pub learning_rate: f64,
    /// Passes over the feedback: 1 to 10 000.
    pub epochs: u64,
    /// Rows per gradient step: 1 to 4096.
    pub batch: usize,
    /// Seed. Equal feedback, settings and seeds give equal policies on processors of the same kind.
    pub seed: u64,
    /// Advantage, in standard deviations of the advantages, at which an action weighs e times as much as an expected
    /// one: 0.001 to 1 000 000. Used for PPO and SAC.
    pub temperature: f64,
    /// Maximum weight of an action: at least 1.
    pub most_weight: f64,
    /// Number of consecutive parts that the feedback is divided into in mode `meta`: 1 to 1000, at most the number of
    /// rows.
    pub tasks: usize,
    /// Passes over a part before the outer step in mode `meta`: 1 to 100.
    pub inner_epochs: usize,
    /// Share of the way to a part's weights that the outer step goes in mode `meta`: above 0, at most 1.
    pub outer_rate: f64,
}

impl Default for OfflineSettings {
    fn default() -> Self {
        Self {
            mode: LearningMode::Reinforcement,
            learning_rate: 1e-3,
            epochs: 20,
            batch: 64,
            seed: 0,
            temperature: 1.0,
            most_weight: 20.0,
            tasks: 4,
            inner_epochs: 3,
            outer_rate: 0.5,
        }
    }
}

impl OfflineSettings {
    /// Check that every setting is in its range.
    ///
    /// # Errors
    /// [`TrainingError::Setting`] for the first setting that is out of range.
    pub fn validate(&self) -> Result<(), TrainingError> {
        check_learning_rate(self.learning_rate)?;
        check_range("epochs", self.epochs, 1, 10_000)?;
        check_range("batch", self.batch, 1, 4096)?;
        check_range("temperature", self.temperature, 1e-3, 1e6)?;
        check_range("most_weight", self.most_weight, 1.0, 1e6)?;
        check_range("tasks", self.tasks, 1, 1000)?;
        check_range("inner_epochs", self.inner_epochs, 1, 100)?;
        check_positive("outer_rate", self.outer_rate, 1.0)
    }
}
