//! Errors of the RL crate, apart from those of answering ([`ActError`]).

use super::{environments, export::ExportError, model::ActError, network::LoadError, training};
use am_core::validation::{self, FieldPath, Violation};

/// Error of policies, learning and training runs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The requested item does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The item belongs to another owner.
    #[error("{0}")]
    Forbidden(String),
    /// The input is invalid.
    #[error("{}", validation::join(.0))]
    Invalid(Vec<Violation>),
    /// The present state does not allow the operation.
    #[error("{0}")]
    State(String),
    /// A policy did not answer.
    #[error(transparent)]
    Act(#[from] ActError),
    /// A training run failed.
    #[error(transparent)]
    Training(#[from] training::Error),
    /// A file could not be read or written: path, and the system's error.
    #[error("{0}: {1}")]
    Storage(String, std::io::Error),
    /// A database error.
    #[error(transparent)]
    Db(#[from] am_db::Error),
}

/// Result of operations of the RL crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Report an invalid member `name`.
    pub fn invalid(name: &str, message: impl Into<String>) -> Self {
        Self::at([name], message)
    }

    /// Something wrong with the value at `path`.
    pub fn at(path: impl Into<FieldPath>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(path, message)])
    }

    /// Convert an error of learning from feedback: invalid input stays invalid input, everything else is internal.
    pub fn of_lesson(error: training::Error) -> Self {
        match error {
            training::Error::Setting { name, reason } => Self::invalid(name, reason),
            other => Self::Training(other),
        }
    }

    /// Convert an error of a training plan: invalid input stays invalid input, everything else is internal.
    pub fn of_plan(error: training::Error) -> Self {
        match error {
            training::Error::Setting { name, reason } => match reason.split_once(": ") {
                Some((inner, reason)) if name == "settings" => Self::at([name, inner], reason),
                _ if matches!(name, "settings" | "steps" | "algorithm") => Self::invalid(name, reason),
                _ => Self::at(["settings", name], reason),
            },
            training::Error::Environment(error @ environments::Error::Unknown { .. }) => {
                Self::invalid("environment", error.to_string())
            }
            training::Error::Environment(error) => Self::invalid("parameters", error.to_string()),
            other => Self::Training(other),
        }
    }
}

impl From<Violation> for Error {
    fn from(violation: Violation) -> Self {
        Self::Invalid(vec![violation])
    }
}

impl From<Vec<Violation>> for Error {
    fn from(violations: Vec<Violation>) -> Self {
        Self::Invalid(violations)
    }
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        Self::Act(error.into())
    }
}

impl From<ExportError> for Error {
    fn from(error: ExportError) -> Self {
        Self::Act(match error {
            ExportError::Load(error) => error.into(),
            other => ActError::Runtime(other.to_string()),
        })
    }
}

/// Report a JSON text in the database that does not have the expected form.
pub(super) fn unreadable(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Db(am_db::Error::Unreadable(format!("{what}: {error}")))
}
