//! What can go wrong in this room, beyond an answer that can't be given ([`ActError`]).

use super::{environments, export::ExportError, model::ActError, network::LoadError, training};

/// An error of the RL room.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// It is another owner's.
    #[error("{0}")]
    Forbidden(String),
    /// Something that was sent is wrong.
    #[error("{}: {message}", .path.join("."))]
    Invalid {
        /// The way to it.
        path: Vec<String>,
        /// What is wrong with it.
        message: String,
    },
    /// The state forbids the action.
    #[error("{0}")]
    State(String),
    /// A policy did not answer.
    #[error(transparent)]
    Act(#[from] ActError),
    /// Training failed.
    #[error(transparent)]
    Training(#[from] training::Error),
    /// The file system.
    #[error("{0}: {1}")]
    Storage(String, std::io::Error),
    /// The database.
    #[error(transparent)]
    Db(#[from] am_db::Error),
}

/// A result of the RL room.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Something wrong with the member `name`.
    pub fn invalid(name: &str, message: impl Into<String>) -> Self {
        Self::Invalid { path: vec![name.to_owned()], message: message.into() }
    }

    /// What learning refused of what was sent; everything else is its own fault.
    pub fn of_lesson(error: training::Error) -> Self {
        match error {
            training::Error::Setting { name, reason } => Self::invalid(name, reason),
            other => Self::Training(other),
        }
    }

    /// What training refused of what was sent; everything else is its own fault.
    pub fn of_plan(error: training::Error) -> Self {
        match error {
            training::Error::Setting { name, reason } => match reason.split_once(": ") {
                Some((inner, reason)) if name == "settings" => {
                    Self::Invalid { path: vec![name.to_owned(), inner.to_owned()], message: reason.to_owned() }
                }
                _ if matches!(name, "settings" | "steps" | "algorithm") => Self::invalid(name, reason),
                _ => Self::Invalid { path: vec!["settings".to_owned(), name.to_owned()], message: reason },
            },
            training::Error::Environment(error @ environments::Error::Unknown { .. }) => {
                Self::invalid("environment", error.to_string())
            }
            training::Error::Environment(error) => Self::invalid("parameters", error.to_string()),
            other => Self::Training(other),
        }
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

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Db(error.into())
    }
}

/// A JSON text in the database that has another shape than its writer promised.
pub(super) fn unreadable(what: &str, error: impl std::fmt::Display) -> Error {
    Error::Db(am_db::Error::Unreadable(format!("{what}: {error}")))
}
