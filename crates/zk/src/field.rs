//! Elements of BN254's scalar field, their decimal form, and random ones.

use ark_ff::{BigInt, PrimeField};

/// Element of the scalar field of BN254, in which all circuits compute.
pub type FieldElement = ark_bn254::Fr;

/// Fills a buffer with random bytes that nobody can guess.
pub type EntropySource<'a> = &'a mut dyn FnMut(&mut [u8]);

/// Most decimal digits of a number of 254 bits.
const MAX_DIGITS: usize = 77;

/// Read a decimal number without sign or leading zeros that is below the modulus of `F`; otherwise the reason why it is none.
pub(crate) fn parse_element<F: PrimeField<BigInt = BigInt<4>>>(text: &str) -> std::result::Result<F, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err("must be a decimal number without sign and leading zeros".to_owned());
    }
    let beyond = || "is not below the modulus of its field".to_owned();
    if text.len() > MAX_DIGITS {
        return Err(beyond());
    }
    let number: BigInt<4> = text.parse().map_err(|_| beyond())?;
    F::from_bigint(number).ok_or_else(beyond)
}

/// Read a decimal number below the modulus; `None` for anything else.
pub fn decimal_element(text: &str) -> Option<FieldElement> {
    parse_element(text).ok()
}

/// The decimal form of an element, from 0 to the modulus less 1.
pub fn element_decimal(element: &FieldElement) -> String {
    element.into_bigint().to_string()
}

/// Draw an element; each is as likely as any other, but for 2^-250.
pub fn random_element(entropy: EntropySource<'_>) -> FieldElement {
    let mut bytes = [0; 64];
    entropy(&mut bytes);
    FieldElement::from_le_bytes_mod_order(&bytes)
}

/// The element of a signed integer: negative ones count from the modulus.
pub(crate) fn signed_element(number: i128) -> FieldElement {
    let magnitude = FieldElement::from(number.unsigned_abs());
    if number < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Random bytes that are the same in each run: a counter through a mixing function (splitmix64).
    pub(crate) fn test_entropy(seed: u64) -> impl FnMut(&mut [u8]) {
        let mut state = seed;
        move |buffer: &mut [u8]| {
            for byte in buffer {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                *byte = (mixed ^ (mixed >> 31)) as u8;
            }
        }
    }

    /// The modulus of the scalar field, as its specification prints it.
    pub(crate) const MODULUS: &str = "21888242871839275222246405745257275088548364400416034343698204186575808495617";

    #[test]
    fn decimals_are_read_strictly() {
        assert_eq!(decimal_element("0"), Some(FieldElement::from(0u64)));
        assert_eq!(decimal_element("12"), Some(FieldElement::from(12u64)));
        let last = "21888242871839275222246405745257275088548364400416034343698204186575808495616";
        assert_eq!(decimal_element(last), Some(-FieldElement::from(1u64)));
        assert_eq!(element_decimal(&-FieldElement::from(1u64)), last);
        let long = "9".repeat(77);
        for refused in ["", "-1", "+1", " 1", "01", "0x1", "1e3", "١", MODULUS, &long, &"1".repeat(200)] {
            assert_eq!(decimal_element(refused), None, "{refused}");
        }
    }

    #[test]
    fn negative_numbers_count_from_the_modulus() {
        assert_eq!(signed_element(-5) + FieldElement::from(5u64), FieldElement::from(0u64));
        assert_eq!(signed_element(7), FieldElement::from(7u64));
    }
}
