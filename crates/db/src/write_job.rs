//! Jobs of the write queue: work together with the channel to its caller.

use std::{panic::AssertUnwindSafe, pin::Pin};

use futures_util::FutureExt;
use tokio::sync::oneshot;

use super::{DatabaseError, Result, Tx, bulk_insert::RowBatch};

/// A queued write: it runs inside a batch and learns how the batch ended.
pub trait WriteJob: Send {
    /// Run the write; false requests a rollback of its savepoint.
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> Pin<Box<dyn Future<Output = bool> + 'a>>;
    /// Send the result to the caller. An error of the batch overrides the result of the work.
    fn answer(self: Box<Self>, batch: std::result::Result<(), DatabaseError>);
    /// The rows to insert, if the work consists of nothing else: such work of one kind is executed by one statement.
    fn rows(&self) -> Option<&RowBatch> {
        None
    }
    /// Handle that the rows were inserted.
    fn written(&mut self, _: &mut Tx) {}
}

pub struct ClosureJob<F, T, E> {
    work: Option<F>,
    result: Option<std::result::Result<T, E>>,
    caller: oneshot::Sender<std::result::Result<T, E>>,
}

impl<F, T, E> ClosureJob<F, T, E> {
    pub fn new(work: F, caller: oneshot::Sender<std::result::Result<T, E>>) -> Self {
        Self { work: Some(work), result: None, caller }
    }
}

impl<F, T, E> WriteJob for ClosureJob<F, T, E>
where
    F: AsyncFnOnce(&mut Tx) -> std::result::Result<T, E> + Send,
    T: Send,
    E: From<DatabaseError> + Send,
{
    fn run<'a>(&'a mut self, tx: &'a mut Tx) -> Pin<Box<dyn Future<Output = bool> + 'a>> {
        Box::pin(async move {
            let Some(work) = self.work.take() else { return false };
            let result = AssertUnwindSafe(work(tx))
                .catch_unwind()
                .await
                .unwrap_or_else(|_| Err(DatabaseError::WritePanicked.into()));
            let good = result.is_ok();
            self.result = Some(result);
            good
        })
    }

    fn answer(self: Box<Self>, batch: std::result::Result<(), DatabaseError>) {
        // A caller that stopped waiting has dropped the receiver, so a failed send is ignored.
        let _ = self.caller.send(caller_result(batch, self.result));
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
}

/// Result for the caller: work that failed by itself returns its own error, whatever happened to the batch.
fn caller_result<T, E: From<DatabaseError>>(
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

/// Number of jobs from the first on that insert rows of one kind; 1 if the first is something else.
pub fn mergeable_count(pieces: &[Box<dyn WriteJob>]) -> usize {
    let Some(first) = pieces.first().and_then(|piece| piece.rows()) else { return 1 };
    let same = |rows: &RowBatch| rows.kind().eq(first.kind());
    pieces.iter().take_while(|piece| piece.rows().is_some_and(same)).count()
}
