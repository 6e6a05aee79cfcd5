//! Settings of PPO.

use serde::{Deserialize, Serialize};

use super::super::{
    TrainingError, check_gradient, check_learning_rate, check_positive, check_range, check_reward_scale,
};

/// Settings of PPO; the defaults are CleanRL's, except for ReLU networks of the contract's width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PpoSettings {
    /// Number of environments stepped together: 1 to 256.
    pub environments: usize,
    /// Steps per environment between updates: 1 to 8192.
    pub rollout: usize,
    /// Samples per gradient step: 1 to environments x rollout.
    pub batch: usize,
    /// Passes over a rollout: 1 to 100.
    pub epochs: usize,
    /// Initial learning rate of Adam: 1e-10 to 1.
    pub learning_rate: f64,
    /// Whether the learning rate falls linearly to 0 at the last step.
    pub anneal: bool,
    /// Discount factor of the next step's reward: 0 to 1.
    pub gamma: f64,
    /// Lambda of generalised advantage estimation: 0 to 1.
    pub lambda: f64,
    /// Maximum distance from 1 of the ratio of new to old probability: above 0, at most 1.
    pub clip: f64,
    /// Whether the critic's change is clipped by the same amount.
    pub clip_value: bool,
    /// Whether the advantages of a batch are normalised to mean 0 and variance 1.
    pub normalize_advantages: bool,
    /// Whether observations are normalised, by running moments.
    pub normalize_observations: bool,
    /// Weight of the entropy bonus: 0 to 10.
    pub entropy: f64,
    /// Weight of the critic's loss: 0 to 10.
    pub critic: f64,
    /// Maximum norm of the gradient: 1e-6 to 1e6.
    pub gradient: f64,
    /// Approximate KL divergence of the policies at which an update's passes stop: above 0, at most
    /// 1e6; null: never.
    pub kl: Option<f64>,
    /// Factor of the rewards before learning: 1e-6 to 1e6.
    pub reward_scale: f64,
    /// Widths of the two hidden layers of actor and critic: 1 to 2048 each.
    pub hidden: [usize; 2],
}

impl Default for PpoSettings {
    fn default() -> Self {
        Self {
            environments: 8,
            rollout: 128,
            batch: 256,
            epochs: 4,
            learning_rate: 2.5e-4,
            anneal: true,
            gamma: 0.99,
            lambda: 0.95,
            clip: 0.2,
            clip_value: true,
            normalize_advantages: true,
            normalize_observations: false,
            entropy: 0.01,
            critic: 0.5,
            gradient: 0.5,
            kl: None,
            reward_scale: 1.0,
            hidden: [256, 256],
        }
    }
}

impl PpoSettings {
    /// Settings of A2C: one pass over short rollouts in a single batch, where clipping has no effect (Huang et al.
    /// 2022, "A2C is a special case of PPO", arXiv:2205.09123); Adam replaces RMSProp.
    pub fn a2c() -> Self {
        Self {
            rollout: 5,
            batch: 40,
            epochs: 1,
            learning_rate: 7e-4,
            lambda: 1.0,
            clip_value: false,
            normalize_advantages: false,
            entropy: 0.0,
            ..Self::default()
        }
    }

    /// # Errors
    /// [`TrainingError::Setting`] for the first setting that is out of range.
    pub fn validate(&self) -> Result<(), TrainingError> {
        check_range("environments", self.environments, 1, 256)?;
        check_range("rollout", self.rollout, 1, 8192)?;
        let samples = self.environments * self.rollout;
        if !(1..=samples).contains(&self.batch) {
            let reason = format!(
                "{} is not from 1 to {samples}, the samples of a rollout: environments ({}) x rollout ({})",
                self.batch, self.environments, self.rollout
            );
            return Err(TrainingError::Setting { name: "batch", reason });
        }
        check_range("epochs", self.epochs, 1, 100)?;
        check_learning_rate(self.learning_rate)?;
        check_range("gamma", self.gamma, 0.0, 1.0)?;
        check_range("lambda", self.lambda, 0.0, 1.0)?;
        check_positive("clip", self.clip, 1.0)?;
        check_range("entropy", self.entropy, 0.0, 10.0)?;
        check_range("critic", self.critic, 0.0, 10.0)?;
        check_gradient(self.gradient)?;
        check_positive("kl", self.kl.unwrap_or(1.0), 1e6)?;
        check_reward_scale(self.reward_scale)?;
        self.hidden.iter().try_for_each(|width| check_range("hidden", *width, 1, 2048))
    }
}
