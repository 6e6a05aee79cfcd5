//! Cross-origin rules for browsers of the configured origins.

use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, Any, CorsLayer};

/// An origin that cannot be sent as a header.
#[derive(Debug, thiserror::Error)]
#[error("CORS_ORIGINS: {0:?} is not an origin")]
pub struct InvalidOrigin(String);

/// Build the layer for these origins (`*`: any); `None` without origins.
pub fn cors_layer(origins: &[String]) -> Result<Option<CorsLayer>, InvalidOrigin> {
    if origins.is_empty() {
        return Ok(None);
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::from(Any)
    } else {
        let value = |origin: &String| HeaderValue::from_str(origin).map_err(|_| InvalidOrigin(origin.clone()));
        AllowOrigin::list(origins.iter().map(value).collect::<Result<Vec<_>, _>>()?)
    };
    let methods = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let name = HeaderName::from_static;
    let accepted = [
        header::ACCEPT,
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        header::IF_NONE_MATCH,
        name("x-api-key"),
        name("x-request-id"),
        name("idempotency-key"),
        name("last-event-id"),
        name("traceparent"),
    ];
    let exposed = [
        header::ETAG,
        header::LINK,
        header::LOCATION,
        header::RETRY_AFTER,
        name("x-total-count"),
        name("x-request-id"),
        name("x-export-info"),
        name("idempotency-replayed"),
        name("x-ignored"),
        name("traceparent"),
    ];
    let layer = CorsLayer::new().allow_origin(allowed).allow_methods(methods).allow_headers(accepted);
    Ok(Some(layer.expose_headers(exposed).max_age(Duration::from_secs(3600))))
}
