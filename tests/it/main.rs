//! The service from outside.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what goes wrong in a test's helper fails the test, and is told there"
)]

/// As the service has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod access;
mod agent_keys;
mod agents;
mod architecture;
mod audit;
mod audit_keys;
mod audit_witness;
mod circles;
mod cli;
mod coordinator;
#[cfg(feature = "failpoints")]
mod crash;
mod creativity;
mod deletion;
mod deployment;
mod engine;
mod exports;
mod former_members;
mod guides;
mod harness;
mod jobs;
mod jq;
mod keys;
mod kit;
mod ledger;
mod marketplace;
mod messages;
#[cfg(feature = "failpoints")]
mod models;
mod monitoring;
mod naming;
mod nginx;
mod numbers;
mod openapi;
mod operation;
mod owners;
mod peer;
mod performance;
mod portfolio;
mod proofs;
mod python_client;
mod query_plans;
mod readme;
mod redact;
mod relations;
mod retention;
mod rl;
mod security;
mod services;
mod smoke;
mod sources;
mod statements;
mod tour;
mod two_apps;
mod upstream;
mod webhooks;
