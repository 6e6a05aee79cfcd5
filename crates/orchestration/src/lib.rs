//! Orchestration: workflow definitions and the engine that runs them, budgets and receipts, networks of agents, the
//! registry of agents, and plans and assignments for them.

pub mod action;
mod agent_step;
pub mod agents;
pub mod assignments;
pub mod bulk;
mod command_step;
mod dag;
pub mod definition;
pub mod directory;
pub mod engine;
pub mod error;
mod event_kinds;
pub mod executions;
pub mod guard;
mod http_step;
pub mod jq;
mod json_path;
pub mod mapping;
pub mod model;
pub mod networks;
pub mod plans;
pub mod receipts;
pub mod registry;
pub mod review;
pub mod run;
mod template;
pub mod workflows;
