//! Errors of webhooks. A receiver that does not answer is no error: its failure is recorded in the delivery.

use am_core::net;

/// Error of a webhook operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The delivery or endpoint does not exist; the text is shown to the client.
    #[error("{0}")]
    NotFound(String),
    /// The delivery's state forbids the action; the text is shown to the client.
    #[error("{0}")]
    State(String),
    /// A configured address that would never be called: the endpoint's name and the reason.
    #[error("{0}: {1}; set allow_private if this is intended")]
    Address(String, net::Error),
    /// A configured secret is malformed; the value is the endpoint's name.
    #[error("{0}: a secret must be whsec_ followed by base64")]
    Secret(String),
    /// The HTTP client could not be created.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::Error),
}

/// Result of a webhook operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Error for a delivery that does not exist.
pub(super) fn unknown(id: &str) -> Error {
    Error::NotFound(format!("No webhook delivery {id}"))
}
