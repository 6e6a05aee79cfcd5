//! Conversion of the errors of creativity to responses.

use std::time::Duration;

use super::ApiError;
use am_creativity::CreativityError;

impl From<CreativityError> for ApiError {
    fn from(error: CreativityError) -> Self {
        match error {
            CreativityError::NotFound(_) => Self::not_found(error.to_string()),
            CreativityError::Invalid(found) => found.into(),
            CreativityError::Conflict(text) => Self::conflict(text),
            CreativityError::Background(error) => error.into(),
            CreativityError::Unavailable(text) => Self::unavailable(text, Duration::from_secs(5)),
            CreativityError::Db(error) => error.into(),
            error @ CreativityError::Interrupted => Self::internal(error),
        }
    }
}
