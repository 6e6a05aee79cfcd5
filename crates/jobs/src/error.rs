//! Errors of jobs.

use am_core::validation::Violation;

/// Error of a job operation.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
    /// A budget has no room for it, or the ledger failed.
    #[error(transparent)]
    Ledger(#[from] am_ledger::LedgerError),
    /// There is no such job.
    #[error("Job not found")]
    NotFound,
    /// The state of the job forbids the operation; the text is shown to the client.
    #[error("{0}")]
    InvalidState(String),
    /// The caller has as many open jobs as it may have.
    #[error("{setting}: {most} of your jobs have not ended; more may be submitted when some have")]
    QuotaReached {
        /// Name of the setting that bounds them.
        setting: &'static str,
        /// Number that may be open at once.
        most: i64,
    },
    /// The request has faults; the value lists all of them.
    #[error("the request has {} faults", .0.len())]
    Invalid(Vec<Violation>),
}

/// Result of a job operation.
pub type Result<T> = std::result::Result<T, JobError>;
