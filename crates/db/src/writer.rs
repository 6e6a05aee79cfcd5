//! The writer: a thread that owns the only write connection and commits waiting work together.
//!
//! It uses `BEGIN IMMEDIATE`, because a read transaction that upgrades on a stale snapshot fails at once whatever the
//! busy timeout is. It waits for locks itself, in short steps with jitter: SQLite's busy handler rarely succeeds
//! against a process that commits in a tight loop. A commit that fails with an I/O error is indeterminate: no caller is
//! answered, the writer stops, and the process exits to recover at its next start.

use std::{
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use sqlx::Connection as _;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument as _;

use super::{
    Connection, DatabaseError, Result,
    bulk_insert::RowBatch,
    foreign_reading::ForeignTablesCell,
    lock_hold::LockHold,
    metrics::DatabaseMetrics,
    other_commits::OtherCommits,
    statement_deadline::StatementDeadline,
    transaction::Tx,
    write_job::{ClosureJob, ErasedWork, JobKind, RowInsertJob, WriteJob, mergeable_count},
    write_limit::{LockWait, WriteLimit, copy_error, ended_by_itself, savepoint_error},
};

/// Largest number of writes per commit: enough to share one fsync, few enough to bound latency.
const MAX_WRITE_BATCH: usize = 256;
/// Capacity of the write queue; beyond it callers wait.
const WRITE_QUEUE_CAPACITY: usize = 4096;

/// Handle to the writer's thread.
pub struct DatabaseWriter {
    queue: mpsc::Sender<Box<dyn WriteJob>>,
    metrics: Arc<DatabaseMetrics>,
    lock_wait: Arc<LockWait>,
    limit: Arc<WriteLimit>,
    others: Arc<OtherCommits>,
    fatal: watch::Receiver<Option<String>>,
    stop: watch::Sender<bool>,
    thread: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

impl DatabaseWriter {
    pub fn start(
        (conn, deadline): (Connection, StatementDeadline),
        busy_timeout: Duration,
        metrics: Arc<DatabaseMetrics>,
        foreign: Arc<ForeignTablesCell>,
    ) -> Result<Self> {
        let (queue, waiting) = mpsc::channel(WRITE_QUEUE_CAPACITY);
        let (fatal_tx, fatal) = watch::channel(None);
        let (stop, stopped) = watch::channel(false);
        let lock_wait = Arc::new(LockWait::new(busy_timeout));
        let limit = Arc::new(WriteLimit::default());
        let others = Arc::new(OtherCommits::default());
        let state = WriterState {
            tx: Tx { conn, after: Vec::new(), opening: None, foreign: foreign.get(), deadline },
            foreign,
            lock_wait: lock_wait.clone(),
            limit: limit.clone(),
            others: others.clone(),
            metrics: metrics.clone(),
            fatal: fatal_tx,
            hold: LockHold::default(),
            jitter: SmallRng::seed_from_u64(0x5eed),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| DatabaseError::SchemaMismatch(format!("can't start the writer: {error}")))?;
        let thread = std::thread::Builder::new()
            .name("db-writer".into())
            .spawn(move || runtime.block_on(state.serve(waiting, stopped)))
            .map_err(|error| DatabaseError::SchemaMismatch(format!("can't start the writer: {error}")))?;
        Ok(Self {
            queue,
            metrics,
            lock_wait,
            limit,
            others,
            fatal,
            stop,
            thread: parking_lot::Mutex::new(Some(thread)),
        })
    }

    /// Queue `work`, whose type has this name; answers how its batch ended.
    pub fn write(&self, work: ErasedWork, name: &'static str) -> BoxFuture<'_, Result<()>> {
        let span = tracing::debug_span!("write");
        let inside = span.clone();
        let queued = async move {
            let (caller, answer) = oneshot::channel();
            self.queue(Box::new(ClosureJob::new(work, name, inside, caller))).await?;
            answer.await.unwrap_or(Err(DatabaseError::WriterStopped))
        };
        queued.instrument(span).boxed()
    }

    pub fn insert(&self, rows: RowBatch, after: Box<dyn FnOnce() + Send>) -> BoxFuture<'_, Result<()>> {
        let queued = async move {
            let (caller, answer) = oneshot::channel();
            self.queue(Box::new(RowInsertJob::new(rows, after, caller))).await?;
            answer.await.unwrap_or(Err(DatabaseError::WriterStopped))
        };
        queued.instrument(tracing::debug_span!("write")).boxed()
    }

    /// Queue a job, and wait for a place in the queue.
    ///
    /// # Errors
    /// [`DatabaseError::WriterStopped`].
    pub async fn queue(&self, piece: Box<dyn WriteJob>) -> Result<()> {
        self.metrics.queue_depth.inc();
        let queued = self.queue.send(piece).await;
        queued.map_err(|_| {
            self.metrics.queue_depth.dec();
            DatabaseError::WriterStopped
        })
    }

    /// Return the wait for another process's lock.
    pub fn lock_wait(&self) -> &LockWait {
        &self.lock_wait
    }

    /// Return what is known of others' commits.
    pub fn others(&self) -> &OtherCommits {
        &self.others
    }

    /// Return the time limit of writes.
    pub fn limit(&self) -> &WriteLimit {
        &self.limit
    }

    pub fn fatal(&self) -> watch::Receiver<Option<String>> {
        self.fatal.clone()
    }

    /// Finish queued writes and end the thread.
    pub async fn close(&self) {
        self.stop.send_replace(true);
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic of the thread has been logged by the panic hook.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }
}

struct WriterState {
    tx: Tx,
    foreign: Arc<ForeignTablesCell>,
    lock_wait: Arc<LockWait>,
    limit: Arc<WriteLimit>,
    others: Arc<OtherCommits>,
    metrics: Arc<DatabaseMetrics>,
    fatal: watch::Sender<Option<String>>,
    /// How long the lock is held, and by which write the longest.
    hold: LockHold,
    jitter: SmallRng,
}

/// SQL between two writes of a batch.
const NEXT_SAVEPOINT: &str = "RELEASE piece; SAVEPOINT piece;\n";

/// Outcome of a batch.
enum BatchOutcome {
    Committed,
    /// Nothing was written; all callers get the error.
    RolledBack(DatabaseError),
    /// Durability is unknown; no caller may be answered.
    Indeterminate(DatabaseError),
}

impl WriterState {
    async fn serve(mut self, mut waiting: mpsc::Receiver<Box<dyn WriteJob>>, mut stopped: watch::Receiver<bool>) {
        let mut batch: Vec<Box<dyn WriteJob>> = Vec::with_capacity(MAX_WRITE_BATCH);
        loop {
            let stopping = *stopped.borrow();
            if stopping {
                waiting.close();
            }
            tokio::select! {
                biased;
                count = waiting.recv_many(&mut batch, MAX_WRITE_BATCH) => if count == 0 { break },
                _ = stopped.changed(), if !stopping => continue,
            }
            self.metrics.queue_depth.dec_by(batch.len() as i64);
            self.metrics.batch_size.observe(batch.len() as f64);
            let outcome = self.commit(&mut batch).await;
            self.hold.finish(&self.metrics);
            match outcome {
                BatchOutcome::Committed => {
                    self.tx.after.drain(..).for_each(|hook| hook());
                    batch.drain(..).for_each(|piece| piece.answer(Ok(())));
                }
                BatchOutcome::RolledBack(error) => {
                    self.tx.after.clear();
                    tracing::warn!(%error, writes = batch.len(), "a batch of writes was rolled back");
                    batch.drain(..).for_each(|piece| piece.answer(Err(copy_error(&error))));
                }
                BatchOutcome::Indeterminate(error) => {
                    tracing::error!(%error, writes = batch.len(), "the database failed while committing; stopping");
                    self.fatal.send_replace(Some(error.to_string()));
                    // Dropped without an answer: whether these writes are durable is unknown until the next start.
                    batch.clear();
                    return;
                }
            }
        }
        if let Err(error) = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut self.tx.conn).await {
            tracing::debug!(%error, "the WAL was not checkpointed; the next start does it");
        }
        // Waited for: its file is in use until its own thread has closed it.
        if let Err(error) = self.tx.conn.close().await {
            tracing::debug!(%error, "the writing connection was not closed");
        }
    }

    async fn commit(&mut self, batch: &mut [Box<dyn WriteJob>]) -> BatchOutcome {
        let schema_version = match self.begin().await {
            Ok(version) => version,
            Err(error) => return BatchOutcome::RolledBack(error),
        };
        // Within the transaction the schema stays as it is.
        match self.foreign.refresh(&mut self.tx.conn, schema_version).await {
            Ok(tables) => self.tx.foreign = tables,
            Err(error) => return self.roll_back(error).await,
        }
        self.hold.begin();
        // A single write needs no savepoint: its rollback is the transaction's.
        let alive = match batch {
            [piece] => self.run_piece(piece).await,
            pieces => match self.run_in_savepoints(pieces).await {
                Ok(alive) => alive,
                Err(error) => return self.roll_back(error).await,
            },
        };
        if !alive {
            self.tx.after.clear();
            return match self.execute("ROLLBACK").await {
                // Each write returns its own error.
                Ok(()) => BatchOutcome::Committed,
                Err(error) if ended_by_itself(&error) => BatchOutcome::Committed,
                Err(error) => BatchOutcome::Indeterminate(error),
            };
        }
        am_core::crash_point!("db.before_commit");
        let started = Instant::now();
        let result = self.execute("COMMIT").await;
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        am_core::crash_point!("db.after_commit");
        match result {
            Ok(()) => BatchOutcome::Committed,
            Err(error @ (DatabaseError::DiskFull | DatabaseError::Busy)) => self.roll_back(error).await,
            Err(error) => BatchOutcome::Indeterminate(error),
        }
    }

    /// Run each write in its own savepoint, created with its first statement; COMMIT releases the last. Returns whether
    /// any of them is to be committed.
    async fn run_in_savepoints(&mut self, pieces: &mut [Box<dyn WriteJob>]) -> Result<bool> {
        let mut alive = false;
        self.tx.opening = Some("SAVEPOINT piece;\n");
        // All of them wait concurrently, so their order is free.
        pieces.sort_by_cached_key(|piece| JobKind::of(&**piece));
        let mut left = pieces;
        while !left.is_empty() {
            let together = mergeable_count(left);
            if together > 1 && self.write_merged(&mut left[..together]).await? {
                alive = true;
                left = &mut left[together..];
                continue;
            }
            // One of them fails: run each by itself, so that only that one gets the error.
            let (pieces, rest) = left.split_at_mut(together);
            alive |= self.run_each(pieces).await?;
            left = rest;
        }
        self.tx.opening = None;
        Ok(alive)
    }

    /// Do what `pieces` of one kind do, at once. Returns false when that fails; nothing is written then.
    async fn write_merged(&mut self, pieces: &mut [Box<dyn WriteJob>]) -> Result<bool> {
        let hooks = self.tx.after.len();
        self.limit.begin(&self.tx.deadline);
        let merged = match pieces.first().and_then(|piece| piece.group()) {
            Some(group) => group.run(pieces, &mut self.tx).await,
            None => {
                let rows: Vec<&RowBatch> = pieces.iter().filter_map(|piece| piece.rows()).collect();
                RowBatch::execute_merged(&rows, &mut self.tx).await
            }
        };
        self.tx.deadline.lift();
        let untouched = self.tx.opening.is_some();
        match merged {
            Ok(()) => {
                pieces.iter_mut().for_each(|piece| piece.written(&mut self.tx));
                pieces.iter().take(1).for_each(|piece| self.hold.add(&**piece));
                if !untouched {
                    self.tx.opening = Some(NEXT_SAVEPOINT);
                }
                Ok(true)
            }
            Err(error @ (DatabaseError::Indeterminate(_) | DatabaseError::DiskFull | DatabaseError::Busy)) => {
                Err(error)
            }
            Err(_) => {
                self.tx.after.truncate(hooks);
                if !untouched {
                    self.execute("ROLLBACK TO piece").await.map_err(savepoint_error)?;
                }
                Ok(false)
            }
        }
    }

    async fn run_each(&mut self, pieces: &mut [Box<dyn WriteJob>]) -> Result<bool> {
        let mut alive = false;
        for piece in pieces {
            let hooks = self.tx.after.len();
            let good = self.run_piece(piece).await;
            alive |= good;
            let untouched = self.tx.opening.is_some();
            if good && !untouched {
                self.tx.opening = Some(NEXT_SAVEPOINT);
            } else if !good {
                self.metrics.rolled_back.inc();
                self.tx.after.truncate(hooks);
                if !untouched {
                    // ROLLBACK TO keeps the savepoint for the next write.
                    self.execute("ROLLBACK TO piece").await.map_err(savepoint_error)?;
                }
            }
        }
        Ok(alive)
    }

    /// Run a write, for as long as one may take.
    async fn run_piece(&mut self, piece: &mut Box<dyn WriteJob>) -> bool {
        self.limit.begin(&self.tx.deadline);
        let good = piece.run(&mut self.tx).await;
        if self.tx.deadline.has_passed() {
            self.metrics.timed_out.inc();
        }
        self.tx.deadline.lift();
        self.hold.add(&**piece);
        good
    }

    async fn roll_back(&mut self, error: DatabaseError) -> BatchOutcome {
        if matches!(error, DatabaseError::Indeterminate(_)) {
            return BatchOutcome::Indeterminate(error);
        }
        // SQLite may have rolled back by itself, for example on a full disk.
        let _ = self.execute("ROLLBACK").await;
        BatchOutcome::RolledBack(error)
    }

    /// Acquire the write lock. While another process holds it, retry in short steps until the busy timeout. Answers the number of
    /// the schema.
    async fn begin(&mut self) -> Result<i64> {
        let begun = self.begin_in_time().await;
        if self.lock_wait.since().is_some() {
            self.lock_wait.set_since(None);
        }
        begun
    }

    async fn begin_in_time(&mut self) -> Result<i64> {
        let started = Instant::now();
        let mut step = Duration::from_micros(50);
        loop {
            match self.begin_once().await {
                Ok(schema_version) => {
                    self.metrics.lock_wait_seconds.observe(started.elapsed().as_secs_f64());
                    return Ok(schema_version);
                }
                Err(DatabaseError::Busy) if started.elapsed() < self.lock_wait.timeout() => {
                    self.lock_wait.set_since(Some(started));
                    // A blocking sleep: the runtime's timer has a resolution of one millisecond, and this thread has no
                    // other task.
                    std::thread::sleep(step.mul_f64(self.jitter.random_range(0.5..1.5)));
                    step = (step * 3 / 2).min(Duration::from_millis(4));
                }
                Err(error) => {
                    if matches!(error, DatabaseError::Busy) {
                        self.metrics.busy.inc();
                    }
                    return Err(error);
                }
            }
        }
    }

    async fn begin_once(&mut self) -> Result<i64> {
        // Sent as one, since a round trip to the connection's thread costs more than the statement.
        let begun = sqlx::query_scalar("BEGIN IMMEDIATE; PRAGMA schema_version; PRAGMA data_version");
        let versions: Vec<i64> = begun.fetch_all(&mut self.tx.conn).await?;
        let [schema_version, data_version] = *versions else {
            return Err(DatabaseError::Other(sqlx::Error::RowNotFound));
        };
        self.others.see(data_version);
        Ok(schema_version)
    }

    async fn execute(&mut self, sql: &'static str) -> Result<()> {
        sqlx::query(sql).execute(&mut self.tx.conn).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
