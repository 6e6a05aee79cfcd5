//! The service from outside.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what goes wrong in a test's helper fails the test, and is told there"
)]

#[expect(dead_code, reason = "each test uses its part")]
mod harness;
mod jq;
mod nginx;
mod readme;
mod smoke;
