//! Acrobot-v1: swing the end of a two-link pendulum up by a torque at the joint between the links (Sutton 1996).

use std::f64::consts::{FRAC_PI_2, PI};

use super::super::{
    Action, ActionSpace, Description, Environment,
    simulation::{Dynamics, Generator, Simulation, uniform},
};

/// Properties of each link: mass in kilograms, length and distance of the centre of mass in metres, moment of inertia.
const MASS: f64 = 1.0;
const LENGTH: f64 = 1.0;
const CENTRE: f64 = 0.5;
const INERTIA: f64 = 1.0;
const GRAVITY: f64 = 9.8;
/// Duration of a step, in seconds.
const STEP: f64 = 0.2;
/// Maximum angular velocity of each link, in radians per second.
const MOST: [f64; 2] = [4.0 * PI, 9.0 * PI];

pub(in super::super) fn acrobot() -> Box<dyn Environment> {
    let bound = |limit: f64| (Some(-limit as f32), Some(limit as f32));
    let names = ["cosine_1", "sine_1", "cosine_2", "sine_2", "angular_velocity_1", "angular_velocity_2"];
    Box::new(Simulation::new(
        Acrobot,
        Description {
            name: "Acrobot-v1".into(),
            summary: "Swing the lower end of a two-link pendulum above a line one link's length over its pivot, by a \
                      torque of -1, 0 or 1 N m at the joint. The reward is -1 a step, and 0 for the last one that gets \
                      there, which ends the episode."
                .into(),
            observations: names.map(str::to_owned).into(),
            bounds: [1.0, 1.0, 1.0, 1.0, MOST[0], MOST[1]].map(bound).into(),
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
    fn begin(&self, generator: &mut Generator) -> [f64; 4] {
        std::array::from_fn(|_| f64::from(uniform(generator, -0.1, 0.1) as f32))
    }

    fn observe(&self, [first, second, velocity, other]: &[f64; 4], _: u32, out: &mut [f32]) {
        let numbers = [first.cos(), first.sin(), second.cos(), second.sin(), *velocity, *other];
        out.iter_mut().zip(numbers).for_each(|(out, number)| *out = number as f32);
    }

    fn advance(&self, state: &mut [f64; 4], _: u32, action: Action<'_>, _: &mut Generator) -> (f64, bool) {
        let Action::Discrete(index) = action else { return (f64::NAN, false) };
        let [first, second, velocity, other] = runge_kutta(*state, index as f64 - 1.0);
        *state = [wrap(first), wrap(second), velocity.clamp(-MOST[0], MOST[0]), other.clamp(-MOST[1], MOST[1])];
        let up = -state[0].cos() - (state[1] + state[0]).cos() > 1.0;
        (if up { 0.0 } else { -1.0 }, up)
    }
}

/// Advance one step by the classical fourth-order Runge-Kutta method.
fn runge_kutta(start: [f64; 4], torque: f64) -> [f64; 4] {
    let along = |slope: [f64; 4], time: f64| std::array::from_fn(|i| start[i] + time * slope[i]);
    let one = slope(start, torque);
    let two = slope(along(one, STEP / 2.0), torque);
    let three = slope(along(two, STEP / 2.0), torque);
    let four = slope(along(three, STEP), torque);
    std::array::from_fn(|i| start[i] + STEP / 6.0 * (one[i] + 2.0 * two[i] + 2.0 * three[i] + four[i]))
}

/// Time derivatives of the state: the equations of motion in Sutton and Barto, "Reinforcement Learning" (1998), section
/// 11.3.
fn slope([first, second, velocity, other]: [f64; 4], torque: f64) -> [f64; 4] {
    let (sine, cosine) = (second.sin(), second.cos());
    let square = CENTRE * CENTRE;
    let d1 = MASS * square + MASS * (LENGTH * LENGTH + square + 2.0 * LENGTH * CENTRE * cosine) + INERTIA + INERTIA;
    let d2 = MASS * (square + LENGTH * CENTRE * cosine) + INERTIA;
    let phi2 = MASS * CENTRE * GRAVITY * (first + second - FRAC_PI_2).cos();
    let phi1 = -MASS * LENGTH * CENTRE * (other * other) * sine
        - 2.0 * MASS * LENGTH * CENTRE * other * velocity * sine
        + (MASS * CENTRE + MASS * LENGTH) * GRAVITY * (first - FRAC_PI_2).cos()
        + phi2;
    let acceleration2 = (torque + d2 / d1 * phi1 - MASS * LENGTH * CENTRE * (velocity * velocity) * sine - phi2)
        / (MASS * square + INERTIA - d2 * d2 / d1);
    let acceleration1 = -(d2 * acceleration2 + phi1) / d1;
    [velocity, other, acceleration1, acceleration2]
}

/// Map an angle to [-pi, pi] by whole turns, as Gymnasium does.
fn wrap(mut angle: f64) -> f64 {
    while angle > PI {
        angle -= 2.0 * PI;
    }
    while angle < -PI {
        angle += 2.0 * PI;
    }
    angle
}
