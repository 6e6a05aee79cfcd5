//! Bodies of the responses of called endpoints.

use super::invocation::ActionFailure;

/// Read the whole response. One that is too large would be too large again.
pub async fn read_limited(mut response: reqwest::Response, limit: usize) -> Result<Vec<u8>, ActionFailure> {
    let mut bytes = Vec::new();
    let broken = |error: reqwest::Error| ActionFailure::unanswered(error.without_url().to_string());
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if bytes.len() + chunk.len() > limit {
            return Err(ActionFailure::permanent(format!("its answer is larger than {limit} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Beginning of a body, for an error message: at most 200 characters.
pub fn excerpt(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(200).collect()
}
