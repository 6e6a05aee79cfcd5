//! What all routes share: one middleware, errors, authentication, extractors, pages, OpenAPI, metrics.
//!
//! A request's way: [`prefix`] makes the path canonical, the router finds the route, [`middleware`] gives it an id
//! and an identity and watches over it, the extractors validate it, and whatever goes wrong is an [`ApiError`].

/// Who calls: keys, principals, roles.
pub mod caller;
/// Identity of one request: its id, its trace, its caller.
pub mod context;
/// Cross-origin rules.
pub mod cors;
/// The one shape of an error.
pub mod error;
/// Versions of a resource and conditions on them.
pub mod etag;
/// `Json`, `Query` and `Path` whose rejections have the one shape of an error.
pub mod extract;
/// Idempotency keys and request fingerprints.
pub mod idempotency;
/// Rate limits.
pub mod limit;
/// Requests, latencies, the process: what a scrape sees.
pub mod metrics;
/// The one middleware.
pub mod middleware;
/// The OpenAPI document and the page that shows it.
pub mod openapi;
/// Lists that page by keyset or by offset.
pub mod page;
/// Aliases of paths.
pub mod prefix;
/// Whether the service can take requests.
pub mod ready;
/// Server-Sent Events.
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

/// What the HTTP floor needs of the application, which holds it and hands it out by `FromRef`. One pointer to clone.
#[derive(Clone)]
pub struct Shared(Arc<Parts>);

/// The content of [`Shared`].
pub struct Parts {
    /// What the operator set.
    pub config: Arc<Config>,
    /// The time.
    pub clock: Clock,
    /// Where request and trace ids come from.
    pub ids: Ids,
    /// Requests, latencies, refusals.
    pub metrics: Arc<metrics::HttpMetrics>,
    /// Everything that a scrape shows; each room registers its own in it before it is shared.
    pub registry: Arc<Registry>,
    /// Who may call.
    pub keyring: Arc<Keyring>,
    /// Requests a window and caller; none when switched off.
    pub limiter: Option<Arc<limit::Limiter>>,
    /// Whether the service can take requests.
    pub readiness: Readiness,
    /// The OpenAPI document as it is sent, filled when the routes are put together.
    pub openapi: OnceLock<Bytes>,
}

impl Shared {
    /// Shares `parts`.
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
