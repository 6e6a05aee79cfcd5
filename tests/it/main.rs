//! The service from outside.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test's helper fails the test")]

#[cfg(feature = "failpoints")]
mod crash;
mod engine;
#[expect(dead_code, reason = "each test uses its part")]
mod harness;
mod jobs;
mod jq;
mod nginx;
mod peer;
mod smoke;
