//! Errors of the ledger.

use am_core::{
    ids::{BudgetId, LedgerEntryId, LedgerHoldId},
    money::Money,
    validation::{self, Violation},
};

use super::model::{AccountKey, HoldState};

/// Error of an operation on the ledger. After each of them nothing has moved.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
    /// Arguments are invalid.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// There is no such thing, or the caller may not see it; the value is its kind.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The account has less than is to leave it, not counting what holds keep.
    #[error("The account {account} has {available} that is not held, and {needed} is needed")]
    InsufficientFunds {
        /// Account that the amount was to leave.
        account: Box<AccountKey>,
        /// What it has beyond its holds.
        available: Money,
        /// What was to leave it.
        needed: Money,
    },
    /// The hold is no longer open.
    #[error("The hold {hold} is {state}")]
    HoldEnded {
        /// Id of the hold.
        hold: LedgerHoldId,
        /// State that it ended in.
        state: HoldState,
    },
    /// More was to be captured than is left of the hold.
    #[error("The hold {hold} has {left} left, and {asked} was asked for")]
    Overdrawn {
        /// Id of the hold.
        hold: LedgerHoldId,
        /// What is left of it.
        left: Money,
        /// What was to be captured.
        asked: Money,
    },
    /// An entry reverses this one already, or it is a reversal itself.
    #[error("The entry {0} can't be reversed: it was reversed before, or is a reversal")]
    AlreadyReversed(LedgerEntryId),
    /// A budget has less left than was asked for.
    #[error("The budget '{name}' ({budget}) has {remaining} left, and {asked} is needed")]
    BudgetExceeded {
        /// Id of the budget.
        budget: BudgetId,
        /// Name of the budget.
        name: String,
        /// What is left of it.
        remaining: Money,
        /// What was asked for.
        asked: Money,
    },
    /// A budget of the owner has this name.
    #[error("There is a budget '{0}' already")]
    NameTaken(String),
    /// A balance would leave the range of amounts.
    #[error("A balance would be beyond the largest amount")]
    OutOfRange,
}

/// Result of an operation on the ledger.
pub type Result<T> = std::result::Result<T, LedgerError>;

impl LedgerError {
    /// The error of one invalid argument.
    pub(crate) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(field, message)])
    }

    /// Whether it refuses to move money, which the audit log tells; faults of the request and of the database do not.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Self::Db(_) | Self::NotFound(_))
    }
}
