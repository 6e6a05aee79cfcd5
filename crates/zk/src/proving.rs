//! Proofs by Groth16, as ark-groth16 has it.

use crate::{
    CircuitKeys, EntropySource, ProofFault, Result,
    circuits::CircuitWitness,
    random_element,
    verifying::{CircuitProof, ProofSystem},
};

/// Prove that private values fulfil their circuit. Two proofs of the same differ, because each has random parts.
///
/// # Errors
/// [`ProofFault::OtherCircuit`] for keys of another circuit, [`ProofFault::Unsatisfied`] for values that break a constraint.
pub fn prove(keys: &CircuitKeys, witness: &CircuitWitness, entropy: EntropySource<'_>) -> Result<CircuitProof> {
    let form = witness.form();
    if form != *keys.form() {
        return Err(ProofFault::OtherCircuit(format!("{} and not {form}", keys.form())));
    }
    let made = witness.synthesise()?;
    made.check()?;
    let (r, s) = (random_element(entropy), random_element(entropy));
    let proof = ProofSystem::create_proof_with_reduction_and_matrices(
        keys.proving(),
        r,
        s,
        made.rows(),
        made.publics().len() + 1,
        made.constraints(),
        made.values(),
    )
    .map_err(|error| ProofFault::Internal(error.to_string()))?;
    Ok(CircuitProof { proof, publics: made.publics().to_vec() })
}
