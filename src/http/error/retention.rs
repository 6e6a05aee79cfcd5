//! Conversion of the errors of retention to responses.

use super::ApiError;
use am_retention::RetentionError;

impl From<RetentionError> for ApiError {
    fn from(error: RetentionError) -> Self {
        match error {
            RetentionError::NotFound(_) => Self::not_found(error.to_string()),
            RetentionError::InUse(text) => Self::conflict(text).code("in_use"),
            RetentionError::Db(error) => error.into(),
            error @ (RetentionError::Audit(_) | RetentionError::Storage(..) | RetentionError::Damaged(..)) => {
                Self::internal(error)
            }
        }
    }
}
