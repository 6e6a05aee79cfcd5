//! What can go wrong when agents talk.

use super::{relations::Refusal, sealing::SealError};

/// What can go wrong when agents talk.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// Something that was sent is wrong.
    #[error("{field}: {message}")]
    Invalid {
        /// The member.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The sender may not write to the recipient.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The content can't be sealed as it was asked for.
    #[error(transparent)]
    Seal(SealError),
    /// It is for others to do.
    #[error("{0}")]
    Forbidden(String),
    /// The state forbids it.
    #[error("{0}")]
    State(String),
    /// Something else stands under this name.
    #[error("{0}")]
    Conflict(String),
    /// As many as there may be are there.
    #[error("{0}")]
    Busy(String),
    /// This process takes nothing more.
    #[error("the service is stopping")]
    Stopping,
    /// The database.
    #[error(transparent)]
    Db(#[from] am_db::Error),
}

/// A result of this room.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Something wrong with the member `field`.
    pub fn invalid(field: &str, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.to_owned(), message: message.into() }
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

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}
