//! Algorithms that make a policy from experience: PPO (and A2C, which is a setting of it), Rainbow DQN (and DQN), and SAC.
//!
//! Networks and their optimisers are libtorch's; what is computed of a few numbers (losses, projections, advantages) is
//! written out over slices, where a formula can be read and tried by hand. A trainer owns its generator: the same
//! settings and seed give the same bits, and so does a run that goes on from a [`Checkpoint`].

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

/// Why training can't begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is out of its range, or doesn't fit the environment.
    #[error("{name}: {reason}")]
    Setting {
        /// Which one.
        name: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Losses or weights are no longer finite.
    #[error("training diverged at step {step}: {what} is not finite; a lower learning_rate may help")]
    Diverged {
        /// Environment steps done.
        step: u64,
        /// What is not finite.
        what: &'static str,
    },
    /// A checkpoint that can't be read, or is another trainer's.
    #[error("the checkpoint: {0}")]
    Checkpoint(String),
    /// The environments refused.
    #[error(transparent)]
    Environment(#[from] environments::Error),
    /// libtorch refused.
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

/// Let libtorch compute with so many threads, from here on in this thread. More than one rarely pays for networks this
/// small.
pub fn set_threads(count: u16) {
    tch::set_num_threads(i32::from(count.max(1)));
}

/// A number that training shows, by its usual name.
pub type Measure = (&'static str, f64);

/// What one [`Trainer::advance`] did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The episodes that ended.
    pub ended: Vec<Ended>,
    /// Losses and the like, means over the updates; empty where there was no update.
    #[serde(skip_deserializing)]
    pub measures: Vec<Measure>,
}

/// A run of an algorithm. Not bound to a thread, but to one at a time.
pub trait Trainer: Send {
    /// Go on for a rollout or a few steps: some milliseconds, up to a second with large networks.
    ///
    /// # Errors
    /// [`Error::Diverged`], and what libtorch refuses; the trainer is of no use then, but its last checkpoint is.
    fn advance(&mut self) -> Result<Progress, Error>;

    /// Environment steps done.
    fn steps(&self) -> u64;

    /// Environment steps that the run was set up for: the schedules end there.
    fn total_steps(&self) -> u64;

    /// What it takes to go on.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn save(&self) -> Result<Checkpoint, Error>;

    /// Go on from there: the trainer was made of the same settings.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when it is of another trainer; make a new one then.
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<(), Error>;

    /// The policy as it is: a safetensors file in the form of the contract.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn weights(&self) -> Result<Vec<u8>, Error>;

    /// What the policy does, without exploring, in each row of `observations`.
    ///
    /// # Errors
    /// When libtorch refuses.
    fn greedy(&self, observations: &[f32], chosen: &mut Chosen) -> Result<(), Error>;
}

/// Actions for several environments.
#[derive(Debug, Clone, PartialEq)]
pub enum Chosen {
    /// An index for each.
    Discrete(Vec<i64>),
    /// A vector for each, one after the other.
    Continuous(Vec<f32>),
}

impl Chosen {
    /// As the environments take them.
    pub fn actions(&self) -> environments::Actions<'_> {
        match self {
            Self::Discrete(all) => environments::Actions::Discrete(all),
            Self::Continuous(all) => environments::Actions::Continuous(all),
        }
    }
}

/// The names of an environment's actions, for an algorithm that takes discrete ones only.
fn discrete<'a>(algorithm: &str, described: &'a Description) -> Result<&'a [String], Error> {
    match &described.actions {
        ActionSpace::Discrete { names } => Ok(names),
        ActionSpace::Continuous { .. } => {
            let reason = format!("{algorithm} takes discrete actions; SAC takes continuous ones");
            Err(Error::Setting { name: "algorithm", reason })
        }
    }
}

/// Refuse a setting that is out of its range.
fn within<T: PartialOrd + std::fmt::Display>(name: &'static str, value: T, low: T, high: T) -> Result<(), Error> {
    if value >= low && value <= high {
        return Ok(());
    }
    Err(Error::Setting { name, reason: format!("{value} is not from {low} to {high}") })
}

/// Refuse a setting that is not above 0, or above `most`.
fn positive(name: &'static str, value: f64, most: f64) -> Result<(), Error> {
    if value > 0.0 && value <= most {
        return Ok(());
    }
    let limit = if most < f64::MAX { format!(" and at most {most}") } else { String::new() };
    Err(Error::Setting { name, reason: format!("{value} is not above 0{limit}") })
}

/// The index of the highest number, the lowest index of equals.
fn highest(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, index| if row[index] > row[best] { index } else { best })
}
