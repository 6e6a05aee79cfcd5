//! Errors of portfolios.

use am_core::validation::{self, Violation};
use am_ledger::LedgerError;
use am_portfolio_math::MathError;

/// Error of an operation on portfolios.
#[derive(Debug, thiserror::Error)]
pub enum PortfolioError {
    /// It does not exist, or the caller may not see it; the text is shown to the client.
    #[error("{0}")]
    NotFound(String),
    /// The request has faults.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// What there is forbids the action: a stable code, and a text that is shown to the client.
    #[error("{1}")]
    Conflict(&'static str, String),
    /// What was asked for can't be done now; the text is shown to the client.
    #[error("{0}")]
    Busy(String),
    /// The ledger refused, or failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The computation refused its input, or did not come to an end.
    #[error(transparent)]
    Math(#[from] MathError),
    /// The computation's thread ended without an answer.
    #[error("the computation ended without an answer")]
    Interrupted,
    /// The HTTP client of the price source could not be made.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
}

/// Result of an operation on portfolios.
pub type Result<T> = std::result::Result<T, PortfolioError>;

impl PortfolioError {
    /// One fault of one member.
    pub(crate) fn invalid(member: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(member, message)])
    }

    /// What the refusal of an operation on money is called in the audit log; `None`: it is no refusal but a failure.
    pub(crate) fn refusal(&self) -> Option<&str> {
        match self {
            Self::Conflict(code, _) => Some(code),
            Self::Invalid(_) => Some("invalid"),
            Self::Ledger(LedgerError::InsufficientFunds { .. }) => Some("insufficient_funds"),
            Self::Ledger(LedgerError::Invalid(_) | LedgerError::OutOfRange) => Some("invalid"),
            _ => None,
        }
    }
}

/// The error for a portfolio that does not exist or may not be seen.
pub(crate) fn no_portfolio(id: i64) -> PortfolioError {
    PortfolioError::NotFound(format!("No portfolio {id}"))
}
