//! What keeps agents from doing harm: the policies that bind workflows, the sandboxes that commands run in, and trust that
//! is earned.

pub mod policies;
pub mod sandbox;
pub mod trust;

use crate::{audit, db};

/// What can go wrong in this room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Db(#[from] db::Error),
    /// The audit log.
    #[error(transparent)]
    Audit(#[from] audit::Error),
    /// There is no such thing.
    #[error("{0} not found")]
    NotFound(&'static str),
}

/// A result of this room.
pub type Result<T> = std::result::Result<T, Error>;
