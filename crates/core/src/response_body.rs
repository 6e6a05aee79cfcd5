//! Bodies of responses, which are as large as whoever answers likes.

use reqwest::Response;

use crate::boxed;

/// Reason why a body was not read.
#[derive(Debug, thiserror::Error)]
pub enum ResponseBodyError {
    /// It is larger than what is read.
    #[error("its answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The connection broke before it had come whole.
    #[error("{0}")]
    Broken(reqwest::Error),
}

/// Read the whole body of `response`, unless it has more than `limit` bytes.
///
/// # Errors
/// Returns [`ResponseBodyError`]; its texts do not contain the address.
#[boxed]
pub async fn read_response_body(mut response: Response, limit: usize) -> Result<Vec<u8>, ResponseBodyError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| ResponseBodyError::Broken(error.without_url()))? {
        if bytes.len() + chunk.len() > limit {
            return Err(ResponseBodyError::TooLarge(limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
