//! Errors of creativity.

use am_core::validation::{self, FieldPath, Violation};

/// Error of a creativity operation.
#[derive(Debug, thiserror::Error)]
pub enum CreativityError {
    /// The item does not exist, or the caller may not know of it.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The input has faults.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// What the operation needs is missing, or the item's state does not allow it.
    #[error("{0}")]
    Conflict(String),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
    /// A task of the background was refused.
    #[error(transparent)]
    Background(#[from] am_background::WorkError),
    /// The computation did not end: the service stops, or it panicked.
    #[error("a computation was interrupted")]
    Interrupted,
    /// The sentence encoder or the configured language model gave no usable answer.
    #[error("{0}")]
    Unavailable(String),
}

impl CreativityError {
    /// An error of one field of the request.
    pub fn field(name: impl Into<FieldPath>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(name, message)])
    }
}

/// Result of a creativity operation.
pub type Result<T> = std::result::Result<T, CreativityError>;
