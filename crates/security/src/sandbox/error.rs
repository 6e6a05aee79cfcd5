//! What can go wrong with a sandbox.

/// An error of the sandboxes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
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
    /// This host does not enforce what the level demands.
    #[error("this host can't hold such a sandbox: {0}")]
    Unenforced(String),
    /// The command may not run there.
    #[error("{0}")]
    Command(String),
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// The sandbox could not be set up.
    #[error("the sandbox could not be started: {0}")]
    Start(String),
    /// The file system.
    #[error("{0}: {1}")]
    Storage(String, std::io::Error),
    /// The database.
    #[error(transparent)]
    Db(#[from] am_db::Error),
}

/// A result of the sandboxes.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Something wrong with the member `name`.
    pub fn invalid(name: &str, message: impl Into<String>) -> Self {
        Self::Invalid { path: vec![name.to_owned()], message: message.into() }
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
