//! Errors of background work.

use am_core::validation::{self, Violation};

/// Error of an operation on background work.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// There is no such task, or it is another owner's; the text is shown to the client.
    #[error("{0}")]
    NotFound(String),
    /// The task's state forbids the action; the text is shown to the client.
    #[error("{0}")]
    InvalidState(String),
    /// The owner has too many tasks that have not ended; the text is shown to the client.
    #[error("{0}")]
    Quota(String),
    /// The request has faults.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// A thread can't be started.
    #[error("a thread for background work: {0}")]
    Thread(std::io::Error),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
}

/// Result of an operation on background work.
pub type Result<T> = std::result::Result<T, WorkError>;

/// Reason for which work stops before it is done.
#[derive(Debug, thiserror::Error)]
pub enum WorkFault {
    /// It can't be done: the task ends with these words, which are shown to the client.
    #[error("{0}")]
    Failed(String),
    /// The database did not answer: the task is let go, and done later.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
}
