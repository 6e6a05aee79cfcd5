//! Rows of instances.

pub(crate) mod model;
pub(crate) mod store;
