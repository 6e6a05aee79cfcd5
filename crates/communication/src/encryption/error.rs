//! Errors of encryption. No message contains content or a secret.

use am_core::{
    ids::MasterKeyId,
    validation::{FieldPath, Violation},
};

/// Error of encrypting or decrypting content.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
    /// A member of the request is invalid.
    #[error("{}", .0.message)]
    Invalid(Violation),
    /// The object does not exist; the value is its kind.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The state forbids the action; the text is shown to the client.
    #[error("{0}")]
    InvalidState(String),
    /// Unencrypted content was requested, and the configuration does not allow it.
    #[error("unencrypted messages are not allowed by this service (MESSAGES_ALLOW_PLAINTEXT)")]
    PlaintextForbidden,
    /// The configuration has no master key.
    #[error(
        "this service has no master key for encryption at rest (MESSAGE_KEYS); only messages to agents with a public key can be sent"
    )]
    NoMasterKey,
    /// A data key is wrapped by a master key that is not configured; the value is its name.
    #[error("messages of this channel are encrypted under master key '{0}', which is not in MESSAGE_KEYS")]
    UnknownMasterKey(MasterKeyId),
    /// Stored content can't be decrypted: it, or the data that it is bound to, was altered. The value is the message's
    /// id.
    #[error("the stored content of message '{0}' can't be decrypted: it was altered")]
    Tampered(String),
    /// A cryptographic operation failed; the value is its name.
    #[error("cryptography failed: {0}")]
    CryptoFailed(&'static str),
}

impl EncryptionError {
    pub(super) fn invalid(path: &[&'static str], message: impl Into<String>) -> Self {
        Self::Invalid(Violation::new(path.iter().copied().collect::<FieldPath>(), message))
    }
}

/// Result of encrypting or decrypting content.
pub type Result<T> = std::result::Result<T, EncryptionError>;
