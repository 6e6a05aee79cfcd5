//! Errors of performance.

use am_core::validation::{self, Violation};

/// Error of an operation on the performance of agents.
#[derive(Debug, thiserror::Error)]
pub enum PerformanceError {
    /// It does not exist, or the caller may not see it; the text is shown to the client.
    #[error("{0}")]
    NotFound(String),
    /// The request has faults.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// What there is forbids the action: a stable code, and a text that is shown to the client.
    #[error("{1}")]
    Conflict(&'static str, String),
    /// What was asked for is not available; the text is shown to the client.
    #[error("{0}")]
    Unavailable(String),
    /// The computation's thread ended without an answer.
    #[error("the computation ended without an answer")]
    Interrupted,
    /// Background work could not be queued.
    #[error(transparent)]
    Background(#[from] am_background::WorkError),
    /// A policy or its training refuses.
    #[error(transparent)]
    Rl(#[from] am_rl::RlError),
    /// A workflow or an execution refuses.
    #[error(transparent)]
    Orchestration(#[from] am_orchestration::error::OrchestrationError),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
}

/// Result of an operation on the performance of agents.
pub type Result<T> = std::result::Result<T, PerformanceError>;

impl PerformanceError {
    /// One fault of one member.
    pub(crate) fn invalid(member: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(member, message)])
    }
}
