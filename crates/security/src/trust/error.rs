//! Errors of trust scores.

/// Error of a trust score operation.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
    /// An error of the audit log.
    #[error(transparent)]
    Audit(#[from] am_audit::AuditError),
    /// The object does not exist; the value is its kind.
    #[error("{0} not found")]
    NotFound(&'static str),
}

/// Result of a trust score operation.
pub type Result<T> = std::result::Result<T, TrustError>;
