//! The policy circuit: the committed action is the largest output, the first of equals, of the network with the committed weights on
//! the committed state, in fixed point.
//!
//! Weights are made of bits, which bounds them and packs ten into one hashed element. A layer's sum is exact; a ReLU takes its bits,
//! keeps those above the cut-off fraction, and multiplies them with the one that says that the sum is not negative.

use std::collections::BTreeMap;

use ark_ff::{AdditiveGroup, Field};

use crate::{
    BLOCK_ELEMENTS, CircuitBuilder, FieldElement, FixedLayer, FixedNetwork, LinearSum, ProofFault, Result, Synthesis,
    ValueOpening, WireIndex,
    commitment::{WEIGHTS_KIND, action_header, header, state_header},
    field::signed_element,
    fixed_point::{FRACTION_BITS, STATE_BITS, WEIGHT_BITS, sum_bits},
    poseidon::constrain_hash,
    value_digest,
};

/// Parameters in one hashed element.
const PACKED_WEIGHTS: usize = 10;

/// Private values of a policy circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWitness {
    /// The network; its widths are the circuit's.
    pub network: FixedNetwork,
    /// The state in fixed point, as the network takes it.
    pub state: Vec<i64>,
    /// Digest of the step's input as JSON.
    pub input_text: FieldElement,
    /// Hides the input.
    pub input_salt: FieldElement,
    /// Digest of the step's output as JSON.
    pub output_text: FieldElement,
    /// Hides the output.
    pub output_salt: FieldElement,
}

/// 2 to the power of `exponent`.
fn power_of_two(exponent: usize) -> FieldElement {
    FieldElement::from(2u64).pow([exponent as u64])
}

/// The header of a network's parameters and its widths.
fn weights_head(widths: &[usize]) -> Vec<FieldElement> {
    let sizes = widths.iter().map(|width| FieldElement::from(*width as u64));
    std::iter::once(header(WEIGHTS_KIND, widths.len())).chain(sizes).collect()
}

/// All parameters in the order in which they are committed to: layer by layer, weights row by row, then biases.
fn parameters(network: &FixedNetwork) -> impl Iterator<Item = i64> + '_ {
    let layer =
        |layer: &'_ FixedLayer| layer.weights.iter().flatten().chain(&layer.biases).copied().collect::<Vec<i64>>();
    network.layers().iter().flat_map(layer)
}

/// The commitment to a network's weights: the digest of the header (kind 4), the widths, and the parameters in packs of ten, each
/// 24 bits and raised by 2^23, the first the lowest. It has no salt, so that it is the same for all who have the policy.
///
/// # Errors
/// None that an input explains.
pub fn weights_commitment(network: &FixedNetwork) -> Result<FieldElement> {
    let raised: Vec<FieldElement> =
        parameters(network).map(|weight| signed_element(i128::from(weight) + (1 << (WEIGHT_BITS - 1)))).collect();
    let shift = power_of_two(WEIGHT_BITS);
    let pack = |pack: &[FieldElement]| pack.iter().rev().fold(FieldElement::ZERO, |sum, weight| sum * shift + weight);
    let mut elements = weights_head(&network.widths());
    elements.extend(raised.chunks(PACKED_WEIGHTS).map(pack));
    value_digest(&elements)
}

/// The public signals of a policy step.
///
/// # Errors
/// None that an input explains.
pub fn policy_publics(
    input: &ValueOpening,
    output: &ValueOpening,
    network: &FixedNetwork,
) -> Result<Vec<FieldElement>> {
    Ok(vec![input.commitment()?, output.commitment()?, weights_commitment(network)?])
}

impl PolicyWitness {
    /// Values of a network of zeros.
    pub(super) fn example(widths: &[usize]) -> Result<Self> {
        let layer = |pair: &[usize]| FixedLayer { weights: vec![vec![0; pair[0]]; pair[1]], biases: vec![0; pair[1]] };
        let zero = FieldElement::ZERO;
        Ok(Self {
            network: FixedNetwork::new(widths.windows(2).map(layer).collect())?,
            state: vec![0; widths.first().copied().unwrap_or(0)],
            input_text: zero,
            input_salt: zero,
            output_text: zero,
            output_salt: zero,
        })
    }

    /// The circuit of the network's widths, with these values.
    ///
    /// # Errors
    /// [`ProofFault::NotProvable`] when no circuit has these widths, or the state another length.
    pub fn synthesise(&self) -> Result<Synthesis> {
        self.synthesise_with(BTreeMap::new(), false)
    }

    pub(super) fn synthesise_with(
        &self,
        overrides: BTreeMap<WireIndex, FieldElement>,
        hashes_assumed: bool,
    ) -> Result<Synthesis> {
        let form = super::policy_form(&self.network)?;
        let widths = self.network.widths();
        if self.state.len() != widths[0] {
            return Err(ProofFault::NotProvable(format!("a state of {} numbers is not for {form}", self.state.len())));
        }
        let mut circuit = CircuitBuilder::with_overrides(3, overrides);
        circuit.assume_hashes(hashes_assumed);
        let one = LinearSum::constant(FieldElement::ONE);

        circuit.part("state");
        let state: Vec<LinearSum> =
            self.state.iter().map(|number| signed_bits(&mut circuit, *number, STATE_BITS)).collect();
        let state: Vec<LinearSum> = state.iter().map(|sum| LinearSum::wire(circuit.bind(sum))).collect();
        let text = LinearSum::wire(circuit.private(self.input_text));
        let mut input = vec![LinearSum::constant(state_header(state.len()))];
        input.extend(state.iter().cloned());
        input.push(text);
        let commitment = committed(&mut circuit, &input, self.input_salt)?;
        circuit.part("input");
        circuit.publish(1, &commitment, &one);

        let weights = self.constrain_weights(&mut circuit, &widths)?;
        let outputs = self.constrain_layers(&mut circuit, &widths, &weights, state);
        let action = constrain_choice(&mut circuit, &outputs, sum_bits(&widths).last().copied().unwrap_or(0) + 1);

        circuit.part("output");
        let text = LinearSum::wire(circuit.private(self.output_text));
        let output = [LinearSum::constant(action_header()), action, text];
        let commitment = committed(&mut circuit, &output, self.output_salt)?;
        circuit.part("output");
        circuit.publish(2, &commitment, &one);
        Ok(circuit.finish())
    }

    /// The parameters as sums of bits, in their order, after their commitment is public.
    fn constrain_weights(&self, circuit: &mut CircuitBuilder, widths: &[usize]) -> Result<Vec<LinearSum>> {
        circuit.part("weights");
        let weights: Vec<LinearSum> =
            parameters(&self.network).map(|weight| signed_bits(circuit, weight, WEIGHT_BITS)).collect();
        let offset = LinearSum::constant(power_of_two(WEIGHT_BITS - 1));
        let mut elements: Vec<LinearSum> = weights_head(widths).into_iter().map(LinearSum::constant).collect();
        for pack in weights.chunks(PACKED_WEIGHTS) {
            let mut sum = LinearSum::zero();
            for (place, weight) in pack.iter().enumerate() {
                sum = sum + (weight.clone() + offset.clone()).times(power_of_two(place * WEIGHT_BITS));
            }
            elements.push(LinearSum::wire(circuit.bind(&sum)));
        }
        let digest = digested(circuit, &elements)?;
        circuit.part("weights");
        circuit.publish(3, &digest, &LinearSum::constant(FieldElement::ONE));
        Ok(weights)
    }

    /// The outputs of the last layer.
    fn constrain_layers(
        &self,
        circuit: &mut CircuitBuilder,
        widths: &[usize],
        weights: &[LinearSum],
        state: Vec<LinearSum>,
    ) -> Vec<LinearSum> {
        let bits = sum_bits(widths);
        let mut input = state;
        let mut rest = weights;
        for (layer, pair) in widths.windows(2).enumerate() {
            let (matrix, after) = rest.split_at(pair[0] * pair[1]);
            let (biases, after) = after.split_at(pair[1]);
            rest = after;
            if layer > 0 {
                circuit.part("activation");
                input = input.iter().map(|sum| activated(circuit, sum, bits[layer - 1])).collect();
            }
            circuit.part("layer");
            let output = |(row, bias): (&[LinearSum], &LinearSum)| {
                let raised = bias.clone().times(power_of_two(FRACTION_BITS));
                row.iter()
                    .zip(&input)
                    .fold(raised, |sum, (weight, number)| sum + LinearSum::wire(circuit.multiply(weight, number)))
            };
            input = matrix.chunks(pair[0]).zip(biases).map(output).collect();
        }
        input
    }
}

/// A number of `count` bits, sign included, as the sum of new bits.
fn signed_bits(circuit: &mut CircuitBuilder, number: i64, count: usize) -> LinearSum {
    let offset = 1i128 << (count - 1);
    let bits = circuit.free_bits(signed_element(i128::from(number) + offset), count);
    LinearSum::of_bits(&bits) - LinearSum::constant(power_of_two(count - 1))
}

/// The ReLU of a sum whose magnitude is below 2^`count`, without its fraction.
fn activated(circuit: &mut CircuitBuilder, sum: &LinearSum, count: usize) -> LinearSum {
    let raised = sum.clone() + LinearSum::constant(power_of_two(count));
    let bits = circuit.bits(&raised, count + 1);
    // Set: the sum is 0 or more, and the lower bits are the sum.
    let positive = LinearSum::wire(bits[count]);
    LinearSum::wire(circuit.multiply(&positive, &LinearSum::of_bits(&bits[FRACTION_BITS..count])))
}

/// The index of the largest of `outputs`, the first of equals; differences of outputs are below 2^`count`.
fn constrain_choice(circuit: &mut CircuitBuilder, outputs: &[LinearSum], count: usize) -> LinearSum {
    circuit.part("choice");
    let integers: Vec<_> = outputs.iter().map(|output| signed_value(circuit.value(output))).collect();
    let best = (1..outputs.len()).fold(0, |best, index| if integers[index] > integers[best] { index } else { best });
    let chosen: Vec<LinearSum> =
        (0..outputs.len()).map(|index| LinearSum::wire(circuit.boolean(index == best))).collect();
    let total = chosen.iter().cloned().fold(LinearSum::zero(), |sum, bit| sum + bit);
    circuit.equate(&total, &LinearSum::constant(FieldElement::ONE));
    let mut action = LinearSum::zero();
    let mut largest = LinearSum::zero();
    for (index, (bit, output)) in chosen.iter().zip(outputs).enumerate() {
        action = action + bit.clone().times(FieldElement::from(index as u64));
        largest = largest + LinearSum::wire(circuit.multiply(bit, output));
    }
    for (index, output) in outputs.iter().enumerate() {
        // An output before the chosen one must be less, one after it may be equal.
        let chosen_later = chosen[index + 1..].iter().cloned().fold(LinearSum::zero(), |sum, bit| sum + bit);
        circuit.bits(&(largest.clone() - output.clone() - chosen_later), count);
    }
    LinearSum::wire(circuit.bind(&action))
}

/// The integer of an element that stands for a small one, as something that can be compared.
fn signed_value(element: FieldElement) -> (bool, FieldElement) {
    // Elements of the upper half are negative; within a half the order is that of the integers.
    let half = -FieldElement::ONE * FieldElement::from(2u64).inverse().unwrap_or_default();
    (element <= half, element)
}

/// The commitment to a list of one block.
fn committed(circuit: &mut CircuitBuilder, elements: &[LinearSum], salt: FieldElement) -> Result<LinearSum> {
    let digest = digested(circuit, elements)?;
    let salt = LinearSum::wire(circuit.private(salt));
    constrain_hash(circuit, &[salt, digest])
}

/// The digest of a list.
fn digested(circuit: &mut CircuitBuilder, elements: &[LinearSum]) -> Result<LinearSum> {
    let mut digest = LinearSum::zero();
    for block in elements.chunks(BLOCK_ELEMENTS) {
        let mut inputs = vec![digest];
        inputs.extend_from_slice(block);
        inputs.resize(BLOCK_ELEMENTS + 1, LinearSum::zero());
        digest = constrain_hash(circuit, &inputs)?;
    }
    Ok(digest)
}

#[cfg(test)]
mod tests;
