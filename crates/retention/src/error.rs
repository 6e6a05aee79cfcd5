//! Errors of retention and archives.

use std::path::{Path, PathBuf};

/// Error of removing, archiving or restoring.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
    /// The audit log can't be read.
    #[error("the audit log: {0}")]
    Audit(#[from] am_audit::AuditError),
    /// A file can't be read or written.
    #[error("{0}: {1}")]
    Storage(PathBuf, std::io::Error),
    /// There is no such thing; the value is its kind.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The thing is open, or something refers to it; the text is shown to the client.
    #[error("{0}")]
    InUse(String),
    /// An archive is not what was written; its name, and what is wrong with it.
    #[error("the archive {0}: {1}")]
    Damaged(String, String),
}

/// Result of retention.
pub type Result<T> = std::result::Result<T, RetentionError>;

impl RetentionError {
    /// Make the error of an operation on the file at `path`.
    pub(crate) fn storage(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Storage(path, error)
    }
}
