//! Environments in which policies are trained and evaluated.
//!
//! An environment is deterministic given its state: all randomness comes from a generator that it owns and that its
//! snapshot includes, so a run that resumes from a checkpoint sees the same transitions.

mod action_batch;
mod bridge;
mod classic;
mod identity;
mod marketplace;
mod mdp;
mod registry;
mod score_actions;
mod simulation;
mod source;
mod tabular;
mod vector_env;

use serde::{Deserialize, Serialize};

pub use action_batch::ActionBatch;
pub(crate) use bridge::BridgeAccess;
#[cfg(test)]
pub(crate) use bridge::tests::{TwinBridge, cart_pole};
pub use bridge::{
    BRIDGE_ENVIRONMENT, BRIDGE_PROTOCOL, BridgeCommand, BridgeFault, BridgeHub, BridgePeer, BridgeSource, BridgeSpec,
    MAX_BRIDGE_FRAME_BYTES,
};
pub use marketplace::{
    FittedParameter, MIN_RECORDS, MarketplaceTrading, NegotiationStrategy, PortfolioLevels, PortfolioManagement,
    PriceCalibration, PriceOptimization, PriceRecord, ResourceAllocation, ServiceSelection, TooFewRecords,
    calibrate_prices,
};
pub(crate) use marketplace::{MarketKind, drawn_market};
pub use registry::{EnvironmentError, is_built_in, list_environments, make_environment};
pub use score_actions::with_score_actions;
pub use source::EnvironmentSource;
pub use tabular::{
    DiscountedOptimum, EnvironmentSolution, FeatureTable, TabularDefinition, TabularModel, TransitionRow,
};
pub use vector_env::{FinishedEpisode, VectorEnv};

/// Set of actions of an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ActionSpace {
    /// One of several actions, by index.
    Discrete {
        /// Name of each action.
        names: Vec<String>,
    },
    /// Vector of numbers.
    Continuous {
        /// Smallest value of each number.
        low: Vec<f32>,
        /// Largest value of each number.
        high: Vec<f32>,
    },
}

/// Description of an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EnvironmentDescription)]
pub struct EnvironmentDescription {
    /// Name, as training runs refer to it.
    pub name: String,
    /// Summary of the model, the reward and the end of an episode, in a few sentences.
    pub summary: String,
    /// Name of each number of an observation, in order.
    pub observations: Vec<String>,
    /// Smallest and largest value of each number; `None` means unbounded.
    #[schema(value_type = Vec<Vec<Option<f32>>>)]
    pub bounds: Vec<(Option<f32>, Option<f32>)>,
    /// Set of actions.
    pub actions: ActionSpace,
    /// Number of steps after which an episode is truncated.
    pub horizon: u32,
}

/// A numeric parameter of an environment.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = EnvironmentParameter)]
pub struct EnvironmentParameter {
    /// Name of the parameter.
    pub name: &'static str,
    /// Meaning and unit.
    pub meaning: &'static str,
    /// Smallest allowed value.
    pub low: f64,
    /// Largest allowed value.
    pub high: f64,
    /// Value when none is given.
    pub default: f64,
    /// Value in this environment.
    pub value: f64,
}

/// An action for one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EnvironmentAction<'a> {
    /// Index of a discrete action.
    Discrete(usize),
    /// Vector of finite numbers; the environment clamps each to the bounds of its space.
    Continuous(&'a [f32]),
}

/// Result of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EnvironmentStep {
    /// Reward, in the environment's units.
    pub reward: f64,
    /// The episode has ended by itself: no reward follows.
    pub terminated: bool,
    /// The episode was cut short at the horizon: the return after it is not 0 but unknown.
    pub truncated: bool,
}

/// Expected returns per episode, computed from the model and not measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ReferenceReturns)]
pub struct ReferenceReturns {
    /// Highest expected return of any policy, including policies that know the step number.
    pub optimum: f64,
    /// Expected return when every action is taken with equal probability.
    pub random: f64,
    /// Expected return when the action with the highest expected immediate reward is always taken.
    pub myopic: f64,
    /// Expected return of the best policy that always takes the same action.
    pub constant: f64,
    /// Name of the action of that policy.
    pub constant_action: String,
}

/// A simulated environment that runs one episode at a time.
pub trait Environment: Send {
    /// Return the environment's description.
    fn description(&self) -> &EnvironmentDescription;

    /// Return the parameters; empty when the environment takes none.
    fn parameters(&self) -> Vec<EnvironmentParameter> {
        Vec::new()
    }

    /// Start a new episode. With a seed the generator is reset too, as in Gymnasium's `reset(seed)`.
    fn reset(&mut self, seed: Option<u64>);

    /// Write the present observation, [`EnvironmentDescription::observations`] numbers, to `out`.
    fn observe(&self, out: &mut [f32]);

    /// Do `action`. After the end of an episode, call `reset` first.
    ///
    /// An action of the wrong kind, an index out of range, or a vector of the wrong length or with a number that is not
    /// finite is the caller's error: the state does not change and the reward is NaN.
    fn step(&mut self, action: EnvironmentAction<'_>) -> EnvironmentStep;

    /// Return everything that determines the future, including the generator's state.
    fn snapshot(&self) -> serde_json::Value;

    /// Restore the state of `snapshot`.
    ///
    /// # Errors
    /// When the snapshot belongs to another environment, or to another version of this one.
    fn restore(&mut self, snapshot: &serde_json::Value) -> Result<(), serde_json::Error>;

    /// Return the expected returns of simple policies, where they can be computed. Takes up to a second.
    fn reference(&self) -> Option<ReferenceReturns> {
        None
    }

    /// Compute the exact expected return of a policy for one episode, where the model allows it.
    ///
    /// `policy` is called once with the observations of all states, one after the other, and returns a row for each:
    /// the probability of each action in a discrete space (1 and 0s for a greedy policy), the action itself in a
    /// continuous one. `None` if it returns the wrong number of values, or one that is not finite. Takes up to a
    /// second.
    fn expected_return(&self, _policy: &mut dyn FnMut(&[f32]) -> Vec<f64>) -> Option<f64> {
        None
    }
}
