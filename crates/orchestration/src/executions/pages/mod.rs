//! Pages of executions.

mod store;

pub use store::list;
