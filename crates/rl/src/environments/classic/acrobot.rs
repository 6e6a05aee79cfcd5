//! Acrobot-v1: swing the end of a two-link pendulum up by a torque at the joint between the links (Sutton 1996).

use std::f64::consts::{FRAC_PI_2, PI};

use super::super::{
    ActionSpace, Environment, EnvironmentAction, EnvironmentDescription,
    simulation::{Dynamics, EnvironmentRng, SimulatedEnvironment, sample_uniform},
};

/// Properties of each link: mass in kilograms, length and distance of the centre of mass in metres, moment of inertia.
const LINK_MASS: f64 = 1.0;
const LINK_LENGTH: f64 = 1.0;
const LINK_CENTER_OF_MASS: f64 = 0.5;
const LINK_INERTIA: f64 = 1.0;
const GRAVITY: f64 = 9.8;
/// Duration of a step, in seconds.
const TIME_STEP: f64 = 0.2;
/// Maximum angular velocity of each link, in radians per second.
const MAX_VELOCITIES: [f64; 2] = [4.0 * PI, 9.0 * PI];

pub(in super::super) fn acrobot() -> Box<dyn Environment> {
    let bound = |limit: f64| (Some(-limit as f32), Some(limit as f32));
    let names = ["cosine_1", "sine_1", "cosine_2", "sine_2", "angular_velocity_1", "angular_velocity_2"];
    Box::new(SimulatedEnvironment::new(
        Acrobot,
        EnvironmentDescription {
            name: "Acrobot-v1".into(),
            summary: "Swing the lower end of a two-link pendulum above a line one link's length over its pivot, by a \
                      torque of -1, 0 or 1 N m at the joint. The reward is -1 a step, and 0 for the last one that gets \
                      there, which ends the episode."
                .into(),
            observations: names.map(str::to_owned).into(),
            bounds: [1.0, 1.0, 1.0, 1.0, MAX_VELOCITIES[0], MAX_VELOCITIES[1]].map(bound).into(),
            actions: ActionSpace::Discrete { names: ["minus", "none", "plus"].map(str::to_owned).into() },
            horizon: 500,
        },
    ))
}

struct Acrobot;

impl Dynamics for Acrobot {
    /// Angle of the upper link from hanging, angle of the lower link relative to it, and both angular velocities.
    type State = [f64; 4];

    const VERSION: u32 = 1;

    /// Gymnasium rounds the initial state to 32 bits.
    fn begin(&self, generator: &mut EnvironmentRng) -> [f64; 4] {
        std::array::from_fn(|_| f64::from(sample_uniform(generator, -0.1, 0.1) as f32))
    }

    fn observe(&self, [first, second, velocity, other]: &[f64; 4], _: u32, out: &mut [f32]) {
        let numbers = [first.cos(), first.sin(), second.cos(), second.sin(), *velocity, *other];
        out.iter_mut().zip(numbers).for_each(|(out, number)| *out = number as f32);
    }

    fn advance(
        &self,
        state: &mut [f64; 4],
        _: u32,
        action: EnvironmentAction<'_>,
        _: &mut EnvironmentRng,
    ) -> (f64, bool) {
        let EnvironmentAction::Discrete(index) = action else { return (f64::NAN, false) };
        let [first, second, velocity, other] = runge_kutta(*state, index as f64 - 1.0);
        *state = [
            wrap_angle(first),
            wrap_angle(second),
            velocity.clamp(-MAX_VELOCITIES[0], MAX_VELOCITIES[0]),
            other.clamp(-MAX_VELOCITIES[1], MAX_VELOCITIES[1]),
        ];
        let up = -state[0].cos() - (state[1] + state[0]).cos() > 1.0;
        (if up { 0.0 } else { -1.0 }, up)
    }
}

/// Advance one step by the classical fourth-order Runge-Kutta method.
fn runge_kutta(start: [f64; 4], torque: f64) -> [f64; 4] {
    let along = |slope: [f64; 4], time: f64| std::array::from_fn(|i| start[i] + time * slope[i]);
    let one = derivatives(start, torque);
    let two = derivatives(along(one, TIME_STEP / 2.0), torque);
    let three = derivatives(along(two, TIME_STEP / 2.0), torque);
    let four = derivatives(along(three, TIME_STEP), torque);
    std::array::from_fn(|i| start[i] + TIME_STEP / 6.0 * (one[i] + 2.0 * two[i] + 2.0 * three[i] + four[i]))
}

/// Time derivatives of the state: the equations of motion in Sutton and Barto, "Reinforcement Learning" (1998), section
/// 11.3.
fn derivatives([first, second, velocity, other]: [f64; 4], torque: f64) -> [f64; 4] {
    let (sine, cosine) = (second.sin(), second.cos());
    let square = LINK_CENTER_OF_MASS * LINK_CENTER_OF_MASS;
    let d1 = LINK_MASS * square
        + LINK_MASS * (LINK_LENGTH * LINK_LENGTH + square + 2.0 * LINK_LENGTH * LINK_CENTER_OF_MASS * cosine)
        + LINK_INERTIA
        + LINK_INERTIA;
    let d2 = LINK_MASS * (square + LINK_LENGTH * LINK_CENTER_OF_MASS * cosine) + LINK_INERTIA;
    let phi2 = LINK_MASS * LINK_CENTER_OF_MASS * GRAVITY * (first + second - FRAC_PI_2).cos();
    let phi1 = -LINK_MASS * LINK_LENGTH * LINK_CENTER_OF_MASS * (other * other) * sine
        - 2.0 * LINK_MASS * LINK_LENGTH * LINK_CENTER_OF_MASS * other * velocity * sine
        + (LINK_MASS * LINK_CENTER_OF_MASS + LINK_MASS * LINK_LENGTH) * GRAVITY * (first - FRAC_PI_2).cos()
        + phi2;
    let acceleration2 =
        (torque + d2 / d1 * phi1 - LINK_MASS * LINK_LENGTH * LINK_CENTER_OF_MASS * (velocity * velocity) * sine - phi2)
            / (LINK_MASS * square + LINK_INERTIA - d2 * d2 / d1);
    let acceleration1 = -(d2 * acceleration2 + phi1) / d1;
    [velocity, other, acceleration1, acceleration2]
}

/// Map an angle to [-pi, pi] by whole turns, as Gymnasium does.
fn wrap_angle(mut angle: f64) -> f64 {
    while angle > PI {
        angle -= 2.0 * PI;
    }
    while angle < -PI {
        angle += 2.0 * PI;
    }
    angle
}
