//! Conversion of the errors of the ledger to responses.

use serde_json::json;

use super::ApiError;
use am_ledger::LedgerError;

impl From<LedgerError> for ApiError {
    fn from(error: LedgerError) -> Self {
        let text = error.to_string();
        match error {
            LedgerError::Db(error) => error.into(),
            LedgerError::Invalid(found) => found.into(),
            LedgerError::NotFound(_) => Self::not_found(text),
            LedgerError::InsufficientFunds { account, available, needed } => {
                let members =
                    json!({"account_id": account.id(), "available": available, "needed": needed, "field": "amount"});
                Self::conflict(text).code("insufficient_funds").with(&members)
            }
            LedgerError::HoldEnded { hold, state } => {
                Self::conflict(text).code("hold_ended").with(&json!({"hold_id": hold, "state": state}))
            }
            LedgerError::Overdrawn { hold, left, asked } => {
                let members = json!({"hold_id": hold, "left": left, "asked": asked, "field": "amount"});
                Self::conflict(text).code("hold_overdrawn").with(&members)
            }
            LedgerError::AlreadyReversed(_) => Self::conflict(text).code("already_reversed"),
            LedgerError::BudgetExceeded { budget, name, remaining, asked } => {
                let members = json!({"budget_id": budget, "budget": name, "remaining": remaining, "needed": asked});
                Self::conflict(text).code("budget_exceeded").with(&members)
            }
            LedgerError::NameTaken(_) => Self::conflict(text),
            LedgerError::OutOfRange => Self::invalid_field(vec!["body".into(), "amount".into()], text, "value_error"),
        }
    }
}
