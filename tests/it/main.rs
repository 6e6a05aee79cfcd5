//! The service from outside.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what goes wrong in a test's helper fails the test")]

mod jq;
