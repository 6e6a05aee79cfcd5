//! Pages of jobs.

mod store;

pub(crate) use store::list;
