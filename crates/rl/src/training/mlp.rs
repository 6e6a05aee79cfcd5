//! Multilayer perceptrons with explicit gradients: for networks this small, recording a graph costs more than the
//! arithmetic. Tests compare them with libtorch's own gradients.

use rand::Rng;
use tch::{TchError, Tensor};

use super::{layer::DenseLayer, parameters::NetworkParameters};
use crate::orthogonal::orthogonal;

/// Widths of a perceptron's layers, from input to output, and the number of copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MlpShape {
    pub(super) widths: Vec<usize>,
    /// Number of perceptrons of this shape, each with its own parameters, that receive the same input: SAC's twin
    /// critics.
    pub(super) copies: usize,
}

impl MlpShape {
    pub(super) fn new(input: usize, hidden: &[usize], output: usize) -> Self {
        let widths = std::iter::once(input).chain(hidden.iter().copied()).chain([output]).collect();
        Self { widths, copies: 1 }
    }

    /// Inputs and outputs of each layer.
    pub(super) fn layers(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.widths.windows(2).map(|pair| (pair[0], pair[1]))
    }

    /// Draw all parameters: orthogonal weights with gain sqrt(2) before a ReLU and `output_gain` at the end, biases 0
    /// (Huang et al., "The 37 Implementation Details of Proximal Policy Optimization", 2022, detail 2).
    pub(super) fn orthogonal(&self, generator: &mut impl Rng, output_gain: f64) -> Vec<f32> {
        let mut numbers = Vec::new();
        let last = self.widths.len() - 2;
        for (index, (inputs, outputs)) in self.layers().enumerate() {
            let gain = if index == last { output_gain } else { 2f64.sqrt() };
            for _ in 0..self.copies {
                numbers.extend(orthogonal(generator, outputs, inputs, gain).into_iter().map(|number| number as f32));
            }
            numbers.resize(numbers.len() + self.copies * outputs, 0.0);
        }
        numbers
    }

    /// Draw all parameters as PyTorch's `Linear` does: uniformly within 1 / sqrt(inputs) of 0.
    pub(super) fn uniform(&self, generator: &mut impl Rng) -> Vec<f32> {
        let mut numbers = Vec::new();
        for (inputs, outputs) in self.layers() {
            let bound = 1.0 / (inputs as f64).sqrt();
            let count = self.copies * (inputs + 1) * outputs;
            numbers.extend((0..count).map(|_| super::sampling::sample_uniform(generator, -bound, bound) as f32));
        }
        numbers
    }
}

/// Layers `y = x W^T + b` with ReLU between them.
pub(super) struct Mlp {
    layers: Vec<DenseLayer>,
    copies: usize,
}

/// Intermediate results of a forward pass, for the backward pass.
pub(super) struct ForwardPass {
    /// Input of each layer.
    inputs: Vec<Tensor>,
    /// Output, rows x outputs; with copies, copies x rows x outputs.
    pub(super) output: Tensor,
}

impl ForwardPass {
    /// Restrict to the first `rows` rows; only without copies.
    pub(super) fn first(&self, rows: usize) -> Result<Self, TchError> {
        let of = |tensor: &Tensor| tensor.f_narrow(0, 0, rows as i64);
        Ok(Self { inputs: self.inputs.iter().map(of).collect::<Result<_, _>>()?, output: of(&self.output)? })
    }
}

impl Mlp {
    /// Create the perceptron whose parameters begin at `offset`, and advance `offset` behind them.
    pub(super) fn at(parameters: &NetworkParameters, offset: &mut i64, shape: &MlpShape) -> Result<Self, TchError> {
        let copies = shape.copies as i64;
        let stacked = |size: [i64; 2]| if copies == 1 { size.to_vec() } else { vec![copies, size[0], size[1]] };
        let view = |from: &Tensor, at: i64, size: &[i64]| -> Result<Tensor, TchError> {
            from.f_narrow(0, at, size.iter().product())?.f_view(size)
        };
        let mut layers = Vec::new();
        for (inputs, outputs) in shape.layers() {
            let (inputs, outputs) = (inputs as i64, outputs as i64);
            let (weight, bias) =
                (stacked([outputs, inputs]), if copies == 1 { vec![outputs] } else { stacked([1, outputs]) });
            let bias_at = *offset + copies * outputs * inputs;
            layers.push(DenseLayer {
                weight: view(&parameters.values, *offset, &weight)?,
                weight_gradient: view(&parameters.gradients, *offset, &weight)?,
                bias: view(&parameters.values, bias_at, &bias)?,
                bias_gradient: view(&parameters.gradients, bias_at, &bias)?,
            });
            *offset = bias_at + copies * outputs;
        }
        Ok(Self { layers, copies: shape.copies })
    }

    /// Compute the output for `input`, rows x inputs.
    pub(super) fn forward(&self, input: &Tensor) -> Result<ForwardPass, TchError> {
        let mut inputs = Vec::with_capacity(self.layers.len());
        let mut present = match self.copies {
            1 => input.shallow_clone(),
            copies => input.f_unsqueeze(0)?.f_repeat([copies as i64, 1, 1])?,
        };
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                let _ = present.f_relu_()?;
            }
            let next = layer.forward(&present)?;
            inputs.push(std::mem::replace(&mut present, next));
        }
        Ok(ForwardPass { inputs, output: present })
    }

    /// Backpropagate the loss's gradient by the output. With `parameters`, replace the parameters' gradients; with
    /// `input`, return the gradient by the input.
    fn backward_to(
        &self,
        pass: &ForwardPass,
        gradient: &Tensor,
        parameters: bool,
        input: bool,
    ) -> Result<Tensor, TchError> {
        let mut present = gradient.shallow_clone();
        for (index, (layer, into)) in self.layers.iter().zip(&pass.inputs).enumerate().rev() {
            if parameters {
                layer.set_gradients(into, &present)?;
            }
            if index > 0 {
                present = layer.input_gradient(&present)?;
                present = into.f_threshold_backward_grad_input(&present, &present, 0.0)?;
            } else if input {
                present = layer.input_gradient(&present)?;
            }
        }
        Ok(present)
    }

    /// Set the parameters' gradients, from the loss's gradient by the output.
    pub(super) fn backward(&self, pass: &ForwardPass, gradient: &Tensor) -> Result<(), TchError> {
        self.backward_to(pass, gradient, true, false).map(drop)
    }

    /// Compute the loss's gradient by the input, from that by the output; the parameters' gradients are unchanged.
    pub(super) fn input_gradient(&self, pass: &ForwardPass, gradient: &Tensor) -> Result<Tensor, TchError> {
        self.backward_to(pass, gradient, false, true)
    }

    /// Set the parameters' gradients and compute the gradient by the input.
    pub(super) fn backward_through(&self, pass: &ForwardPass, gradient: &Tensor) -> Result<Tensor, TchError> {
        self.backward_to(pass, gradient, true, true)
    }

    /// Return weights and biases of each layer of one copy, with their sizes.
    pub(super) fn tensors(&self, copy: usize) -> Result<Vec<[Tensor; 2]>, TchError> {
        let of = |tensor: &Tensor| match self.copies {
            1 => Ok(tensor.shallow_clone()),
            _ => tensor.f_select(0, copy as i64),
        };
        self.layers.iter().map(|layer| Ok([of(&layer.weight)?, of(&layer.bias)?.f_flatten(0, -1)?])).collect()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use tch::{Device, Kind};

    use super::{
        super::{
            device_tensors::{matrix, tensor_numbers},
            sampling,
        },
        *,
    };

    fn drawn(seed: u64, count: usize) -> Vec<f32> {
        let mut generator = sampling::TrainingRng::seed_from_u64(seed);
        (0..count).map(|_| sampling::sample_normal(&mut generator)).collect()
    }

    /// The same perceptron, recorded for libtorch to differentiate; answers output, gradients of the parameters in the
    /// order of [`NetworkParameters`] and that of the input.
    fn reference(mlp: &Mlp, shape: &MlpShape, input: &Tensor, by_output: &Tensor) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let leaf = |tensor: &Tensor| tensor.copy().detach().set_requires_grad(true);
        let layers: Vec<[Tensor; 2]> =
            mlp.layers.iter().map(|layer| [leaf(&layer.weight), leaf(&layer.bias)]).collect();
        let input = leaf(input);
        let mut present =
            if shape.copies > 1 { input.repeat([shape.copies as i64, 1, 1]) } else { input.shallow_clone() };
        for (index, [weight, bias]) in layers.iter().enumerate() {
            let inner = if index > 0 { present.relu() } else { present };
            present = inner.matmul(&weight.transpose(-2, -1)) + bias;
        }
        (&present * by_output).sum(Kind::Float).backward();
        let gradients = layers.iter().flatten().flat_map(|tensor| tensor_numbers(&tensor.grad()).unwrap()).collect();
        (tensor_numbers(&present.detach()).unwrap(), gradients, tensor_numbers(&input.grad()).unwrap())
    }

    fn close(name: &str, ours: &[f32], theirs: &[f32]) {
        assert_eq!(ours.len(), theirs.len());
        for (at, (one, other)) in ours.iter().zip(theirs).enumerate() {
            assert!((one - other).abs() < 1e-5 * (1.0 + other.abs()), "{name} {at}: {one} is not {other}");
        }
    }

    #[test]
    fn gradients_are_libtorchs() {
        for copies in [1, 2] {
            let shape = MlpShape { copies, ..MlpShape::new(3, &[5, 4], 2) };
            let mut generator = sampling::TrainingRng::seed_from_u64(copies as u64);
            let parameters = NetworkParameters::new(&shape.uniform(&mut generator), Device::Cpu).unwrap();
            let mut offset = 0;
            let mlp = Mlp::at(&parameters, &mut offset, &shape).unwrap();
            assert_eq!(offset as usize, parameters.values.numel());
            let input = matrix(&drawn(7, 6 * 3), 3, Device::Cpu).unwrap();
            let by_output = Tensor::from_slice(&drawn(8, copies * 6 * 2));
            let by_output = if copies > 1 { by_output.view([2, 6, 2]) } else { by_output.view([6, 2]) };
            let pass = mlp.forward(&input).unwrap();
            let by_input = mlp.backward_through(&pass, &by_output).unwrap();
            let by_input =
                if copies > 1 { by_input.sum_dim_intlist(&[0i64][..], false, Kind::Float) } else { by_input };
            let (output, gradients, input_gradient) = reference(&mlp, &shape, &input, &by_output);
            close("output", &tensor_numbers(&pass.output).unwrap(), &output);
            close("parameter", &tensor_numbers(&parameters.gradients).unwrap(), &gradients);
            close("input", &tensor_numbers(&by_input).unwrap(), &input_gradient);
            let before = tensor_numbers(&parameters.gradients).unwrap();
            let _ = mlp.input_gradient(&pass, &by_output).unwrap();
            assert_eq!(tensor_numbers(&parameters.gradients).unwrap(), before);
        }
    }

    #[test]
    fn draws_are_orthogonal_or_within_their_bounds() {
        let mut generator = sampling::TrainingRng::seed_from_u64(1);
        let shape = MlpShape::new(4, &[8], 2);
        let all = shape.orthogonal(&mut generator, 0.01);
        assert_eq!(all.len(), 4 * 8 + 8 + 8 * 2 + 2);
        let length = |numbers: &[f32]| numbers.iter().map(|number| number * number).sum::<f32>();
        // Four columns of squared length 2, two rows of squared length 0.0001, biases 0.
        assert!((length(&all[..32]) - 8.0).abs() < 1e-4 && (length(&all[40..56]) - 2e-4).abs() < 1e-8);
        assert!(all[32..40].iter().chain(&all[56..]).all(|bias| *bias == 0.0));
        let all = shape.uniform(&mut generator);
        let most = |numbers: &[f32]| numbers.iter().fold(0f32, |most, number| most.max(number.abs()));
        assert!((0.45..0.5).contains(&most(&all[..40])) && (0.25..0.354).contains(&most(&all[40..])));
    }
}
