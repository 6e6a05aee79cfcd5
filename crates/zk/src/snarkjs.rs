//! snarkjs's JSON of proofs, public signals and verification keys of Groth16 over BN254 (which it calls `bn128`).
//!
//! What is read is checked: numbers are decimal and below their field's modulus, points are on the curve, in the subgroup and not at
//! infinity.

use ark_bn254::{Bn254, Fq, Fq2, G1Affine, G2Affine};
use ark_ff::PrimeField;
use ark_groth16::Proof;
use serde_json::{Value, json};

use crate::{
    CircuitProof, FieldElement, ProofFault, Result, element_decimal, field::parse_element, keys::hex_hash,
    verifying::VerifyingKey,
};

/// Most public signals that are read.
const MAX_SIGNALS: usize = 4096;

fn coordinate(number: &Fq) -> String {
    number.into_bigint().to_string()
}

fn g1_json(point: &G1Affine) -> Value {
    json!([coordinate(&point.x), coordinate(&point.y), "1"])
}

fn g2_json(point: &G2Affine) -> Value {
    let pair = |number: &Fq2| json!([coordinate(&number.c0), coordinate(&number.c1)]);
    json!([pair(&point.x), pair(&point.y), ["1", "0"]])
}

/// A proof as snarkjs's `proof.json`.
pub fn proof_json(proof: &CircuitProof) -> Value {
    json!({
        "pi_a": g1_json(&proof.proof.a),
        "pi_b": g2_json(&proof.proof.b),
        "pi_c": g1_json(&proof.proof.c),
        "protocol": "groth16",
        "curve": "bn128",
    })
}

/// Public signals as snarkjs's `public.json`.
pub fn signals_json(signals: &[FieldElement]) -> Value {
    signals.iter().map(element_decimal).collect()
}

/// A verification key as snarkjs's `verification_key.json`.
pub fn key_json(key: &VerifyingKey) -> Value {
    let inner = key.key();
    json!({
        "protocol": "groth16",
        "curve": "bn128",
        "nPublic": key.signals(),
        "vk_alpha_1": g1_json(&inner.alpha_g1),
        "vk_beta_2": g2_json(&inner.beta_g2),
        "vk_gamma_2": g2_json(&inner.gamma_g2),
        "vk_delta_2": g2_json(&inner.delta_g2),
        "IC": inner.gamma_abc_g1.iter().map(g1_json).collect::<Vec<Value>>(),
    })
}

/// SHA-256 of a verification key's JSON without spaces and with its members as [`key_json`] orders them, in hexadecimal digits.
pub fn key_hash(key: &VerifyingKey) -> String {
    hex_hash(key_json(key).to_string().as_bytes())
}

fn number<F: PrimeField<BigInt = ark_ff::BigInt<4>>>(value: Option<&Value>, member: String) -> Result<F> {
    let text = value
        .and_then(Value::as_str)
        .ok_or_else(|| ProofFault::malformed(member.clone(), "must be a text of digits"))?;
    parse_element(text).map_err(|reason| ProofFault::malformed(member, reason))
}

/// The members of a list of exactly `length`.
fn list<'a>(value: Option<&'a Value>, member: &str, length: usize) -> Result<&'a Vec<Value>> {
    let list = value.and_then(Value::as_array).filter(|list| list.len() == length);
    list.ok_or_else(|| ProofFault::malformed(member, format!("must be a list of {length}")))
}

fn g1(value: Option<&Value>, member: &str) -> Result<G1Affine> {
    let parts = list(value, member, 3)?;
    let [x, y] = [0, 1].map(|index| number(parts.get(index), format!("{member}[{index}]")));
    let point = G1Affine::new_unchecked(x?, y?);
    if parts[2] != "1" {
        return Err(ProofFault::malformed(
            format!("{member}[2]"),
            "must be \"1\": the point must be affine and not at infinity",
        ));
    }
    // The curve's first group is of prime order: each of its points is in the subgroup.
    if !point.is_on_curve() {
        return Err(ProofFault::malformed(member, "is not a point on the curve"));
    }
    Ok(point)
}

fn g2(value: Option<&Value>, member: &str) -> Result<G2Affine> {
    let parts = list(value, member, 3)?;
    let pair = |index: usize| -> Result<Fq2> {
        let name = format!("{member}[{index}]");
        let parts = list(parts.get(index), &name, 2)?;
        Ok(Fq2::new(number(parts.first(), format!("{name}[0]"))?, number(parts.get(1), format!("{name}[1]"))?))
    };
    let point = G2Affine::new_unchecked(pair(0)?, pair(1)?);
    if parts[2] != json!(["1", "0"]) {
        return Err(ProofFault::malformed(
            format!("{member}[2]"),
            "must be [\"1\", \"0\"]: the point must be affine and not at infinity",
        ));
    }
    if !point.is_on_curve() {
        return Err(ProofFault::malformed(member, "is not a point on the curve"));
    }
    if !point.is_in_correct_subgroup_assuming_on_curve() {
        return Err(ProofFault::malformed(member, "is not in the subgroup of prime order"));
    }
    Ok(point)
}

fn check_system(document: &Value) -> Result<()> {
    for (member, wanted) in [("protocol", "groth16"), ("curve", "bn128")] {
        if document.get(member).is_none_or(|found| found != wanted) {
            return Err(ProofFault::malformed(member, format!("must be \"{wanted}\"")));
        }
    }
    Ok(())
}

/// Read public signals.
///
/// # Errors
/// [`ProofFault::Malformed`] for what is no list of decimal texts below the modulus.
pub fn read_signals(signals: &Value) -> Result<Vec<FieldElement>> {
    let list = signals.as_array().filter(|list| list.len() <= MAX_SIGNALS);
    let list =
        list.ok_or_else(|| ProofFault::malformed("public", format!("must be a list of at most {MAX_SIGNALS}")))?;
    list.iter().enumerate().map(|(index, signal)| number(Some(signal), format!("public[{index}]"))).collect()
}

/// Read a proof with its public signals.
///
/// # Errors
/// [`ProofFault::Malformed`] with the first member that is not what it must be.
pub fn read_proof(proof: &Value, signals: &Value) -> Result<CircuitProof> {
    check_system(proof)?;
    let points = Proof::<Bn254> {
        a: g1(proof.get("pi_a"), "pi_a")?,
        b: g2(proof.get("pi_b"), "pi_b")?,
        c: g1(proof.get("pi_c"), "pi_c")?,
    };
    Ok(CircuitProof { proof: points, publics: read_signals(signals)? })
}

/// Read a verification key.
///
/// # Errors
/// [`ProofFault::Malformed`] with the first member that is not what it must be.
pub fn read_key(key: &Value) -> Result<VerifyingKey> {
    check_system(key)?;
    let signals = key.get("nPublic").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
    let signals = signals.filter(|count| *count <= MAX_SIGNALS);
    let signals =
        signals.ok_or_else(|| ProofFault::malformed("nPublic", format!("must be a number up to {MAX_SIGNALS}")))?;
    let points = list(key.get("IC"), "IC", signals + 1)?;
    Ok(VerifyingKey::new(ark_groth16::VerifyingKey {
        alpha_g1: g1(key.get("vk_alpha_1"), "vk_alpha_1")?,
        beta_g2: g2(key.get("vk_beta_2"), "vk_beta_2")?,
        gamma_g2: g2(key.get("vk_gamma_2"), "vk_gamma_2")?,
        delta_g2: g2(key.get("vk_delta_2"), "vk_delta_2")?,
        gamma_abc_g1: points
            .iter()
            .enumerate()
            .map(|(index, point)| g1(Some(point), &format!("IC[{index}]")))
            .collect::<Result<_>>()?,
    }))
}

#[cfg(test)]
mod tests;
