//! Poseidon's constants, generated as its authors' script does (`generate_params_poseidon.sage`): a Grain LFSR that begins with the
//! parameters gives the round constants, and then a Cauchy matrix.

use std::sync::OnceLock;

use ark_ff::{BigInt, BigInteger, Field, PrimeField};

use crate::FieldElement;

/// Most elements that one hash takes.
pub const MAX_HASH_INPUTS: usize = 16;
/// Full rounds, half of them before the partial ones.
const FULL_ROUNDS: usize = 8;
/// Partial rounds for states of 2 to 17 elements (circomlib, `poseidon.circom`).
const PARTIAL_ROUNDS: [usize; MAX_HASH_INPUTS] = [56, 57, 56, 60, 60, 63, 64, 63, 60, 66, 60, 65, 70, 60, 64, 68];
/// Bits of a field element.
const FIELD_BITS: usize = 254;
/// Bits of the LFSR.
const GRAIN_BITS: usize = 80;

/// Constants of the permutation of one width.
#[derive(Debug)]
pub struct PoseidonParameters {
    width: usize,
    constants: Vec<FieldElement>,
    matrix: Vec<Vec<FieldElement>>,
}

impl PoseidonParameters {
    /// Elements of the state: those of the input and one more.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rounds, full and partial.
    pub fn rounds(&self) -> usize {
        FULL_ROUNDS + PARTIAL_ROUNDS[self.width - 2]
    }

    /// Whether the round's S-boxes are on all elements, and not on the first only.
    pub fn is_full(&self, round: usize) -> bool {
        round < FULL_ROUNDS / 2 || round >= self.rounds() - FULL_ROUNDS / 2
    }

    /// What is added to the state before a round's S-boxes.
    pub fn round_constants(&self, round: usize) -> &[FieldElement] {
        &self.constants[round * self.width..][..self.width]
    }

    /// The matrix that mixes the state after a round's S-boxes, row by row.
    pub fn matrix(&self) -> &[Vec<FieldElement>] {
        &self.matrix
    }

    fn generate(width: usize) -> Self {
        let mut grain = GrainRegister::new(width, PARTIAL_ROUNDS[width - 2]);
        let rounds = FULL_ROUNDS + PARTIAL_ROUNDS[width - 2];
        let constants = (0..rounds * width).map(|_| grain.element_below_modulus()).collect();
        let matrix = loop {
            let drawn: Vec<FieldElement> = (0..2 * width).map(|_| grain.element_reduced()).collect();
            if let Some(matrix) = cauchy_matrix(&drawn, width) {
                break matrix;
            }
        };
        Self { width, constants, matrix }
    }
}

/// The matrix 1 / (x_i + y_j); `None` when two of the drawn elements are equal or a sum is 0.
fn cauchy_matrix(drawn: &[FieldElement], width: usize) -> Option<Vec<Vec<FieldElement>>> {
    let distinct = drawn.iter().enumerate().all(|(index, element)| !drawn[..index].contains(element));
    let (rows, columns) = drawn.split_at(width);
    let inverse_row = |x: &FieldElement| columns.iter().map(|y| (*x + y).inverse()).collect::<Option<Vec<_>>>();
    if distinct { rows.iter().map(inverse_row).collect() } else { None }
}

/// The parameters for a state of `width` elements, 2 to 17; computed at the first use.
pub fn parameters(width: usize) -> Option<&'static PoseidonParameters> {
    static WIDTHS: [OnceLock<PoseidonParameters>; MAX_HASH_INPUTS] = [const { OnceLock::new() }; MAX_HASH_INPUTS];
    let place = WIDTHS.get(width.checked_sub(2)?)?;
    Some(place.get_or_init(|| PoseidonParameters::generate(width)))
}

/// The Grain LFSR in self-shrinking mode.
struct GrainRegister {
    bits: [bool; GRAIN_BITS],
    /// Where the register begins in `bits`, which is used as a ring.
    start: usize,
}

impl GrainRegister {
    fn new(width: usize, partial_rounds: usize) -> Self {
        // Field of prime order, S-box x^alpha, then sizes, then ones.
        let parts = [(1, 2), (0, 4), (FIELD_BITS, 12), (width, 12), (FULL_ROUNDS, 10), (partial_rounds, 10)];
        let mut bits = [true; GRAIN_BITS];
        let encoded =
            parts.iter().flat_map(|(number, length)| (0..*length).rev().map(move |bit| number >> bit & 1 == 1));
        for (place, bit) in bits.iter_mut().zip(encoded) {
            *place = bit;
        }
        let mut register = Self { bits, start: 0 };
        for _ in 0..160 {
            register.step();
        }
        register
    }

    fn step(&mut self) -> bool {
        let at = |offset: usize| self.bits[(self.start + offset) % GRAIN_BITS];
        let next = at(62) ^ at(51) ^ at(38) ^ at(23) ^ at(13) ^ at(0);
        self.bits[self.start] = next;
        self.start = (self.start + 1) % GRAIN_BITS;
        next
    }

    /// Of each two bits, the second counts where the first is set.
    fn next_bit(&mut self) -> bool {
        loop {
            let (first, second) = (self.step(), self.step());
            if first {
                return second;
            }
        }
    }

    fn number(&mut self) -> BigInt<4> {
        let bits: Vec<bool> = (0..FIELD_BITS).map(|_| self.next_bit()).collect();
        BigInt::from_bits_be(&bits)
    }

    fn element_below_modulus(&mut self) -> FieldElement {
        loop {
            if let Some(element) = FieldElement::from_bigint(self.number()) {
                return element;
            }
        }
    }

    fn element_reduced(&mut self) -> FieldElement {
        FieldElement::from_le_bytes_mod_order(&self.number().to_bytes_le())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decimal_element;

    /// First constant and corner of the matrix for two inputs, as circomlib's `poseidon_constants.circom` has them.
    #[test]
    fn constants_are_circomlibs() {
        let three = parameters(3).unwrap();
        assert_eq!((three.width(), three.rounds()), (3, 65));
        let first = "6745197990210204598374042828761989596302876299545964402857411729872131034734";
        assert_eq!(Some(three.round_constants(0)[0]), decimal_element(first));
        let corner = "7511745149465107256748700652201246547602992235352608707588321460060273774987";
        assert_eq!(Some(three.matrix()[0][0]), decimal_element(corner));
    }

    #[test]
    fn widths_have_bounds() {
        assert!([0, 1, 18, usize::MAX].into_iter().all(|width| parameters(width).is_none()));
        let last = parameters(17).unwrap();
        assert_eq!((last.rounds(), last.is_full(3), last.is_full(4), last.is_full(72)), (76, true, false, true));
    }
}
