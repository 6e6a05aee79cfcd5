//! What can be wrong with a proof, a key or a statement.

/// Why a proof, a key, a file or a statement is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFault {
    /// A member of a document is not what it must be: its JSON path and what is wrong.
    #[error("{member}: {reason}")]
    Malformed {
        /// JSON path of the member, such as `pi_a[0]`.
        member: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file is not of its format.
    #[error("the file is not a {format} file that can be used: {reason}")]
    File {
        /// Name of the format, such as `ptau`.
        format: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A statement has no circuit that proves it.
    #[error("{0}")]
    NotProvable(String),
    /// The values don't fulfil the circuit: its constraint of this number is the first that they break.
    #[error("the values break constraint {constraint} of the circuit ({gadget})")]
    Unsatisfied {
        /// Index of the constraint.
        constraint: usize,
        /// Part of the circuit that made it.
        gadget: &'static str,
    },
    /// Keys belong to another circuit.
    #[error("the keys are of another circuit: {0}")]
    OtherCircuit(String),
    /// The prover failed in a way that no input explains.
    #[error("the proof system failed: {0}")]
    Internal(String),
}

impl ProofFault {
    pub(crate) fn malformed(member: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Malformed { member: member.into(), reason: reason.into() }
    }

    pub(crate) fn file(format: &'static str, reason: impl Into<String>) -> Self {
        Self::File { format, reason: reason.into() }
    }
}

/// Result of work on proofs.
pub type Result<T> = std::result::Result<T, ProofFault>;
