//! The service from outside.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what goes wrong in a test's helper fails the test, and is told there"
)]

mod access;
mod agents;
mod coordinator;
#[expect(dead_code, reason = "each test uses its part")]
mod harness;
mod jq;
mod kit;
mod nginx;
mod operation;
mod smoke;
mod walls;
