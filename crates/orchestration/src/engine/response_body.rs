//! Bodies of the responses of called endpoints.

use super::invocation::ActionFailure;
use am_core::response_body::{ResponseBodyError, read_response_body};

/// Read the whole response. One that is too large would be too large again.
pub async fn read_limited(response: reqwest::Response, limit: usize) -> Result<Vec<u8>, ActionFailure> {
    read_response_body(response, limit).await.map_err(|error| match error {
        ResponseBodyError::TooLarge(_) => ActionFailure::permanent(error.to_string()),
        ResponseBodyError::Broken(_) => ActionFailure::unanswered(error.to_string()),
    })
}

/// Beginning of a body, for an error message: at most 200 characters.
pub fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(200).collect()
}
