//! Send queue. One task takes the waiting messages, writes them, and distributes them to connections in the order in
//! which they were written, so that no message overtakes an earlier one.

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{
    metrics::Metrics,
    model::Receipt,
    post::{Letter, Post, Written},
};
use crate::error::{Error, Result};
use am_db::{
    Database, Tx,
    once::{Done, Once},
};

/// Capacity of the queue; beyond it senders wait.
const QUEUE: usize = 4096;
/// Messages written per transaction.
const TOGETHER: usize = 256;
/// Maximum size of the content written per transaction, in bytes.
const WEIGHT: usize = 4 << 20;

type Answer = Result<Done<Receipt>>;

/// A queued message with the channel to its sender.
struct Waiting {
    letter: Letter,
    once: Option<Once>,
    answer: oneshot::Sender<Answer>,
}

/// Sender side of the queue. Cheap to clone.
#[derive(Clone)]
pub struct Office(mpsc::Sender<Waiting>);

impl Office {
    /// Create the queue and its task, which ends after `stop` is cancelled and all queued messages are written.
    pub fn open(
        db: Database,
        post: Post,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (sender, waiting) = mpsc::channel(QUEUE);
        (Self(sender), Clerk { db, post, metrics }.work(waiting, stop))
    }

    /// Queue a message; its receipt is sent when it is durable.
    ///
    /// # Errors
    /// Returns [`Error::Stopping`] when the service is stopping.
    pub async fn hand_in(&self, letter: Letter, once: Option<Once>) -> Result<oneshot::Receiver<Answer>> {
        let (answer, receipt) = oneshot::channel();
        self.0.send(Waiting { letter, once, answer }).await.map_err(|_| Error::Stopping)?;
        Ok(receipt)
    }
}

struct Clerk {
    db: Database,
    post: Post,
    metrics: Metrics,
}

impl Clerk {
    async fn work(self, mut waiting: mpsc::Receiver<Waiting>, stop: CancellationToken) {
        let mut taken = Vec::with_capacity(TOGETHER);
        loop {
            let count = tokio::select! {
                count = waiting.recv_many(&mut taken, TOGETHER) => count,
                () = stop.cancelled(), if !waiting.is_closed() => {
                    waiting.close();
                    continue;
                }
            };
            if count == 0 {
                return;
            }
            while !taken.is_empty() {
                let together = together(&taken);
                let rest = taken.split_off(together);
                self.write(std::mem::replace(&mut taken, rest)).await;
            }
        }
    }

    /// Write a batch. If that fails for another reason than the state of the database, each message is tried by itself,
    /// so that one does not block the others.
    async fn write(&self, mut batch: Vec<Waiting>) {
        if let [_] = batch.as_slice() {
            for one in batch.drain(..) {
                self.write_one(one).await;
            }
            return;
        }
        let (letters, callers): (Vec<_>, Vec<_>) = batch.into_iter().map(|one| (one.letter, one.answer)).unzip();
        let (post, kept) = (self.post.clone(), letters.clone());
        match self.db.write(async move |tx: &mut Tx| post.write(tx, &letters).await).await {
            Ok(written) => {
                let answers = self.deliver(written).await;
                for (caller, answer) in callers.into_iter().zip(answers) {
                    let _ = caller.send(answer.map(Done::fresh));
                }
            }
            // Nothing was written, and retrying each would take a multiple of the time.
            Err(Error::Db(error @ (am_db::Error::Busy | am_db::Error::Full | am_db::Error::Stopped))) => {
                for caller in callers {
                    let _ = caller.send(Err(Error::Db(again(&error))));
                }
            }
            Err(error) => {
                tracing::warn!(%error, letters = kept.len(), "messages could not be written together; retrying each alone");
                for (letter, answer) in kept.into_iter().zip(callers) {
                    self.write_one(Waiting { letter, once: None, answer }).await;
                }
            }
        }
    }

    async fn write_one(&self, Waiting { letter, once, answer }: Waiting) {
        let mut done = self.try_one(&letter, once.clone()).await;
        if matches!(done, Err(Error::Db(am_db::Error::Duplicate(_)))) {
            // A generated id is in use.
            self.post.ids.jump();
            done = self.try_one(&letter, once).await;
        }
        let _ = answer.send(done);
    }

    async fn try_one(&self, letter: &Letter, once: Option<Once>) -> Answer {
        let (post, letters) = (self.post.clone(), [letter.clone()]);
        let Some(once) = once else {
            let written = self.db.write(async move |tx: &mut Tx| post.write(tx, &letters).await).await?;
            let answer = self.deliver(written).await.pop();
            return answer.unwrap_or(Err(Error::Stopping)).map(Done::fresh);
        };
        // Entries for connections are returned separately from the answer, which is stored.
        let (tell, told) = oneshot::channel();
        let work = async move |tx: &mut Tx| {
            let mut written = post.write(tx, &letters).await?;
            let receipt = written.answers.pop().unwrap_or(Err(Error::Stopping))?;
            let _ = tell.send(written);
            Ok::<_, Error>(receipt)
        };
        let done = self.db.write_once(&self.post.clock, Some(once), work).await?;
        if let Ok(written) = told.await {
            self.deliver(written).await;
        }
        Ok(done)
    }

    /// Distribute durable messages to connections.
    async fn deliver(&self, written: Written) -> Vec<Result<Receipt>> {
        am_core::crash_point!("messages.before_push");
        self.metrics.written(&written.answers);
        self.post.hub.push(written.before, written.last, written.pushed);
        written.answers
    }
}

/// Copy an error for each sender.
fn again(error: &am_db::Error) -> am_db::Error {
    match error {
        am_db::Error::Busy => am_db::Error::Busy,
        am_db::Error::Full => am_db::Error::Full,
        _ => am_db::Error::Stopped,
    }
}

/// Number of messages from the first on that are written together: those without an idempotency key, up to the size
/// limit.
fn together(waiting: &[Waiting]) -> usize {
    let mut weight = 0;
    let light = waiting.iter().take_while(|one| {
        weight += one.letter.bytes;
        one.once.is_none() && weight <= WEIGHT
    });
    light.count().max(1)
}
