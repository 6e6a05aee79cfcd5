//! A network with ReLU between its layers, with one copy of the parameters for each task.

use rand::Rng;
use tch::{TchError, Tensor};

use super::plan::{MetaAlgorithm, MetaPlan};
use crate::training::sampling::sample_normal;

/// Sizes of a network's layers. Its parameters are one vector: weights (outputs x inputs) and biases of each layer in turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TaskNetwork {
    /// Numbers of the input, of the hidden layers, and of the output.
    pub(super) sizes: Vec<i64>,
}

impl TaskNetwork {
    /// The network of a plan. Prototypical networks answer a point of as many numbers as their last hidden layer has units.
    pub(super) fn of(plan: &MetaPlan) -> Self {
        let shape = plan.shape();
        let hidden: Vec<i64> = plan.settings.hidden.iter().map(|units| *units as i64).collect();
        let outputs = match plan.algorithm {
            MetaAlgorithm::PrototypicalNetworks => hidden.last().copied().unwrap_or(shape.inputs as i64),
            _ => shape.outputs as i64,
        };
        let sizes = std::iter::once(shape.inputs as i64).chain(hidden).chain([outputs]).collect();
        Self { sizes }
    }

    /// Inputs and outputs of each layer.
    pub(super) fn layers(&self) -> impl Iterator<Item = (i64, i64)> {
        self.sizes.windows(2).map(|pair| (pair[0], pair[1]))
    }

    fn pieces(&self) -> Vec<i64> {
        self.layers().flat_map(|(inputs, outputs)| [inputs * outputs, outputs]).collect()
    }

    /// Number of parameters.
    pub(super) fn parameters(&self) -> usize {
        self.pieces().iter().sum::<i64>() as usize
    }

    /// Draw first parameters: normal weights whose variance is 2 / inputs (He et al. 2015, arXiv:1502.01852), biases of 0.
    pub(super) fn draw(&self, generator: &mut impl Rng) -> Vec<f32> {
        let mut all = Vec::with_capacity(self.parameters());
        for (inputs, outputs) in self.layers() {
            let deviation = (2.0 / inputs as f32).sqrt();
            all.extend((0..inputs * outputs).map(|_| deviation * sample_normal(generator)));
            all.extend((0..outputs).map(|_| 0.0));
        }
        all
    }

    /// The outputs, copies x examples x outputs, of inputs in the same form.
    pub(super) fn forward(&self, parameters: &Tensor, inputs: &Tensor) -> Result<Tensor, TchError> {
        let copies = parameters.size()[0];
        let pieces = parameters.f_split_with_sizes(&self.pieces()[..], 1)?;
        let mut values = inputs.shallow_clone();
        for (index, ((inputs, outputs), layer)) in self.layers().zip(pieces.chunks_exact(2)).enumerate() {
            if index > 0 {
                values = values.f_relu()?;
            }
            let weight = layer[0].f_view([copies, outputs, inputs])?.f_transpose(1, 2)?;
            values = layer[1].f_view([copies, 1, outputs])?.f_baddbmm(&values, &weight, 1.0, 1.0)?;
        }
        Ok(values)
    }
}
