//! CartPole-v1: a pole on a cart that is pushed left or right (Barto, Sutton, Anderson 1983).

use super::super::{
    ActionSpace, Environment, EnvironmentAction, EnvironmentDescription,
    simulation::{Dynamics, EnvironmentRng, SimulatedEnvironment, sample_uniform},
};

const GRAVITY: f64 = 9.8;
const POLE_MASS: f64 = 0.1;
const TOTAL_MASS: f64 = POLE_MASS + 1.0;
/// Half the length of the pole, in metres.
const HALF_POLE_LENGTH: f64 = 0.5;
const POLE_MASS_LENGTH: f64 = POLE_MASS * HALF_POLE_LENGTH;
/// Force on the cart, in newtons.
const FORCE: f64 = 10.0;
/// Duration of a step, in seconds.
const TIME_STEP: f64 = 0.02;
/// Angle beyond which the episode ends: 12 degrees, in radians.
const ANGLE_LIMIT: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;
/// Distance from the centre beyond which the episode ends, in metres.
const POSITION_LIMIT: f64 = 2.4;

pub(in super::super) fn cart_pole() -> Box<dyn Environment> {
    let bound = |limit: f64| (Some(-limit as f32), Some(limit as f32));
    Box::new(SimulatedEnvironment::new(
        CartPole,
        EnvironmentDescription {
            name: "CartPole-v1".into(),
            summary: "Keep a pole upright on a cart by pushing the cart left or right. The reward is 1 a step; an \
                      episode ends when the pole leans by more than 12 degrees or the cart is more than 2.4 m off."
                .into(),
            observations: ["place", "velocity", "angle", "angular_velocity"].map(str::to_owned).into(),
            bounds: vec![bound(2.0 * POSITION_LIMIT), (None, None), bound(2.0 * ANGLE_LIMIT), (None, None)],
            actions: ActionSpace::Discrete { names: ["left", "right"].map(str::to_owned).into() },
            horizon: 500,
        },
    ))
}

struct CartPole;

impl Dynamics for CartPole {
    /// Position, velocity, angle and angular velocity.
    type State = [f64; 4];

    const VERSION: u32 = 1;

    fn begin(&self, generator: &mut EnvironmentRng) -> [f64; 4] {
        std::array::from_fn(|_| sample_uniform(generator, -0.05, 0.05))
    }

    fn observe(&self, state: &[f64; 4], _: u32, out: &mut [f32]) {
        out.iter_mut().zip(state).for_each(|(out, number)| *out = *number as f32);
    }

    /// Frictionless equations of Florian, "Correct equations for the dynamics of the cart-pole system" (2007),
    /// integrated by Euler's method in Gymnasium's order of operations, so that the last digits agree.
    fn advance(
        &self,
        state: &mut [f64; 4],
        _: u32,
        action: EnvironmentAction<'_>,
        _: &mut EnvironmentRng,
    ) -> (f64, bool) {
        let [place, velocity, angle, angular] = *state;
        let force = if action == EnvironmentAction::Discrete(1) { FORCE } else { -FORCE };
        let (sine, cosine) = (angle.sin(), angle.cos());
        let temporary = (force + POLE_MASS_LENGTH * (angular * angular) * sine) / TOTAL_MASS;
        let angular_acceleration = (GRAVITY * sine - cosine * temporary)
            / (HALF_POLE_LENGTH * (4.0 / 3.0 - POLE_MASS * (cosine * cosine) / TOTAL_MASS));
        let acceleration = temporary - POLE_MASS_LENGTH * angular_acceleration * cosine / TOTAL_MASS;
        *state = [
            place + TIME_STEP * velocity,
            velocity + TIME_STEP * acceleration,
            angle + TIME_STEP * angular,
            angular + TIME_STEP * angular_acceleration,
        ];
        (1.0, state[0].abs() > POSITION_LIMIT || state[2].abs() > ANGLE_LIMIT)
    }
}
