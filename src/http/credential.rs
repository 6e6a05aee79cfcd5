//! Where a request carries its caller's key or token.

use axum::http::{HeaderMap, HeaderValue, header};

/// Name of the header that carries the key alone.
pub const API_KEY_HEADER: &str = "x-api-key";
/// Scheme under which `Authorization` carries a key or a token.
const BEARER_SCHEME: &[u8] = b"bearer";

/// The key or token of a request: `X-Api-Key`, or without it `Authorization: Bearer`. `None` when it has neither, or an
/// empty one.
pub fn presented(headers: &HeaderMap) -> Option<HeaderValue> {
    let key = headers.get(API_KEY_HEADER).filter(|key| !key.is_empty());
    key.cloned().or_else(|| bearer(headers.get(header::AUTHORIZATION)?))
}

/// The text after the scheme; `None` for another scheme.
fn bearer(value: &HeaderValue) -> Option<HeaderValue> {
    let (scheme, rest) = value.as_bytes().split_at_checked(BEARER_SCHEME.len())?;
    let text = rest.strip_prefix(b" ")?.trim_ascii();
    let is_bearer = scheme.eq_ignore_ascii_case(BEARER_SCHEME) && !text.is_empty();
    is_bearer.then(|| HeaderValue::from_bytes(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(headers: &[(&'static str, &str)]) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        presented(&map).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn key_comes_from_either_header() {
        assert_eq!(found(&[("x-api-key", "a")]).as_deref(), Some("a"));
        assert_eq!(found(&[("authorization", "Bearer a")]).as_deref(), Some("a"));
        assert_eq!(found(&[("authorization", "bEARER   a ")]).as_deref(), Some("a"));
        assert_eq!(found(&[("x-api-key", ""), ("authorization", "Bearer a")]).as_deref(), Some("a"));
        assert_eq!(found(&[("x-api-key", "b"), ("authorization", "Bearer a")]).as_deref(), Some("b"));
        for none in ["Bearer", "Bearer ", "Bearera", "Basic YTpi", "", "a"] {
            assert_eq!(found(&[("authorization", none)]), None, "{none:?}");
        }
        assert_eq!(found(&[]), None);
    }
}
