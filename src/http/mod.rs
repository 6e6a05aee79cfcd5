//! The HTTP layer shared by all routes: middleware, errors, authentication, extractors, pagination, OpenAPI, metrics.
//!
//! Path of a request: [`path_alias`] rewrites aliases, the router finds the route, [`middleware`] adds id, identity and
//! limits, the extractors validate, and every error is an [`ApiError`].

/// Authentication: keys, principals, roles.
pub mod auth;
/// Tokens of the coordinator.
pub mod bearer_token;
/// Rules for requests of browsers and proxies.
pub mod browser_rules;
/// Extractors for the caller of a request.
pub mod caller;
/// Places of connections.
pub mod connections;
/// Context of a request: id, trace, identity.
pub mod context;
/// Cross-origin rules for browsers.
pub mod cors;
/// Where a request carries its key or token.
pub mod credential;
/// Common form of errors.
pub mod error;
/// Entity tags and conditional requests.
pub mod etag;
/// `JsonBody`, `QueryParams` and `PathParams` whose rejections have the common form of errors.
pub mod extract;
/// Idempotency keys and request fingerprints.
pub mod idempotency;
/// Names of keys beside principals.
pub mod key_name;
/// Keys of open streams and sockets.
pub mod key_watch;
/// Names that operations know, and what becomes of others.
pub mod known_names;
mod list_rows;
/// The accept loop.
pub mod listener;
/// Prometheus metrics of requests and the process.
pub mod metrics;
/// Middleware around each route.
pub mod middleware;
/// OpenAPI document and the page that shows it.
pub mod openapi;
/// Pagination of lists by keyset or by offset.
pub mod pagination;
/// Rewriting of path aliases.
pub mod path_alias;
/// Rate limits per caller.
pub mod rate_limit;
/// Readiness of the service.
pub mod readiness;
/// Refusals by key.
pub mod refusals;
/// Turns of requests, by principal.
pub mod request_turns;
/// Streams of Server-Sent Events.
pub mod sse;
/// Times in the queries of lists.
pub mod time_query;

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use prometheus_client::registry::Registry;

pub use auth::{ApiCaller, KeyRole, Keyring};
pub use caller::{ActingKey, AdminKey, AnyCaller, AnyKey, ClientKey, TraderKey};
pub use context::RequestContext;
pub use error::{ApiError, FieldError};
pub use extract::{JsonBody, PathNumbers, PathParams, QueryParams, RawJson, empty_as_none, several};
pub use readiness::Readiness;

use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
};

/// State of the HTTP layer, which the application holds and hands out by `FromRef`. Cloning copies one pointer.
#[derive(Clone)]
pub struct HttpState(Arc<HttpStateInner>);

struct HttpStateInner {
    parts: HttpStateParts,
    browser_rules: browser_rules::BrowserRules,
}

/// Content of [`HttpState`].
pub struct HttpStateParts {
    /// Configuration of the service.
    pub config: Arc<Config>,
    /// Source of the time.
    pub clock: Clock,
    /// Source of request and trace ids.
    pub ids: IdGenerator,
    /// Metrics of requests.
    pub metrics: Arc<metrics::HttpMetrics>,
    /// Registry of all metrics, in which each service registers its own before it is shared.
    pub registry: Arc<Registry>,
    /// Accepted API keys.
    pub keyring: Arc<Keyring>,
    /// Rate limiter; `None` when switched off.
    pub limiter: Option<Arc<rate_limit::CallerRateLimiter>>,
    /// Refusals of requests by key.
    pub refusals: refusals::RefusalWatch,
    /// Turns of requests.
    pub turns: request_turns::RequestTurns,
    /// Readiness of the service.
    pub readiness: Readiness,
    /// OpenAPI document as sent; set when the routes are built, unless it was set before.
    pub openapi: OnceLock<Bytes>,
    /// Names of members and parameters that operations know; set with the document.
    pub known_names: OnceLock<known_names::KnownNames>,
}

impl HttpState {
    /// Create the state from `parts`.
    pub fn new(parts: HttpStateParts) -> Self {
        let browser_rules = browser_rules::BrowserRules::new(&parts.config);
        Self(Arc::new(HttpStateInner { parts, browser_rules }))
    }
}

impl HttpState {
    /// Return the rules for requests of browsers and proxies.
    pub fn browser_rules(&self) -> &browser_rules::BrowserRules {
        &self.0.browser_rules
    }
}

impl Deref for HttpState {
    type Target = HttpStateParts;

    fn deref(&self) -> &HttpStateParts {
        &self.0.parts
    }
}
