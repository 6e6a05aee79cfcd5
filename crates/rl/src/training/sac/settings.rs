//! Settings of SAC.

use serde::{Deserialize, Serialize};

use super::super::{TrainingError, check_learning_rate, check_learns, check_positive, check_range, check_reward_scale};

/// Settings of SAC; the defaults are the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SacSettings {
    /// Learning rate of Adam, for actor, critics and temperature: 1e-10 to 1.
    pub learning_rate: f64,
    /// Capacity of the replay buffer, in transitions: 1 000 to 10 000 000; at most the number of steps of the run.
    pub replay: usize,
    /// Steps with uniformly drawn actions before learning begins: at least 1, fewer than the run has.
    pub warmup: u64,
    /// Samples per gradient step: 1 to 4096.
    pub batch: usize,
    /// Discount factor of the next step's reward: 0 to 1.
    pub gamma: f64,
    /// Share by which the target critics follow in each step: above 0, at most 1.
    pub tau: f64,
    /// Target entropy of the policy: -1000 to 1000; null: minus the number of the action's numbers.
    pub target_entropy: Option<f64>,
    /// Initial temperature: 1e-6 to 1e6.
    pub temperature: f64,
    /// Factor of the rewards before learning: 1e-6 to 1e6.
    pub reward_scale: f64,
    /// Widths of the two hidden layers of actor and critics: 1 to 2048 each.
    pub hidden: [usize; 2],
}

impl Default for SacSettings {
    fn default() -> Self {
        Self {
            learning_rate: 3e-4,
            replay: 1_000_000,
            warmup: 100,
            batch: 256,
            gamma: 0.99,
            tau: 0.005,
            target_entropy: None,
            temperature: 1.0,
            reward_scale: 1.0,
            hidden: [256, 256],
        }
    }
}

impl SacSettings {
    /// Check that every setting is in its range.
    ///
    /// # Errors
    /// [`TrainingError::Setting`] for the first setting that is out of range.
    pub fn validate(&self) -> Result<(), TrainingError> {
        check_learning_rate(self.learning_rate)?;
        check_range("replay", self.replay, 1000, 10_000_000)?;
        check_range("warmup", self.warmup, 1, u64::MAX)?;
        check_range("batch", self.batch, 1, 4096)?;
        check_range("gamma", self.gamma, 0.0, 1.0)?;
        check_positive("tau", self.tau, 1.0)?;
        check_range("target_entropy", self.target_entropy.unwrap_or(0.0), -1000.0, 1000.0)?;
        check_range("temperature", self.temperature, 1e-6, 1e6)?;
        check_reward_scale(self.reward_scale)?;
        self.hidden.iter().try_for_each(|width| check_range("hidden", *width, 1, 2048))
    }

    /// Check that a run of `steps` learns.
    ///
    /// # Errors
    /// [`TrainingError::Setting`] for the setting that keeps it from learning.
    pub fn check_learns(&self, steps: u64) -> Result<(), TrainingError> {
        check_learns(self.warmup, 1, self.batch, steps)
    }
}
