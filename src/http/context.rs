//! Identity of a request: an id for people, a trace for machines (W3C Trace Context), and the caller.

use std::{
    convert::Infallible,
    net::IpAddr,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, request::Parts},
};

use super::{
    auth::CallerIdentity,
    error::ApiError,
    key_watch::PresentedKey,
    known_names::{IgnoredName, OperationNames},
};
use am_core::{ambient::IdGenerator, ids::TraceId};

/// Header with the request id, in requests and responses.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// Header of W3C Trace Context, in requests and responses.
pub const TRACEPARENT_HEADER: &str = "traceparent";

const MAX_REQUEST_ID_LEN: usize = 128;

/// How large a request's body may be.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Most bytes (`BODY_LIMIT_BYTES`).
    pub bytes: usize,
    /// Most JSON values at any depth (`BODY_VALUE_LIMIT`).
    pub values: usize,
}

/// Context of a request, created by the middleware before any handler.
#[derive(Debug)]
pub struct RequestContext {
    /// Result of the authentication.
    pub identity: CallerIdentity,
    /// How large the request's body may be.
    pub body_limits: BodyLimits,
    /// Address of the client; `None` where the request came over no connection.
    pub client_address: Option<IpAddr>,
    /// Key that the request presented.
    pub presented_key: PresentedKey,
    /// Names that the operation knows; `None`: there is no such operation.
    pub operation: Option<Arc<OperationNames>>,
    /// Names that were ignored.
    ignored: Mutex<Vec<IgnoredName>>,
    /// Request id sent by the client; without it the trace id is used.
    given_id: Option<String>,
    /// Traceparent: `00-<32 hex digits of the trace>-<16 of the span>-<2 of flags>`.
    traceparent: String,
}

impl RequestContext {
    /// Use the client's id and trace where they are well-formed, and generate what is missing.
    pub fn new(headers: &HeaderMap, ids: &IdGenerator, identity: CallerIdentity, body_limits: BodyLimits) -> Self {
        let given_id = headers.get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok());
        let given_id = given_id.filter(|id| is_request_id(id)).map(str::to_owned);
        let parent = headers.get(TRACEPARENT_HEADER).and_then(|value| value.to_str().ok()).and_then(parse_traceparent);
        let span = ids.hex(16);
        let mut traceparent = String::with_capacity(55);
        traceparent.push_str("00-");
        let flags = match parent {
            Some((trace, flags)) => {
                traceparent.push_str(trace);
                flags
            }
            None => {
                traceparent.push_str(&ids.hex(32));
                "01"
            }
        };
        for part in ["-", &span, "-", flags] {
            traceparent.push_str(part);
        }
        let presented_key = PresentedKey::from_headers(headers);
        Self {
            identity,
            body_limits,
            client_address: None,
            presented_key,
            operation: None,
            ignored: Mutex::default(),
            given_id,
            traceparent,
        }
    }

    /// Return the request id, for responses and logs.
    pub fn request_id(&self) -> &str {
        self.given_id.as_deref().unwrap_or_else(|| self.trace_digits())
    }

    /// Return the trace id.
    pub fn trace_id(&self) -> TraceId {
        self.trace_digits().into()
    }

    /// Return the text of the trace id, 32 hex digits.
    pub fn trace_digits(&self) -> &str {
        &self.traceparent[3..35]
    }

    /// Return the id of this service's span, 16 hex digits.
    pub fn span_id(&self) -> &str {
        &self.traceparent[36..52]
    }

    /// Return whether the client's trace is sampled.
    pub fn sampled(&self) -> bool {
        self.traceparent.as_bytes()[54] & 1 == 1
    }

    /// Return the traceparent header for outgoing calls and for the response.
    pub fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// Return the caller's principal, if authenticated.
    pub fn principal(&self) -> Option<&str> {
        self.identity.caller().map(|caller| &*caller.principal.name)
    }

    /// Note names that are ignored, so that the response reports them.
    pub fn note_ignored(&self, names: Vec<IgnoredName>) {
        self.ignored.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
    }

    /// Take the names that were ignored.
    pub(super) fn take_ignored(&self) -> Vec<IgnoredName> {
        std::mem::take(&mut self.ignored.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Return the context that the middleware stored in the request.
    pub fn from_parts(parts: &Parts) -> Result<&Arc<Self>, ApiError> {
        parts.extensions.get().ok_or_else(|| ApiError::internal("a route without the middleware"))
    }

    /// Write the ids into a response's headers.
    pub(super) fn write_headers(&self, headers: &mut HeaderMap) {
        for (name, text) in [(REQUEST_ID_HEADER, self.request_id()), (TRACEPARENT_HEADER, self.traceparent())] {
            if let Ok(value) = HeaderValue::from_str(text) {
                headers.insert(name, value);
            }
        }
    }
}

/// Extractor for the [`RequestContext`].
#[derive(Clone, Debug)]
pub struct RequestContextExtractor(pub Arc<RequestContext>);

impl Deref for RequestContextExtractor {
    type Target = RequestContext;

    fn deref(&self) -> &RequestContext {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestContextExtractor {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        RequestContext::from_parts(parts).cloned().map(Self)
    }
}

/// Path and query as the client sent them, before an alias was rewritten.
#[derive(Clone, Debug)]
pub struct OriginalUri(pub axum::http::Uri);

impl<S: Send + Sync> FromRequestParts<S> for OriginalUri {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_else(|| Self(parts.uri.clone())))
    }
}

fn is_request_id(id: &str) -> bool {
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    (1..=MAX_REQUEST_ID_LEN).contains(&id.len()) && id.bytes().all(fine)
}

/// Return trace id and flags of a well-formed header; additions of later versions are ignored, as the standard
/// requires.
fn parse_traceparent(header: &str) -> Option<(&str, &str)> {
    let (mut parts, hex) = (header.splitn(5, '-'), |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    });
    let (version, trace) = (parts.next()?, parts.next()?);
    let (span, flags) = (parts.next()?, parts.next()?);
    let zeros = |text: &str| text.bytes().all(|b| b == b'0');
    let sound = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && !zeros(trace) && !zeros(span);
    let versioned = version != "ff" && (version != "00" || parts.next().is_none());
    // In version 00 only the first bit of the flags has a meaning.
    (sound && versioned).then(|| (trace, if flags.as_bytes()[1] & 1 == 1 { "01" } else { "00" }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn context(pairs: &[(&'static str, &str)]) -> RequestContext {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        RequestContext::new(
            &headers,
            &IdGenerator::seeded(1),
            CallerIdentity::Missing,
            BodyLimits { bytes: 10, values: 10 },
        )
    }

    #[test]
    fn a_request_without_ids_gets_them() {
        let made = context(&[]);
        assert_eq!(made.request_id(), made.trace_digits());
        assert!(parse_traceparent(made.traceparent()).is_some());
        assert!(made.sampled());
    }

    #[test]
    fn given_ids_are_kept_and_the_span_is_ours() {
        let kept = context(&[(REQUEST_ID_HEADER, "abc-1.2:3_4"), (TRACEPARENT_HEADER, PARENT)]);
        assert_eq!(kept.request_id(), "abc-1.2:3_4");
        assert_eq!(kept.trace_digits(), "0af7651916cd43dd8448eb211c80319c");
        assert_ne!(kept.span_id(), "b7ad6b7169203331");
        let mut headers = HeaderMap::new();
        kept.write_headers(&mut headers);
        assert_eq!(headers[REQUEST_ID_HEADER], "abc-1.2:3_4");
        assert_eq!(headers[TRACEPARENT_HEADER], kept.traceparent());
        assert!(!context(&[(TRACEPARENT_HEADER, &PARENT.replace("-01", "-00"))]).sampled());
    }

    #[test]
    fn ids_that_could_harm_a_log_are_replaced() {
        for bad in ["a b", "{\"x\":1}", "a,b", &"x".repeat(129)] {
            assert_ne!(context(&[(REQUEST_ID_HEADER, bad)]).request_id(), bad);
        }
        assert_eq!(context(&[(REQUEST_ID_HEADER, &"x".repeat(128))]).request_id().len(), 128);
    }

    #[test]
    fn malformed_traces_are_begun_anew() {
        let zero = "0".repeat(32);
        let upper = PARENT.to_uppercase();
        let bad = ["", "00", "00-xyz", &upper, &PARENT.replace("00-", "ff-"), &format!("{PARENT}-x"), &PARENT[..54]];
        for text in bad {
            assert_eq!(parse_traceparent(text), None, "{text}");
        }
        assert_eq!(parse_traceparent(&format!("00-{zero}-b7ad6b7169203331-01")), None);
        assert!(parse_traceparent(&format!("{}-more-of-it", PARENT.replacen("00-", "01-", 1))).is_some());
    }

    proptest! {
        #[test]
        fn whatever_comes_in_what_goes_out_is_well_formed(parent in "[ -~]{0,70}", id in "[ -~]{0,140}") {
            let made = context(&[(REQUEST_ID_HEADER, &id), (TRACEPARENT_HEADER, &parent)]);
            prop_assert!(parse_traceparent(made.traceparent()).is_some());
            prop_assert!(is_request_id(made.request_id()));
        }
    }
}
