//! Errors of proofs of executions.

use am_core::validation::{self, FieldPath, Violation};

/// Error of an operation on proofs.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// It does not exist, or the caller may not see it; the text is shown to the client.
    #[error("{0}")]
    NotFound(String),
    /// The request has faults.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// What there is forbids the action: a stable code, and a text that is shown to the client.
    #[error("{1}")]
    Conflict(&'static str, String),
    /// A file of keys can't be read or written.
    #[error("keys of circuits: {0}")]
    KeyFile(String),
    /// Background work could not be queued.
    #[error(transparent)]
    Background(#[from] am_background::WorkError),
    /// A workflow or an execution refuses.
    #[error(transparent)]
    Orchestration(#[from] am_orchestration::error::OrchestrationError),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
}

/// Result of an operation on proofs.
pub type Result<T> = std::result::Result<T, ProofError>;

impl ProofError {
    /// One fault of one member.
    pub(crate) fn field(name: impl Into<FieldPath>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(name, message)])
    }
}
