//! What a Rainbow run can be set to: each ingredient can be left out.

use serde::{Deserialize, Serialize};

use super::super::{Error, positive, within};

/// Settings of Rainbow DQN.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RainbowSettings {
    /// Of Adam: above 0, at most 1.
    pub learning_rate: f64,
    /// Whether it falls linearly, to 0 at the last step.
    pub anneal: bool,
    /// Transitions kept: 1 000 to 10 000 000; at most as many as the run has steps.
    pub replay: usize,
    /// Steps before learning begins: at least 1.
    pub warmup: u64,
    /// Steps between gradient steps: at least 1.
    pub every: u64,
    /// Samples of one gradient step: 1 to 4096.
    pub batch: usize,
    /// Steps between copies of the network to the target network: at least 1.
    pub target_every: u64,
    /// Worth of the next step's reward in this step: 0 to 1.
    pub gamma: f64,
    /// Steps of which the rewards are summed before the worth of what follows is taken: 1 to 100.
    pub steps: usize,
    /// Whether the action is chosen by the network and judged by the target network.
    pub double: bool,
    /// Whether a state's worth and the actions' advantages have streams of their own.
    pub dueling: bool,
    /// Whether the streams' layers are noisy. Otherwise exploration is by epsilon.
    pub noisy: bool,
    /// Standard deviation of the noise at the beginning, times the root of a layer's inputs: 0 to 10.
    pub noise: f64,
    /// Whether a return's distribution is learnt (C51), not only its mean.
    pub distributional: bool,
    /// Atoms of the distribution: 2 to 201.
    pub atoms: usize,
    /// The least return that the distribution knows.
    pub v_min: f64,
    /// The most. It must cover the discounted returns: with gamma 0.99 a reward of 1 in each step is worth up to 100.
    pub v_max: f64,
    /// Whether what was learnt least from is drawn more often.
    pub prioritized: bool,
    /// The exponent of a priority: 0 to 1.
    pub priority: f64,
    /// The exponent of the importance weights at the beginning, which rises linearly to 1: 0 to 1.
    pub importance: f64,
    /// The probability of a random action at the end of its fall from 1, without noisy layers: 0 to 1.
    pub epsilon: f64,
    /// The part of the run over which it falls: above 0, at most 1.
    pub epsilon_fraction: f64,
    /// The most that the gradient's norm may be: above 0.
    pub gradient: f64,
    /// Rewards are multiplied by this before they are learnt from: above 0.
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

impl RainbowSettings {
    /// DQN (Mnih et al. 2015): none of the six ingredients.
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
    /// [`Error::Setting`] for the first that is out of its range.
    pub fn validate(&self) -> Result<(), Error> {
        positive("learning_rate", self.learning_rate, 1.0)?;
        within("replay", self.replay, 1000, 10_000_000)?;
        within("warmup", self.warmup, 1, u64::MAX)?;
        within("every", self.every, 1, u64::MAX)?;
        within("batch", self.batch, 1, 4096)?;
        within("target_every", self.target_every, 1, u64::MAX)?;
        within("gamma", self.gamma, 0.0, 1.0)?;
        within("steps", self.steps, 1, 100)?;
        within("noise", self.noise, 0.0, 10.0)?;
        within("atoms", self.atoms, 2, 201)?;
        if self.v_max <= self.v_min {
            let reason = format!("{} is not above v_min, which is {}", self.v_max, self.v_min);
            return Err(Error::Setting { name: "v_max", reason });
        }
        within("priority", self.priority, 0.0, 1.0)?;
        within("importance", self.importance, 0.0, 1.0)?;
        within("epsilon", self.epsilon, 0.0, 1.0)?;
        positive("epsilon_fraction", self.epsilon_fraction, 1.0)?;
        positive("gradient", self.gradient, f64::MAX)?;
        positive("reward_scale", self.reward_scale, f64::MAX)?;
        within("stream", self.stream, 1, 2048)?;
        self.hidden.iter().try_for_each(|width| within("hidden", *width, 1, 2048))
    }
}
