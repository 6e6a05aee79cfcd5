//! Kinds of events of training runs.

/// Kind of an event of a training run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrainingEventKind {
    /// Waits for a process to train it.
    Queued,
    /// Began to be trained.
    Started,
    /// Went on being trained.
    Resumed,
    /// Began anew, because it could not go on from where it was.
    Restarted,
    /// Made progress since the event before.
    Progress,
    /// Its process let go of it before its end.
    Released,
    /// Paused on request.
    Paused,
    /// Ended with a version of its policy.
    Completed,
    /// Ended by an error.
    Failed,
    /// Ended on request.
    Cancelled,
}

impl TrainingEventKind {
    /// The stored and shown form.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Started => "started",
            Self::Resumed => "resumed",
            Self::Restarted => "restarted",
            Self::Progress => "progress",
            Self::Released => "released",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}
