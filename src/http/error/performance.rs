//! Answers to the errors of performance.

use super::ApiError;
use am_performance::PerformanceError;

impl From<PerformanceError> for ApiError {
    fn from(error: PerformanceError) -> Self {
        match error {
            PerformanceError::NotFound(text) => Self::not_found(text),
            PerformanceError::Invalid(found) => found.into(),
            PerformanceError::Conflict(code, text) => Self::conflict(text).code(code),
            PerformanceError::Unavailable(text) => Self::not_implemented(text),
            PerformanceError::Background(error) => error.into(),
            PerformanceError::Rl(error) => error.into(),
            PerformanceError::Orchestration(error) => error.into(),
            PerformanceError::Db(error) => error.into(),
            error @ PerformanceError::Interrupted => Self::internal(error),
        }
    }
}
