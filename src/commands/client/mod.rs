//! Commands that ask a running service over HTTP.

mod bulk_runs;
mod following;
pub mod jobs;
mod listing;
mod run_progress;
pub mod runs;
mod service_client;
pub mod status;
pub mod workflows;

pub use service_client::ServiceArguments;
