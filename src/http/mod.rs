//! The HTTP layer shared by all routes: middleware, errors, authentication, extractors, pagination, OpenAPI, metrics.
//!
//! Path of a request: [`prefix`] rewrites aliases, the router finds the route, [`middleware`] adds id, identity and
//! limits, the extractors validate, and every error is an [`ApiError`].

/// Authentication: keys, principals, roles.
pub mod caller;
/// Context of a request: id, trace, caller.
pub mod context;
/// Cross-origin rules for browsers.
pub mod cors;
/// Common form of errors.
pub mod error;
/// Entity tags and conditional requests.
pub mod etag;
/// `Json`, `Query` and `Path` whose rejections have the common form of errors.
pub mod extract;
/// Idempotency keys and request fingerprints.
pub mod idempotency;
/// Rate limits per caller.
pub mod limit;
/// Prometheus metrics of requests and the process.
pub mod metrics;
/// Middleware around each route.
pub mod middleware;
/// OpenAPI document and the page that shows it.
pub mod openapi;
/// Pagination of lists by keyset or by offset.
pub mod page;
/// Rewriting of path aliases.
pub mod prefix;
/// Readiness of the service.
pub mod ready;
/// Streams of Server-Sent Events.
pub mod sse;

#[cfg(test)]
mod tests;

use std::{
    ops::Deref,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use prometheus_client::registry::Registry;

pub use caller::{Admin, AnyKey, Caller, ClientKey, Keyring, Role};
pub use context::RequestContext;
pub use error::{ApiError, FieldError};
pub use extract::{Json, Path, Query, Raw};
pub use ready::Readiness;

use am_core::{
    ambient::{Clock, Ids},
    config::Config,
};

/// State of the HTTP layer, which the application holds and hands out by `FromRef`. Cloning copies one pointer.
#[derive(Clone)]
pub struct Shared(Arc<Parts>);

/// Content of [`Shared`].
pub struct Parts {
    /// Configuration of the service.
    pub config: Arc<Config>,
    /// Source of the time.
    pub clock: Clock,
    /// Source of request and trace ids.
    pub ids: Ids,
    /// Metrics of requests.
    pub metrics: Arc<metrics::HttpMetrics>,
    /// Registry of all metrics, in which each service registers its own before it is shared.
    pub registry: Arc<Registry>,
    /// Accepted API keys.
    pub keyring: Arc<Keyring>,
    /// Rate limiter; `None` when switched off.
    pub limiter: Option<Arc<limit::Limiter>>,
    /// Readiness of the service.
    pub readiness: Readiness,
    /// OpenAPI document as sent; set when the routes are built.
    pub openapi: OnceLock<Bytes>,
}

impl Shared {
    /// Create the state from `parts`.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Shared {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
