//! Answers to the errors of deployments.

use std::time::Duration;

use axum::http::StatusCode;

use super::{ApiError, FieldError};
use am_deployment::DeploymentError;

impl From<DeploymentError> for ApiError {
    fn from(error: DeploymentError) -> Self {
        match error {
            DeploymentError::NotFound(text) => Self::not_found(text),
            DeploymentError::Invalid(found) => found.into(),
            DeploymentError::InvalidQuery(found) => {
                Self::unprocessable(found.into_iter().map(|one| FieldError::of("query", one)).collect())
            }
            DeploymentError::Conflict(code, text) => Self::conflict(text).code(code),
            DeploymentError::Unauthorized => Self::unauthorized("The token is no instance's"),
            DeploymentError::Unavailable(code, text) => Self::unavailable(text, Duration::from_secs(2)).code(code),
            DeploymentError::Unsupported(text) => Self::conflict(text).code("host_unsupported"),
            DeploymentError::Refused(text) => Self::new(StatusCode::CONFLICT, "workflow_refused", text),
            DeploymentError::Db(error) => error.into(),
            error @ (DeploymentError::Host(..) | DeploymentError::Client(_) | DeploymentError::Webhook(_)) => {
                Self::internal(error)
            }
        }
    }
}
