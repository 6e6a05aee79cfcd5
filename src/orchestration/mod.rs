//! Workflow definitions, the engine that runs them, budgets, receipts and networks of agents.

pub mod action;
mod command;
mod dag;
pub mod definition;
pub mod engine;
pub mod error;
pub mod executions;
pub mod guard;
mod hooks;
pub mod jq;
pub mod mapping;
pub mod model;
pub mod networks;
pub mod receipts;
pub mod review;
pub mod schema;
mod template;
pub mod workflows;
