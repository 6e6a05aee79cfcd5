//! Two tasks for tests, in which the observation is the answer. A correct algorithm solves them in seconds.

use rand::Rng;

use super::{
    Action, ActionSpace, Description, Environment,
    simulation::{Dynamics, Generator, Simulation, uniform},
};

/// Steps of an episode.
const HORIZON: u32 = 32;
/// Number of discrete actions.
const ACTIONS: usize = 4;
/// Length of a continuous action.
const LENGTH: usize = 2;

/// Create the discrete task: the observation is 1 at the index of the correct action and 0 elsewhere; the reward is 1
/// for it.
pub(super) fn identity_discrete() -> Box<dyn Environment> {
    Box::new(Simulation::new(
        Discrete,
        Description {
            name: "identity-discrete".into(),
            summary: "For gates and tests: the observation is 1 at the index of the right action and 0 elsewhere; \
                      taking that action gives 1, another 0. The next index is drawn uniformly."
                .into(),
            observations: (0..ACTIONS).map(|index| format!("is_{index}")).collect(),
            bounds: vec![(Some(0.0), Some(1.0)); ACTIONS],
            actions: ActionSpace::Discrete { names: (0..ACTIONS).map(|index| index.to_string()).collect() },
            horizon: HORIZON,
        },
    ))
}

/// Create the continuous task: the observation is a target in [-1, 1]; the reward is minus the action's squared
/// distance from it.
pub(super) fn identity_continuous() -> Box<dyn Environment> {
    Box::new(Simulation::new(
        Continuous,
        Description {
            name: "identity-continuous".into(),
            summary: "For gates and tests: the observation is a target; the reward is minus the squared distance of \
                      the action from it. The next target is drawn uniformly."
                .into(),
            observations: (0..LENGTH).map(|index| format!("target_{index}")).collect(),
            bounds: vec![(Some(-1.0), Some(1.0)); LENGTH],
            actions: ActionSpace::Continuous { low: vec![-1.0; LENGTH], high: vec![1.0; LENGTH] },
            horizon: HORIZON,
        },
    ))
}

struct Discrete;

impl Dynamics for Discrete {
    /// Index of the correct action.
    type State = usize;

    const VERSION: u32 = 1;

    fn holds(&self, state: &usize) -> bool {
        *state < ACTIONS
    }

    fn begin(&self, generator: &mut Generator) -> usize {
        (generator.next_u64() >> 32) as usize % ACTIONS
    }

    fn observe(&self, state: &usize, _: u32, out: &mut [f32]) {
        out.iter_mut().enumerate().for_each(|(index, out)| *out = f32::from(index == *state));
    }

    fn advance(&self, state: &mut usize, _: u32, action: Action<'_>, generator: &mut Generator) -> (f64, bool) {
        let reward = f64::from(action == Action::Discrete(*state));
        *state = self.begin(generator);
        (reward, false)
    }
}

struct Continuous;

impl Dynamics for Continuous {
    /// Target of the action.
    type State = [f32; LENGTH];

    const VERSION: u32 = 1;

    fn begin(&self, generator: &mut Generator) -> [f32; LENGTH] {
        std::array::from_fn(|_| uniform(generator, -1.0, 1.0) as f32)
    }

    fn observe(&self, state: &[f32; LENGTH], _: u32, out: &mut [f32]) {
        out.copy_from_slice(state);
    }

    fn advance(&self, state: &mut [f32; LENGTH], _: u32, action: Action<'_>, generator: &mut Generator) -> (f64, bool) {
        let Action::Continuous(vector) = action else { return (f64::NAN, false) };
        let distance = |(a, target): (&f32, &f32)| f64::from(a.clamp(-1.0, 1.0) - target).powi(2);
        let reward = -vector.iter().zip(&*state).map(distance).sum::<f64>();
        *state = self.begin(generator);
        (reward, false)
    }
}
