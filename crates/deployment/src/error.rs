//! Errors of deployments.

use am_core::validation::{self, Violation};

/// Error of an operation on deployments.
#[derive(Debug, thiserror::Error)]
pub enum DeploymentError {
    /// It does not exist, or the caller may not see it; the text is shown to the client.
    #[error("{0}")]
    NotFound(String),
    /// The body has faults.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// Parameters of the query have faults.
    #[error("{}", validation::join(.0))]
    InvalidQuery(Vec<Violation>),
    /// What there is forbids the action: a stable code, and a text that is shown to the client.
    #[error("{1}")]
    Conflict(&'static str, String),
    /// The token is no instance's.
    #[error("the token is no instance's")]
    Unauthorized,
    /// No instance could take the call: a stable code, and a text that is shown to the client.
    #[error("{1}")]
    Unavailable(&'static str, String),
    /// Instances can't be started on this host; the text is shown to the client.
    #[error("{0}")]
    Unsupported(String),
    /// A workflow can't be run; the text is shown to the client.
    #[error("{0}")]
    Refused(String),
    /// The host refuses something.
    #[error("{0}: {1}")]
    Host(&'static str, std::io::Error),
    /// A client for calls could not be made.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
    /// A webhook can't be told.
    #[error(transparent)]
    Webhook(#[from] am_webhooks::WebhookError),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
}

/// Result of an operation on deployments.
pub type Result<T> = std::result::Result<T, DeploymentError>;

impl DeploymentError {
    /// One fault of one parameter of the query.
    pub(crate) fn query(name: &str, message: impl Into<String>) -> Self {
        Self::InvalidQuery(vec![Violation::new(name, message)])
    }
}
