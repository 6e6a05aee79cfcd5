//! What can go wrong with webhooks. That a receiver does not answer is no error: it is in the delivery's record.

use am_core::net;

/// An error of the webhooks room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// The state forbids the action.
    #[error("{0}")]
    State(String),
    /// A configured address that would never be called.
    #[error("{0}: {1}; set allow_private where that is meant")]
    Address(String, net::Error),
    /// A configured secret.
    #[error("{0}: a secret is whsec_ and base64")]
    Secret(String),
    /// No HTTP client can be made.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
    /// The database.
    #[error(transparent)]
    Db(#[from] am_db::Error),
}

/// A result of the webhooks room.
pub type Result<T> = std::result::Result<T, Error>;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// No such delivery.
pub(super) fn unknown(id: &str) -> Error {
    Error::NotFound(format!("No webhook delivery {id}"))
}
