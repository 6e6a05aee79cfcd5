//! Network of feature layers and two streams, with optional noise in the streams (Fortunato et al. 2018,
//! arXiv:1706.10295).

use rand::Rng;
use tch::{Device, TchError, Tensor};

use super::super::{
    mlp::{ForwardPass, Mlp, MlpShape},
    parameters::NetworkParameters,
    sampling::sample_normal,
};

/// Shapes of the three parts, in the order of their parameters.
pub(super) struct RainbowShapes {
    pub(super) feature: MlpShape,
    pub(super) value: MlpShape,
    pub(super) advantage: MlpShape,
}

/// The three parts, over given parameters.
pub(super) struct RainbowLayers {
    pub(super) feature: Mlp,
    pub(super) value: Mlp,
    pub(super) advantage: Mlp,
}

/// Intermediate results of a forward pass.
pub(super) struct RainbowPass {
    feature: ForwardPass,
    hidden: Tensor,
    /// Value stream, rows x atoms.
    pub(super) value: ForwardPass,
    /// Advantage stream, rows x (actions x atoms).
    pub(super) advantage: ForwardPass,
}

impl RainbowLayers {
    fn over(parameters: &NetworkParameters, shapes: &RainbowShapes) -> Result<Self, TchError> {
        let mut offset = 0;
        Ok(Self {
            feature: Mlp::at(parameters, &mut offset, &shapes.feature)?,
            value: Mlp::at(parameters, &mut offset, &shapes.value)?,
            advantage: Mlp::at(parameters, &mut offset, &shapes.advantage)?,
        })
    }

    /// Compute the streams for `input`, rows x observation.
    pub(super) fn forward(&self, input: &Tensor) -> Result<RainbowPass, TchError> {
        let feature = self.feature.forward(input)?;
        let hidden = feature.output.f_relu()?;
        Ok(RainbowPass {
            value: self.value.forward(&hidden)?,
            advantage: self.advantage.forward(&hidden)?,
            feature,
            hidden,
        })
    }

    /// Set the parameters' gradients, from the loss's gradients by the two outputs.
    fn backward(&self, passed: &RainbowPass, by_value: &Tensor, by_advantage: &Tensor) -> Result<(), TchError> {
        let by_hidden = self.value.backward_through(&passed.value, by_value)?
            + self.advantage.backward_through(&passed.advantage, by_advantage)?;
        let by_hidden = passed.hidden.f_threshold_backward(&by_hidden, 0.0)?;
        self.feature.backward(&passed.feature, &by_hidden)
    }
}

/// Network with noise in the streams' layers: their weights are `mean + deviation * noise`.
pub(super) struct RainbowNetwork {
    /// Learned parameters: feature layers, the streams' means, the streams' deviations.
    pub(super) learned: NetworkParameters,
    /// Layers without noise.
    pub(super) quiet: RainbowLayers,
    noisy: Option<NoisyLayers>,
}

struct NoisyLayers {
    /// Feature layers and the streams' noisy weights.
    effective: NetworkParameters,
    layers: RainbowLayers,
    noise: Tensor,
    /// Inputs and outputs of the streams' layers.
    widths: Vec<(usize, usize)>,
    /// Number of parameters of the feature layers.
    fixed: i64,
}

impl NoisyLayers {
    fn streams(&self) -> i64 {
        self.noise.numel() as i64
    }
}

impl RainbowShapes {
    fn streams(&self) -> Vec<(usize, usize)> {
        self.value.layers().chain(self.advantage.layers()).collect()
    }

    /// Draw a network's learned parameters; `noise` is the deviation times the root of a layer's inputs (section 3.2),
    /// if the network is noisy.
    pub(super) fn draw(&self, generator: &mut impl Rng, noise: Option<f32>) -> Vec<f32> {
        let parts = [&self.feature, &self.value, &self.advantage];
        let mut values: Vec<f32> = parts.into_iter().flat_map(|shape| shape.uniform(generator)).collect();
        if let Some(noise) = noise {
            for (inputs, outputs) in self.streams() {
                values.resize(values.len() + (inputs + 1) * outputs, noise / (inputs as f32).sqrt());
            }
        }
        values
    }
}

impl RainbowNetwork {
    /// Create the network from drawn parameters; it has no noise until the first sampling.
    pub(super) fn new(values: &[f32], shapes: &RainbowShapes, noisy: bool, device: Device) -> Result<Self, TchError> {
        let learned = NetworkParameters::new(values, device)?;
        let quiet = RainbowLayers::over(&learned, shapes)?;
        let noisy = if noisy { Some(NoisyLayers::new(&learned, values, shapes, device)?) } else { None };
        Ok(Self { learned, quiet, noisy })
    }

    /// Return the layers that act and learn.
    pub(super) fn layers(&self) -> &RainbowLayers {
        self.noisy.as_ref().map_or(&self.quiet, |noisy| &noisy.layers)
    }

    /// Draw new noise from two vectors per layer: `f(out) f(in)^T` for the weights, `f(out)` for the biases, where
    /// `f(x) = sgn(x) sqrt(|x|)` (equations 10 and 11).
    pub(super) fn resample(&mut self, generator: &mut impl Rng) -> Result<(), TchError> {
        let Some(noisy) = &mut self.noisy else { return Ok(()) };
        let mut rooted = |count: usize| -> Vec<f32> {
            (0..count).map(|_| sample_normal(generator)).map(|x| x.abs().sqrt().copysign(x)).collect()
        };
        let mut noise = Vec::with_capacity(noisy.noise.numel());
        for (inputs, outputs) in &noisy.widths {
            let (inward, outward) = (rooted(*inputs), rooted(*outputs));
            outward.iter().for_each(|out| noise.extend(inward.iter().map(|inward| out * inward)));
            noise.extend(outward);
        }
        noisy.noise.f_copy_(&Tensor::f_from_slice(&noise)?)?;
        self.refresh()
    }

    /// Recompute the noisy weights after the learned parameters have changed.
    pub(super) fn refresh(&mut self) -> Result<(), TchError> {
        let Some(noisy) = &mut self.noisy else { return Ok(()) };
        let (fixed, streams) = (noisy.fixed, noisy.streams());
        noisy.effective.values.f_copy_(&self.learned.values.f_narrow(0, 0, fixed + streams)?)?;
        let deviations = self.learned.values.f_narrow(0, fixed + streams, streams)?;
        let mut weights = noisy.effective.values.f_narrow(0, fixed, streams)?;
        weights.f_addcmul_(&deviations, &noisy.noise).map(drop)
    }

    /// Set the learned parameters' gradients, from the loss's gradients by the two outputs.
    pub(super) fn backward(
        &mut self,
        passed: &RainbowPass,
        by_value: &Tensor,
        by_advantage: &Tensor,
    ) -> Result<(), TchError> {
        self.layers().backward(passed, by_value, by_advantage)?;
        let Some(noisy) = &self.noisy else { return Ok(()) };
        let (fixed, streams) = (noisy.fixed, noisy.streams());
        let gradients = &noisy.effective.gradients;
        self.learned.gradients.f_narrow(0, 0, fixed + streams)?.f_copy_(gradients)?;
        let of_streams = gradients.f_narrow(0, fixed, streams)?;
        let _ = of_streams.f_mul_out(&self.learned.gradients.f_narrow(0, fixed + streams, streams)?, &noisy.noise)?;
        Ok(())
    }

    /// Return the noise, for saving.
    pub(super) fn noise(&self) -> Option<&Tensor> {
        self.noisy.as_ref().map(|noisy| &noisy.noise)
    }

    /// Return the noise, for restoring; call [`RainbowNetwork::refresh`] afterwards.
    pub(super) fn noise_mut(&mut self) -> Option<&mut Tensor> {
        self.noisy.as_mut().map(|noisy| &mut noisy.noise)
    }
}

impl NoisyLayers {
    fn new(
        learned: &NetworkParameters,
        values: &[f32],
        shapes: &RainbowShapes,
        device: Device,
    ) -> Result<Self, TchError> {
        let widths = shapes.streams();
        let streams: usize = widths.iter().map(|(inputs, outputs)| (inputs + 1) * outputs).sum();
        let fixed = values.len() - 2 * streams;
        let effective = NetworkParameters::new(&values[..fixed + streams], device)?;
        let noise = learned.values.f_narrow(0, 0, streams as i64)?.f_zeros_like()?;
        Ok(Self { layers: RainbowLayers::over(&effective, shapes)?, effective, noise, widths, fixed: fixed as i64 })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use tch::Kind;

    use super::{
        super::super::{
            device_tensors::{matrix, tensor_numbers},
            sampling::TrainingRng,
        },
        *,
    };

    fn shapes() -> RainbowShapes {
        RainbowShapes {
            feature: MlpShape::new(2, &[3], 3),
            value: MlpShape::new(3, &[2], 1),
            advantage: MlpShape::new(3, &[2], 2),
        }
    }

    fn flat(tensor: &Tensor) -> Vec<f32> {
        tensor_numbers(tensor).unwrap()
    }

    #[test]
    fn noise_is_factorised_and_can_be_left_out() {
        let mut generator = TrainingRng::seed_from_u64(3);
        let values = shapes().draw(&mut generator, Some(0.5));
        let mut network = RainbowNetwork::new(&values, &shapes(), true, Device::Cpu).unwrap();
        let input = matrix(&[0.3, -0.8], 2, Device::Cpu).unwrap();
        let outputs = |layers: &RainbowLayers| flat(&layers.forward(&input).unwrap().advantage.output);
        assert_eq!(outputs(network.layers()), outputs(&network.quiet), "no noise was drawn yet");
        network.resample(&mut generator).unwrap();
        assert_ne!(outputs(network.layers()), outputs(&network.quiet));
        // The first layer of the value stream: 2 x 3 weights, each the product of its ends' noise, and 2 biases.
        let noise = flat(network.noise().unwrap());
        let (weights, biases) = (&noise[..6], &noise[6..8]);
        assert!((weights[0] * weights[4] - weights[1] * weights[3]).abs() < 1e-6, "rank 1");
        assert!((weights[0] / weights[3] - biases[0] / biases[1]).abs() < 1e-4, "the outputs' noise is the biases'");
        // Its effective weights: mean + 0.5 / sqrt(3) * noise.
        let (means, effective) = (
            flat(&network.quiet.value.tensors(0).unwrap()[0][0]),
            flat(&network.layers().value.tensors(0).unwrap()[0][0]),
        );
        for at in 0..6 {
            assert!((effective[at] - means[at] - 0.5 / 3f32.sqrt() * weights[at]).abs() < 1e-6);
        }
        let old = noise;
        network.resample(&mut generator).unwrap();
        assert_ne!(flat(network.noise().unwrap()), old);
    }

    #[test]
    fn gradients_are_differences() {
        let mut generator = TrainingRng::seed_from_u64(5);
        let values = shapes().draw(&mut generator, Some(0.5));
        let mut network = RainbowNetwork::new(&values, &shapes(), true, Device::Cpu).unwrap();
        network.resample(&mut generator).unwrap();
        let input = matrix(&[0.3, -0.8, 1.1, 0.4], 2, Device::Cpu).unwrap();
        let (by_value, by_advantage) = ([0.7, -0.4], [0.1, 0.9, -0.5, 0.2]);
        let loss = |network: &RainbowNetwork| -> f64 {
            let passed = network.layers().forward(&input).unwrap();
            let dot = |tensor: &Tensor, by: &[f32]| {
                flat(tensor).iter().zip(by).map(|(x, by)| f64::from(*x) * f64::from(*by)).sum::<f64>()
            };
            dot(&passed.value.output, &by_value) + dot(&passed.advantage.output, &by_advantage)
        };
        let passed = network.layers().forward(&input).unwrap();
        let tensors = [matrix(&by_value, 1, Device::Cpu).unwrap(), matrix(&by_advantage, 2, Device::Cpu).unwrap()];
        network.backward(&passed, &tensors[0], &tensors[1]).unwrap();
        let gradients = flat(&network.learned.gradients);
        let step = 1e-2f32;
        for (at, gradient) in gradients.into_iter().enumerate() {
            let mut moved = |by: f32| {
                let mut one = network.learned.values.narrow(0, at as i64, 1);
                one += f64::from(by);
                network.refresh().unwrap();
                loss(&network)
            };
            let (up, down) = (moved(step), moved(-2.0 * step));
            moved(step);
            let slope = (up - down) / f64::from(2.0 * step);
            assert!((slope - f64::from(gradient)).abs() < 2e-2, "{at}: {slope} is not {gradient}");
        }
        assert_eq!(network.learned.values.kind(), Kind::Float);
    }
}
