//! Database errors, distinguished by how a caller can react.

/// Result of a database operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Error of a database operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process held the lock for too long. Nothing was written; the same call may succeed later.
    #[error("the database is busy")]
    Busy,
    /// The disk is full. Nothing was written.
    #[error("the disk of the database is full")]
    Full,
    /// The writer has stopped. Whether queued work was written is unknown to its caller.
    #[error("the database is shutting down")]
    Stopped,
    /// The durability of a write is unknown (a failed fsync). Nothing is acknowledged and the process must exit.
    #[error("the database failed while writing: {0}")]
    Indeterminate(String),
    /// A stored value that does not have its column's type; the text describes it.
    #[error("invalid stored value: {0}")]
    Unreadable(String),
    /// A constraint was violated: the key exists already.
    #[error("duplicate: {0}")]
    Duplicate(String),
    /// The idempotency key was used before, for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The existing schema does not have the expected tables or columns; the text names them.
    #[error("the database schema does not match: {0}")]
    Schema(String),
    /// The SQLite library is too old; the value is its version.
    #[error("SQLite {0} can corrupt a database that two processes write in WAL mode; 3.51.3 or later is needed")]
    Version(String),
    /// The closure of a write panicked, which is a bug.
    #[error("a write panicked")]
    Panicked,
    /// Any other error of the database.
    #[error(transparent)]
    Other(sqlx::Error),
}

/// SQLite's primary result codes that are handled separately.
const BUSY: u32 = 5;
const LOCKED: u32 = 6;
const IOERR: u32 = 10;
const CORRUPT: u32 = 11;
const FULL: u32 = 13;

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(inner) => {
                inner.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff)
            }
            sqlx::Error::PoolTimedOut => return Self::Busy,
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => return Self::Stopped,
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => return Self::Unreadable(error.to_string()),
            _ => None,
        };
        match code {
            Some(BUSY | LOCKED) => Self::Busy,
            Some(FULL) => Self::Full,
            Some(IOERR | CORRUPT) => Self::Indeterminate(error.to_string()),
            _ => match &error {
                sqlx::Error::Database(inner) if inner.is_unique_violation() => {
                    Self::Duplicate(inner.message().to_owned())
                }
                _ => Self::Other(error),
            },
        }
    }
}
