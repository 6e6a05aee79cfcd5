//! What can go wrong with sealing. No message holds content or a secret.

/// What can go wrong with sealing.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The database.
    #[error(transparent)]
    Db(#[from] am_db::Error),
    /// Something that was sent can't be.
    #[error("{message}")]
    Invalid {
        /// Where in the body.
        path: Vec<&'static str>,
        /// What is wrong with it.
        message: String,
    },
    /// There is no such thing.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// Its state forbids it.
    #[error("{0}")]
    State(String),
    /// Content in the clear was asked for, and the configuration does not allow it.
    #[error("messages in the clear are not allowed here (MESSAGES_ALLOW_PLAINTEXT)")]
    Plaintext,
    /// The configuration has no master key.
    #[error(
        "this service has no key to encrypt messages at rest with (MESSAGE_KEYS); those to agents with a key of their own can be sent"
    )]
    NoMaster,
    /// A data key is wrapped by a master key that the configuration has not.
    #[error("messages of this channel are under the master key '{0}', which is not among MESSAGE_KEYS")]
    UnknownMaster(String),
    /// What is stored does not open: it, or what it is bound to, is not what it was.
    #[error("the stored content of message '{0}' does not open: it was changed")]
    Tampered(String),
    /// A cipher refused to work.
    #[error("cryptography failed: {0}")]
    Crypto(&'static str),
}

impl SealError {
    pub(super) fn invalid(path: &[&'static str], message: impl Into<String>) -> Self {
        Self::Invalid { path: path.to_vec(), message: message.into() }
    }
}

/// A result of sealing.
pub type Result<T> = std::result::Result<T, SealError>;
