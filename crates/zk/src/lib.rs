//! Zero-knowledge proofs as functions on values: Poseidon with circomlib's parameters, circuits, Groth16 over BN254, and the
//! file formats of snarkjs and iden3.
//!
//! Nothing here knows storage, HTTP or the clock. Random bytes come from the caller ([`EntropySource`]).

pub mod circuits;
mod commitment;
mod constraints;
mod error;
mod field;
mod fixed_point;
pub mod iden3;
mod keys;
pub mod poseidon;
mod proving;
mod ptau;
pub mod snarkjs;
mod verifying;

pub use self::{
    commitment::{
        BLOCK_ELEMENTS, ValueOpening, chain_root, json_elements, policy_action_elements, policy_state_elements,
        value_digest,
    },
    constraints::{CircuitBuilder, ConstraintRow, LinearSum, Synthesis, WireIndex},
    error::{ProofFault, Result},
    field::{EntropySource, FieldElement, decimal_element, element_decimal, random_element},
    fixed_point::{FixedLayer, FixedNetwork, FloatLayer, STATE_LIMIT, WEIGHT_LIMIT, quantised_state},
    keys::{CircuitKeys, KeySetup, circuit_hash, setup_alone, setup_from_ceremony},
    proving::prove,
    ptau::PowersOfTau,
    verifying::{CircuitProof, VerifyingKey, verify},
};
