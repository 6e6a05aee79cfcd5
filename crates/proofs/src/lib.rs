//! Proofs of executions that others can verify: inclusion in the signed receipt, steps done again, and zero-knowledge proofs.
//!
//! A proof is asked for an execution that has completed. The levels basic and full are answered at once; zero-knowledge proofs are
//! made as background work. What was proved is written to the step's and the execution's rows. Proofs that steps require by their
//! definition are begun when the execution has completed.

mod checks;
mod error;
mod inclusion;
mod key_store;
mod model;
mod network;
mod offline;
mod orders;
mod plan;
mod record;
mod service;
mod statement;
mod store;
mod work;

pub use self::{
    error::{ProofError, Result},
    key_store::{CircuitDocument, CircuitKeyStore, KEY_DIRECTORY, SetupDocument},
    model::{
        CommittedStep, GeneratedProof, IntegrationStatus, ProofDocument, ProofExport, ProofProblem, ProofVerdict,
        StepInclusion, StepProofResult, WorkflowCheck, WorkflowProof,
    },
    network::fixed_network,
    offline::{OfflineReport, verify_files},
    service::{ProofParts, ProofService, SubmittedProof},
};
