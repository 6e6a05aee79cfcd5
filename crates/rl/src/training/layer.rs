//! Matrix products of a linear layer, forward and backward.
//!
//! Large products use oneDNN, which libtorch contains beside MKL: its kernels are made for the processor at hand, while
//! MKL leaves half of a wide processor's speed unused on other makers' processors (256 x 256 x 256 on one core of an
//! EPYC of 2024: 147 µs and 290 µs). Small products do not pay for the conversion to oneDNN's format and back. The
//! choice depends on the size alone, so equal runs make equal choices.

use tch::{Device, Kind, TchError, Tensor, utils::has_mkldnn};

/// Number of multiplications from which oneDNN is faster.
const ONEDNN_MIN_MULTIPLICATIONS: i64 = 1 << 23;

/// Maximum number of inputs for which a product is transposed: MKL has no kernel for so short an edge (256 x 256 by 256
/// x 4: 48 µs, transposed 12 µs).
const MAX_NARROW_INPUTS: i64 = 16;

/// Views of a layer's parameters and gradients.
pub(super) struct DenseLayer {
    /// Weights, outputs x inputs as in PyTorch; with copies, concatenated along a first dimension.
    pub(super) weight: Tensor,
    pub(super) weight_gradient: Tensor,
    /// Biases, one per output; with copies, copies x 1 x outputs.
    pub(super) bias: Tensor,
    pub(super) bias_gradient: Tensor,
}

impl DenseLayer {
    /// Number of copies; `None`: one, without a dimension for it.
    fn copies(&self) -> Option<i64> {
        (self.weight.dim() > 2).then(|| self.weight.size()[0])
    }

    /// Return whether the product of one copy's weights with this number of rows counts as large.
    fn is_large(&self, rows: i64) -> bool {
        let each = self.weight.numel() as i64 / self.copies().unwrap_or(1);
        !self.is_narrow()
            && rows * each >= ONEDNN_MIN_MULTIPLICATIONS
            && self.weight.device() == Device::Cpu
            && has_mkldnn()
    }

    fn is_narrow(&self) -> bool {
        self.weight.size()[self.weight.dim() - 1] <= MAX_NARROW_INPUTS
    }

    /// Compute `input W^T + b`; rows x inputs, with copies copies x rows x inputs.
    pub(super) fn forward(&self, input: &Tensor) -> Result<Tensor, TchError> {
        let large = self.is_large(input.size()[input.dim() - 2]);
        let one = |input: &Tensor, weight: &Tensor, bias: Tensor| {
            input.f_to_mkldnn(None)?.f_mkldnn_linear(weight, Some(bias))?.f_to_dense(None, false)
        };
        match self.copies() {
            None if large => one(input, &self.weight, self.bias.shallow_clone()),
            None => self.bias.f_addmm(input, &self.weight.f_transpose(-2, -1)?),
            Some(copies) if large => {
                let each = |copy: i64| {
                    let bias = self.bias.f_select(0, copy)?.f_view(-1i64)?;
                    one(&input.f_select(0, copy)?, &self.weight.f_select(0, copy)?, bias)
                };
                Tensor::f_stack(&(0..copies).map(each).collect::<Result<Vec<_>, _>>()?, 0)
            }
            Some(_) => self.bias.f_baddbmm(input, &self.weight.f_transpose(-2, -1)?, 1.0, 1.0),
        }
    }

    /// Set the gradients of weights and biases, from the layer's input and the loss's gradient by its output.
    pub(super) fn set_gradients(&self, input: &Tensor, by_output: &Tensor) -> Result<(), TchError> {
        let one = |input: Tensor, by_output: Tensor, weight: &Tensor, into: [Tensor; 2]| {
            let (input, by_output) = (input.f_to_mkldnn(None)?, by_output.f_to_mkldnn(None)?);
            let (by_weight, by_bias) = input.f_mkldnn_linear_backward_weights(&by_output, weight, true)?;
            let [mut weight_gradient, mut bias_gradient] = into;
            weight_gradient.f_copy_(&by_weight)?;
            bias_gradient.f_copy_(&by_bias)
        };
        if self.is_large(input.size()[input.dim() - 2]) {
            let Some(copies) = self.copies() else {
                let into = [self.weight_gradient.shallow_clone(), self.bias_gradient.shallow_clone()];
                return one(input.f_contiguous()?, by_output.f_contiguous()?, &self.weight, into);
            };
            return (0..copies).try_for_each(|copy| {
                let of = |tensor: &Tensor| tensor.f_select(0, copy);
                let into = [of(&self.weight_gradient)?, of(&self.bias_gradient)?.f_view(-1i64)?];
                one(of(input)?, of(by_output)?, &of(&self.weight)?, into)
            });
        }
        if self.is_narrow() {
            let turned = input.f_transpose(-2, -1)?.f_matmul(by_output)?;
            self.weight_gradient.shallow_clone().f_copy_(&turned.f_transpose(-2, -1)?)?;
        } else {
            let turned = by_output.f_transpose(-2, -1)?;
            let _ = match self.copies() {
                None => turned.f_mm_out(&self.weight_gradient, input)?,
                Some(_) => turned.f_bmm_out(&self.weight_gradient, input)?,
            };
        }
        let keep = self.copies().is_some();
        let _ = by_output.f_sum_intlist_out(&self.bias_gradient, &[-2i64][..], keep, Kind::Float)?;
        Ok(())
    }

    /// Compute the loss's gradient by the input, from that by the output.
    pub(super) fn input_gradient(&self, by_output: &Tensor) -> Result<Tensor, TchError> {
        let rows = by_output.size()[by_output.dim() - 2];
        if self.is_narrow() {
            let turned = self.weight.f_transpose(-2, -1)?.f_matmul(&by_output.f_transpose(-2, -1)?)?;
            return turned.f_transpose(-2, -1);
        }
        if !self.is_large(rows) {
            return by_output.f_matmul(&self.weight);
        }
        let one = |by_output: &Tensor, weight: &Tensor| {
            let by_output = by_output.f_to_mkldnn(None)?;
            let size = [rows, weight.size()[1]];
            Tensor::f_mkldnn_linear_backward_input(size, &by_output, weight)?.f_to_dense(None, false)
        };
        let Some(copies) = self.copies() else { return one(by_output, &self.weight) };
        let each = |copy: i64| one(&by_output.f_select(0, copy)?, &self.weight.f_select(0, copy)?);
        Tensor::f_stack(&(0..copies).map(each).collect::<Result<Vec<_>, _>>()?, 0)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::{
        super::{device_tensors::tensor_numbers, sampling},
        *,
    };

    fn drawn(generator: &mut sampling::TrainingRng, size: &[i64]) -> Tensor {
        let count = size.iter().product::<i64>();
        let all: Vec<f32> = (0..count).map(|_| sampling::sample_normal(generator)).collect();
        Tensor::from_slice(&all).view(size)
    }

    #[track_caller]
    fn close(ours: &Tensor, theirs: &Tensor) {
        assert_eq!(ours.size(), theirs.size());
        let (ours, theirs) = (tensor_numbers(ours).unwrap(), tensor_numbers(theirs).unwrap());
        for (one, other) in ours.iter().zip(&theirs) {
            assert!((one - other).abs() < 1e-3 + 1e-4 * other.abs(), "{one} is not {other}");
        }
    }

    #[test]
    fn large_products_are_the_small_ones() {
        assert!(has_mkldnn(), "the pinned libtorch has oneDNN");
        let mut generator = sampling::TrainingRng::seed_from_u64(4);
        let (rows, inputs, outputs) = (256, 160, 256);
        for copies in [None, Some(2)] {
            let sized = |size: &[i64]| copies.into_iter().chain(size.iter().copied()).collect::<Vec<_>>();
            let bias = if copies.is_some() { sized(&[1, outputs]) } else { vec![outputs] };
            let layer = DenseLayer {
                weight: drawn(&mut generator, &sized(&[outputs, inputs])),
                weight_gradient: Tensor::zeros(sized(&[outputs, inputs]), (Kind::Float, Device::Cpu)),
                bias: drawn(&mut generator, &bias),
                bias_gradient: Tensor::zeros(&bias, (Kind::Float, Device::Cpu)),
            };
            assert!(layer.is_large(rows) && !layer.is_large(rows / 2));
            let input = drawn(&mut generator, &sized(&[rows, inputs]));
            let by_output = drawn(&mut generator, &sized(&[rows, outputs]));
            close(&layer.forward(&input).unwrap(), &(input.matmul(&layer.weight.transpose(-2, -1)) + &layer.bias));
            close(&layer.input_gradient(&by_output).unwrap(), &by_output.matmul(&layer.weight));
            layer.set_gradients(&input, &by_output).unwrap();
            close(&layer.weight_gradient, &by_output.transpose(-2, -1).matmul(&input));
            close(
                &layer.bias_gradient.view(sized(&[outputs])[..].as_ref()),
                &by_output.sum_dim_intlist(&[-2i64][..], false, Kind::Float),
            );
        }
    }
}
