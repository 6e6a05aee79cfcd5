//! Poseidon as constraints: three for each S-box. The linear layers cost none, because each S-box takes a sum of wires.

use std::sync::OnceLock;

use ark_ff::{AdditiveGroup, Field};

use super::parameters::{MAX_HASH_INPUTS, PoseidonParameters, parameters};
use crate::{CircuitBuilder, FieldElement, LinearSum, ProofFault, Result, constraints::WireIndex};

/// A sum over the wires of a hash: its inputs or the results of its S-boxes.
#[derive(Clone, Debug, Default)]
struct LocalSum {
    constant: FieldElement,
    /// Coefficients of inputs, by index.
    inputs: Vec<(FieldElement, usize)>,
    /// Coefficients of results of S-boxes, by index.
    boxes: Vec<(FieldElement, usize)>,
}

/// What each S-box of a width takes, and what the hash is.
#[derive(Debug)]
struct HashTemplate {
    boxes: Vec<LocalSum>,
    output: LocalSum,
}

/// The state before a round as coefficients over a basis: row by element, column by what `basis` names; the last is the constant.
struct SymbolicState {
    /// Inputs (first round) or results of S-boxes.
    basis: Vec<BasisElement>,
    rows: Vec<Vec<FieldElement>>,
}

#[derive(Clone, Copy)]
enum BasisElement {
    Constant,
    Input(usize),
    Box(usize),
}

impl SymbolicState {
    fn local(&self, row: usize) -> LocalSum {
        let mut sum = LocalSum::default();
        for (element, coefficient) in self.basis.iter().zip(&self.rows[row]) {
            match element {
                BasisElement::Constant => sum.constant += coefficient,
                BasisElement::Input(index) => sum.inputs.push((*coefficient, *index)),
                BasisElement::Box(index) => sum.boxes.push((*coefficient, *index)),
            }
        }
        let used = |(coefficient, _): &(FieldElement, usize)| *coefficient != FieldElement::ZERO;
        sum.inputs.retain(used);
        sum.boxes.retain(used);
        sum
    }

    fn unit(&self, column: usize) -> Vec<FieldElement> {
        let mut row = vec![FieldElement::ZERO; self.basis.len()];
        row[column] = FieldElement::ONE;
        row
    }
}

impl HashTemplate {
    fn build(parameters: &PoseidonParameters) -> Self {
        let width = parameters.width();
        let mut state = SymbolicState {
            basis: std::iter::once(BasisElement::Constant).chain((0..width - 1).map(BasisElement::Input)).collect(),
            rows: Vec::new(),
        };
        state.rows =
            (0..width).map(|row| if row == 0 { vec![FieldElement::ZERO; width] } else { state.unit(row) }).collect();
        let mut boxes = Vec::new();
        for round in 0..parameters.rounds() {
            for (row, constant) in state.rows.iter_mut().zip(parameters.round_constants(round)) {
                row[0] += constant;
            }
            if parameters.is_full(round) {
                let first = boxes.len();
                boxes.extend((0..width).map(|row| state.local(row)));
                state.basis = std::iter::once(BasisElement::Constant)
                    .chain((0..width).map(|index| BasisElement::Box(first + index)))
                    .collect();
                state.rows = (0..width).map(|row| state.unit(row + 1)).collect();
            } else {
                boxes.push(state.local(0));
                state.basis.push(BasisElement::Box(boxes.len() - 1));
                state.rows.iter_mut().for_each(|row| row.push(FieldElement::ZERO));
                state.rows[0] = state.unit(state.basis.len() - 1);
            }
            state.rows = parameters.matrix().iter().map(|weights| mixed(weights, &state.rows)).collect();
        }
        Self { boxes, output: state.local(0) }
    }

    fn of_width(width: usize) -> Option<&'static Self> {
        static WIDTHS: [OnceLock<HashTemplate>; MAX_HASH_INPUTS] = [const { OnceLock::new() }; MAX_HASH_INPUTS];
        let parameters = parameters(width)?;
        Some(WIDTHS.get(width - 2)?.get_or_init(|| Self::build(parameters)))
    }
}

fn mixed(weights: &[FieldElement], rows: &[Vec<FieldElement>]) -> Vec<FieldElement> {
    let column =
        |index: usize| -> FieldElement { weights.iter().zip(rows).map(|(weight, row)| *weight * row[index]).sum() };
    (0..rows[0].len()).map(column).collect()
}

/// Hash sums in a circuit; the result is the sum that [`super::hash`] computes from their values.
///
/// # Errors
/// [`ProofFault::NotProvable`] for none or more than 16 inputs.
pub(crate) fn constrain_hash(builder: &mut CircuitBuilder, inputs: &[LinearSum]) -> Result<LinearSum> {
    let template = HashTemplate::of_width(inputs.len() + 1)
        .ok_or_else(|| ProofFault::NotProvable(format!("Poseidon does not take {} elements", inputs.len())))?;
    if let Some(assumed) = builder.assumed_hash(inputs) {
        return Ok(assumed);
    }
    let outside = builder.present_part();
    builder.part("poseidon");
    let mut results: Vec<WireIndex> = Vec::with_capacity(template.boxes.len());
    let global = |local: &LocalSum, results: &[WireIndex]| {
        let mut terms = vec![(local.constant, 0)];
        terms.extend(local.boxes.iter().map(|(coefficient, index)| (*coefficient, results[*index])));
        let own = LinearSum::of(terms);
        local.inputs.iter().fold(own, |sum, (coefficient, index)| sum + inputs[*index].clone().times(*coefficient))
    };
    for local in &template.boxes {
        let sum = global(local, &results);
        let square = LinearSum::wire(builder.multiply(&sum, &sum));
        let fourth = LinearSum::wire(builder.multiply(&square, &square));
        results.push(builder.multiply(&fourth, &sum));
    }
    builder.part(outside);
    Ok(global(&template.output, &results))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{Synthesis, constraints::tests::assert_each_breaks_alone, poseidon};

    fn circuit(inputs: &[FieldElement], overrides: BTreeMap<WireIndex, FieldElement>) -> Synthesis {
        let mut builder = CircuitBuilder::with_overrides(1, overrides);
        let wires: Vec<LinearSum> = inputs.iter().map(|input| LinearSum::wire(builder.private(*input))).collect();
        let hash = constrain_hash(&mut builder, &wires).unwrap();
        builder.part("result");
        builder.publish(1, &hash, &LinearSum::constant(FieldElement::ONE));
        builder.finish()
    }

    fn numbers(count: u64) -> Vec<FieldElement> {
        (1..=count).map(|number| FieldElement::from(number * number + 11)).collect()
    }

    #[test]
    fn the_circuit_computes_the_hash_for_each_width() {
        for count in 1..=16 {
            let inputs = numbers(count);
            let made = circuit(&inputs, BTreeMap::new());
            assert_eq!(made.publics(), [poseidon::hash(&inputs).unwrap()], "{count}");
            made.check().unwrap();
        }
    }

    #[test]
    fn every_wire_is_constrained_and_every_constraint_needed() {
        let inputs = numbers(3);
        let made = circuit(&inputs, BTreeMap::new());
        assert_eq!(made.unconstrained_wires(), Vec::<usize>::new());
        assert_eq!(made.constraints(), 3 * (8 * 4 + 56) + 1);
        let alone = assert_each_breaks_alone(&|cheat| circuit(&inputs, cheat), &[], &[]);
        assert_eq!(alone.len(), made.constraints(), "each constraint is broken alone by some cheat");
    }
}
