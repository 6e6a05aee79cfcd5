//! The service from outside.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test's helper fails the test")]

#[expect(dead_code, reason = "each test uses its part")]
mod harness;
mod jq;
mod nginx;
mod smoke;
