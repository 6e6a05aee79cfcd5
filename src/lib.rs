//! The agent service of the AITBC marketplace: agent workflows that run durably on the coordinator's database.
//!
//! The rooms, from the top floor down; a room uses rooms on lower floors only (docs/ARCHITECTURE.md):

/// What everything shares, built once from the configuration.
pub mod app;
/// Signals, two-stage shutdown, readiness, `sd_notify`.
pub mod lifecycle;

/// What all routes share: layers, errors, authentication, extractors, pages, OpenAPI, metrics.
pub mod http;
/// Log lines on their way out.
pub mod logging;
/// The six groups of routes; per resource one file with request, response, handler.
pub mod routes;

/// Workflow definitions, the engine that runs them, budgets, receipts and networks of agents.
pub mod orchestration;

/// Agents that talk: messages, channels, delivery; how they are sealed, who may write to whom, what it costs.
pub mod communication;

/// The coordinator's job queue, where miners take their work from.
pub mod jobs;
/// Reinforcement-learning policies, answered through libtorch.
pub mod rl;
/// What keeps agents from doing harm: policies, trust, sandboxes.
pub mod security;

/// API keys that are made, rotated and taken back while the service runs.
pub mod keys;

/// The audit log: appended with each change, sealed in a Merkle tree with signed heads.
pub mod audit;
/// Durable event streams: appended with the change they tell of, read again from any point.
pub mod events;
/// Signed calls to whoever wants to hear of events, kept until they are delivered.
pub mod webhooks;

/// Time, randomness and identifiers, injected so that tests can set them.
pub mod ambient;
/// Defaults, then file, then environment; secrets typed as secrets.
pub mod config;
/// Canonical JSON, keys, signatures.
pub mod crypto;
/// The database: pools, the one writer, codecs for the coordinator's formats, migrations and their adoption.
pub mod db;
/// Which addresses are out on the Internet, and a client that reaches no other.
pub mod net;

/// A named point where the tests that kill a real process do so (feature `failpoints`; docs/FAILURES.md).
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        fail::eval($name, |_| $crate::ambient::kill_self());
    };
}
