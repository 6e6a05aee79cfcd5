//! Where bridges and trainers meet: the socket's task on one side, the trainer's thread on the other.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    super::EnvironmentError,
    frames::{FAILED, FrameHead, read_failed},
};
use am_core::{boxed, ids::TrainingRunId};

/// Commands that wait to be sent: one that is answered, and those without an answer before it.
const MAX_WAITING_COMMANDS: usize = 64;
/// Answers that wait for the trainer: one for each command under way, and those that came after a trainer had given up.
pub(super) const MAX_WAITING_ANSWERS: usize = 4;
/// How often a trainer that waits looks whether it is asked to stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Says whether a trainer that has waited so long for an answer is to wait no more.
pub(super) type InterruptCheck = dyn Fn(Duration) -> bool + Send + Sync;

/// What a trainer sees of a bridge.
pub(super) struct BridgeConnection {
    commands: mpsc::Sender<Bytes>,
    answers: Mutex<AnswerQueue>,
    /// Cancelled when another bridge takes its place.
    replaced: CancellationToken,
}

/// The trainer's end of the answers.
struct AnswerQueue {
    receiver: Receiver<Bytes>,
    /// Number of the last command.
    sequence: u32,
    /// Number of the last vector.
    vectors: u32,
}

/// The bridges that are connected to this process, by run.
#[derive(Clone, Default)]
pub struct BridgeHub(Arc<Mutex<HashMap<TrainingRunId, Arc<BridgeConnection>>>>);

/// Why what a bridge sent is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeFault {
    /// It answers what it was not asked.
    Unasked,
    /// The trainer's side is gone.
    Gone,
}

/// What the task of a bridge's socket is to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BridgeCommand {
    /// Send this frame.
    Send(Bytes),
    /// Close the socket: another bridge of the run has taken its place.
    Replaced,
}

/// The side of a bridge's socket. Dropped, the bridge is gone.
pub struct BridgePeer {
    hub: BridgeHub,
    run: TrainingRunId,
    connection: Arc<BridgeConnection>,
    commands: mpsc::Receiver<Bytes>,
    answers: SyncSender<Bytes>,
}

impl BridgeHub {
    /// Connect a bridge to `run`, in place of one that is connected. `None`: `most` runs have one already.
    pub fn connect(&self, run: &TrainingRunId, most: usize) -> Option<BridgePeer> {
        let (commands, sent) = mpsc::channel(MAX_WAITING_COMMANDS);
        let (answers, receiver) = sync_channel(MAX_WAITING_ANSWERS);
        let answered = Mutex::new(AnswerQueue { receiver, sequence: 0, vectors: 0 });
        let connection = Arc::new(BridgeConnection { commands, answers: answered, replaced: CancellationToken::new() });
        let mut connected = self.0.lock();
        if connected.len() >= most && !connected.contains_key(run) {
            return None;
        }
        if let Some(old) = connected.insert(run.clone(), connection.clone()) {
            old.replaced.cancel();
        }
        drop(connected);
        Some(BridgePeer { hub: self.clone(), run: run.clone(), connection, commands: sent, answers })
    }

    /// Number of bridges.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether `run` has a bridge in this process.
    pub fn is_connected(&self, run: &TrainingRunId) -> bool {
        self.0.lock().contains_key(run)
    }

    /// The connection of `run`.
    pub(super) fn connection(&self, run: &TrainingRunId) -> Option<Arc<BridgeConnection>> {
        self.0.lock().get(run).cloned()
    }
}

impl BridgePeer {
    /// Wait for what to do next. It may be cancelled.
    #[boxed]
    pub async fn next_command(&mut self) -> BridgeCommand {
        tokio::select! {
            biased;
            () = self.connection.replaced.cancelled() => BridgeCommand::Replaced,
            frame = self.commands.recv() => frame.map_or(BridgeCommand::Replaced, BridgeCommand::Send),
        }
    }

    /// Pass a frame that came to the trainer.
    ///
    /// # Errors
    /// [`BridgeFault::Unasked`] when more come than were asked for; the bridge is to be closed.
    pub fn hand_in(&self, frame: Bytes) -> Result<(), BridgeFault> {
        self.answers.try_send(frame).map_err(|error| match error {
            TrySendError::Full(_) => BridgeFault::Unasked,
            TrySendError::Disconnected(_) => BridgeFault::Gone,
        })
    }
}

impl Drop for BridgePeer {
    fn drop(&mut self) {
        let mut connected = self.hub.0.lock();
        if connected.get(&self.run).is_some_and(|present| Arc::ptr_eq(present, &self.connection)) {
            connected.remove(&self.run);
        }
    }
}

fn gone() -> EnvironmentError {
    EnvironmentError::BridgeGone("the bridge is gone".to_owned())
}

impl BridgeConnection {
    /// Draw the number of a new vector.
    pub(super) fn new_vector(&self) -> u32 {
        let mut queue = self.answers.lock();
        queue.vectors = queue.vectors.wrapping_add(1);
        queue.vectors
    }

    /// Send a frame that is not answered; that it cannot be sent shows with the next one.
    pub(super) fn tell(&self, head: FrameHead) {
        let _ = self.commands.try_send(head.bare().into());
    }

    /// Send the frame that `make` builds. Returns its number.
    pub(super) fn send(
        &self,
        head: FrameHead,
        make: impl FnOnce(FrameHead) -> Vec<u8>,
    ) -> Result<u32, EnvironmentError> {
        let mut queue = self.answers.lock();
        queue.sequence = queue.sequence.wrapping_add(1);
        let head = FrameHead { sequence: queue.sequence, ..head };
        self.commands.try_send(make(head).into()).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => gone(),
            mpsc::error::TrySendError::Full(_) => {
                EnvironmentError::Bridge("it takes none of the frames that it is sent".to_owned())
            }
        })?;
        Ok(head.sequence)
    }

    /// Wait for the answer to frame `sequence`, at most for `patience`, or until `interrupted`. Frames are answered in their order.
    pub(super) fn receive(
        &self,
        sequence: u32,
        patience: Duration,
        interrupted: &InterruptCheck,
    ) -> Result<Bytes, EnvironmentError> {
        let queue = self.answers.lock();
        let begun = Instant::now();
        loop {
            match queue.receiver.recv_timeout(LOOK_INTERVAL) {
                Ok(frame) => {
                    let (answer, rows) = FrameHead::read(&frame).map_err(EnvironmentError::bridge_sent)?;
                    if answer.kind == FAILED {
                        return Err(EnvironmentError::Bridge(format!("it says: {}", read_failed(rows))));
                    }
                    // An answer to what a trainer before this one asked and did not wait for.
                    let late = sequence.wrapping_sub(answer.sequence);
                    if late != 0 && late < u32::MAX / 2 {
                        continue;
                    }
                    if answer.sequence != sequence {
                        return Err(EnvironmentError::bridge_sent("an answer to what it was not asked".to_owned()));
                    }
                    return Ok(frame);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
                Err(RecvTimeoutError::Timeout) if interrupted(begun.elapsed()) => {
                    return Err(EnvironmentError::BridgeGone(
                        "the run was asked to stop while its bridge was silent".into(),
                    ));
                }
                Err(RecvTimeoutError::Timeout) if begun.elapsed() >= patience => {
                    let seconds = patience.as_secs_f64();
                    return Err(EnvironmentError::Bridge(format!("it did not answer within {seconds} s")));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
