//! The coordinator's job queue. Rows are written so that the coordinator hands them to miners unchanged; what it
//! makes of them is noticed by watching the database for commits, not by scanning.

mod model;
mod store;
mod watch;

pub use model::{Constraints, Finished, JobState, NewJob, Service, llm_vram_gb};
pub use store::{enqueue, take_back};
pub use watch::Jobs;
