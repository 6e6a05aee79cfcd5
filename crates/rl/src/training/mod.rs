//! Training algorithms: PPO (and its special case A2C), Rainbow DQN (and DQN), and SAC.
//!
//! Networks and optimisers are libtorch's; losses, projections and advantages are computed over slices, where the
//! formulas can be read and tested by hand. A trainer owns its random generator: equal settings and seeds give equal
//! bits, and so does a run that resumes from a [`TrainerCheckpoint`].

mod checkpoint;
mod device_tensors;
mod evaluation;
mod gae;
mod layer;
mod mlp;
mod moments;
mod offline;
pub(crate) mod parameters;
mod plan;
mod ppo;
mod rainbow;
mod replay;
mod sac;
pub(crate) mod sampling;
#[cfg(test)]
mod tests;
mod thread_priority;
mod weights_writer;

use serde::{Deserialize, Serialize};
pub use tch::Device;
use tch::TchError;

pub use self::{
    checkpoint::TrainerCheckpoint,
    evaluation::{EpisodeStats, GreedyPolicy, evaluate_episodes, evaluate_trainer},
    offline::{FeedbackAction, FeedbackSample, LearningMode, OfflineSettings, OfflineTrainer},
    plan::{Algorithm, TrainingPlan},
    ppo::{PpoSettings, PpoTrainer},
    rainbow::{RainbowSettings, RainbowTrainer},
    sac::{SacSettings, SacTrainer},
    thread_priority::lower_thread_priority,
};
use super::environments::{self, ActionSpace, EnvironmentDescription, FinishedEpisode};

/// Error of starting or continuing training.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    /// A setting is out of range or does not fit the environment.
    #[error("{name}: {reason}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Reason, as a sentence.
        reason: String,
    },
    /// Losses or weights are no longer finite.
    #[error("training diverged at step {step}: {what} is not finite; a lower learning_rate or reward_scale may help")]
    Diverged {
        /// Environment steps done.
        step: u64,
        /// Name of the quantity that is not finite.
        what: &'static str,
    },
    /// A checkpoint cannot be read, or belongs to another trainer.
    #[error("the checkpoint: {0}")]
    Checkpoint(String),
    /// The environments refused.
    #[error(transparent)]
    Environment(#[from] environments::EnvironmentError),
    /// An operation of libtorch failed.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl From<TchError> for TrainingError {
    fn from(error: TchError) -> Self {
        Self::Torch(error.to_string())
    }
}

impl From<serde_json::Error> for TrainingError {
    fn from(error: serde_json::Error) -> Self {
        Self::Checkpoint(error.to_string())
    }
}

impl From<safetensors::SafeTensorError> for TrainingError {
    fn from(error: safetensors::SafeTensorError) -> Self {
        Self::Checkpoint(error.to_string())
    }
}

/// Set the number of threads that libtorch uses inside an operation of this thread, from now on. More than one rarely
/// pays for networks this small.
pub fn set_threads(count: u16) {
    tch::set_num_threads(i32::from(count.max(1)));
}

/// A figure of the training: its usual name and its value.
pub type TrainingMeasure = (&'static str, f64);

/// Result of one [`Trainer::advance`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingProgress {
    /// Episodes that ended.
    pub ended: Vec<FinishedEpisode>,
    /// Gradient steps done.
    #[serde(default)]
    pub updates: u64,
    /// Losses and similar figures, means over the updates; empty if there was no update.
    #[serde(skip_deserializing)]
    pub measures: Vec<TrainingMeasure>,
}

/// A run of a training algorithm. It may move between threads, but is used by one at a time.
pub trait Trainer: Send {
    /// Train for a rollout or a few steps: some milliseconds, up to a second with large networks.
    ///
    /// # Errors
    /// [`TrainingError::Diverged`], and errors of libtorch; the trainer is unusable then, but its last checkpoint is valid.
    fn advance(&mut self) -> Result<TrainingProgress, TrainingError>;

    /// Return the number of environment steps done.
    fn steps(&self) -> u64;

    /// Return the number of environment steps that the run was created for; its schedules end there.
    fn total_steps(&self) -> u64;

    /// Return the complete state.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn save(&self) -> Result<TrainerCheckpoint<'_>, TrainingError>;

    /// Restore a state; the trainer must have been created with the same settings.
    ///
    /// # Errors
    /// [`TrainingError::Checkpoint`] when it belongs to another trainer; create a new trainer then.
    fn restore(&mut self, checkpoint: TrainerCheckpoint<'_>) -> Result<(), TrainingError>;

    /// Return the present policy as a safetensors file in the contract's form.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn weights(&self) -> Result<Vec<u8>, TrainingError>;

    /// Choose an action for each row of `observations`, without exploration.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn greedy(&self, observations: &[f32], chosen: &mut ChosenActions) -> Result<(), TrainingError>;
}

/// Actions for several environments.
#[derive(Debug, Clone, PartialEq)]
pub enum ChosenActions {
    /// One index per environment.
    Discrete(Vec<i64>),
    /// One vector per environment, one after the other.
    Continuous(Vec<f32>),
}

impl ChosenActions {
    /// Convert to the form that the environments take.
    pub fn actions(&self) -> environments::ActionBatch<'_> {
        match self {
            Self::Discrete(all) => environments::ActionBatch::Discrete(all),
            Self::Continuous(all) => environments::ActionBatch::Continuous(all),
        }
    }
}

/// Return the names of an environment's actions, for an algorithm that requires discrete ones.
fn discrete_action_names<'a>(
    algorithm: &str,
    described: &'a EnvironmentDescription,
) -> Result<&'a [String], TrainingError> {
    match &described.actions {
        ActionSpace::Discrete { names } => Ok(names),
        ActionSpace::Continuous { .. } => {
            let reason = format!("{algorithm} takes discrete actions; SAC takes continuous ones");
            Err(TrainingError::Setting { name: "algorithm", reason })
        }
    }
}

/// Refuse a setting that is out of range.
fn check_range<T: PartialOrd + std::fmt::Display>(
    name: &'static str,
    value: T,
    low: T,
    high: T,
) -> Result<(), TrainingError> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(TrainingError::Setting { name, reason: format!("{value} is not from {low} to {high}") })
}

/// Refuse a setting that is not above 0, or is above `most`.
fn check_positive(name: &'static str, value: f64, most: f64) -> Result<(), TrainingError> {
    if value > 0.0 && value <= most {
        return Ok(());
    }
    Err(TrainingError::Setting { name, reason: format!("{value} is not above 0 and at most {most}") })
}

/// Smallest and largest learning rate: below, 32-bit weights would not change, and the optimiser divides by it.
const LEARNING_RATES: [f64; 2] = [1e-10, 1.0];
/// Smallest and largest factor of rewards whose squares are exact enough in 32 bits.
const REWARD_SCALES: [f64; 2] = [1e-6, 1e6];
/// Smallest and largest maximum of a gradient's norm.
const GRADIENT_NORMS: [f64; 2] = [1e-6, 1e6];

/// Refuse a learning rate that 32-bit floats cannot apply.
fn check_learning_rate(value: f64) -> Result<(), TrainingError> {
    check_range("learning_rate", value, LEARNING_RATES[0], LEARNING_RATES[1])
}

/// Refuse a factor of rewards with which losses leave the range of 32-bit floats.
fn check_reward_scale(value: f64) -> Result<(), TrainingError> {
    check_range("reward_scale", value, REWARD_SCALES[0], REWARD_SCALES[1])
}

/// Refuse a limit of the gradient's norm that 32-bit floats cannot apply.
fn check_gradient(value: f64) -> Result<(), TrainingError> {
    check_range("gradient", value, GRADIENT_NORMS[0], GRADIENT_NORMS[1])
}

/// Refuse settings of an algorithm with a replay buffer under which a run of `steps` would never take a gradient step,
/// or draw each batch from fewer transitions than it has samples.
fn check_learns(warmup: u64, every: u64, batch: usize, steps: u64) -> Result<(), TrainingError> {
    let refused = |name, reason| Err(TrainingError::Setting { name, reason });
    if warmup >= steps {
        return refused(
            "warmup",
            format!("{warmup} is not below the {steps} steps of the run: it would end before learning begins"),
        );
    }
    // Gradient steps are taken at the multiples of `every`.
    if steps - steps % every.max(1) <= warmup {
        return refused(
            "every",
            format!("no multiple of {every} lies after the warmup of {warmup} within the {steps} steps of the run"),
        );
    }
    if batch as u64 > steps {
        return refused("batch", format!("{batch} is more than the {steps} transitions that the run collects"));
    }
    Ok(())
}

/// Index of the highest number; the lowest index among equals.
fn argmax(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, index| if row[index] > row[best] { index } else { best })
}
