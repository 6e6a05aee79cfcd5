//! Common implementation of environments: time limit, generator, snapshots, action checks.

use rand::{Rng, SeedableRng, rngs::Xoshiro256PlusPlus};
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::Error as _};
use serde_json::{Map, Value, json};

use super::{
    ActionSpace, Environment, EnvironmentAction, EnvironmentDescription, EnvironmentParameter, EnvironmentStep,
    ReferenceReturns,
};

/// Random generator of every environment.
pub(super) type EnvironmentRng = Xoshiro256PlusPlus;

/// Draw a number in [0, 1) from 53 random bits.
pub(super) fn sample_unit(generator: &mut EnvironmentRng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// Draw a number in [`low`, `high`).
pub(super) fn sample_uniform(generator: &mut EnvironmentRng, low: f64, high: f64) -> f64 {
    low + (high - low) * sample_unit(generator)
}

/// Dynamics of an environment. Everything that changes is in the state, so that a snapshot is complete.
pub(super) trait Dynamics: Send {
    /// State of an episode, without the generator and the number of steps.
    type State: Serialize + DeserializeOwned + Send;

    /// Version, raised with every change of the dynamics or of the state's format: older snapshots are refused.
    const VERSION: u32;

    /// Parameters of the dynamics; a snapshot taken with others is refused.
    fn parameters(&self) -> Vec<EnvironmentParameter> {
        Vec::new()
    }

    /// Hash of the definition that the dynamics were read from; a snapshot of another one is refused. `None`: they are
    /// built in.
    fn definition_hash(&self) -> Option<&str> {
        None
    }

    /// Check that `state`, read from a snapshot, is valid.
    fn holds(&self, _state: &Self::State) -> bool {
        true
    }

    /// Return the expected returns of simple policies.
    fn reference(&self) -> Option<ReferenceReturns> {
        None
    }

    /// Compute the expected return of a policy; see [`Environment::expected_return`].
    fn expected_return(&self, _policy: &mut dyn FnMut(&[f32]) -> Vec<f64>) -> Option<f64> {
        None
    }

    /// Draw the first state of an episode.
    fn begin(&self, generator: &mut EnvironmentRng) -> Self::State;

    /// Write the observation of `state`, `step` steps after the start of the episode.
    fn observe(&self, state: &Self::State, step: u32, out: &mut [f32]);

    /// Advance by step number `step` of the episode, counted from 0. `action` is valid. Returns the reward and whether
    /// the episode has ended by itself.
    fn advance(
        &self,
        state: &mut Self::State,
        step: u32,
        action: EnvironmentAction<'_>,
        generator: &mut EnvironmentRng,
    ) -> (f64, bool);
}

/// An environment with these dynamics.
pub(super) struct SimulatedEnvironment<D: Dynamics> {
    dynamics: D,
    description: EnvironmentDescription,
    present: EpisodeState<D::State>,
}

/// State of the current episode.
#[derive(Serialize, Deserialize)]
struct EpisodeState<S> {
    state: S,
    /// Steps done in this episode.
    step: u32,
    generator: EnvironmentRng,
}

impl<D: Dynamics> SimulatedEnvironment<D> {
    /// Create the environment in an episode started with seed 0.
    pub(super) fn new(dynamics: D, description: EnvironmentDescription) -> Self {
        let mut generator = EnvironmentRng::seed_from_u64(0);
        let state = dynamics.begin(&mut generator);
        Self { dynamics, description, present: EpisodeState { state, step: 0, generator } }
    }

    fn is_valid_action(&self, action: EnvironmentAction<'_>) -> bool {
        match (&self.description.actions, action) {
            (ActionSpace::Discrete { names }, EnvironmentAction::Discrete(index)) => index < names.len(),
            (ActionSpace::Continuous { low, .. }, EnvironmentAction::Continuous(vector)) => {
                vector.len() == low.len() && vector.iter().all(|number| number.is_finite())
            }
            _ => false,
        }
    }

    /// Identify the dynamics that a snapshot belongs to.
    fn identity(&self) -> Value {
        let parameters = self.dynamics.parameters().into_iter();
        let values: Map<_, _> = parameters.map(|one| (one.name.to_owned(), json!(one.value))).collect();
        let mut identity = json!({"name": self.description.name, "version": D::VERSION, "parameters": values});
        if let Some(hash) = self.dynamics.definition_hash() {
            identity["definition"] = json!(hash);
        }
        identity
    }
}

impl<D: Dynamics> Environment for SimulatedEnvironment<D> {
    fn description(&self) -> &EnvironmentDescription {
        &self.description
    }

    fn parameters(&self) -> Vec<EnvironmentParameter> {
        self.dynamics.parameters()
    }

    fn reset(&mut self, seed: Option<u64>) {
        if let Some(seed) = seed {
            self.present.generator = EnvironmentRng::seed_from_u64(seed);
        }
        self.present.state = self.dynamics.begin(&mut self.present.generator);
        self.present.step = 0;
    }

    fn observe(&self, out: &mut [f32]) {
        self.dynamics.observe(&self.present.state, self.present.step, out);
    }

    fn step(&mut self, action: EnvironmentAction<'_>) -> EnvironmentStep {
        if !self.is_valid_action(action) {
            return EnvironmentStep { reward: f64::NAN, terminated: false, truncated: false };
        }
        let EpisodeState { state, step, generator } = &mut self.present;
        let (reward, terminated) = self.dynamics.advance(state, *step, action, generator);
        *step += 1;
        EnvironmentStep { reward, terminated, truncated: *step >= self.description.horizon }
    }

    fn snapshot(&self) -> Value {
        json!({
            "environment": self.identity(),
            "state": self.present.state,
            "step": self.present.step,
            "generator": self.present.generator,
        })
    }

    fn restore(&mut self, snapshot: &Value) -> Result<(), serde_json::Error> {
        let identity = self.identity();
        if snapshot.get("environment") != Some(&identity) {
            let message = format!("the snapshot is not of the environment {identity}");
            return Err(serde_json::Error::custom(message));
        }
        let present = EpisodeState::deserialize(snapshot)?;
        if !self.dynamics.holds(&present.state) {
            return Err(serde_json::Error::custom("the snapshot's state is not one of the environment's"));
        }
        self.present = present;
        Ok(())
    }

    fn reference(&self) -> Option<ReferenceReturns> {
        self.dynamics.reference()
    }

    fn expected_return(&self, policy: &mut dyn FnMut(&[f32]) -> Vec<f64>) -> Option<f64> {
        self.dynamics.expected_return(policy)
    }
}
