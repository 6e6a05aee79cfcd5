//! Errors of sandboxes.

use am_core::validation::{self, Violation};

/// Error of a sandbox operation.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The execution or sandbox does not exist; the text is shown to the client.
    #[error("{0}")]
    NotFound(String),
    /// A member of the request is invalid.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// The state forbids the action; the text is shown to the client.
    #[error("{0}")]
    InvalidState(String),
    /// The host does not enforce the rules of the security level; the value is the reason.
    #[error("this host can't enforce the rules of this sandbox: {0}")]
    Unenforced(String),
    /// The command is not allowed in the sandbox; the text says why.
    #[error("{0}")]
    CommandRefused(String),
    /// The workspaces have as many bytes as they may have together; both in MB.
    #[error("the workspaces of all sandboxes have {0} MB, and may have {1} (SANDBOX_TOTAL_DISK_MB): clean up some")]
    QuotaReached(u64, u64),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The sandbox could not be set up; the value is the reason.
    #[error("the sandbox could not be started: {0}")]
    StartFailed(String),
    /// A file operation failed: the path and the error.
    #[error("{0}: {1}")]
    Storage(String, std::io::Error),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
}

/// Result of a sandbox operation.
pub type Result<T> = std::result::Result<T, SandboxError>;

/// Error for stored JSON that does not have the expected form.
pub(super) fn unreadable(what: &str, error: impl std::fmt::Display) -> SandboxError {
    SandboxError::Db(am_db::DatabaseError::InvalidValue(format!("{what}: {error}")))
}
