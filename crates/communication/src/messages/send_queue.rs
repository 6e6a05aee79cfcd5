//! Send queue. One task takes the waiting messages, writes them, and distributes them to connections in the order in
//! which they were written, so that no message overtakes an earlier one.

use std::sync::Arc;

use am_core::boxed;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    message_writer::{MessageWriter, OutgoingMessage, PreparedBatch, WrittenMessages, are_prepared, outgoing_entries},
    metrics::MessageMetrics,
    model::SendReceipt,
};
use crate::{
    encryption::prepare_randomness,
    error::{CommunicationError, Result},
};
use am_db::{
    Database, Tx,
    idempotency::{IdempotencyKey, IdempotentResult},
};

/// Capacity of the queue; beyond it senders wait.
const SEND_QUEUE_CAPACITY: usize = 4096;
/// Messages written per transaction.
const SEND_BATCH: usize = 256;
/// Maximum size of the content written per transaction, in bytes.
const MAX_BATCH_BYTES: usize = 4 << 20;

type SendAnswer = Result<IdempotentResult<SendReceipt>>;

/// A queued message with the channel to its sender.
struct QueuedMessage {
    letter: OutgoingMessage,
    once: Option<IdempotencyKey>,
    answer: oneshot::Sender<SendAnswer>,
}

/// Sender side of the queue. Cheap to clone.
#[derive(Clone)]
pub struct SendQueue(mpsc::Sender<QueuedMessage>);

impl SendQueue {
    /// Create the queue and its task, which ends after `stop` is cancelled and all queued messages are written.
    pub fn open(
        db: Database,
        post: MessageWriter,
        metrics: MessageMetrics,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (sender, waiting) = mpsc::channel(SEND_QUEUE_CAPACITY);
        (Self(sender), BatchWriter { db, post, metrics }.work(waiting, stop))
    }

    /// Queue a message; its receipt is sent when it is durable.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Stopping`] when the service is stopping.
    #[boxed]
    pub async fn hand_in(
        &self,
        letter: OutgoingMessage,
        once: Option<IdempotencyKey>,
    ) -> Result<oneshot::Receiver<SendAnswer>> {
        let (answer, receipt) = oneshot::channel();
        self.0.send(QueuedMessage { letter, once, answer }).await.map_err(|_| CommunicationError::Stopping)?;
        Ok(receipt)
    }
}

struct BatchWriter {
    db: Database,
    post: MessageWriter,
    metrics: MessageMetrics,
}

impl BatchWriter {
    async fn work(self, mut waiting: mpsc::Receiver<QueuedMessage>, stop: CancellationToken) {
        let mut taken = Vec::with_capacity(SEND_BATCH);
        loop {
            let count = tokio::select! {
                count = waiting.recv_many(&mut taken, SEND_BATCH) => count,
                () = stop.cancelled(), if !waiting.is_closed() => {
                    waiting.close();
                    continue;
                }
            };
            if count == 0 {
                return;
            }
            while !taken.is_empty() {
                let together = batch_len(&taken);
                let rest = taken.split_off(together);
                self.write(std::mem::replace(&mut taken, rest)).await;
            }
        }
    }

    /// Write a batch. If that fails for another reason than the state of the database, each message is tried by itself,
    /// so that one does not block the others.
    async fn write(&self, mut batch: Vec<QueuedMessage>) {
        if let [_] = batch.as_slice() {
            for one in batch.drain(..) {
                self.write_one(one).await;
            }
            return;
        }
        let (letters, callers): (Vec<_>, Vec<_>) = batch.into_iter().map(|one| (one.letter, one.answer)).unzip();
        let letters: Arc<[OutgoingMessage]> = letters.into();
        let prepared = self.prepare(&letters).await;
        let (post, kept) = (self.post.clone(), letters.clone());
        match self.db.write(async move |tx: &mut Tx| post.write(tx, &letters, prepared).await).await {
            Ok(written) => {
                let answers = self.deliver(written, &kept).await;
                for (caller, answer) in callers.into_iter().zip(answers) {
                    let _ = caller.send(answer.map(IdempotentResult::fresh));
                }
            }
            // Nothing was written, and retrying each would take a multiple of the time.
            Err(CommunicationError::Db(
                error @ (am_db::DatabaseError::Busy
                | am_db::DatabaseError::DiskFull
                | am_db::DatabaseError::WriterStopped),
            )) => {
                for caller in callers {
                    let _ = caller.send(Err(CommunicationError::Db(copy_error(&error))));
                }
            }
            Err(error) => {
                tracing::warn!(%error, letters = kept.len(), "messages could not be written together; retrying each alone");
                for (letter, answer) in kept.iter().zip(callers) {
                    self.write_one(QueuedMessage { letter: letter.clone(), once: None, answer }).await;
                }
            }
        }
    }

    async fn write_one(&self, QueuedMessage { letter, once, answer }: QueuedMessage) {
        let mut done = self.try_write_one(&letter, once.clone()).await;
        if matches!(done, Err(CommunicationError::Db(am_db::DatabaseError::Duplicate(_)))) {
            // A generated id is in use.
            self.post.ids.reseed_sequence();
            done = self.try_write_one(&letter, once).await;
        }
        let _ = answer.send(done);
    }

    async fn try_write_one(&self, letter: &OutgoingMessage, once: Option<IdempotencyKey>) -> SendAnswer {
        let letters: Arc<[OutgoingMessage]> = [letter.clone()].into();
        let prepared = self.prepare(&letters).await;
        let (post, kept) = (self.post.clone(), letters.clone());
        let Some(once) = once else {
            let written = self.db.write(async move |tx: &mut Tx| post.write(tx, &letters, prepared).await).await?;
            let answer = self.deliver(written, &kept).await.pop();
            return answer.unwrap_or(Err(CommunicationError::Stopping)).map(IdempotentResult::fresh);
        };
        // Copies for connections are returned separately from the answer, which is stored.
        let (tell, told) = oneshot::channel();
        let work = async move |tx: &mut Tx| {
            let mut written = post.write(tx, &letters, prepared).await?;
            let receipt = written.answers.pop().unwrap_or(Err(CommunicationError::Stopping))?;
            let _ = tell.send(written);
            Ok::<_, CommunicationError>(receipt)
        };
        let done = self.db.write_idempotent(&self.post.clock, Some(once), work).await?;
        if let Ok(written) = told.await {
            self.deliver(written, &kept).await;
        }
        Ok(done)
    }

    /// Encrypt what takes long before the transaction, so that nobody waits for it with the write lock.
    async fn prepare(&self, letters: &Arc<[OutgoingMessage]>) -> PreparedBatch {
        prepare_randomness().await;
        if !are_prepared(letters) {
            return PreparedBatch::default();
        }
        match self.plan(letters).await {
            Ok(prepared) => self.post.seal(prepared, letters).await,
            Err(error) => {
                tracing::debug!(%error, "messages are encrypted in their transaction");
                PreparedBatch::default()
            }
        }
    }

    async fn plan(&self, letters: &[OutgoingMessage]) -> Result<PreparedBatch> {
        self.post.prepare(&mut *self.db.read().await?, letters).await
    }

    /// Distribute durable messages to connections.
    async fn deliver(&self, written: WrittenMessages, letters: &Arc<[OutgoingMessage]>) -> Vec<Result<SendReceipt>> {
        am_core::crash_point!("messages.before_push");
        self.metrics.written(&written.answers);
        let entries = outgoing_entries(written.pushed, letters).await;
        self.post.hub.push(written.before, written.last, entries);
        written.answers
    }
}

/// Copy an error for each sender.
fn copy_error(error: &am_db::DatabaseError) -> am_db::DatabaseError {
    match error {
        am_db::DatabaseError::Busy => am_db::DatabaseError::Busy,
        am_db::DatabaseError::DiskFull => am_db::DatabaseError::DiskFull,
        _ => am_db::DatabaseError::WriterStopped,
    }
}

/// Number of messages from the first on that are written together: those without an idempotency key, up to the size
/// limit.
fn batch_len(waiting: &[QueuedMessage]) -> usize {
    let mut weight = 0;
    let light = waiting.iter().take_while(|one| {
        weight += one.letter.bytes;
        one.once.is_none() && weight <= MAX_BATCH_BYTES
    });
    light.count().max(1)
}
