//! Database errors, distinguished by how a caller can react.

/// Result of a database operation.
pub type Result<T> = std::result::Result<T, DatabaseError>;

/// Error of a database operation.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Another process held the lock for too long. Nothing was written; the same call may succeed later.
    #[error("the database is busy")]
    Busy,
    /// A statement took longer than one may. Nothing was written.
    #[error("the database took too long to answer")]
    TimedOut,
    /// The disk is full. Nothing was written.
    #[error("the disk of the database is full")]
    DiskFull,
    /// The writer has stopped. Whether queued work was written is unknown to its caller.
    #[error("the database is shutting down")]
    WriterStopped,
    /// The durability of a write is unknown (a failed fsync). Nothing is acknowledged and the process must exit.
    #[error("the database failed while writing: {0}")]
    Indeterminate(String),
    /// A stored value that does not have its column's type; the text describes it.
    #[error("invalid stored value: {0}")]
    InvalidValue(String),
    /// A constraint was violated: the key exists already.
    #[error("duplicate: {0}")]
    Duplicate(String),
    /// The idempotency key was used before, for another request.
    #[error("the idempotency key was used for another request")]
    IdempotencyKeyReused,
    /// The existing schema does not have the expected tables or columns; the text names them.
    #[error("the database schema does not match: {0}")]
    SchemaMismatch(String),
    /// The SQLite library is too old; the value is its version.
    #[error("SQLite {0} can corrupt a database that two processes write in WAL mode; 3.51.3 or later is needed")]
    UnsupportedSqlite(String),
    /// The closure of a write panicked, which is a bug.
    #[error("a write panicked")]
    WritePanicked,
    /// Any other error of the database.
    #[error(transparent)]
    Other(sqlx::Error),
}

/// SQLite's primary result codes that are handled separately.
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_INTERRUPT: u32 = 9;
const SQLITE_IOERR: u32 = 10;
const SQLITE_CORRUPT: u32 = 11;
const SQLITE_FULL: u32 = 13;

impl From<sqlx::Error> for DatabaseError {
    fn from(error: sqlx::Error) -> Self {
        let code = match &error {
            sqlx::Error::Database(inner) => {
                inner.code().and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff)
            }
            sqlx::Error::PoolTimedOut => return Self::Busy,
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => return Self::WriterStopped,
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => return Self::InvalidValue(error.to_string()),
            _ => None,
        };
        match code {
            Some(SQLITE_BUSY | SQLITE_LOCKED) => Self::Busy,
            Some(SQLITE_INTERRUPT) => Self::TimedOut,
            Some(SQLITE_FULL) => Self::DiskFull,
            Some(SQLITE_IOERR | SQLITE_CORRUPT) => Self::Indeterminate(error.to_string()),
            _ => match &error {
                sqlx::Error::Database(inner) if inner.is_unique_violation() => {
                    Self::Duplicate(inner.message().to_owned())
                }
                _ => Self::Other(error),
            },
        }
    }
}
