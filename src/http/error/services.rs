//! Conversion of the errors of jobs to responses.

use super::ApiError;

impl From<am_jobs::JobError> for ApiError {
    fn from(error: am_jobs::JobError) -> Self {
        match error {
            am_jobs::JobError::NotFound => Self::not_found(error.to_string()),
            am_jobs::JobError::InvalidState(text) => Self::bad_request(text).code("invalid_state"),
            am_jobs::JobError::Invalid(found) => found.into(),
            am_jobs::JobError::Db(error) => error.into(),
        }
    }
}
