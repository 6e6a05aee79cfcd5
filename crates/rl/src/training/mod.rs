//! Training algorithms: PPO (and its special case A2C), Rainbow DQN (and DQN), and SAC.
//!
//! Networks and optimisers are libtorch's; losses, projections and advantages are computed over slices, where the
//! formulas can be read and tested by hand. A trainer owns its random generator: equal settings and seeds give equal
//! bits, and so does a run that resumes from a [`Checkpoint`].

mod checkpoint;
mod evaluation;
mod gae;
mod layer;
mod mlp;
mod modest;
mod moments;
mod offline;
mod parameters;
mod plan;
mod ppo;
mod rainbow;
mod random;
mod replay;
mod sac;
#[cfg(test)]
mod tests;
mod weights;

use serde::{Deserialize, Serialize};
pub use tch::Device;
use tch::TchError;

pub use self::{
    checkpoint::Checkpoint,
    evaluation::{Evaluated, Greedy, episodes, evaluate},
    modest::be_modest,
    offline::{Feedback, FeedbackAction, Mode, Offline, OfflineSettings},
    plan::{Algorithm, Plan},
    ppo::{Ppo, PpoSettings},
    rainbow::{Rainbow, RainbowSettings},
    sac::{Sac, SacSettings},
};
use super::environments::{self, ActionSpace, Description, Ended};

/// Error of starting or continuing training.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is out of range or does not fit the environment.
    #[error("{name}: {reason}")]
    Setting {
        /// Name of the setting.
        name: &'static str,
        /// Reason, as a sentence.
        reason: String,
    },
    /// Losses or weights are no longer finite.
    #[error("training diverged at step {step}: {what} is not finite; a lower learning_rate may help")]
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
    Environment(#[from] environments::Error),
    /// An operation of libtorch failed.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl From<TchError> for Error {
    fn from(error: TchError) -> Self {
        Self::Torch(error.to_string())
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Checkpoint(error.to_string())
    }
}

impl From<safetensors::SafeTensorError> for Error {
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
pub type Measure = (&'static str, f64);

/// Result of one [`Trainer::advance`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Episodes that ended.
    pub ended: Vec<Ended>,
    /// Losses and similar figures, means over the updates; empty if there was no update.
    #[serde(skip_deserializing)]
    pub measures: Vec<Measure>,
}

/// A run of a training algorithm. It may move between threads, but is used by one at a time.
pub trait Trainer: Send {
    /// Train for a rollout or a few steps: some milliseconds, up to a second with large networks.
    ///
    /// # Errors
    /// [`Error::Diverged`], and errors of libtorch; the trainer is unusable then, but its last checkpoint is valid.
    fn advance(&mut self) -> Result<Progress, Error>;

    /// Return the number of environment steps done.
    fn steps(&self) -> u64;

    /// Return the number of environment steps that the run was created for; its schedules end there.
    fn total_steps(&self) -> u64;

    /// Return the complete state.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn save(&self) -> Result<Checkpoint, Error>;

    /// Restore a state; the trainer must have been created with the same settings.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when it belongs to another trainer; create a new trainer then.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), Error>;

    /// Return the present policy as a safetensors file in the contract's form.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn weights(&self) -> Result<Vec<u8>, Error>;

    /// Choose an action for each row of `observations`, without exploration.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn greedy(&self, observations: &[f32], chosen: &mut Chosen) -> Result<(), Error>;
}

/// Actions for several environments.
#[derive(Debug, Clone, PartialEq)]
pub enum Chosen {
    /// One index per environment.
    Discrete(Vec<i64>),
    /// One vector per environment, one after the other.
    Continuous(Vec<f32>),
}

impl Chosen {
    /// Convert to the form that the environments take.
    pub fn actions(&self) -> environments::Actions<'_> {
        match self {
            Self::Discrete(all) => environments::Actions::Discrete(all),
            Self::Continuous(all) => environments::Actions::Continuous(all),
        }
    }
}

/// Return the names of an environment's actions, for an algorithm that requires discrete ones.
fn discrete<'a>(algorithm: &str, described: &'a Description) -> Result<&'a [String], Error> {
    match &described.actions {
        ActionSpace::Discrete { names } => Ok(names),
        ActionSpace::Continuous { .. } => {
            let reason = format!("{algorithm} takes discrete actions; SAC takes continuous ones");
            Err(Error::Setting { name: "algorithm", reason })
        }
    }
}

/// Refuse a setting that is out of range.
fn within<T: PartialOrd + std::fmt::Display>(name: &'static str, value: T, low: T, high: T) -> Result<(), Error> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(Error::Setting { name, reason: format!("{value} is not from {low} to {high}") })
}

/// Refuse a setting that is not above 0, or is above `most`.
fn positive(name: &'static str, value: f64, most: f64) -> Result<(), Error> {
    if value > 0.0 && value <= most {
        return Ok(());
    }
    let limit = if most < f64::MAX { format!(" and at most {most}") } else { String::new() };
    Err(Error::Setting { name, reason: format!("{value} is not above 0{limit}") })
}

/// Index of the highest number; the lowest index among equals.
fn highest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, index| if row[index] > row[best] { index } else { best })
}
