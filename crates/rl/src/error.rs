//! Errors of the RL crate, apart from those of answering ([`ActError`]).

use super::{environments, export::ExportError, model::ActError, network::LoadError, training};
use am_core::validation::{self, FieldPath, Violation};

/// Error of policies, learning and training runs.
#[derive(Debug, thiserror::Error)]
pub enum RlError {
    /// The requested item does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The item belongs to another owner.
    #[error("{0}")]
    Forbidden(String),
    /// The input is invalid.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// Something else uses the item.
    #[error("{0}")]
    InUse(String),
    /// The present state does not allow the operation.
    #[error("{0}")]
    InvalidState(String),
    /// The caller has as much as its quota allows.
    #[error("{0}")]
    Quota(String),
    /// A policy did not answer.
    #[error(transparent)]
    Act(#[from] ActError),
    /// A training run failed.
    #[error(transparent)]
    Training(#[from] training::TrainingError),
    /// A file could not be read or written: path, and the system's error.
    #[error("{0}: {1}")]
    Storage(String, std::io::Error),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::DatabaseError),
}

/// Result of operations of the RL crate.
pub type Result<T> = std::result::Result<T, RlError>;

impl RlError {
    /// Report an invalid member `name`.
    pub fn invalid(name: &str, message: impl Into<String>) -> Self {
        Self::at([name], message)
    }

    /// Something wrong with the value at `path`.
    pub fn at(path: impl Into<FieldPath>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(path, message)])
    }

    /// Convert an error of learning from feedback: invalid input stays invalid input, everything else is internal.
    pub fn from_feedback_error(error: training::TrainingError) -> Self {
        match error {
            training::TrainingError::Setting { name, reason } => Self::invalid(name, reason),
            other => Self::Training(other),
        }
    }

    /// Convert an error of a training plan: invalid input stays invalid input, everything else is internal.
    pub fn from_plan_error(error: training::TrainingError) -> Self {
        match error {
            training::TrainingError::Setting { name, reason } => match reason.split_once(": ") {
                Some((inner, reason)) if name == "settings" => Self::at([name, inner], reason),
                _ if matches!(name, "settings" | "steps" | "algorithm") => Self::invalid(name, reason),
                _ => Self::at(["settings", name], reason),
            },
            training::TrainingError::Environment(error @ environments::EnvironmentError::Unknown { .. }) => {
                Self::invalid("environment", error.to_string())
            }
            error @ training::TrainingError::Environment(
                environments::EnvironmentError::Bridge(_) | environments::EnvironmentError::BridgeGone(_),
            ) => Self::Training(error),
            training::TrainingError::Environment(error) => Self::invalid("parameters", error.to_string()),
            other => Self::Training(other),
        }
    }
}

impl From<Violation> for RlError {
    fn from(violation: Violation) -> Self {
        Self::Invalid(vec![violation])
    }
}

impl From<Vec<Violation>> for RlError {
    fn from(violations: Vec<Violation>) -> Self {
        Self::Invalid(violations)
    }
}

impl From<LoadError> for RlError {
    fn from(error: LoadError) -> Self {
        Self::Act(error.into())
    }
}

impl From<ExportError> for RlError {
    fn from(error: ExportError) -> Self {
        Self::Act(match error {
            ExportError::Load(error) => error.into(),
            other => ActError::Runtime(other.to_string()),
        })
    }
}

/// Report a JSON text in the database that does not have the expected form.
pub(super) fn corrupt_json_error(what: &str, error: impl std::fmt::Display) -> RlError {
    RlError::Db(am_db::DatabaseError::InvalidValue(format!("{what}: {error}")))
}
