//! The agent service of the AITBC marketplace: agent workflows that run durably on the coordinator's database.
//!
//! This package is the service as it is started: configuration read, everything put together, HTTP. What it serves
//! stands in the crates below `crates/` (docs/ARCHITECTURE.md).

/// What everything shares, built once from the configuration.
pub mod app;
/// What all routes share: layers, errors, authentication, extractors, pages, OpenAPI, metrics.
pub mod http;
/// Signals, two-stage shutdown, readiness.
pub mod lifecycle;
/// Log lines on their way out.
pub mod logging;
/// The six groups of routes; per resource one file with request, response, handler.
pub mod routes;
/// Notifications to systemd.
pub mod service_manager;

/// Commit from which the executable was built; `unknown`: it was not told.
pub const BUILD_COMMIT: &str = env!("BUILD_COMMIT");
/// Version, commit and compiler of the executable, for people.
pub const BUILD_TEXT: &str =
    concat!(env!("CARGO_PKG_VERSION"), "\ncommit ", env!("BUILD_COMMIT"), "\n", env!("BUILD_COMPILER"));
