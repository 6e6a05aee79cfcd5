//! Environments: what a policy is trained on and measured against.
//!
//! An environment is deterministic given its state: all randomness comes from a generator that it owns and that its
//! snapshot holds, so a run that goes on from a checkpoint sees what it would have seen.

mod classic;
mod identity;
mod marketplace;
mod mdp;
mod registry;
mod scores;
mod simulation;
mod vector;

use serde::{Deserialize, Serialize};

pub use marketplace::{
    Calibration, Estimate, LEAST_RECORDS, MarketplaceTrading, NegotiationStrategy, PortfolioManagement,
    PriceOptimization, PriceRecord, ResourceAllocation, ServiceSelection, TooFew, calibrate,
};
pub use registry::{Error, environment, environments};
pub use scores::scores;
pub use vector::{Actions, Ended, VectorEnv};

/// What a policy may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ActionSpace {
    /// One of these, by index.
    Discrete {
        /// What each is called.
        names: Vec<String>,
    },
    /// A vector of numbers.
    Continuous {
        /// The least of each.
        low: Vec<f32>,
        /// The most of each.
        high: Vec<f32>,
    },
}

/// What an environment is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Its name, as training runs give it.
    pub name: String,
    /// What it models, its reward and its end, in a few sentences.
    pub summary: String,
    /// What each number of an observation is called, in order.
    pub observations: Vec<String>,
    /// The least and the most of each number; infinite bounds are `None`.
    pub bounds: Vec<(Option<f32>, Option<f32>)>,
    /// What a policy may do.
    pub actions: ActionSpace,
    /// Steps after which an episode is cut short (truncated).
    pub horizon: u32,
}

/// A number that an environment was made with, and may be made with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it means, and its unit.
    pub meaning: &'static str,
    /// The least that it may be.
    pub low: f64,
    /// The most that it may be.
    pub high: f64,
    /// What it is when not given.
    pub default: f64,
    /// What it is.
    pub value: f64,
}

/// What a policy does in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action<'a> {
    /// The index of a discrete action.
    Discrete(usize),
    /// A vector of finite numbers; the environment clamps each to the bounds of its space.
    Continuous(&'a [f32]),
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// The reward, in the environment's units.
    pub reward: f64,
    /// The episode has ended by itself: what follows is worth 0.
    pub terminated: bool,
    /// The episode was cut short at the horizon: what follows has a worth, which is not seen.
    pub truncated: bool,
}

/// What can be expected of an episode's return, computed from the laws and not measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// The most that any policy can expect, one that knows the step's number too.
    pub optimum: f64,
    /// Of taking each action equally often.
    pub random: f64,
    /// Of always taking the action whose reward in the same step is the highest to expect.
    pub myopic: f64,
    /// Of the best policy that always takes the same action.
    pub constant: f64,
    /// That action.
    pub constant_action: String,
}

/// A world with dynamics, one episode at a time.
pub trait Environment: Send {
    /// What it is.
    fn description(&self) -> &Description;

    /// What it was made with; none where nothing can be chosen.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }

    /// Begin an episode; with a seed the generator begins anew too, as Gymnasium's `reset(seed)`.
    fn reset(&mut self, seed: Option<u64>);

    /// Write the present observation, [`Description::observations`] numbers, to `out`.
    fn observe(&self, out: &mut [f32]);

    /// Do `action`. After an end, `reset` comes first.
    ///
    /// An action of the other kind of space, an index out of range, a vector of another length or with a number that is
    /// not finite, is a mistake of the caller's: nothing happens, the reward is NaN.
    fn step(&mut self, action: Action<'_>) -> Outcome;

    /// Everything that decides what comes next, the generator included.
    fn snapshot(&self) -> serde_json::Value;

    /// Become what `snapshot` was.
    ///
    /// # Errors
    /// When it is of another environment, or of another version of this one.
    fn restore(&mut self, snapshot: &serde_json::Value) -> Result<(), serde_json::Error>;

    /// What can be expected of a return, where that can be computed. Takes up to a second.
    fn reference(&self) -> Option<Reference> {
        None
    }

    /// What a policy can expect of an episode's return, exactly, where that can be computed.
    ///
    /// `policy` is called once, with the observations of all states one after the other, and answers a row for each: the
    /// probability of each action in a discrete space (1 and 0s for a greedy policy), the action itself in a continuous
    /// one. `None` if it answers another number of them, or one that is not finite. Takes up to a second.
    fn expected_return(&self, _policy: &mut dyn FnMut(&[f32]) -> Vec<f64>) -> Option<f64> {
        None
    }
}
