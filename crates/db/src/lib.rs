//! The database: one SQLite file that the coordinator reads and writes at the same time.
//!
//! Reads go through a pool of read-only connections, writes through the one writer ([`Database::write`]), which
//! commits what waits together. Codecs for the coordinator's formats stand in [`codec`]; no room sees its text.

pub mod batch;
pub mod codec;
mod connect;
mod error;
mod metrics;
mod migrate;
pub mod once;
pub mod owner;
pub mod page;
pub mod principal;
pub mod raw;
mod readers;
pub mod rows;
mod work;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tokio::sync::watch;

pub use error::{Error, Result};
pub use migrate::{Report, check, has_table, migrate};
pub use readers::Reader;
pub use writer::Tx;

/// The one name of the database type; rooms write `sqlx::query_as::<Db, _>`.
pub type Db = sqlx::Sqlite;
/// A row of a result.
pub type Row = sqlx::sqlite::SqliteRow;
/// A connection, reading or writing.
pub type Connection = sqlx::SqliteConnection;

/// How the database is opened.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Read-only connections.
    pub readers: u32,
    /// How long a write waits for another process's lock before it answers [`Error::Busy`].
    pub busy_timeout: Duration,
}

/// The open database. Cheap to clone.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    readers: readers::Readers,
    writer: writer::Writer,
    metrics: Arc<metrics::Metrics>,
    path: std::path::PathBuf,
}

impl Database {
    /// Open `path` (made if missing). The schema is not touched: see [`migrate`].
    ///
    /// # Errors
    /// When the file can't be opened or the SQLite library is one that can corrupt a shared WAL database.
    pub async fn open(path: &Path, settings: &Settings) -> Result<Self> {
        let metrics = Arc::new(metrics::Metrics::default());
        let conn = connect::writing(path).await?;
        connect::check_version(&conn).await?;
        let readers = readers::Readers::open(path, settings.readers).await?;
        let writer = writer::Writer::start(conn, settings.busy_timeout, metrics.clone())?;
        Ok(Self(Arc::new(Inner { readers, writer, metrics, path: path.to_owned() })))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// A read-only connection. Hold it briefly: a reader that keeps its snapshot makes the WAL grow.
    ///
    /// # Errors
    /// [`Error::Busy`] when none is free in time.
    pub async fn read(&self) -> Result<Reader> {
        let waited = std::time::Instant::now();
        let conn = self.0.readers.get().await?;
        self.0.metrics.reader_wait.observe(waited.elapsed().as_secs_f64());
        Ok(conn)
    }

    /// Run `work` in a write transaction and answer when it is durable. Work that is queued at the same moment
    /// commits together, each in a savepoint of its own; an `Err` undoes its own work only. The work is done
    /// even if the caller stops waiting.
    ///
    /// # Errors
    /// What `work` answers; [`Error::Busy`] when the coordinator holds the lock too long, [`Error::Stopped`]
    /// when the writer has ended, [`Error::Full`] on a full disk.
    pub async fn write<T, E, F>(&self, work: F) -> std::result::Result<T, E>
    where
        F: AsyncFnOnce(&mut Tx) -> std::result::Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.0.writer.write(work).await
    }

    /// Write `rows` and answer when they are durable; `after` runs then. Cheaper than [`Database::write`] where many wait.
    ///
    /// # Errors
    /// As [`Database::write`]; [`Error::Duplicate`] when a row is there already.
    pub async fn insert(&self, rows: rows::Rows, after: impl FnOnce() + Send + 'static) -> Result<()> {
        self.0.writer.insert(rows, Box::new(after)).await
    }

    /// Turns to a message when the database can no longer be trusted (a failed fsync): the process must exit.
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.0.writer.fatal()
    }

    /// A dedicated connection for watching changes that others commit (`PRAGMA data_version`).
    ///
    /// # Errors
    /// When the file can't be opened.
    pub async fn watcher(&self) -> Result<Watcher> {
        Ok(Watcher { conn: connect::reading(&self.0.path).await?, seen: 0 })
    }

    /// Add the room's metrics.
    pub fn register(&self, registry: &mut Registry) {
        let mut wal = self.0.path.clone().into_os_string();
        wal.push("-wal");
        self.0.metrics.register(wal.into(), registry);
    }

    /// Is a reader answering? For readiness.
    ///
    /// # Errors
    /// Whatever the reader says.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&mut *self.read().await?).await?;
        Ok(())
    }

    /// Finish what is queued, fold the WAL into the file, close.
    pub async fn close(&self) {
        self.0.writer.close().await;
        self.0.readers.close().await;
    }
}

/// Notices commits of any other connection, this process's own included, for the price of one page read.
pub struct Watcher {
    conn: Connection,
    seen: i64,
}

impl Watcher {
    /// Has anybody committed since the last call? The first call answers true.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn changed(&mut self) -> Result<bool> {
        let version: i64 = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut self.conn).await?;
        Ok(std::mem::replace(&mut self.seen, version) != version)
    }
}
