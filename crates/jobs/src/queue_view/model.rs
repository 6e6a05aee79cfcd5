//! What a read of the queue finds.

use chrono::{DateTime, Utc};

use crate::model::JobState;
use am_core::ids::JobId;

/// A job that was found open, or whose end has yet to be reported.
pub(crate) struct FoundJob {
    pub(crate) id: JobId,
    /// Row number of the job.
    pub(crate) rowid: i64,
    /// State of the job; `None` when this service does not know it.
    pub(crate) state: Option<JobState>,
    pub(crate) requested_at: DateTime<Utc>,
    pub(crate) expires_at: DateTime<Utc>,
    /// Whether a client submitted the job, so that its end must be reported.
    pub(crate) ours: bool,
}

/// Change of a job since the last read.
#[derive(Clone, Debug)]
pub(crate) struct JobChange {
    pub(crate) id: JobId,
    /// New state; `None` when this service does not know it.
    pub(crate) state: Option<JobState>,
    /// Whether the row is missing.
    pub(crate) gone: bool,
}

/// What is known of the queue before a read.
pub(crate) struct KnownJobs {
    /// Row number up to which the table was read; 0 before the first read.
    pub(crate) last: i64,
    /// Whether the table was read at least once.
    pub(crate) begun: bool,
    /// Open jobs by their state.
    pub(crate) open: [(Vec<JobId>, JobState); 2],
}

/// What one read of the coordinator's table found.
pub(crate) struct QueueReading {
    /// Row number up to which the table was read.
    pub(crate) top: i64,
    /// Jobs in rows that were not read before.
    pub(crate) fresh: Vec<FoundJob>,
    /// Changes of known jobs.
    pub(crate) news: Vec<JobChange>,
}
