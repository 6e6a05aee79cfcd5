//! Networks in fixed point: what the policy circuit computes, computed outside of it.
//!
//! Numbers have 18 fractional bits. A layer's sums have 36; after a ReLU the lowest 18 are cut off. The last layer's are compared
//! as they are.

use crate::{ProofFault, Result};

/// Fractional bits of weights, states and activations.
pub(crate) const FRACTION_BITS: usize = 18;
/// Bits of a weight or bias, sign included.
pub(crate) const WEIGHT_BITS: usize = 24;
/// Bits of a number of the state, sign included.
pub(crate) const STATE_BITS: usize = 32;
/// Most bits of a layer's sum: sums are computed outside of circuits in 128 bits.
const MAX_SUM_BITS: usize = 120;
/// Weights and biases are below this in magnitude.
pub const WEIGHT_LIMIT: f64 = (1u64 << (WEIGHT_BITS - 1 - FRACTION_BITS)) as f64;
/// Numbers of a state are below this in magnitude.
pub const STATE_LIMIT: f64 = (1u64 << (STATE_BITS - 1 - FRACTION_BITS)) as f64;
/// One, in fixed point.
const SCALE: f64 = (1u64 << FRACTION_BITS) as f64;

/// A linear layer as trained.
#[derive(Clone, Debug, PartialEq)]
pub struct FloatLayer {
    /// Weights, outputs x inputs, row by row.
    pub weights: Vec<f32>,
    /// Biases, one for each output.
    pub biases: Vec<f32>,
}

/// A linear layer in fixed point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedLayer {
    /// Weights of each output.
    pub weights: Vec<Vec<i64>>,
    /// Bias of each output.
    pub biases: Vec<i64>,
}

/// A network of linear layers with a ReLU between each two; its action is the output that is largest, the first of equals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedNetwork {
    layers: Vec<FixedLayer>,
}

/// Nearest fixed-point number; `None` when it is not finite or too large.
fn quantised(number: f64, limit: f64) -> Option<i64> {
    let scaled = (number * SCALE).round();
    (scaled.is_finite() && scaled.abs() < limit * SCALE).then_some(scaled as i64)
}

/// A state in fixed point.
///
/// # Errors
/// [`ProofFault::NotProvable`] for a number that is not finite or beyond ± [`STATE_LIMIT`].
pub fn quantised_state(state: &[f32]) -> Result<Vec<i64>> {
    let number = |(index, value): (usize, &f32)| {
        quantised(f64::from(*value), STATE_LIMIT).ok_or_else(|| {
            ProofFault::NotProvable(format!("number {index} of the state, {value}, is not within ±{STATE_LIMIT}"))
        })
    };
    state.iter().enumerate().map(number).collect()
}

/// Bits of the magnitude of each layer's sums at most, for `widths` from the state to the actions.
pub(crate) fn sum_bits(widths: &[usize]) -> Vec<usize> {
    let mut input = STATE_BITS - 1;
    let layers = widths.windows(2).map(|pair| {
        // So many products, and a bias, which is smaller.
        let additions = (pair[0] + 1).next_power_of_two().trailing_zeros() as usize;
        let sums = input + WEIGHT_BITS - 1 + additions;
        input = sums - FRACTION_BITS;
        sums
    });
    layers.collect()
}

impl FixedNetwork {
    /// A network in fixed point.
    ///
    /// # Errors
    /// [`ProofFault::NotProvable`] for a layer whose sizes don't fit, a weight that is too large, or too many layers.
    pub fn quantise(inputs: usize, layers: &[FloatLayer]) -> Result<Self> {
        let mut width = inputs;
        let mut fixed = Vec::new();
        for (index, layer) in layers.iter().enumerate() {
            let outputs = layer.biases.len();
            if width == 0 || outputs == 0 || layer.weights.len() != outputs * width {
                return Err(ProofFault::NotProvable(format!("layer {index} does not take {width} numbers")));
            }
            let number = |value: &f32| {
                quantised(f64::from(*value), WEIGHT_LIMIT).ok_or_else(|| {
                    ProofFault::NotProvable(format!("layer {index} has a weight of {value}, beyond ±{WEIGHT_LIMIT}"))
                })
            };
            let row = |row: &[f32]| row.iter().map(number).collect::<Result<Vec<i64>>>();
            fixed.push(FixedLayer {
                weights: layer.weights.chunks(width).map(row).collect::<Result<_>>()?,
                biases: row(&layer.biases)?,
            });
            width = outputs;
        }
        Self::new(fixed)
    }

    /// A network of layers that are in fixed point.
    ///
    /// # Errors
    /// [`ProofFault::NotProvable`] for none or too many of them.
    pub fn new(layers: Vec<FixedLayer>) -> Result<Self> {
        let network = Self { layers };
        if network.layers.is_empty() {
            return Err(ProofFault::NotProvable("the network has no layer".to_owned()));
        }
        if sum_bits(&network.widths()).last().is_none_or(|bits| *bits > MAX_SUM_BITS) {
            return Err(ProofFault::NotProvable("the network has too many layers for fixed point".to_owned()));
        }
        Ok(network)
    }

    /// Its layers, from the input on.
    pub fn layers(&self) -> &[FixedLayer] {
        &self.layers
    }

    /// Widths from the state to the actions.
    pub fn widths(&self) -> Vec<usize> {
        let inputs = self.layers.first().and_then(|layer| layer.weights.first()).map_or(0, Vec::len);
        std::iter::once(inputs).chain(self.layers.iter().map(|layer| layer.biases.len())).collect()
    }

    /// Outputs for a state, with 36 fractional bits.
    pub fn outputs(&self, state: &[i64]) -> Vec<i128> {
        let mut input: Vec<i128> = state.iter().map(|number| i128::from(*number)).collect();
        for (index, layer) in self.layers.iter().enumerate() {
            if index > 0 {
                input.iter_mut().for_each(|sum| *sum = (*sum).max(0) >> FRACTION_BITS);
            }
            input = layer.sums(&input);
        }
        input
    }

    /// The action for a state: the index of the largest output, the first of equals.
    pub fn action(&self, state: &[i64]) -> usize {
        let outputs = self.outputs(state);
        (1..outputs.len()).fold(0, |best, index| if outputs[index] > outputs[best] { index } else { best })
    }
}

impl FixedLayer {
    fn sums(&self, input: &[i128]) -> Vec<i128> {
        let sum = |(weights, bias): (&Vec<i64>, &i64)| {
            let products = weights.iter().zip(input).map(|(weight, number)| i128::from(*weight) * number);
            products.sum::<i128>() + (i128::from(*bias) << FRACTION_BITS)
        };
        self.weights.iter().zip(&self.biases).map(sum).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_rounded_and_bounded() {
        assert_eq!(quantised_state(&[0.5, -1.0]).unwrap(), [1 << 17, -(1 << 18)]);
        for bad in [f32::NAN, f32::INFINITY, 8192.0, -8192.0] {
            assert!(
                matches!(quantised_state(&[0.0, bad]), Err(ProofFault::NotProvable(text)) if text.contains("number 1"))
            );
        }
        let layer = |weight: f32| FloatLayer { weights: vec![weight], biases: vec![0.0] };
        assert!(FixedNetwork::quantise(1, &[layer(31.9)]).is_ok());
        assert!(FixedNetwork::quantise(1, &[layer(32.0)]).is_err());
        assert!(FixedNetwork::quantise(2, &[layer(1.0)]).is_err(), "sizes");
        assert!(FixedNetwork::quantise(1, &[]).is_err());
        assert!(FixedNetwork::quantise(1, &vec![layer(1.0); 11]).is_ok());
        assert!(FixedNetwork::quantise(1, &vec![layer(1.0); 12]).is_err(), "too deep");
    }

    #[test]
    fn bounds_of_sums_are_those_of_the_widths() {
        assert_eq!(sum_bits(&[9, 32, 32, 4]), [58, 69, 80]);
    }

    #[test]
    fn the_first_of_equals_is_done() {
        let layer = FixedLayer { weights: vec![vec![0], vec![0], vec![1]], biases: vec![5, 5, 0] };
        let network = FixedNetwork::new(vec![layer]).unwrap();
        assert_eq!(network.action(&[0]), 0);
        assert_eq!(network.action(&[6 << FRACTION_BITS]), 2);
    }

    proptest! {
        /// In floats of 64 bits the outputs are the same but for the rounding of what is cut off.
        #[test]
        fn fixed_point_is_near_floats(seed in any::<u64>()) {
            let mut state = seed;
            let mut draw = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 2.0
            };
            let widths = [3, 5, 4];
            let layers: Vec<FloatLayer> = widths.windows(2).map(|pair| FloatLayer {
                weights: (0..pair[0] * pair[1]).map(|_| draw()).collect(),
                biases: (0..pair[1]).map(|_| draw()).collect(),
            }).collect();
            let input: Vec<f32> = (0..3).map(|_| draw()).collect();
            let network = FixedNetwork::quantise(3, &layers).unwrap();
            let fixed = network.outputs(&quantised_state(&input).unwrap());
            let mut floats: Vec<f64> = input.iter().map(|number| f64::from(*number)).collect();
            for (index, layer) in layers.iter().enumerate() {
                if index > 0 {
                    floats.iter_mut().for_each(|number| *number = number.max(0.0));
                }
                floats = layer.weights.chunks(floats.len()).zip(&layer.biases).map(|(row, bias)| {
                    row.iter().zip(&floats).map(|(weight, number)| f64::from(*weight) * number).sum::<f64>() + f64::from(*bias)
                }).collect();
            }
            for (fixed, float) in fixed.iter().zip(&floats) {
                let fixed = *fixed as f64 / (SCALE * SCALE);
                prop_assert!((fixed - float).abs() < 1e-4, "{fixed} {float}");
            }
        }
    }
}
