//! What can go wrong in this room.

use am_core::validation::Violation;

/// What can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Db(#[from] am_db::Error),
    /// There is no such job.
    #[error("Job not found")]
    NotFound,
    /// Another's.
    #[error("Not authorized to access this job")]
    Forbidden,
    /// Its state forbids it.
    #[error("{0}")]
    State(String),
    /// A request that no miner should get.
    #[error("the request has {} faults", .0.len())]
    Invalid(Vec<Violation>),
}

/// A result of this room.
pub type Result<T> = std::result::Result<T, Error>;
