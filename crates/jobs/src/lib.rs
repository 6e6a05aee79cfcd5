//! The coordinator's job queue. Rows are written so that the coordinator hands them to miners unchanged. Their changes
//! are found by watching the database for commits, not by scanning.

mod error;
mod estimate;
mod job_queue;
mod job_stream;
mod job_waits;
mod metrics;
mod miner_payload;
mod model;
mod outcome;
mod pages;
mod queue_clock;
mod queue_sweep;
mod queue_view;
mod queue_watcher;
mod request;
mod service;
mod shown_names;
mod store;

pub use error::{JobError, Result};
pub use estimate::JobEstimate;
pub use job_queue::{JobQueue, JobSettings};
pub use job_stream::{JobFollower, JobFrame, JobFrameKind};
pub use job_waits::JobWait;
pub use model::{JobFilter, JobRecord, JobService, JobState, JobViewer, MinerConstraints, NewJob, llm_vram_gb};
pub use outcome::{JobCost, JobOutcome};
pub use queue_clock::settle_clock;
pub use request::{
    BlenderRequest, FfmpegRequest, LlmRequest, RequestVariant, StableDiffusionRequest, WhisperRequest, service_schema,
};
pub use service::{AcceptedJob, CanceledJob, JobSubmission, OpenJobLimit};
pub use shown_names::ShownNames;
pub use store::{cancel_queued, enqueue, may_cost};
