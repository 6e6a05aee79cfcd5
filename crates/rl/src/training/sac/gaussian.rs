//! Tanh-squashed Gaussian of SAC's actor (Haarnoja et al. 2018, arXiv:1812.05905, appendix C).

use std::f32::consts::{LN_2, PI};

/// Bounds of the logarithm of the standard deviation; the actor's output is squashed between them.
pub(super) const LOG_STD_BOUNDS: [f32; 2] = [-5.0, 2.0];

/// One number of an action, drawn by reparameterisation: `a = tanh(u)`, `u = mean + std * noise`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ActionSample {
    /// Number of the action, in (-1, 1).
    pub(super) action: f32,
    /// Logarithm of its density: `log N(u) - log(1 - tanh(u)^2)`.
    pub(super) log_density: f32,
    noise: f32,
    deviation: f32,
    /// Derivative of the log standard deviation by the actor's output.
    slope: f32,
}

impl ActionSample {
    /// Draw from the actor's two outputs and a number of the standard normal distribution.
    pub(super) fn new(mean: f32, output: f32, noise: f32) -> Self {
        let [least, most] = LOG_STD_BOUNDS;
        let squashed = output.tanh();
        let log_deviation = least + 0.5 * (most - least) * (squashed + 1.0);
        let deviation = log_deviation.exp();
        let before = mean + deviation * noise;
        let normal = -0.5 * noise * noise - log_deviation - 0.5 * (2.0 * PI).ln();
        // log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2 u)), which keeps its precision where tanh is near 1.
        let squash = 2.0 * (LN_2 - before - softplus(-2.0 * before));
        Self {
            action: before.tanh(),
            log_density: normal - squash,
            noise,
            deviation,
            slope: 0.5 * (most - least) * (1.0 - squashed * squashed),
        }
    }

    /// Derivatives by the two outputs of a loss with these derivatives by action and log density.
    pub(super) fn backward(&self, by_action: f32, by_log_density: f32) -> [f32; 2] {
        // d log_density / du = 2 tanh(u); d log_density / d log_std = -1 at a fixed u.
        let by_before = by_action * (1.0 - self.action * self.action) + by_log_density * 2.0 * self.action;
        [by_before, (by_before * self.deviation * self.noise - by_log_density) * self.slope]
    }
}

fn softplus(number: f32) -> f32 {
    number.max(0.0) + (-number.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use tch::{Kind, Tensor};

    use super::*;

    #[test]
    fn a_draw_is_as_computed_by_hand() {
        // An output of artanh(3/7) is a log standard deviation of -5 + 3.5 * 10/7 = 0.
        let draw = ActionSample::new(0.5, (3f32 / 7.0).atanh(), 1.0);
        assert!((draw.deviation - 1.0).abs() < 1e-5);
        assert!((draw.action - 1.5f32.tanh()).abs() < 1e-6);
        // -0.5 - 0.918939 - ln(1 - 0.905148^2).
        assert!((draw.log_density - (-1.418_938_5 + 1.710_878)).abs() < 1e-4, "{}", draw.log_density);
        // Where tanh rounds to 1 the density is still finite.
        assert!(ActionSample::new(30.0, 0.0, 0.0).log_density.is_finite());
    }

    #[test]
    fn gradients_are_libtorchs() {
        for (mean, output, noise) in [(0.3f32, -0.4f32, 1.2f32), (-1.5, 0.8, -0.7), (2.0, 0.1, 0.5), (0.0, 1.5, -2.0)] {
            let tensor = |number: f32| Tensor::from_slice(&[f64::from(number)]).set_requires_grad(true);
            let (m, o) = (tensor(mean), tensor(output));
            let log_std = (o.tanh() + 1.0) * 3.5 - 5.0;
            let u = &m + log_std.exp() * f64::from(noise);
            let action = u.tanh();
            let log_density = -&log_std - (-action.square() + 1.0).log();
            let loss = (&action * 0.7 + &log_density * -1.3).sum(Kind::Double);
            loss.backward();
            let theirs = [m.grad(), o.grad()].map(|gradient| f64::try_from(&gradient).unwrap() as f32);
            let ours = ActionSample::new(mean, output, noise).backward(0.7, -1.3);
            for (one, other) in ours.iter().zip(theirs) {
                assert!((one - other).abs() < 1e-4 * (1.0 + other.abs()), "{ours:?} is not {theirs:?}");
            }
        }
    }
}
