//! The openings circuit: values open the commitments to steps' inputs and outputs, and these hash to the root in their declared
//! order.
//!
//! Public are the root and a pair of commitments for each place; places without a step have 0 for both, and stand at the end.

use std::collections::BTreeMap;

use ark_ff::{AdditiveGroup, Field};

use crate::{
    BLOCK_ELEMENTS, CircuitBuilder, FieldElement, LinearSum, ProofFault, Result, Synthesis, ValueOpening, WireIndex,
    chain_root, poseidon::constrain_hash,
};

/// What opens both commitments of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepOpening {
    /// Opens the commitment to the step's input.
    pub input: ValueOpening,
    /// Opens the commitment to the step's output.
    pub output: ValueOpening,
}

/// Private values of an openings circuit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpeningsWitness {
    /// The steps in their declared order.
    pub steps: Vec<StepOpening>,
}

/// The public signals for an execution of these steps, in a circuit for `places` steps.
///
/// # Errors
/// [`ProofFault::NotProvable`] for more steps than places.
pub fn openings_publics(places: usize, commitments: &[(FieldElement, FieldElement)]) -> Result<Vec<FieldElement>> {
    if commitments.len() > places {
        return Err(ProofFault::NotProvable(format!("{} steps don't fit a circuit for {places}", commitments.len())));
    }
    let mut signals = vec![chain_root(commitments)?];
    signals.extend(commitments.iter().flat_map(|(input, output)| [*input, *output]));
    signals.resize(1 + 2 * places, FieldElement::ZERO);
    Ok(signals)
}

impl OpeningsWitness {
    /// The largest number of blocks of a value.
    pub fn blocks(&self) -> usize {
        self.steps.iter().flat_map(|step| [step.input.blocks(), step.output.blocks()]).max().unwrap_or(1)
    }

    /// The circuit for `places` steps and values of `blocks` blocks, with these values.
    ///
    /// # Errors
    /// [`ProofFault::NotProvable`] when they don't fit.
    pub fn synthesise(&self, places: usize, blocks: usize) -> Result<Synthesis> {
        self.synthesise_with(places, blocks, BTreeMap::new(), false)
    }

    pub(super) fn synthesise_with(
        &self,
        places: usize,
        blocks: usize,
        overrides: BTreeMap<WireIndex, FieldElement>,
        hashes_assumed: bool,
    ) -> Result<Synthesis> {
        if self.steps.len() > places || self.blocks() > blocks {
            let text = format!(
                "{} steps with values of up to {} blocks don't fit a circuit for {places} steps of {blocks}",
                self.steps.len(),
                self.blocks()
            );
            return Err(ProofFault::NotProvable(text));
        }
        let mut builder = CircuitBuilder::with_overrides(1 + 2 * places, overrides);
        builder.assume_hashes(hashes_assumed);
        let one = LinearSum::constant(FieldElement::ONE);
        builder.part("steps");
        let active: Vec<LinearSum> =
            (0..places).map(|place| LinearSum::wire(builder.boolean(place < self.steps.len()))).collect();
        // The number of steps.
        let mut root = active.iter().cloned().fold(LinearSum::zero(), |sum, bit| sum + bit);
        let none = ValueOpening { elements: Vec::new(), salt: FieldElement::ZERO };
        for (place, active) in active.iter().enumerate() {
            let step = self.steps.get(place);
            let mut commitments = Vec::with_capacity(2);
            for (side, opening) in [step.map(|step| &step.input), step.map(|step| &step.output)].into_iter().enumerate()
            {
                let commitment = committed(&mut builder, opening.unwrap_or(&none), blocks)?;
                builder.part("commitment");
                commitments.push(builder.publish(2 + 2 * place + side, active, &commitment));
            }
            builder.part("root");
            let inputs: Vec<LinearSum> = std::iter::once(root.clone()).chain(commitments).collect();
            let next = constrain_hash(&mut builder, &inputs)?;
            let change = builder.multiply(active, &(next - root.clone()));
            root = LinearSum::wire(builder.bind(&(root + LinearSum::wire(change))));
        }
        builder.publish(1, &root, &one);
        Ok(builder.finish())
    }
}

/// The commitment to a value of at most `blocks` blocks, whose number stays private.
fn committed(builder: &mut CircuitBuilder, opening: &ValueOpening, blocks: usize) -> Result<LinearSum> {
    builder.part("value");
    let mut digest = LinearSum::zero();
    for block in 0..blocks {
        let element = |index: usize| opening.elements.get(block * BLOCK_ELEMENTS + index).copied().unwrap_or_default();
        let mut inputs = vec![digest.clone()];
        inputs.extend((0..BLOCK_ELEMENTS).map(|index| LinearSum::wire(builder.private(element(index)))));
        let next = constrain_hash(builder, &inputs)?;
        digest = if block == 0 {
            next
        } else {
            let used = LinearSum::wire(builder.boolean(block < opening.blocks()));
            let change = builder.multiply(&used, &(next - digest.clone()));
            LinearSum::wire(builder.bind(&(digest + LinearSum::wire(change))))
        };
    }
    let salt = LinearSum::wire(builder.private(opening.salt));
    constrain_hash(builder, &[salt, digest])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{constraints::tests::assert_each_breaks_alone, json_elements};

    fn opening(bytes: usize, salt: u64) -> ValueOpening {
        let text: Vec<u8> = (0..bytes).map(|index| b'a' + (index % 26) as u8).collect();
        ValueOpening { elements: json_elements(&text), salt: FieldElement::from(salt) }
    }

    fn witness(sizes: &[(usize, usize)]) -> OpeningsWitness {
        let step = |(index, (input, output)): (usize, &(usize, usize))| StepOpening {
            input: opening(*input, 100 + index as u64),
            output: opening(*output, 200 + index as u64),
        };
        OpeningsWitness { steps: sizes.iter().enumerate().map(step).collect() }
    }

    #[test]
    fn publics_are_what_is_computed_outside() {
        // One, two and three blocks; two steps of three places.
        let witness = witness(&[(10, 500), (1000, 0)]);
        let made = witness.synthesise(3, 3).unwrap();
        made.check().unwrap();
        let commitments: Vec<_> = witness
            .steps
            .iter()
            .map(|step| (step.input.commitment().unwrap(), step.output.commitment().unwrap()))
            .collect();
        assert_eq!(made.publics(), openings_publics(3, &commitments).unwrap());
        assert!(openings_publics(1, &commitments).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(matches!(witness(&[(1, 1), (1, 1)]).synthesise(1, 1), Err(ProofFault::NotProvable(_))));
        assert!(witness(&[(1, 500)]).synthesise(1, 1).is_err());
    }

    #[test]
    fn another_value_of_any_private_signal_is_refused() {
        for sizes in [&[(10, 500)][..], &[(600, 3), (20, 4)]] {
            assert_eq!(witness(sizes).synthesise(2, 2).unwrap().unconstrained_wires(), Vec::<usize>::new());
        }
    }

    /// Without the constraints inside of hashes, which have the same test in `poseidon`.
    #[test]
    fn each_constraint_is_needed() {
        let mut alone = BTreeSet::new();
        let mut needed = BTreeSet::new();
        for sizes in [&[(10, 500)][..], &[(500, 10), (30, 40)]] {
            let witness = witness(sizes);
            let synthesise = |cheat| witness.synthesise_with(2, 2, cheat, true).unwrap();
            alone.extend(assert_each_breaks_alone(&synthesise, &[], &[]));
            needed.extend(0..synthesise(BTreeMap::new()).constraints());
        }
        assert_eq!(alone, needed);
    }
}
