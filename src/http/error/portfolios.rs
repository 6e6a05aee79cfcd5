//! Answers to the errors of portfolios.

use std::time::Duration;

use super::ApiError;
use am_portfolio::PortfolioError;
use am_portfolio_math::MathError;

impl From<PortfolioError> for ApiError {
    fn from(error: PortfolioError) -> Self {
        match error {
            PortfolioError::NotFound(text) => Self::not_found(text),
            PortfolioError::Invalid(found) => found.into(),
            PortfolioError::Conflict(code, text) => Self::conflict(text).code(code),
            PortfolioError::Busy(text) => Self::unavailable(text, Duration::from_secs(1)),
            PortfolioError::Ledger(error) => error.into(),
            PortfolioError::Math(error @ MathError::NotSolved { .. }) => {
                Self::conflict(error.to_string()).code("not_solved")
            }
            PortfolioError::Math(error) => {
                let loc = vec!["body".into(), error.argument().into()];
                Self::invalid_field(loc, error.to_string(), "value_error")
            }
            PortfolioError::Db(error) => error.into(),
            error @ (PortfolioError::Interrupted | PortfolioError::Client(_)) => Self::internal(error),
        }
    }
}
