//! Keys of open streams and sockets: both end soon after their key is revoked, replaced or expired.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue},
    response::Response,
};
use futures_util::StreamExt as _;

use super::auth::{API_KEY_HEADER, CallerIdentity, Keyring};

/// Interval at which the key of an open stream is looked at again.
pub const KEY_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Key that a request presented; none is shown.
#[derive(Clone, Debug)]
pub struct PresentedKey(Option<HeaderValue>);

impl PresentedKey {
    /// Read the key from a request's headers.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut key = headers.get(API_KEY_HEADER).cloned();
        key.iter_mut().for_each(|key| key.set_sensitive(true));
        Self(key)
    }

    /// Return whether the request presented a key, good or not.
    pub fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// Authenticate the key at this moment.
    pub fn identify(&self, keyring: &Keyring) -> CallerIdentity {
        match self.0.as_ref().map(HeaderValue::to_str) {
            None => keyring.identify(None),
            Some(Ok(key)) => keyring.identify(Some(key)),
            Some(Err(_)) => CallerIdentity::Unknown,
        }
    }

    async fn ended(self, keyring: Arc<Keyring>) {
        while self.identify(&keyring).caller().is_some() {
            tokio::time::sleep(KEY_CHECK_INTERVAL).await;
        }
    }
}

/// Return the response of a stream, which ends when its key does.
pub fn end_with_key(response: Response, key: &PresentedKey, keyring: &Arc<Keyring>) -> Response {
    let ended = Box::pin(key.clone().ended(keyring.clone()));
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(ended)))
}
