//! Pages of workflows.

mod store;

pub use store::list;
