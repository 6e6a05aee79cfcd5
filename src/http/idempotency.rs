//! `Idempotency-Key`: the same key means the same effect, done once. What guards the effect is a [`Once`] that the
//! stores keep in the transaction of the effect itself.

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{
    context::RequestContext,
    error::ApiError,
    extract::{decode, read_body, read_json},
};
use am_db::once::Once;

/// The header that carries the key.
pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that was given before.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const LONGEST: usize = 255;

/// The key that the client sent, if any: 1 to 255 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency(pub Option<String>);

impl Idempotency {
    fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(value) = headers.get(HEADER) else { return Ok(Self(None)) };
        let visible = |b: &u8| (0x21..=0x7e).contains(b);
        match value.to_str() {
            Ok(key) if (1..=LONGEST).contains(&key.len()) && key.as_bytes().iter().all(visible) => {
                Ok(Self(Some(key.to_owned())))
            }
            _ => {
                let loc = vec!["header".into(), "Idempotency-Key".into()];
                Err(ApiError::field(loc, "Must be 1 to 255 visible ASCII characters", "value_error"))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Idempotency {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::of(&parts.headers)
    }
}

/// A JSON body together with what makes its effect happen once.
#[derive(Clone, Debug)]
pub struct KeyedJson<T> {
    /// The body; see [`Json`](super::Json) for what is taken.
    pub body: T,
    /// The guard, if the client sent a key.
    pub once: Option<Once>,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for KeyedJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let context = RequestContext::of(&parts)?;
        let Idempotency(key) = Idempotency::of(&parts.headers)?;
        let bytes = read_json(&parts.headers, body, context.body_limit).await?;
        let once = key.map(|key| once(key, context, &parts, &bytes));
        Ok(Self { body: decode(&bytes)?, once })
    }
}

/// A body that is no JSON, together with what makes its effect happen once.
#[derive(Clone, Debug)]
pub struct KeyedBytes {
    /// The body.
    pub bytes: Bytes,
    /// The guard, if the client sent a key.
    pub once: Option<Once>,
}

impl<S: Send + Sync> FromRequest<S> for KeyedBytes {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let context = RequestContext::of(&parts)?;
        let Idempotency(key) = Idempotency::of(&parts.headers)?;
        let bytes = read_body(body, context.body_limit).await?;
        let once = key.map(|key| once(key, context, &parts, &bytes));
        Ok(Self { bytes, once })
    }
}

fn once(key: String, context: &RequestContext, parts: &Parts, body: &[u8]) -> Once {
    let scope = context.principal().unwrap_or_default().to_owned();
    Once { scope, key, fingerprint: fingerprint(&parts.method, &parts.uri, body) }
}

/// SHA-256 in hex over method, canonical path, query and body. `wait` is left out of the query: how long a client waits
/// for the answer is not part of what it asks for.
pub fn fingerprint(method: &Method, uri: &Uri, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    let query = uri.query().unwrap_or_default().split('&');
    let asked = query.filter(|pair| !pair.is_empty() && *pair != "wait" && !pair.starts_with("wait="));
    for part in [method.as_str(), uri.path()].into_iter().chain(asked) {
        hash.update(part);
        // A line end is in no method, path or query, so no part can run into the next.
        hash.update("\n");
    }
    hash.update("\n");
    hash.update(body);
    hex::encode(hash.finalize())
}

/// An answer, and whether it was given before to a request with the same key.
#[derive(Clone, Debug)]
pub struct Replayable<T>(pub T, pub bool);

impl<T: IntoResponse> IntoResponse for Replayable<T> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        if self.1 {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &[u8]) -> Result<Idempotency, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(value).unwrap());
        Idempotency::of(&headers)
    }

    #[test]
    fn a_key_is_visible_ascii_of_some_length() {
        assert_eq!(Idempotency::of(&HeaderMap::new()).unwrap(), Idempotency(None));
        assert_eq!(key(b"a-1~!").unwrap(), Idempotency(Some("a-1~!".into())));
        assert!(key(&[b'x'; 255]).is_ok());
        for bad in [&b""[..], b"a b", b"a\tb", "ä".as_bytes(), &[b'x'; 256]] {
            assert_eq!(key(bad).unwrap_err().status, 422, "{bad:?}");
        }
    }

    #[test]
    fn a_fingerprint_tells_requests_apart_but_not_how_long_they_wait() {
        let print =
            |method: Method, uri: &str, body: &str| fingerprint(&method, &uri.parse().unwrap(), body.as_bytes());
        let base = print(Method::POST, "/a?x=1&y=2", "{}");
        assert_eq!(base.len(), 64);
        for same in ["/a?wait=5&x=1&y=2", "/a?x=1&wait=&y=2", "/a?x=1&y=2&wait"] {
            assert_eq!(print(Method::POST, same, "{}"), base, "{same}");
        }
        assert_eq!(print(Method::POST, "/a?wait=1", ""), print(Method::POST, "/a", ""));
        for other in ["/a?x=1", "/a?x=1&y=3", "/b?x=1&y=2", "/a?x=1&y=2&waits=1", "/a"] {
            assert_ne!(print(Method::POST, other, "{}"), base, "{other}");
        }
        assert_ne!(print(Method::PUT, "/a?x=1&y=2", "{}"), base);
        assert_ne!(print(Method::POST, "/a?x=1&y=2", "{ }"), base);
    }

    #[test]
    fn only_a_second_answer_says_that_it_is_one() {
        assert!(!Replayable("x", false).into_response().headers().contains_key(REPLAYED));
        assert_eq!(Replayable("x", true).into_response().headers()[REPLAYED], "true");
    }
}
