//! Conversion of the errors of background work to responses.

use super::ApiError;
use am_background::WorkError;

impl From<WorkError> for ApiError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::NotFound(text) => Self::not_found(text),
            WorkError::InvalidState(text) => Self::bad_request(text).code("invalid_state"),
            WorkError::Quota(text) => Self::quota(text),
            WorkError::Invalid(found) => found.into(),
            WorkError::Db(error) => error.into(),
            error @ WorkError::Thread(_) => Self::internal(error),
        }
    }
}
