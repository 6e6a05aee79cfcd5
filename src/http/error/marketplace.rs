//! Conversion of the errors of the marketplace to responses.

use std::time::Duration;

use super::ApiError;
use am_marketplace::MarketError;

impl From<MarketError> for ApiError {
    fn from(error: MarketError) -> Self {
        match error {
            MarketError::NotFound(_) => Self::not_found(error.to_string()),
            MarketError::Invalid(found) => found.into(),
            MarketError::Forbidden(text) => Self::forbidden(text),
            // What a client finds ended by time, or by the other party, is a conflict of both.
            MarketError::InvalidState(text) => Self::conflict(text).code("invalid_state"),
            MarketError::Conflict(text) => Self::conflict(text),
            MarketError::Ledger(error) => error.into(),
            MarketError::Db(error) => error.into(),
            MarketError::Unavailable(text) => Self::unavailable(text, Duration::from_secs(1)),
        }
    }
}
