//! MountainCar-v0: drive an underpowered car out of a valley by swinging (Moore 1990).

use super::super::{
    ActionSpace, Environment, EnvironmentAction, EnvironmentDescription,
    simulation::{Dynamics, EnvironmentRng, SimulatedEnvironment, sample_uniform},
};

const MIN_POSITION: f64 = -1.2;
const MAX_POSITION: f64 = 0.6;
const GOAL_POSITION: f64 = 0.5;
const MAX_SPEED: f64 = 0.07;
const FORCE: f64 = 0.001;
const GRAVITY: f64 = 0.0025;

pub(in super::super) fn mountain_car() -> Box<dyn Environment> {
    let speed = MAX_SPEED as f32;
    Box::new(SimulatedEnvironment::new(
        MountainCar,
        EnvironmentDescription {
            name: "MountainCar-v0".into(),
            summary: "Drive a car that is too weak for the slope to the top of the right hill, at 0.5, by swinging in \
                      the valley. The reward is -1 a step; an episode ends at the top."
                .into(),
            observations: ["place", "velocity"].map(str::to_owned).into(),
            bounds: vec![(Some(MIN_POSITION as f32), Some(MAX_POSITION as f32)), (Some(-speed), Some(speed))],
            actions: ActionSpace::Discrete { names: ["left", "none", "right"].map(str::to_owned).into() },
            horizon: 200,
        },
    ))
}

struct MountainCar;

impl Dynamics for MountainCar {
    /// Position and velocity.
    type State = [f64; 2];

    const VERSION: u32 = 1;

    fn begin(&self, generator: &mut EnvironmentRng) -> [f64; 2] {
        [sample_uniform(generator, -0.6, -0.4), 0.0]
    }

    fn observe(&self, state: &[f64; 2], _: u32, out: &mut [f32]) {
        out.iter_mut().zip(state).for_each(|(out, number)| *out = *number as f32);
    }

    fn advance(
        &self,
        state: &mut [f64; 2],
        _: u32,
        action: EnvironmentAction<'_>,
        _: &mut EnvironmentRng,
    ) -> (f64, bool) {
        let EnvironmentAction::Discrete(index) = action else { return (f64::NAN, false) };
        let [place, velocity] = *state;
        let push = (index as f64 - 1.0) * FORCE + (3.0 * place).cos() * -GRAVITY;
        let mut velocity = (velocity + push).clamp(-MAX_SPEED, MAX_SPEED);
        let place = (place + velocity).clamp(MIN_POSITION, MAX_POSITION);
        // The car stops at the left end.
        if place == MIN_POSITION && velocity < 0.0 {
            velocity = 0.0;
        }
        *state = [place, velocity];
        (-1.0, place >= GOAL_POSITION && velocity >= 0.0)
    }
}
