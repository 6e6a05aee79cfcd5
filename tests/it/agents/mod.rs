//! The agents group through HTTP, as its clients meet it.

pub mod bulk;
mod contract;
mod dispatch;
mod executions;
mod figures;
mod idempotency;
pub mod kept_lists;
mod list_filters;
mod lists;
mod networks;
mod plan_races;
pub mod plans;
mod receipts;
pub mod refusals;
pub mod registry;
mod validation;
mod workflows;

pub use contract::conforms;
