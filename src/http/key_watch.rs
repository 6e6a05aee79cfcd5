//! Keys of open streams and sockets: both end when their key is revoked, replaced or expired, or has another role.

use std::{future::pending, sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue},
    response::Response,
};
use futures_util::StreamExt as _;

use super::{
    auth::{ApiCaller, CallerIdentity, Keyring},
    credential,
};

/// Maximum time between two looks at a key that has an end: the wall clock may be set meanwhile.
const MAX_LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Key that a request presented; none is shown.
#[derive(Clone, Debug)]
pub struct PresentedKey(Option<HeaderValue>);

impl PresentedKey {
    /// Read the key from a request's headers.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        Self(credential::presented(headers)).sensitive()
    }

    /// Take the key that stands elsewhere in a request; a text that no header could hold is the key of nobody.
    pub fn from_text(key: &str) -> Self {
        Self(Some(HeaderValue::from_str(key).unwrap_or(HeaderValue::from_static("?")))).sensitive()
    }

    fn sensitive(mut self) -> Self {
        self.0.iter_mut().for_each(|key| key.set_sensitive(true));
        self
    }

    /// Return whether the request presented a key, good or not.
    pub fn is_given(&self) -> bool {
        self.0.is_some()
    }

    /// Return the key if it has the form of a stored key and is not known; see [`Keyring::look_for`].
    pub fn missed(&self, keyring: &Keyring) -> Option<&str> {
        keyring.missed(self.text()?, &self.identify(keyring))
    }

    /// Return the key as a text; `None`: none was presented, or no text.
    pub fn text(&self) -> Option<&str> {
        self.0.as_ref().and_then(|key| key.to_str().ok())
    }

    /// Authenticate the key at this moment.
    pub fn identify(&self, keyring: &Keyring) -> CallerIdentity {
        match self.0.as_ref().map(HeaderValue::to_str) {
            None => keyring.identify(None),
            Some(Ok(key)) => keyring.identify(Some(key)),
            Some(Err(_)) => CallerIdentity::Unknown,
        }
    }

    /// Wait until the key is no more that of `opened`, in the same role. Looks at the key when keys have changed and when
    /// its time is over.
    pub async fn ended(self, keyring: Arc<Keyring>, opened: ApiCaller) {
        let mut changes = keyring.subscribe_changes();
        loop {
            if let Some(changes) = &mut changes {
                changes.mark_unchanged();
            }
            let identity = self.identify(&keyring);
            let is_same = |now: &ApiCaller| now.role == opened.role && now.principal.name == opened.principal.name;
            if !identity.caller().is_some_and(is_same) {
                return;
            }
            let changed = async {
                // An error: who could tell of changes is gone, and the connection goes with it.
                let told = match &mut changes {
                    Some(changes) => changes.changed().await.is_ok(),
                    None => false,
                };
                if !told {
                    pending::<()>().await;
                }
            };
            let left = self.text().and_then(|key| keyring.time_left(key));
            let over = async {
                match left {
                    Some(left) => tokio::time::sleep(left.min(MAX_LOOK_INTERVAL)).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = over => {}
            }
        }
    }
}

/// Return the response of a stream, which ends when the key of its caller does.
pub fn end_with_key(response: Response, key: &PresentedKey, opened: &ApiCaller, keyring: &Arc<Keyring>) -> Response {
    let ended = Box::pin(key.clone().ended(keyring.clone(), opened.clone()));
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(ended)))
}
