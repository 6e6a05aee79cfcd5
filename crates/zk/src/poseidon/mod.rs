//! The hash function Poseidon (Grassi and others, USENIX Security 2021) over BN254's scalar field, with circomlib's parameters:
//! S-box x^5, 8 full rounds, the first element of the state is 0 before and the result after the permutation.

mod gadget;
mod parameters;

use ark_ff::{AdditiveGroup, Field};

pub(crate) use self::gadget::constrain_hash;
pub use self::parameters::{MAX_HASH_INPUTS, PoseidonParameters, parameters};
use crate::{FieldElement, ProofFault, Result};

/// Hash 1 to 16 elements, as `poseidon` of circomlib and circomlibjs does.
///
/// # Errors
/// [`ProofFault::NotProvable`] for none or more than 16 of them.
pub fn hash(inputs: &[FieldElement]) -> Result<FieldElement> {
    let parameters = parameters(inputs.len() + 1).ok_or_else(|| {
        ProofFault::NotProvable(format!("Poseidon takes 1 to {MAX_HASH_INPUTS} elements, not {}", inputs.len()))
    })?;
    let mut state = vec![FieldElement::ZERO];
    state.extend_from_slice(inputs);
    for round in 0..parameters.rounds() {
        for (element, constant) in state.iter_mut().zip(parameters.round_constants(round)) {
            *element += constant;
        }
        let boxed = if parameters.is_full(round) { state.len() } else { 1 };
        for element in &mut state[..boxed] {
            let square = element.square();
            *element *= square.square();
        }
        state = parameters.matrix().iter().map(|row| row.iter().zip(&state).map(|(a, b)| *a * b).sum()).collect();
    }
    Ok(state[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{decimal_element, element_decimal};

    fn hash_of(numbers: impl IntoIterator<Item = u64>) -> String {
        let elements: Vec<FieldElement> = numbers.into_iter().map(FieldElement::from).collect();
        element_decimal(&hash(&elements).unwrap())
    }

    /// Vectors of circomlibjs's tests (`test/poseidon.js`).
    #[test]
    fn published_vectors_are_met() {
        let two = "7853200120776062878684798364095072458815029376092732009249414926327459813530";
        assert_eq!(hash_of([1, 2]), two);
        let six = "20400040500897583745843009878988256314335038853985262692600694741116813247201";
        assert_eq!(hash_of([1, 2, 3, 4, 5, 6]), six);
        let one = "18586133768512220936620570745912940619677854269274689475585506675881198879027";
        assert_eq!(hash_of([1]), one);
        let sixteen = "9989051620750914585850546081941653841776809718687451684622678807385399211877";
        assert_eq!(hash_of(1..=16), sixteen);
    }

    #[test]
    fn only_its_numbers_of_inputs_are_taken() {
        assert!(matches!(hash(&[]), Err(ProofFault::NotProvable(_))));
        assert!(hash(&[FieldElement::ZERO; 17]).is_err());
        assert!(hash(&[FieldElement::ZERO; 16]).is_ok());
        assert!(decimal_element(&hash_of([0])).is_some());
    }
}
