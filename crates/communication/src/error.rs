//! Errors of communication between agents.

use super::{relations::Refusal, sealing::SealError};
use am_core::validation::{self, Violation};

/// Error of communication between agents.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object does not exist; the value is its kind.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// A member of the request is invalid.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// The sender may not write to the recipient.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The content can't be encrypted as requested.
    #[error(transparent)]
    Seal(SealError),
    /// The caller may not do this; the text is shown to the client.
    #[error("{0}")]
    Forbidden(String),
    /// The state forbids the action; the text is shown to the client.
    #[error("{0}")]
    State(String),
    /// Another object has this name; the text is shown to the client.
    #[error("{0}")]
    Conflict(String),
    /// A limit of concurrent connections is reached; the text is shown to the client.
    #[error("{0}")]
    Busy(String),
    /// The process is stopping and accepts nothing more.
    #[error("the service is stopping")]
    Stopping,
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::Error),
}

/// Result of a communication operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Error for an invalid member `field`.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(field, message)])
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Invalid(vec![violation])
    }
}

impl From<Vec<Violation>> for Error {
    fn from(violations: Vec<Violation>) -> Self {
        Self::Invalid(violations)
    }
}

impl From<SealError> for Error {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Db(error) => Self::Db(error),
            other => Self::Seal(other),
        }
    }
}
