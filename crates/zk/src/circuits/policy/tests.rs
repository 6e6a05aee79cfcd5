use std::collections::BTreeSet;

use ark_ff::{AdditiveGroup, Field};

use super::*;
use crate::{
    constraints::tests::assert_each_breaks_alone, json_elements, policy_action_elements, policy_state_elements,
};

const UNIT: i64 = 1 << FRACTION_BITS;

/// A network of 2-2-4 whose outputs are its biases plus something small that depends on the state.
fn network(biases: [i64; 4]) -> FixedNetwork {
    let first = FixedLayer { weights: vec![vec![UNIT, -UNIT / 2], vec![-UNIT, UNIT / 4]], biases: vec![3, -5] };
    let last = FixedLayer { weights: vec![vec![7, 2], vec![-9, 4], vec![1, -3], vec![5, 6]], biases: biases.to_vec() };
    FixedNetwork::new(vec![first, last]).unwrap()
}

fn witness(network: FixedNetwork, state: Vec<i64>) -> PolicyWitness {
    let text = |bytes: &[u8]| value_digest(&json_elements(bytes)).unwrap();
    PolicyWitness {
        network,
        state,
        input_text: text(b"[1]"),
        input_salt: FieldElement::from(11u64),
        output_text: text(b"2"),
        output_salt: FieldElement::from(12u64),
    }
}

fn openings(witness: &PolicyWitness) -> [ValueOpening; 2] {
    let action = witness.network.action(&witness.state);
    [
        ValueOpening { elements: policy_state_elements(&witness.state, b"[1]").unwrap(), salt: witness.input_salt },
        ValueOpening { elements: policy_action_elements(action, b"2").unwrap(), salt: witness.output_salt },
    ]
}

#[test]
fn publics_are_what_is_computed_outside() {
    for (biases, state) in
        [([1, 2, 3, 4], vec![UNIT, 5]), ([-UNIT; 4], vec![-UNIT, 8000 * UNIT]), ([9, 9, 9, -4], vec![0, 0])]
    {
        let witness = witness(network(biases), state);
        let made = witness.synthesise().unwrap();
        made.check().unwrap();
        let [input, output] = openings(&witness);
        assert_eq!(made.publics(), policy_publics(&input, &output, &witness.network).unwrap());
    }
}

#[test]
fn a_state_of_another_length_is_refused() {
    assert!(matches!(witness(network([0; 4]), vec![1]).synthesise(), Err(ProofFault::NotProvable(_))));
}

#[test]
fn another_value_of_any_private_signal_is_refused() {
    for biases in [[1, 2, 3, 4], [-UNIT; 4]] {
        let made = witness(network(biases), vec![UNIT, -UNIT / 3]).synthesise().unwrap();
        assert_eq!(made.unconstrained_wires(), Vec::<usize>::new());
    }
}

/// Another action than the largest output has no values that fulfil the constraints: each selection is tried, and all that
/// follows from it is computed honestly.
#[test]
fn no_other_action_is_taken() {
    let witness = witness(network([40, 40, 30, -9]), vec![0, 0]);
    let honest = witness.synthesise().unwrap();
    let chosen: Vec<WireIndex> = selection(&honest);
    for other in 1..4 {
        let cheat =
            chosen.iter().enumerate().map(|(index, wire)| (*wire, FieldElement::from(index == other))).collect();
        let made = witness.synthesise_with(cheat, false).unwrap();
        assert!(made.check().is_err(), "{other}");
        assert_ne!(made.publics()[1], honest.publics()[1]);
    }
}

/// The wires that select the action: the left sides of the first constraints of `choice`.
fn selection(made: &Synthesis) -> Vec<WireIndex> {
    let first = (0..made.constraints()).find(|constraint| made.gadget(*constraint) == "choice").unwrap();
    (first..first + 4).map(|constraint| made.rows()[0][constraint][0].1).collect()
}

/// Cheats in which an activation's sign is no bit: it carries all of the sum, and the other bits are 0, as is what is activated.
fn signs_that_carry_all(made: &Synthesis) -> Vec<BTreeMap<WireIndex, FieldElement>> {
    let own: Vec<usize> =
        (0..made.constraints()).filter(|constraint| made.gadget(*constraint) == "activation").collect();
    let cheat = |constraints: &[usize]| {
        // The bits are the left sides of all but the last two: the sum of the bits, and the product.
        let bits = &constraints[..constraints.len() - 2];
        let wires: Vec<WireIndex> = bits.iter().map(|constraint| made.rows()[0][*constraint][0].1).collect();
        let weight = |at: usize| FieldElement::from(2u64).pow([at as u64]);
        let sum: FieldElement = wires.iter().enumerate().map(|(at, wire)| made.values()[*wire] * weight(at)).sum();
        let sign = wires.len() - 1;
        let carried = sum * weight(sign).inverse().unwrap();
        wires
            .iter()
            .enumerate()
            .map(|(at, wire)| (*wire, if at == sign { carried } else { FieldElement::ZERO }))
            .collect()
    };
    own.chunks(own.len() / 2).map(cheat).collect()
}

/// Without the constraints inside of hashes, which have the same test in `poseidon`.
#[test]
fn each_constraint_is_needed() {
    let (zero, one) = (FieldElement::ZERO, FieldElement::ONE);
    let mut alone = BTreeSet::new();
    let mut all = BTreeSet::new();
    let far = UNIT;
    for lowest in 0..5 {
        // Each output is the lowest once, by far; at last all are negative.
        let mut biases = [far; 4];
        match lowest {
            4 => biases = [-far; 4],
            index => biases[index] = -far,
        }
        let witness = witness(network(biases), vec![UNIT / 2, UNIT / 8]);
        let synthesise = |cheat| witness.synthesise_with(cheat, true).unwrap();
        let honest = synthesise(BTreeMap::new());
        let chosen = selection(&honest);
        // Two are chosen and the lowest is taken away again; or none is.
        let mut crafted = vec![chosen.iter().map(|wire| (*wire, zero)).collect::<BTreeMap<_, _>>()];
        crafted.extend(signs_that_carry_all(&honest));
        if lowest < 4 {
            for (one_of, other) in [(0, 1), (1, 2), (2, 3), (0, 3), (0, 2), (1, 3)] {
                if one_of != lowest && other != lowest {
                    let value = |index| {
                        if index == lowest {
                            -one
                        } else if index == one_of || index == other {
                            one
                        } else {
                            zero
                        }
                    };
                    crafted.push(chosen.iter().enumerate().map(|(index, wire)| (*wire, value(index))).collect());
                }
            }
        }
        // Only the part that depends on the biases is tried again.
        let skipped: &[&str] = if lowest == 0 { &[] } else { &["weights", "state", "layer", "activation"] };
        alone.extend(assert_each_breaks_alone(&synthesise, skipped, &crafted));
        all.extend(0..honest.constraints());
    }
    let honest = witness(network([far; 4]), vec![UNIT / 2, UNIT / 8]).synthesise_with(BTreeMap::new(), true).unwrap();
    let missing: Vec<_> = all.difference(&alone).map(|constraint| (*constraint, honest.gadget(*constraint))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
