//! Two tasks for tests, in which the observation is the answer. A correct algorithm solves them in seconds.

use rand::Rng;

use super::{
    ActionSpace, Environment, EnvironmentAction, EnvironmentDescription,
    simulation::{Dynamics, EnvironmentRng, SimulatedEnvironment, sample_uniform},
};

/// Steps of an episode.
const HORIZON: u32 = 32;
/// Number of discrete actions.
const ACTION_COUNT: usize = 4;
/// Length of a continuous action.
const ACTION_LENGTH: usize = 2;

/// Create the discrete task: the observation is 1 at the index of the correct action and 0 elsewhere; the reward is 1
/// for it.
pub(super) fn identity_discrete() -> Box<dyn Environment> {
    Box::new(SimulatedEnvironment::new(
        DiscreteIdentity,
        EnvironmentDescription {
            name: "identity-discrete".into(),
            summary: "For gates and tests: the observation is 1 at the index of the right action and 0 elsewhere; \
                      taking that action gives 1, another 0. The next index is drawn uniformly."
                .into(),
            observations: (0..ACTION_COUNT).map(|index| format!("is_{index}")).collect(),
            bounds: vec![(Some(0.0), Some(1.0)); ACTION_COUNT],
            actions: ActionSpace::Discrete { names: (0..ACTION_COUNT).map(|index| index.to_string()).collect() },
            horizon: HORIZON,
        },
    ))
}

/// Create the continuous task: the observation is a target in [-1, 1]; the reward is minus the action's squared
/// distance from it.
pub(super) fn identity_continuous() -> Box<dyn Environment> {
    Box::new(SimulatedEnvironment::new(
        ContinuousIdentity,
        EnvironmentDescription {
            name: "identity-continuous".into(),
            summary: "For gates and tests: the observation is a target; the reward is minus the squared distance of \
                      the action from it. The next target is drawn uniformly."
                .into(),
            observations: (0..ACTION_LENGTH).map(|index| format!("target_{index}")).collect(),
            bounds: vec![(Some(-1.0), Some(1.0)); ACTION_LENGTH],
            actions: ActionSpace::Continuous { low: vec![-1.0; ACTION_LENGTH], high: vec![1.0; ACTION_LENGTH] },
            horizon: HORIZON,
        },
    ))
}

struct DiscreteIdentity;

impl Dynamics for DiscreteIdentity {
    /// Index of the correct action.
    type State = usize;

    const VERSION: u32 = 1;

    fn holds(&self, state: &usize) -> bool {
        *state < ACTION_COUNT
    }

    fn begin(&self, generator: &mut EnvironmentRng) -> usize {
        (generator.next_u64() >> 32) as usize % ACTION_COUNT
    }

    fn observe(&self, state: &usize, _: u32, out: &mut [f32]) {
        out.iter_mut().enumerate().for_each(|(index, out)| *out = f32::from(index == *state));
    }

    fn advance(
        &self,
        state: &mut usize,
        _: u32,
        action: EnvironmentAction<'_>,
        generator: &mut EnvironmentRng,
    ) -> (f64, bool) {
        let reward = f64::from(action == EnvironmentAction::Discrete(*state));
        *state = self.begin(generator);
        (reward, false)
    }
}

struct ContinuousIdentity;

impl Dynamics for ContinuousIdentity {
    /// Target of the action.
    type State = [f32; ACTION_LENGTH];

    const VERSION: u32 = 1;

    fn begin(&self, generator: &mut EnvironmentRng) -> [f32; ACTION_LENGTH] {
        std::array::from_fn(|_| sample_uniform(generator, -1.0, 1.0) as f32)
    }

    fn observe(&self, state: &[f32; ACTION_LENGTH], _: u32, out: &mut [f32]) {
        out.copy_from_slice(state);
    }

    fn advance(
        &self,
        state: &mut [f32; ACTION_LENGTH],
        _: u32,
        action: EnvironmentAction<'_>,
        generator: &mut EnvironmentRng,
    ) -> (f64, bool) {
        let EnvironmentAction::Continuous(vector) = action else { return (f64::NAN, false) };
        let distance = |(a, target): (&f32, &f32)| f64::from(a.clamp(-1.0, 1.0) - target).powi(2);
        let reward = -vector.iter().zip(&*state).map(distance).sum::<f64>();
        *state = self.begin(generator);
        (reward, false)
    }
}
