//! Errors of the marketplace.

use am_core::validation::{self, Violation};
use am_ledger::LedgerError;

/// Error of a marketplace operation.
#[derive(Debug, thiserror::Error)]
pub enum MarketError {
    /// The item does not exist, or the caller may not know of it.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The input has faults.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// The caller may see the item, and not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The item's state does not allow the operation.
    #[error("{0}")]
    InvalidState(String),
    /// Somebody else was first, or there is one already.
    #[error("{0}")]
    Conflict(String),
    /// The ledger refused a movement of money.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
    /// The part of the service that runs workflows is not available now.
    #[error("{0}")]
    Unavailable(String),
}

impl MarketError {
    /// An error of one field of the request.
    pub fn field(name: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(name, message)])
    }

    /// Whether it is the caller's doing, so that the audit log tells of it where money is concerned.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::NotFound(_) | Self::Db(_) | Self::Unavailable(_) => false,
            Self::Ledger(error) => !matches!(error, LedgerError::Db(_)),
            Self::Invalid(_) | Self::Forbidden(_) | Self::InvalidState(_) | Self::Conflict(_) => true,
        }
    }
}

/// Result of a marketplace operation.
pub type Result<T> = std::result::Result<T, MarketError>;

/// Report a JSON text of a table that does not have the expected form.
pub(crate) fn corrupt(what: &str, error: impl std::fmt::Display) -> MarketError {
    MarketError::Db(am_db::DatabaseError::InvalidValue(format!("{what}: {error}")))
}
