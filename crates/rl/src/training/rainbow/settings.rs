//! Settings of Rainbow DQN, whose extensions can be switched off one by one.

use serde::{Deserialize, Serialize};

use super::{
    super::{
        TrainingError, check_gradient, check_learning_rate, check_learns, check_positive, check_range,
        check_reward_scale,
    },
    distribution::ReturnSupport,
};

/// Settings of Rainbow DQN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RainbowSettings {
    /// Learning rate of Adam: 1e-10 to 1.
    pub learning_rate: f64,
    /// Whether the learning rate falls linearly to 0 at the last step.
    pub anneal: bool,
    /// Capacity of the replay buffer, in transitions: 1 000 to 10 000 000; at most the number of steps of the run.
    pub replay: usize,
    /// Steps before learning begins: at least 1, fewer than the run has.
    pub warmup: u64,
    /// Steps between gradient steps: at least 1.
    pub every: u64,
    /// Samples per gradient step: 1 to 4096.
    pub batch: usize,
    /// Steps between copies of the network to the target network: at least 1.
    pub target_every: u64,
    /// Discount factor of the next step's reward: 0 to 1.
    pub gamma: f64,
    /// Number of steps whose rewards are summed before bootstrapping: 1 to 100.
    pub steps: usize,
    /// Whether the network chooses the next action and the target network evaluates it (double Q-learning).
    pub double: bool,
    /// Whether state value and action advantages have separate streams (dueling).
    pub dueling: bool,
    /// Whether the streams' layers are noisy. Otherwise exploration is epsilon-greedy.
    pub noisy: bool,
    /// Initial standard deviation of the noise, times the root of a layer's inputs: 0 to 10.
    pub noise: f64,
    /// Whether the distribution of returns is learned (C51), not only its mean.
    pub distributional: bool,
    /// Number of atoms of the distribution: 2 to 201.
    pub atoms: usize,
    /// Smallest return of the distribution: -1e9 to 1e9.
    pub v_min: f64,
    /// Largest return of the distribution, at most 1e9, so far above `v_min` that the atoms differ as 32-bit floats. The
    /// range must cover the discounted returns: with gamma 0.99, a reward of 1 per step sums to 100.
    pub v_max: f64,
    /// Whether transitions with larger errors are drawn more often.
    pub prioritized: bool,
    /// Exponent of the priorities: 0 to 1.
    pub priority: f64,
    /// Initial exponent of the importance weights, which rises linearly to 1: 0 to 1.
    pub importance: f64,
    /// Probability of a random action after its fall from 1, without noisy layers: 0 to 1.
    pub epsilon: f64,
    /// Fraction of the run over which epsilon falls: above 0, at most 1.
    pub epsilon_fraction: f64,
    /// Maximum norm of the gradient: 1e-6 to 1e6.
    pub gradient: f64,
    /// Factor of the rewards before learning: 1e-6 to 1e6.
    pub reward_scale: f64,
    /// Widths of the two feature layers: 1 to 2048 each.
    pub hidden: [usize; 2],
    /// Width of the hidden layer of each stream: 1 to 2048.
    pub stream: usize,
}

impl Default for RainbowSettings {
    fn default() -> Self {
        Self {
            learning_rate: 1e-4,
            anneal: false,
            replay: 1_000_000,
            warmup: 1000,
            every: 1,
            batch: 32,
            target_every: 500,
            gamma: 0.99,
            steps: 3,
            double: true,
            dueling: true,
            noisy: true,
            noise: 0.5,
            distributional: true,
            atoms: 51,
            v_min: -10.0,
            v_max: 10.0,
            prioritized: true,
            priority: 0.5,
            importance: 0.4,
            epsilon: 0.05,
            epsilon_fraction: 0.5,
            gradient: 10.0,
            reward_scale: 1.0,
            hidden: [512, 512],
            stream: 256,
        }
    }
}

/// Refuse the setting `steps`, by its path: the run has a member of that name too.
fn own_steps_error(reason: String) -> TrainingError {
    TrainingError::Setting { name: "settings", reason: format!("steps: {reason}") }
}

impl RainbowSettings {
    /// Settings of DQN (Mnih et al. 2015): all six extensions off.
    pub fn dqn() -> Self {
        Self {
            steps: 1,
            double: false,
            dueling: false,
            noisy: false,
            distributional: false,
            prioritized: false,
            ..Self::default()
        }
    }

    /// # Errors
    /// [`TrainingError::Setting`] for the first setting that is out of range.
    pub fn validate(&self) -> Result<(), TrainingError> {
        check_learning_rate(self.learning_rate)?;
        check_range("replay", self.replay, 1000, 10_000_000)?;
        check_range("warmup", self.warmup, 1, u64::MAX)?;
        check_range("every", self.every, 1, u64::MAX)?;
        check_range("batch", self.batch, 1, 4096)?;
        check_range("target_every", self.target_every, 1, u64::MAX)?;
        check_range("gamma", self.gamma, 0.0, 1.0)?;
        if !(1..=100).contains(&self.steps) {
            return Err(own_steps_error(format!("{} is not from 1 to 100", self.steps)));
        }
        check_range("noise", self.noise, 0.0, 10.0)?;
        check_range("atoms", self.atoms, 2, 201)?;
        check_range("v_min", self.v_min, -1e9, 1e9)?;
        check_range("v_max", self.v_max, -1e9, 1e9)?;
        if self.v_max <= self.v_min {
            let reason = format!("{} is not above v_min, which is {}", self.v_max, self.v_min);
            return Err(TrainingError::Setting { name: "v_max", reason });
        }
        if !self.support().is_distinct() {
            let reason = format!(
                "{} is too near v_min, which is {}: {} atoms between them are not distinct as 32-bit floats",
                self.v_max, self.v_min, self.atoms
            );
            return Err(TrainingError::Setting { name: "v_max", reason });
        }
        check_range("priority", self.priority, 0.0, 1.0)?;
        check_range("importance", self.importance, 0.0, 1.0)?;
        check_range("epsilon", self.epsilon, 0.0, 1.0)?;
        check_positive("epsilon_fraction", self.epsilon_fraction, 1.0)?;
        check_gradient(self.gradient)?;
        check_reward_scale(self.reward_scale)?;
        check_range("stream", self.stream, 1, 2048)?;
        self.hidden.iter().try_for_each(|width| check_range("hidden", *width, 1, 2048))
    }

    /// Check that a run of `steps` learns.
    ///
    /// # Errors
    /// [`TrainingError::Setting`] for the setting that keeps it from learning.
    pub fn check_learns(&self, steps: u64) -> Result<(), TrainingError> {
        // A transition is complete after `steps` of its own.
        if self.steps as u64 > steps {
            return Err(own_steps_error(format!("{} is more than the {steps} steps of the run", self.steps)));
        }
        check_learns(self.warmup, self.every, self.batch, steps)
    }

    /// Atoms of the distribution of returns.
    pub(super) fn support(&self) -> ReturnSupport {
        ReturnSupport { least: self.v_min as f32, most: self.v_max as f32, atoms: self.atoms }
    }
}
