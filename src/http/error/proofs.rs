//! Answers to the errors of proofs.

use super::ApiError;
use am_proofs::ProofError;

impl From<ProofError> for ApiError {
    fn from(error: ProofError) -> Self {
        match error {
            ProofError::NotFound(text) => Self::not_found(text),
            ProofError::Invalid(found) => found.into(),
            ProofError::Conflict("invalid_state", text) => Self::bad_request(text).code("invalid_state"),
            ProofError::Conflict(code, text) => Self::conflict(text).code(code),
            ProofError::Background(error) => error.into(),
            ProofError::Orchestration(error) => error.into(),
            ProofError::Db(error) => error.into(),
            error @ ProofError::KeyFile(_) => Self::internal(error),
        }
    }
}
