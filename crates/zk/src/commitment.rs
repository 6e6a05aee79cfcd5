//! How values become field elements, commitments and a root, so that anybody with Poseidon can compute them again.
//!
//! A value is a list of elements: a header `kind * 2^64 + length`, then its content. The digest of a list chains blocks of 15:
//! `digest = Poseidon(digest, e1, ..., e15)` from 0, the last block filled up with zeros. A commitment is `Poseidon(salt, digest)`. The
//! root of an execution chains its steps' commitments in their declared order: `root = Poseidon(root, input, output)` from the
//! number of steps.

use ark_ff::{AdditiveGroup, BigInt, PrimeField};

use crate::{FieldElement, Result, field::signed_element, poseidon};

/// Elements of one block of a digest.
pub const BLOCK_ELEMENTS: usize = 15;
/// Bytes of a text that one element holds: the most that is below the modulus whatever they are.
const ELEMENT_BYTES: usize = 31;

/// Kinds of lists, in their headers.
const JSON_KIND: u64 = 1;
const STATE_KIND: u64 = 2;
const ACTION_KIND: u64 = 3;
pub(crate) const WEIGHTS_KIND: u64 = 4;

/// The header of a list.
pub(crate) fn header(kind: u64, length: usize) -> FieldElement {
    FieldElement::new(BigInt::new([length as u64, kind, 0, 0]))
}

/// The elements of a value that is any JSON: its canonical text in UTF-8, 31 bytes an element, the first byte the highest.
pub fn json_elements(canonical: &[u8]) -> Vec<FieldElement> {
    let chunks = canonical.chunks(ELEMENT_BYTES).map(FieldElement::from_be_bytes_mod_order);
    std::iter::once(header(JSON_KIND, canonical.len())).chain(chunks).collect()
}

/// Header of a policy's state in fixed point.
pub(crate) fn state_header(length: usize) -> FieldElement {
    header(STATE_KIND, length)
}

/// Header of a policy's action.
pub(crate) fn action_header() -> FieldElement {
    header(ACTION_KIND, 1)
}

/// The elements of a policy step's input: the state in fixed point, and the digest of the input's JSON.
///
/// # Errors
/// Never, for a digest that fits.
pub fn policy_state_elements(state: &[i64], canonical: &[u8]) -> Result<Vec<FieldElement>> {
    let numbers = state.iter().map(|number| signed_element(i128::from(*number)));
    let mut elements: Vec<FieldElement> = std::iter::once(state_header(state.len())).chain(numbers).collect();
    elements.push(value_digest(&json_elements(canonical))?);
    Ok(elements)
}

/// The elements of a policy step's output: the action's index, and the digest of the output's JSON.
///
/// # Errors
/// Never, for a digest that fits.
pub fn policy_action_elements(action: usize, canonical: &[u8]) -> Result<Vec<FieldElement>> {
    Ok(vec![action_header(), FieldElement::from(action as u64), value_digest(&json_elements(canonical))?])
}

/// The digest of a list of elements.
///
/// # Errors
/// None that an input explains.
pub fn value_digest(elements: &[FieldElement]) -> Result<FieldElement> {
    let mut digest = FieldElement::ZERO;
    for block in elements.chunks(BLOCK_ELEMENTS) {
        let mut inputs = vec![digest];
        inputs.extend_from_slice(block);
        inputs.resize(BLOCK_ELEMENTS + 1, FieldElement::ZERO);
        digest = poseidon::hash(&inputs)?;
    }
    Ok(digest)
}

/// What opens a commitment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueOpening {
    /// The value's elements.
    pub elements: Vec<FieldElement>,
    /// Random element that hides the value.
    pub salt: FieldElement,
}

impl ValueOpening {
    /// The commitment that it opens.
    ///
    /// # Errors
    /// None that an input explains.
    pub fn commitment(&self) -> Result<FieldElement> {
        poseidon::hash(&[self.salt, value_digest(&self.elements)?])
    }

    /// Blocks of its elements.
    pub fn blocks(&self) -> usize {
        self.elements.len().div_ceil(BLOCK_ELEMENTS)
    }
}

/// The root over the commitments to each step's input and output, in the declared order.
///
/// # Errors
/// None that an input explains.
pub fn chain_root(steps: &[(FieldElement, FieldElement)]) -> Result<FieldElement> {
    let start = FieldElement::from(steps.len() as u64);
    steps.iter().try_fold(start, |root, (input, output)| poseidon::hash(&[root, *input, *output]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn order_and_number_of_steps_are_in_the_root() {
        let step = |number: u64| (FieldElement::from(number), FieldElement::from(number + 1));
        let root = chain_root(&[step(1), step(5)]).unwrap();
        for other in [vec![step(5), step(1)], vec![step(1)], vec![step(1), step(5), step(9)]] {
            assert_ne!(chain_root(&other).unwrap(), root);
        }
    }

    #[test]
    fn zeros_at_the_end_are_not_lost() {
        let digest = |text: &[u8]| value_digest(&json_elements(text)).unwrap();
        assert_ne!(digest(b"\0"), digest(b""));
        assert_ne!(digest(&[0; 31 * 14]), digest(&[0; 31 * 14 + 1]), "a block more");
    }

    #[test]
    fn the_salt_hides_the_value() {
        let opening = |salt: u64| ValueOpening { elements: json_elements(b"1"), salt: FieldElement::from(salt) };
        assert_ne!(opening(1).commitment().unwrap(), opening(2).commitment().unwrap());
        assert_eq!(opening(1).blocks(), 1);
    }

    proptest! {
        #[test]
        fn different_texts_have_different_elements(one in prop::collection::vec(any::<u8>(), 0..100), other in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(one == other, json_elements(&one) == json_elements(&other));
        }
    }
}
