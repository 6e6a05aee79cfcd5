//! `Idempotency-Key`: requests with the same key have their effect once. The effect's own transaction stores the key,
//! represented by a [`Once`].

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use super::{
    context::RequestContext,
    error::ApiError,
    extract::{Json, decode, read_body, read_json},
};
use am_db::once::{Done, Once};

/// Header with the idempotency key.
pub const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Header of a replayed response.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

const LONGEST: usize = 255;

/// Idempotency key of the request, if any: 1 to 255 visible ASCII characters.
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

/// JSON body together with the idempotency key.
#[derive(Clone, Debug)]
pub struct KeyedJson<T> {
    /// Parsed body; see [`Json`](super::Json) for the accepted content types.
    pub body: T,
    /// Idempotency key and fingerprint of the request, if the client sent a key.
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

/// Binary body together with the idempotency key.
#[derive(Clone, Debug)]
pub struct KeyedBytes {
    /// Bytes of the body.
    pub bytes: Bytes,
    /// Idempotency key and fingerprint of the request, if the client sent a key.
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

/// Compute the SHA-256, in hex, of method, canonical path, query and body. The parameter `wait` is excluded: the time
/// for which a client waits is not part of its request.
pub fn fingerprint(method: &Method, uri: &Uri, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    let query = uri.query().unwrap_or_default().split('&');
    let asked = query.filter(|pair| !pair.is_empty() && *pair != "wait" && !pair.starts_with("wait="));
    for part in [method.as_str(), uri.path()].into_iter().chain(asked) {
        hash.update(part);
        // Line breaks occur in no method, path or query, so the parts cannot run together.
        hash.update("\n");
    }
    hash.update("\n");
    hash.update(body);
    hex::encode(hash.finalize())
}

/// 200 with the JSON answer of a request that takes effect once; [`REPLAYED`] says if it was given before.
#[derive(Debug)]
pub struct IdempotentOk<T>(pub Done<T>);

/// The same as [`IdempotentOk`] for what was made: 201.
#[derive(Debug)]
pub struct IdempotentCreated<T>(pub Done<T>);

impl<T: Serialize> IntoResponse for IdempotentOk<T> {
    fn into_response(self) -> Response {
        Replayable(Json(self.0.value), self.0.replayed).into_response()
    }
}

impl<T: Serialize> IntoResponse for IdempotentCreated<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, IdempotentOk(self.0)).into_response()
    }
}

/// Response with a flag: whether it is a replay for a repeated key.
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
        let made = IdempotentCreated(Done { value: 7, replayed: true }).into_response();
        assert_eq!(
            (made.status(), &made.headers()[REPLAYED]),
            (StatusCode::CREATED, &HeaderValue::from_static("true"))
        );
        let done = IdempotentOk(Done::fresh(7)).into_response();
        assert!(done.status() == StatusCode::OK && !done.headers().contains_key(REPLAYED));
        assert!(!Replayable("x", false).into_response().headers().contains_key(REPLAYED));
        assert_eq!(Replayable("x", true).into_response().headers()[REPLAYED], "true");
    }
}
