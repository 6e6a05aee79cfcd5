//! Errors of the orchestration crate.

use am_core::validation::{self, Violation};
use am_security::policies::Refusal;

/// Error of workflows, executions, networks, plans, agents and assignments.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The requested item does not exist.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// A security policy forbids it.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The item belongs to another owner and is private.
    #[error("Access denied")]
    Forbidden,
    /// The input has faults.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// The present state does not allow the operation.
    #[error("{0}")]
    State(String),
    /// The operation conflicts with other data.
    #[error("{0}")]
    Conflict(String),
    /// The version differs from the one that the client expects.
    #[error("the workflow has changed since it was read")]
    Changed,
    /// Another worker holds the run; nothing was written.
    #[error("the execution is held by another worker")]
    LeaseLost,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::Error),
}

/// Result of operations of the orchestration crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Report a JSON text in the database that does not have the expected form.
pub fn unreadable(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Db(am_db::Error::Unreadable(format!("{what}: {error}")))
}
