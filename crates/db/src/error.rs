//! What can go wrong with the database, told apart by what a caller can do about it.

/// A result of the database.
pub type Result<T> = std::result::Result<T, Error>;

/// A database error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process held the lock for too long; nothing was written, the same call may succeed later.
    #[error("the database is busy")]
    Busy,
    /// The disk is full; nothing was written.
    #[error("the disk of the database is full")]
    Full,
    /// The writer has stopped; whether queued work was written is unknown to its caller.
    #[error("the database is closing")]
    Stopped,
    /// A write whose durability is unknown (a failed fsync): nothing is acknowledged, the process must exit.
    #[error("the database failed while writing: {0}")]
    Indeterminate(String),
    /// A value in the database that can't be read as its column says.
    #[error("unreadable value: {0}")]
    Unreadable(String),
    /// A constraint was violated: a key that exists already.
    #[error("already there: {0}")]
    Duplicate(String),
    /// The same idempotency key came with another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The schema that stands does not fit.
    #[error("the database does not fit: {0}")]
    Schema(String),
    /// The SQLite library is too old.
    #[error("SQLite {0} can corrupt a database that two processes write in WAL mode; 3.51.3 or later is needed")]
    Version(String),
    /// A bug in a piece of write work.
    #[error("a write panicked")]
    Panicked,
    /// Anything else.
    #[error(transparent)]
    Other(sqlx::Error),
}

/// SQLite's primary result codes that are told apart.
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
