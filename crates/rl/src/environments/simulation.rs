//! What all environments share: time limit, generator, snapshots, and what is checked of an action.

use rand::{Rng, SeedableRng, rngs::Xoshiro256PlusPlus};
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::Error as _};
use serde_json::{Map, Value, json};

use super::{Action, ActionSpace, Description, Environment, Outcome, Parameter, Reference};

/// The generator of every environment.
pub(super) type Generator = Xoshiro256PlusPlus;

/// A number in [0, 1), of 53 random bits.
pub(super) fn unit(generator: &mut Generator) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// A number in [`low`, `high`).
pub(super) fn uniform(generator: &mut Generator, low: f64, high: f64) -> f64 {
    low + (high - low) * unit(generator)
}

/// The laws of an environment. What changes is in the state, so that a snapshot is whole.
pub(super) trait Dynamics: Send {
    /// What the laws act on, apart from the generator and the number of steps done.
    type State: Serialize + DeserializeOwned + Send;

    /// Raised with every change of the laws or of the state's form: older snapshots are then refused.
    const VERSION: u32;

    /// What the laws were made with; a snapshot under others is refused.
    fn parameters(&self) -> Vec<Parameter> {
        Vec::new()
    }

    /// Whether `state`, read from a snapshot, is one that the laws know.
    fn holds(&self, _state: &Self::State) -> bool {
        true
    }

    /// What can be expected of a return.
    fn reference(&self) -> Option<Reference> {
        None
    }

    /// What a policy can expect of a return; see [`Environment::expected_return`].
    fn expected_return(&self, _policy: &mut dyn FnMut(&[f32]) -> Vec<f64>) -> Option<f64> {
        None
    }

    /// The first state of an episode.
    fn begin(&self, generator: &mut Generator) -> Self::State;

    /// Write the observation of `state`, `step` steps after the beginning.
    fn observe(&self, state: &Self::State, step: u32, out: &mut [f32]);

    /// Go one step on, which is the episode's number `step`, counted from 0. The action is one of the space's. Answers
    /// the reward and whether the episode has ended by itself.
    fn advance(&self, state: &mut Self::State, step: u32, action: Action<'_>, generator: &mut Generator)
    -> (f64, bool);
}

/// An environment of these laws.
pub(super) struct Simulation<D: Dynamics> {
    dynamics: D,
    description: Description,
    present: Present<D::State>,
}

/// What changes from step to step.
#[derive(Serialize, Deserialize)]
struct Present<S> {
    state: S,
    /// Steps done in this episode.
    step: u32,
    generator: Generator,
}

impl<D: Dynamics> Simulation<D> {
    /// In an episode begun with seed 0.
    pub(super) fn new(dynamics: D, description: Description) -> Self {
        let mut generator = Generator::seed_from_u64(0);
        let state = dynamics.begin(&mut generator);
        Self { dynamics, description, present: Present { state, step: 0, generator } }
    }

    fn accepts(&self, action: Action<'_>) -> bool {
        match (&self.description.actions, action) {
            (ActionSpace::Discrete { names }, Action::Discrete(index)) => index < names.len(),
            (ActionSpace::Continuous { low, .. }, Action::Continuous(vector)) => {
                vector.len() == low.len() && vector.iter().all(|number| number.is_finite())
            }
            _ => false,
        }
    }

    /// Which laws a snapshot is of.
    fn identity(&self) -> Value {
        let parameters = self.dynamics.parameters().into_iter();
        let values: Map<_, _> = parameters.map(|one| (one.name.to_owned(), json!(one.value))).collect();
        json!({"name": self.description.name, "version": D::VERSION, "parameters": values})
    }
}

impl<D: Dynamics> Environment for Simulation<D> {
    fn description(&self) -> &Description {
        &self.description
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.dynamics.parameters()
    }

    fn reset(&mut self, seed: Option<u64>) {
        if let Some(seed) = seed {
            self.present.generator = Generator::seed_from_u64(seed);
        }
        self.present.state = self.dynamics.begin(&mut self.present.generator);
        self.present.step = 0;
    }

    fn observe(&self, out: &mut [f32]) {
        self.dynamics.observe(&self.present.state, self.present.step, out);
    }

    fn step(&mut self, action: Action<'_>) -> Outcome {
        if !self.accepts(action) {
            return Outcome { reward: f64::NAN, terminated: false, truncated: false };
        }
        let Present { state, step, generator } = &mut self.present;
        let (reward, terminated) = self.dynamics.advance(state, *step, action, generator);
        *step += 1;
        Outcome { reward, terminated, truncated: *step >= self.description.horizon }
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
        let present = Present::deserialize(snapshot)?;
        if !self.dynamics.holds(&present.state) {
            return Err(serde_json::Error::custom("the snapshot's state is not one of the environment's"));
        }
        self.present = present;
        Ok(())
    }

    fn reference(&self) -> Option<Reference> {
        self.dynamics.reference()
    }

    fn expected_return(&self, policy: &mut dyn FnMut(&[f32]) -> Vec<f64>) -> Option<f64> {
        self.dynamics.expected_return(policy)
    }
}
