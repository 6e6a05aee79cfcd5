//! Jobs of the write queue: work together with the channel to its caller.

use std::{any::Any, panic::AssertUnwindSafe, pin::Pin, sync::Arc};

use futures_util::FutureExt;
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use super::{DatabaseError, Result, Tx, bulk_insert::RowBatch};

/// A queued write: it runs inside a batch and learns how the batch ended.
pub trait WriteJob: Send {
    /// Run the write; false requests a rollback of its savepoint.
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> Pin<Box<dyn Future<Output = bool> + 'a>>;
    /// What it is, for whoever looks for a slow one.
    fn name(&self) -> &'static str;
    /// Send the result to the caller. An error of the batch overrides the result of the work.
    fn answer(self: Box<Self>, batch: std::result::Result<(), DatabaseError>);
    /// The rows to insert, if the work consists of nothing else: such work of one kind is executed by one statement.
    fn rows(&self) -> Option<&RowBatch> {
        None
    }
    /// Handle that the rows were inserted.
    fn written(&mut self, _: &mut Tx) {}
    /// The group whose work is done for this and for others of it at once, if it belongs to one.
    fn group(&self) -> Option<Arc<dyn JobGroup>> {
        None
    }
    /// The job itself, for its group.
    fn as_any(&mut self) -> &mut dyn Any;
}

/// What does the work of several jobs at once.
pub trait JobGroup {
    /// What tells it from others.
    fn address(&self) -> usize;

    /// Do the work for jobs of the group.
    ///
    /// # Errors
    /// When it failed for all of them.
    fn run<'a>(
        &'a self,
        jobs: &'a mut [Box<dyn WriteJob>],
        tx: &'a mut Tx,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;
}

/// What tells jobs that can be run together from others.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub enum JobKind {
    /// Each is run by itself.
    Single,
    /// They insert rows by the same statements.
    Rows(Vec<usize>),
    /// They belong to one group.
    Group(usize),
}

impl JobKind {
    /// The kind of a job.
    pub fn of(job: &dyn WriteJob) -> Self {
        match (job.rows(), job.group()) {
            (Some(rows), _) => Self::Rows(rows.kind().collect()),
            (None, Some(group)) => Self::Group(group.address()),
            (None, None) => Self::Single,
        }
    }
}

/// A write with the types of its work and its result erased: each write would generate the code of the queue, the channel and
/// the spans anew otherwise. Completes with false when its savepoint is to be rolled back.
pub type ErasedWork = Box<dyn for<'a> FnOnce(&'a mut Tx) -> Pin<Box<dyn Future<Output = bool> + 'a>> + Send>;

/// A queued write that runs a closure, which keeps its result itself.
pub struct ClosureJob {
    work: Option<ErasedWork>,
    name: &'static str,
    panicked: bool,
    span: Span,
    caller: oneshot::Sender<Result<()>>,
}

impl ClosureJob {
    pub fn new(work: ErasedWork, name: &'static str, span: Span, caller: oneshot::Sender<Result<()>>) -> Self {
        Self { work: Some(work), name, panicked: false, span, caller }
    }
}

impl WriteJob for ClosureJob {
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> Pin<Box<dyn Future<Output = bool> + 'a>> {
        Box::pin(async move {
            let Some(work) = self.work.take() else { return false };
            let done = AssertUnwindSafe(work(tx)).catch_unwind().instrument(self.span.clone()).await;
            self.panicked = done.is_err();
            done.unwrap_or(false)
        })
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn answer(self: Box<Self>, batch: std::result::Result<(), DatabaseError>) {
        let batch = if self.panicked { Err(DatabaseError::WritePanicked) } else { batch };
        // A caller that stopped waiting has dropped the receiver, so a failed send is ignored.
        let _ = self.caller.send(batch);
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// A queued write that only inserts rows.
pub struct RowInsertJob {
    rows: RowBatch,
    after: Option<Box<dyn FnOnce() + Send>>,
    result: Option<Result<()>>,
    caller: oneshot::Sender<Result<()>>,
}

impl RowInsertJob {
    pub fn new(rows: RowBatch, after: Box<dyn FnOnce() + Send>, caller: oneshot::Sender<Result<()>>) -> Self {
        Self { rows, after: Some(after), result: None, caller }
    }
}

impl WriteJob for RowInsertJob {
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> Pin<Box<dyn Future<Output = bool> + 'a>> {
        Box::pin(async move {
            match self.rows.execute(tx).await {
                Ok(()) => self.written(tx),
                Err(error) => self.result = Some(Err(error)),
            }
            matches!(self.result, Some(Ok(())))
        })
    }

    fn name(&self) -> &'static str {
        self.rows.first_table()
    }

    fn answer(self: Box<Self>, batch: std::result::Result<(), DatabaseError>) {
        let _ = self.caller.send(caller_result(batch, self.result));
    }

    fn rows(&self) -> Option<&RowBatch> {
        Some(&self.rows)
    }

    fn written(&mut self, tx: &mut Tx) {
        tx.after.extend(self.after.take());
        self.result = Some(Ok(()));
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Result for the caller: work that failed by itself returns its own error, whatever happened to the batch.
pub fn caller_result<T, E: From<DatabaseError>>(
    batch: std::result::Result<(), DatabaseError>,
    own: Option<std::result::Result<T, E>>,
) -> std::result::Result<T, E> {
    match (batch, own) {
        (_, Some(Err(error))) => Err(error),
        (Ok(()), Some(done)) => done,
        (Err(error), _) => Err(error.into()),
        (Ok(()), None) => Err(DatabaseError::WriterStopped.into()),
    }
}

/// Most items of a group whose work is done at once: of large ones more would hold the lock for too long.
const MAX_GROUP_ITEMS: usize = 16;

/// Number of jobs from the first on that are run together; 1 if the first is run by itself.
pub fn mergeable_count(pieces: &[Box<dyn WriteJob>]) -> usize {
    let Some(first) = pieces.first().map(|piece| JobKind::of(&**piece)) else { return 1 };
    let most = match first {
        JobKind::Single => return 1,
        JobKind::Rows(_) => pieces.len(),
        JobKind::Group(_) => MAX_GROUP_ITEMS,
    };
    pieces.iter().take(most).take_while(|piece| JobKind::of(&***piece) == first).count()
}
