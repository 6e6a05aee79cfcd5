//! The coordinator's job queue. Rows are written so that the coordinator hands them to miners unchanged. Their changes
//! are found by watching the database for commits, not by scanning.

mod clients;
mod error;
mod estimate;
mod follow;
mod metrics;
mod model;
mod open;
mod request;
mod store;
mod watch;

pub use clients::{Accepted, Canceled, Filter, Job, Order, Who};
pub use error::{Error, Result};
pub use estimate::Estimate;
pub use follow::{Following, Frame};
pub use model::{Constraints, Finished, JobState, NewJob, Service, llm_vram_gb};
pub use request::{BlenderRequest, FfmpegRequest, LlmRequest, StableDiffusionRequest, Variant, WhisperRequest, schema};
pub use store::{enqueue, take_back};
pub use watch::{Jobs, Settings};
