//! The database: one SQLite file that the coordinator reads and writes at the same time.
//!
//! Reads use a pool of read-only connections, writes go through one writer ([`Database::write`]), which commits waiting
//! work together. [`codec`] has the codecs of the coordinator's formats.

pub mod backup;
pub mod bulk_insert;
pub mod codec;
mod column_fill;
pub mod conflict_rule;
mod connect;
mod coordinator_model;
pub mod dialect;
pub mod disk_usage;
mod error;
mod foreign_reading;
pub mod foreign_rows;
mod foreign_tables;
pub mod grouped_write;
pub mod idempotency;
mod insert_target;
pub mod job_clock;
pub mod json_cell;
pub mod kept_list;
mod lock_hold;
pub mod lock_holder;
mod metrics;
mod migrate;
pub mod moment;
mod other_commits;
pub mod owner;
pub mod page;
pub mod principal;
mod read_pool;
mod round_trips;
pub mod row;
pub mod sql_value;
pub mod statement;
pub mod statement_batch;
mod statement_deadline;
pub mod statement_list;
mod statement_macros;
mod statement_watch;
mod table_shape;
mod template;
mod transaction;
pub mod whole_rows;
mod write_job;
mod write_limit;
mod writer;

use std::{path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

pub use error::{DatabaseError, Result};
pub use foreign_tables::CoordinatorReport;
#[doc(hidden)]
pub use inventory;
pub use migrate::{MigrationReport, check_schema, migrate};
pub use read_pool::PooledConnection;
use read_pool::ReadLane;
pub use row::FromRow;
#[doc(hidden)]
pub use sqlx;
pub use table_shape::has_table;
pub use transaction::Tx;
use write_job::ErasedWork;

/// The database's type.
pub type Db = sqlx::Sqlite;
/// A row of a query's result.
pub type Row = sqlx::sqlite::SqliteRow;
/// A read or write connection.
pub type Connection = sqlx::SqliteConnection;

/// Options for opening the database.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// Number of read-only connections.
    pub readers: u32,
    /// Time that a write waits for another process's lock before it returns [`DatabaseError::Busy`].
    pub busy_timeout: Duration,
}

/// The open database. Cheap to clone.
#[derive(Clone)]
pub struct Database(Arc<DatabaseInner>);

struct DatabaseInner {
    readers: read_pool::ReadLanes,
    writer: writer::DatabaseWriter,
    metrics: Arc<metrics::DatabaseMetrics>,
    foreign: Arc<foreign_reading::ForeignTablesCell>,
    lists: kept_list::ListStates,
    path: std::path::PathBuf,
}

impl Database {
    /// Open the file at `path`, creating it if it is missing. The schema is not changed: see [`migrate`].
    ///
    /// # Errors
    /// Fails when the file can't be opened, or when the SQLite library can corrupt a shared WAL database.
    pub async fn open(path: &Path, settings: &DatabaseSettings) -> Result<Self> {
        let metrics = Arc::new(metrics::DatabaseMetrics::default());
        let mut conn = connect::open_write_connection(path).await?;
        connect::check_version(&conn).await?;
        kept_list::install_triggers(&mut conn).await?;
        let deadline = statement_deadline::StatementDeadline::attach(&mut conn).await?;
        let readers = read_pool::ReadLanes::open(path, settings.readers).await?;
        let foreign = Arc::new(foreign_reading::ForeignTablesCell::default());
        let writer =
            writer::DatabaseWriter::start((conn, deadline), settings.busy_timeout, metrics.clone(), foreign.clone())?;
        Ok(Self(Arc::new(DatabaseInner {
            readers,
            writer,
            metrics,
            foreign,
            lists: kept_list::ListStates::default(),
            path: path.to_owned(),
        })))
    }

    /// Path of the database file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Borrow a read-only connection for single rows. Hold it briefly: the WAL grows while a reader keeps its snapshot.
    ///
    /// # Errors
    /// Returns [`DatabaseError::Busy`] when no connection becomes free in time.
    pub async fn read(&self) -> Result<PooledConnection> {
        self.read_in(ReadLane::Rows).await
    }

    /// Borrow a read-only connection for a list or a report.
    ///
    /// # Errors
    /// As [`Database::read`].
    pub async fn read_list(&self) -> Result<PooledConnection> {
        self.read_in(ReadLane::Lists).await
    }

    /// Borrow a read-only connection for a probe, a heartbeat or a claim, which wait for no other read.
    ///
    /// # Errors
    /// As [`Database::read`].
    pub async fn read_vital(&self) -> Result<PooledConnection> {
        self.read_in(ReadLane::Vital).await
    }

    async fn read_in(&self, lane: ReadLane) -> Result<PooledConnection> {
        let waited = std::time::Instant::now();
        let conn = self.0.readers.get(lane).await?;
        self.0.metrics.reader_wait.observe(waited.elapsed().as_secs_f64());
        Ok(conn)
    }

    /// Run `work` in a write transaction and return once it is durable. Work queued at the same time is committed
    /// together, each piece in its own savepoint: an `Err` rolls back only its own piece. The work is completed even if
    /// the caller stops waiting.
    ///
    /// # Errors
    /// Returns the error of `work`; [`DatabaseError::Busy`] when the coordinator holds the lock for too long,
    /// [`DatabaseError::WriterStopped`] when the writer has ended, [`DatabaseError::DiskFull`] on a full disk.
    pub async fn write<T, E, F>(&self, work: F) -> std::result::Result<T, E>
    where
        F: AsyncFnOnce(&mut Tx) -> std::result::Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<DatabaseError> + Send + 'static,
    {
        let result = Arc::new(Mutex::new(None));
        let place = result.clone();
        let erased: ErasedWork = Box::new(move |tx| {
            Box::pin(async move {
                let done = work(tx).await;
                let succeeded = done.is_ok();
                *place.lock() = Some(done);
                succeeded
            })
        });
        let batch = self.0.writer.write(erased, std::any::type_name::<F>()).await;
        let own = result.lock().take();
        write_job::caller_result(batch, own)
    }

    /// Whether the coordinator's tables fit as they stand now. They are read again only where the schema has changed.
    ///
    /// # Errors
    /// As [`Database::read`].
    pub async fn coordinator_report(&self) -> Result<CoordinatorReport> {
        let tables = self.0.foreign.look(&mut *self.read_vital().await?).await?;
        Ok(tables.report().clone())
    }

    /// Whether one of the coordinator's tables, which this service can do without, was missing or did not fit when it was looked at
    /// last, at the latest by the last write.
    pub fn does_without(&self, table: &str) -> bool {
        self.0.foreign.get().is_unusable(table)
    }

    /// Insert `rows`, return once they are durable, and run `after` then. Cheaper than [`Database::write`] when many
    /// callers wait.
    ///
    /// # Errors
    /// Same as [`Database::write`]; [`DatabaseError::Duplicate`] when a row exists already.
    pub async fn insert(&self, rows: bulk_insert::RowBatch, after: impl FnOnce() + Send + 'static) -> Result<()> {
        self.0.writer.insert(rows, Box::new(after)).await
    }

    /// Set how long later writes wait for another process's lock.
    pub fn set_busy_timeout(&self, timeout: Duration) {
        self.0.writer.lock_wait().set_timeout(timeout);
    }

    /// Set the time after which a later write is ended and rolled back. Until it is set there is none.
    pub fn set_write_limit(&self, limit: Duration) {
        self.0.writer.limit().set(limit);
    }

    /// Set the time after which a statement that reads is ended.
    pub fn set_statement_limit(&self, limit: Duration) {
        self.0.readers.set_limit(limit);
    }

    /// How many times this process's writes found that another process had written since the one before. It writes at intervals
    /// (its heartbeat), so that this is known within seconds.
    pub fn others_commits(&self) -> u64 {
        self.0.writer.others().times()
    }

    /// Return since when a write waits for another process's lock; `None`: none waits.
    pub fn waits_for_lock_since(&self) -> Option<std::time::Instant> {
        self.0.writer.lock_wait().since()
    }

    /// A receiver that gets a message when the database can no longer be trusted (a failed fsync). The process must
    /// exit then.
    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.0.writer.fatal()
    }

    /// Open a dedicated connection that detects commits of others (`PRAGMA data_version`).
    ///
    /// # Errors
    /// Fails when the file can't be opened.
    pub async fn open_watcher(&self) -> Result<CommitWatcher> {
        Ok(CommitWatcher { conn: connect::open_read_connection(&self.0.path).await?, seen: 0 })
    }

    /// Register the database's metrics.
    pub fn register(&self, registry: &mut Registry) {
        let mut wal = self.0.path.clone().into_os_string();
        wal.push("-wal");
        self.0.metrics.register(wal.into(), registry);
    }

    /// Check that a read connection answers, for readiness.
    ///
    /// # Errors
    /// Returns the error of the read connection.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&mut *self.read_vital().await?).await?;
        Ok(())
    }

    /// Finish queued writes, checkpoint the WAL into the file and close all connections.
    pub async fn close(&self) {
        self.0.writer.close().await;
        self.0.readers.close().await;
    }
}

/// Detector of commits by any other connection, including those of this process; a check costs one page read.
pub struct CommitWatcher {
    conn: Connection,
    seen: i64,
}

impl CommitWatcher {
    /// Whether another connection committed since the last call. The first call returns true.
    ///
    /// # Errors
    /// Fails when the connection fails.
    pub async fn changed(&mut self) -> Result<bool> {
        let version: i64 = sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut self.conn).await?;
        Ok(std::mem::replace(&mut self.seen, version) != version)
    }
}
