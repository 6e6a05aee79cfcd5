//! Errors of the orchestration crate.

use am_core::validation::{self, Violation};
use am_security::policies::PolicyRefusal;

/// Error of workflows, executions, networks, plans, agents and assignments.
#[derive(Debug, thiserror::Error)]
pub enum OrchestrationError {
    /// The requested item does not exist.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// A security policy forbids it.
    #[error("{0}")]
    Refused(Box<PolicyRefusal>),
    /// The item belongs to another owner, and everybody may see it.
    #[error("Access denied")]
    Forbidden,
    /// The input has faults.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// The present state does not allow the operation.
    #[error("{0}")]
    InvalidState(String),
    /// The operation conflicts with other data.
    #[error("{0}")]
    Conflict(String),
    /// The caller has as many items as it may have.
    #[error("{setting}: you have {most} {items}, and may have no more")]
    QuotaReached {
        /// Name of the setting that bounds them.
        setting: &'static str,
        /// What is counted.
        items: &'static str,
        /// Number that may be there at once.
        most: i64,
    },
    /// The version differs from the one that the client expects.
    #[error("the workflow has changed since it was read")]
    VersionMismatch,
    /// Another worker holds the run; nothing was written.
    #[error("the execution is held by another worker")]
    LeaseLost,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// A worker process that is needed can't be started now.
    #[error("{0}")]
    Unavailable(String),
    /// The ledger or a budget refuses it.
    #[error(transparent)]
    Ledger(#[from] am_ledger::LedgerError),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
}

/// Result of operations of the orchestration crate.
pub type Result<T> = std::result::Result<T, OrchestrationError>;

/// Report a JSON text in the database that does not have the expected form.
pub fn corrupt_json_error(what: &str, error: impl std::fmt::Display) -> OrchestrationError {
    OrchestrationError::Db(am_db::DatabaseError::InvalidValue(format!("{what}: {error}")))
}
