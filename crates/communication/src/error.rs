//! Errors of communication between agents.

use super::{encryption::EncryptionError, model::PermissionRefusal};
use am_core::validation::{self, Violation};

/// Error of communication between agents.
#[derive(Debug, thiserror::Error)]
pub enum CommunicationError {
    /// The object does not exist; the value is its kind.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// A member of the request is invalid.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// The sender may not write to the recipient.
    #[error(transparent)]
    Refused(#[from] PermissionRefusal),
    /// The content can't be encrypted as requested.
    #[error(transparent)]
    EncryptionFailed(EncryptionError),
    /// The caller may not do this; the text is shown to the client.
    #[error("{0}")]
    Forbidden(String),
    /// The state forbids the action; the text is shown to the client.
    #[error("{0}")]
    InvalidState(String),
    /// Another object has this name; the text is shown to the client.
    #[error("{0}")]
    Conflict(String),
    /// A limit of concurrent connections is reached; the text is shown to the client.
    #[error("{0}")]
    LimitReached(String),
    /// The process is stopping and accepts nothing more.
    #[error("the service is stopping")]
    Stopping,
    /// A budget refuses it.
    #[error(transparent)]
    Ledger(#[from] am_ledger::LedgerError),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
}

/// Result of a communication operation.
pub type Result<T> = std::result::Result<T, CommunicationError>;

impl CommunicationError {
    /// Error for an invalid member `field`.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(field, message)])
    }
}

impl From<Violation> for CommunicationError {
    fn from(violation: Violation) -> Self {
        Self::Invalid(vec![violation])
    }
}

impl From<Vec<Violation>> for CommunicationError {
    fn from(violations: Vec<Violation>) -> Self {
        Self::Invalid(violations)
    }
}

impl From<EncryptionError> for CommunicationError {
    fn from(error: EncryptionError) -> Self {
        match error {
            EncryptionError::Db(error) => Self::Db(error),
            other => Self::EncryptionFailed(other),
        }
    }
}
