//! Workflow definitions, the engine that runs them, budgets, receipts and networks of agents.

pub mod jq;
pub mod mapping;
pub mod schema;
