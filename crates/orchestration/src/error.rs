//! What can go wrong in this room.

use super::model::Fault;
use am_security::policies::Refusal;

/// An error of the orchestration room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for is not there.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// A security policy forbids it.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// It is another owner's, and private.
    #[error("Access denied")]
    Forbidden,
    /// What was sent has faults.
    #[error("{}", .0.iter().map(|fault| format!("{}: {}", fault.place(), fault.message)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Fault>),
    /// The state forbids the action.
    #[error("{0}")]
    State(String),
    /// Something else stands in the way.
    #[error("{0}")]
    Conflict(String),
    /// It is not the version that the caller knows.
    #[error("the workflow has changed since it was read")]
    Changed,
    /// A worker's lease has gone to another; nothing was written.
    #[error("the execution is held by another worker")]
    LeaseLost,
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The database.
    #[error(transparent)]
    Db(#[from] am_db::Error),
}

/// A result of the orchestration room.
pub type Result<T> = std::result::Result<T, Error>;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// A JSON text in the database that has another shape than its writer promised.
pub fn unreadable(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Db(am_db::Error::Unreadable(format!("{what}: {error}")))
}
