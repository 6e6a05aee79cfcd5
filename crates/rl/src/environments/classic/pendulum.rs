//! Pendulum-v1: bring a pendulum up and hold it there, with a motor too weak to lift it at once.

use std::f64::consts::PI;

use super::super::{
    ActionSpace, Environment, EnvironmentAction, EnvironmentDescription,
    simulation::{Dynamics, EnvironmentRng, SimulatedEnvironment, sample_uniform},
};

/// Gravitational acceleration, in metres per second squared; mass and length are 1.
const GRAVITY: f64 = 10.0;
/// Duration of a step, in seconds.
const TIME_STEP: f64 = 0.05;
/// Maximum angular velocity, in radians per second.
const MAX_SPEED: f64 = 8.0;
/// Maximum torque, in newton metres.
const MAX_TORQUE: f32 = 2.0;

pub(in super::super) fn pendulum() -> Box<dyn Environment> {
    let bound = |limit: f32| (Some(-limit), Some(limit));
    Box::new(SimulatedEnvironment::new(
        Pendulum,
        EnvironmentDescription {
            name: "Pendulum-v1".into(),
            summary: "Swing a pendulum up and hold it, by a torque of at most 2 N m. With the angle from upright in \
                      [-pi, pi), the reward is -(angle^2 + 0.1 velocity^2 + 0.001 torque^2), between -16.3 and 0; an \
                      episode ends at the horizon only."
                .into(),
            observations: ["cosine", "sine", "angular_velocity"].map(str::to_owned).into(),
            bounds: vec![bound(1.0), bound(1.0), bound(MAX_SPEED as f32)],
            actions: ActionSpace::Continuous { low: vec![-MAX_TORQUE], high: vec![MAX_TORQUE] },
            horizon: 200,
        },
    ))
}

struct Pendulum;

impl Dynamics for Pendulum {
    /// Angle from upright (not wrapped) and angular velocity.
    type State = [f64; 2];

    const VERSION: u32 = 1;

    fn begin(&self, generator: &mut EnvironmentRng) -> [f64; 2] {
        [sample_uniform(generator, -PI, PI), sample_uniform(generator, -1.0, 1.0)]
    }

    fn observe(&self, [angle, velocity]: &[f64; 2], _: u32, out: &mut [f32]) {
        let numbers = [angle.cos(), angle.sin(), *velocity];
        out.iter_mut().zip(numbers).for_each(|(out, number)| *out = number as f32);
    }

    /// Gymnasium computes with a 32-bit torque, so the torque's own terms are computed in 32 bits here too.
    fn advance(
        &self,
        state: &mut [f64; 2],
        _: u32,
        action: EnvironmentAction<'_>,
        _: &mut EnvironmentRng,
    ) -> (f64, bool) {
        let EnvironmentAction::Continuous(&[torque]) = action else { return (f64::NAN, false) };
        let torque = torque.clamp(-MAX_TORQUE, MAX_TORQUE);
        let [angle, velocity] = *state;
        let from_upright = (angle + PI).rem_euclid(2.0 * PI) - PI;
        let cost = from_upright * from_upright + 0.1 * (velocity * velocity) + f64::from(0.001 * (torque * torque));
        let acceleration = 3.0 * GRAVITY / 2.0 * angle.sin() + f64::from(3.0 * torque);
        let velocity = (velocity + acceleration * TIME_STEP).clamp(-MAX_SPEED, MAX_SPEED);
        *state = [angle + velocity * TIME_STEP, velocity];
        (-cost, false)
    }
}
