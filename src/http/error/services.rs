//! Conversion of the errors of jobs and sandboxes to responses.

use std::time::Duration;

use axum::http::StatusCode;

use super::ApiError;
use am_security::sandbox;

impl From<am_jobs::JobError> for ApiError {
    fn from(error: am_jobs::JobError) -> Self {
        match error {
            am_jobs::JobError::NotFound => Self::not_found(error.to_string()),
            am_jobs::JobError::InvalidState(text) => Self::bad_request(text).code("invalid_state"),
            am_jobs::JobError::QuotaReached { .. } => {
                Self::quota(error.to_string()).retry_after(Duration::from_secs(10))
            }
            am_jobs::JobError::Invalid(found) => found.into(),
            am_jobs::JobError::Ledger(error) => error.into(),
            am_jobs::JobError::Db(error) => error.into(),
        }
    }
}

impl From<sandbox::SandboxError> for ApiError {
    fn from(error: sandbox::SandboxError) -> Self {
        use sandbox::SandboxError::{
            CommandRefused, Db, Invalid, InvalidState, NotFound, QuotaReached, StartFailed, Stopping, Storage,
            Unenforced,
        };
        match error {
            NotFound(text) => Self::not_found(text),
            Invalid(found) => found.into(),
            InvalidState(text) | CommandRefused(text) => Self::bad_request(text).code("invalid_state"),
            // A host without the capability does not change by itself, so no retry time is sent.
            Unenforced(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "sandbox_unenforced", error.to_string()),
            QuotaReached(..) => Self::unavailable(error.to_string(), Duration::from_secs(60)).code("storage_full"),
            Stopping => Self::unavailable("The service is stopping", Duration::from_secs(1)),
            Db(error) => error.into(),
            error @ (StartFailed(_) | Storage(..)) => Self::internal(error),
        }
    }
}
