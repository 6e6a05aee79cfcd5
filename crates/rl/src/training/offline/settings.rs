//! What learning from feedback can be set to, and what feedback is.

use serde::{Deserialize, Serialize};

use super::super::{Error, positive, within};

/// One thing that was done, and how good it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feedback {
    /// The state it was done in.
    pub state: Vec<f64>,
    /// What was done.
    pub action: FeedbackAction,
    /// How good it was; more is better.
    pub reward: f64,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FeedbackAction {
    /// The action of this index.
    Index(u64),
    /// An action of several numbers.
    Vector(Vec<f64>),
}

/// What may change, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// All layers, by the feedback as it comes.
    #[default]
    Reinforcement,
    /// The output layers only: what the layers before them have learnt stays.
    Transfer,
    /// All layers, towards weights from which each part of the feedback is soon learnt (Reptile: Nichol et al. 2018,
    /// arXiv:1803.02999).
    Meta,
}

/// Settings of learning from feedback.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OfflineSettings {
    /// What may change, and how.
    pub mode: Mode,
    /// Of Adam: above 0, at most 1.
    pub learning_rate: f64,
    /// Passes over the feedback: 1 to 10 000.
    pub epochs: u64,
    /// Rows of one gradient step: 1 to 4096.
    pub batch: usize,
    /// The same feedback, settings and seed give the same policy, on the same kind of processor.
    pub seed: u64,
    /// How much better than expected, in units of reward, an action must be to weigh e times as much: above 0. Of PPO and SAC.
    pub temperature: f64,
    /// The most that an action weighs: at least 1.
    pub most_weight: f64,
    /// Of meta: into how many parts the feedback falls, one after the other: 1 to 1000, at most as many as there are rows.
    pub tasks: usize,
    /// Of meta: passes over a part before the outer step: 1 to 100.
    pub inner_epochs: usize,
    /// Of meta: which share of the way to a part's weights the outer step goes: above 0, at most 1.
    pub outer_rate: f64,
}

impl Default for OfflineSettings {
    fn default() -> Self {
        Self {
            mode: Mode::Reinforcement,
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
    /// # Errors
    /// [`Error::Setting`] for the first that is out of its range.
    pub fn validate(&self) -> Result<(), Error> {
        positive("learning_rate", self.learning_rate, 1.0)?;
        within("epochs", self.epochs, 1, 10_000)?;
        within("batch", self.batch, 1, 4096)?;
        positive("temperature", self.temperature, f64::MAX)?;
        within("most_weight", self.most_weight, 1.0, 1e6)?;
        within("tasks", self.tasks, 1, 1000)?;
        within("inner_epochs", self.inner_epochs, 1, 100)?;
        positive("outer_rate", self.outer_rate, 1.0)
    }
}
