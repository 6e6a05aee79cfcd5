//! What can go wrong with trust.

/// What can go wrong with trust.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Db(#[from] am_db::Error),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] am_audit::Error),
    /// There is no such thing.
    #[error("{0} not found")]
    NotFound(&'static str),
}

/// A result of this room.
pub type Result<T> = std::result::Result<T, Error>;
