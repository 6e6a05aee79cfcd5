//! Conversion of the errors of jobs to responses.

use super::ApiError;

impl From<am_jobs::Error> for ApiError {
    fn from(error: am_jobs::Error) -> Self {
        match error {
            am_jobs::Error::NotFound => Self::not_found(error.to_string()),
            am_jobs::Error::Forbidden => Self::forbidden(error.to_string()),
            am_jobs::Error::State(text) => Self::bad_request(text).code("invalid_state"),
            am_jobs::Error::Invalid(found) => found.into(),
            am_jobs::Error::Db(error) => error.into(),
        }
    }
}
