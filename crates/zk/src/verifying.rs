//! Verification of proofs by Groth16, as ark-groth16 has it.

use ark_bn254::Bn254;
use ark_groth16::{Groth16, Proof, r1cs_to_qap::LibsnarkReduction};

use crate::{FieldElement, ProofFault, Result};

/// Groth16 (Groth, EUROCRYPT 2016) over BN254.
pub(crate) type ProofSystem = Groth16<Bn254, LibsnarkReduction>;

/// A proof and the public signals that it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitProof {
    pub(crate) proof: Proof<Bn254>,
    /// Values of the public signals.
    pub publics: Vec<FieldElement>,
}

/// A key that verifies proofs of one circuit.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifyingKey(ark_groth16::VerifyingKey<Bn254>);

impl VerifyingKey {
    pub(crate) fn new(key: ark_groth16::VerifyingKey<Bn254>) -> Self {
        Self(key)
    }

    pub(crate) fn key(&self) -> &ark_groth16::VerifyingKey<Bn254> {
        &self.0
    }

    /// Number of public signals of its circuit.
    pub fn signals(&self) -> usize {
        self.0.gamma_abc_g1.len().saturating_sub(1)
    }
}

/// Whether a proof is valid for its public signals.
///
/// # Errors
/// [`ProofFault::OtherCircuit`] when it has another number of signals than the key's circuit.
pub fn verify(key: &VerifyingKey, proof: &CircuitProof) -> Result<bool> {
    if proof.publics.len() != key.signals() {
        let text = format!("it has {} public signals, and the proof {}", key.signals(), proof.publics.len());
        return Err(ProofFault::OtherCircuit(text));
    }
    let prepared = ark_groth16::prepare_verifying_key(key.key());
    ProofSystem::verify_proof(&prepared, &proof.proof, &proof.publics)
        .map_err(|error| ProofFault::Internal(error.to_string()))
}
