//! Errors of webhooks. A receiver that does not answer is no error: its failure is recorded in the delivery.

use am_core::{
    ids::DeliveryId,
    public_address,
    validation::{self, Violation},
};

/// Error of a webhook operation.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The delivery or endpoint does not exist; the text is shown to the client.
    #[error("{0}")]
    NotFound(String),
    /// The request has faults.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// The request conflicts with what there is; the text is shown to the client.
    #[error("{0}")]
    Conflict(String),
    /// The file of the key for secrets can't be used.
    #[error("the key for webhooks' secrets: {0}")]
    SecretFile(#[from] am_core::crypto::KeyFileError),
    /// The delivery's state forbids the action; the text is shown to the client.
    #[error("{0}")]
    InvalidState(String),
    /// A configured address that would never be called: the endpoint's name and the reason.
    #[error("{0}: {1}; set allow_private if this is intended")]
    InvalidAddress(String, public_address::AddressError),
    /// A configured secret is malformed; the value is the endpoint's name.
    #[error("{0}: a secret must be whsec_ followed by base64")]
    InvalidSecret(String),
    /// The HTTP client could not be created.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
}

/// Result of a webhook operation.
pub type Result<T> = std::result::Result<T, WebhookError>;

/// Error for a delivery that does not exist.
pub(super) fn delivery_not_found(id: &DeliveryId) -> WebhookError {
    WebhookError::NotFound(format!("No webhook delivery {id}"))
}
