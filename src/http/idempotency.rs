//! `Idempotency-Key`: requests with the same key have their effect once. The effect's own transaction stores the key,
//! represented by a [`IdempotencyKey`].

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use utoipa::IntoParams;

use super::{
    context::RequestContext,
    error::ApiError,
    extract::{JsonBody, decode_body, read_body, read_json, refuse_coding},
};
use am_core::blocking::in_place;
use am_db::idempotency::{IdempotencyKey, IdempotentResult};

/// Header with the idempotency key.
pub const IDEMPOTENCY_KEY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Header of a replayed response.
pub const REPLAYED_HEADER: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Largest length of an idempotency key, in bytes.
pub const MAX_KEY_LEN: usize = 255;

/// The key under which a request takes effect once, as an extractor and as the parameter that operations describe.
#[derive(Clone, Debug, PartialEq, Eq, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyHeader {
    /// Makes the request take effect once: 1 to 255 visible ASCII characters. The same key with the same request is answered
    /// from the first result, with the header `Idempotency-Replayed`; with another request it is refused with 422
    /// `idempotency_key_reused`. Keys are kept for each caller.
    #[param(rename = "Idempotency-Key", value_type = String, required = false, min_length = 1, max_length = 255)]
    pub key: Option<String>,
}

impl IdempotencyHeader {
    fn from_headers(headers: &HeaderMap) -> Result<Self, ApiError> {
        let Some(value) = headers.get(IDEMPOTENCY_KEY_HEADER) else { return Ok(Self { key: None }) };
        let visible = |b: &u8| (0x21..=0x7e).contains(b);
        match value.to_str() {
            Ok(key) if (1..=MAX_KEY_LEN).contains(&key.len()) && key.as_bytes().iter().all(visible) => {
                Ok(Self { key: Some(key.to_owned()) })
            }
            _ => {
                let loc = vec!["header".into(), "Idempotency-Key".into()];
                Err(ApiError::invalid_field(loc, "Must be 1 to 255 visible ASCII characters", "value_error"))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyHeader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Self::from_headers(&parts.headers)
    }
}

/// JSON body together with the idempotency key.
#[derive(Clone, Debug)]
pub struct IdempotentJson<T> {
    /// Parsed body; see [`JsonBody`](super::Json) for the accepted content types.
    pub body: T,
    /// Idempotency key and fingerprint of the request, if the client sent a key.
    pub once: Option<IdempotencyKey>,
}

impl<S: Send + Sync, T: DeserializeOwned + Send + 'static> FromRequest<S> for IdempotentJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let context = RequestContext::from_parts(&parts)?;
        let IdempotencyHeader { key } = IdempotencyHeader::from_headers(&parts.headers)?;
        let bytes = read_json(&parts.headers, body, context).await?;
        let once = key.map(|key| idempotency_key(key, context, &parts, &bytes));
        Ok(Self { body: decode_body(bytes, context).await?, once })
    }
}

/// Binary body together with the idempotency key.
#[derive(Clone, Debug)]
pub struct IdempotentBytes {
    /// Bytes of the body.
    pub bytes: Bytes,
    /// Idempotency key and fingerprint of the request, if the client sent a key.
    pub once: Option<IdempotencyKey>,
}

impl<S: Send + Sync> FromRequest<S> for IdempotentBytes {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let context = RequestContext::from_parts(&parts)?;
        let IdempotencyHeader { key } = IdempotencyHeader::from_headers(&parts.headers)?;
        refuse_coding(&parts.headers)?;
        let bytes = read_body(body, context.body_limits.bytes).await?;
        let once = key.map(|key| idempotency_key(key, context, &parts, &bytes));
        Ok(Self { bytes, once })
    }
}

fn idempotency_key(key: String, context: &RequestContext, parts: &Parts, body: &[u8]) -> IdempotencyKey {
    let scope = context.principal().unwrap_or_default().to_owned();
    let fingerprint = in_place(body.len(), || request_fingerprint(&parts.method, &parts.uri, body));
    IdempotencyKey { scope, key, fingerprint }
}

/// Compute the SHA-256, in hex, of method, canonical path, query and body. The parameter `wait` is excluded: the time
/// for which a client waits is not part of its request.
pub fn request_fingerprint(method: &Method, uri: &Uri, body: &[u8]) -> String {
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

/// 200 with the JSON answer of a request that takes effect once; [`REPLAYED_HEADER`] says if it was given before.
#[derive(Debug)]
pub struct IdempotentOk<T>(pub IdempotentResult<T>);

/// The same as [`IdempotentOk`] for what was made: 201.
#[derive(Debug)]
pub struct IdempotentCreated<T>(pub IdempotentResult<T>);

impl<T: Serialize> IntoResponse for IdempotentOk<T> {
    fn into_response(self) -> Response {
        WithReplayFlag(JsonBody(self.0.value), self.0.replayed).into_response()
    }
}

impl<T: Serialize> IntoResponse for IdempotentCreated<T> {
    fn into_response(self) -> Response {
        (StatusCode::CREATED, IdempotentOk(self.0)).into_response()
    }
}

/// Response with a flag: whether it is a replay for a repeated key.
#[derive(Clone, Debug)]
pub struct WithReplayFlag<T>(pub T, pub bool);

impl<T: IntoResponse> IntoResponse for WithReplayFlag<T> {
    fn into_response(self) -> Response {
        let mut response = self.0.into_response();
        if self.1 {
            response.headers_mut().insert(REPLAYED_HEADER, HeaderValue::from_static("true"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &[u8]) -> Result<Option<String>, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(IDEMPOTENCY_KEY_HEADER, HeaderValue::from_bytes(value).unwrap());
        IdempotencyHeader::from_headers(&headers).map(|header| header.key)
    }

    #[test]
    fn a_key_is_visible_ascii_of_some_length() {
        assert_eq!(IdempotencyHeader::from_headers(&HeaderMap::new()).unwrap(), IdempotencyHeader { key: None });
        assert_eq!(key(b"a-1~!").unwrap().as_deref(), Some("a-1~!"));
        assert!(key(&[b'x'; 255]).is_ok());
        for bad in [&b""[..], b"a b", b"a\tb", "ä".as_bytes(), &[b'x'; 256]] {
            assert_eq!(key(bad).unwrap_err().status, 422, "{bad:?}");
        }
    }

    #[test]
    fn a_fingerprint_tells_requests_apart_but_not_how_long_they_wait() {
        let print = |method: Method, uri: &str, body: &str| {
            request_fingerprint(&method, &uri.parse().unwrap(), body.as_bytes())
        };
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
        let made = IdempotentCreated(IdempotentResult { value: 7, replayed: true }).into_response();
        assert_eq!(
            (made.status(), &made.headers()[REPLAYED_HEADER]),
            (StatusCode::CREATED, &HeaderValue::from_static("true"))
        );
        let done = IdempotentOk(IdempotentResult::fresh(7)).into_response();
        assert!(done.status() == StatusCode::OK && !done.headers().contains_key(REPLAYED_HEADER));
        assert!(!WithReplayFlag("x", false).into_response().headers().contains_key(REPLAYED_HEADER));
        assert_eq!(WithReplayFlag("x", true).into_response().headers()[REPLAYED_HEADER], "true");
    }
}
