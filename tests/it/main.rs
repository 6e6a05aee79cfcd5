//! The service from outside.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what goes wrong in a test's helper fails the test, and is told there"
)]

#[cfg(feature = "failpoints")]
mod crash;
mod engine;
#[expect(dead_code, reason = "each test uses its part")]
mod harness;
mod jobs;
mod jq;
mod nginx;
mod peer;
mod readme;
mod smoke;
