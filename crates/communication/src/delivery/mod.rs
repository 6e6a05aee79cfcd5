//! Delivery of messages: over a WebSocket connection if the recipient has one, otherwise when it connects or reads its
//! inbox. A message is sent on each new connection until its recipient acknowledges it, always with the same id and in
//! the order of its channel.

mod follow;
mod hub;
mod metrics;
mod notes;
mod presence;
mod session;
mod store;
mod topics;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(super) use hub::{Hub, Pushed};
pub use presence::Presence;
pub use session::{Replies, Session};
pub(super) use store::everybody;
pub use topics::Subscription;
pub(super) use topics::subscribers;

use self::notes::Note;
use super::{
    error::{Error, Result},
    messages::{self, Message, Stored},
    model::agent_id,
    sealing::{SealError, Sealing},
};
use am_audit::Audit;
use am_core::{
    ambient::{Clock, Ids},
    supervisor::BackgroundTask,
};
use am_db::{Connection, Database};

/// The delivery service. Cheap to clone.
#[derive(Clone)]
pub struct Delivery(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    audit: Audit,
    sealing: Sealing,
    hub: Hub,
    /// Name of this process among those with connections.
    process: String,
    /// Maximum number of connections of this process.
    most: usize,
    notes: mpsc::Sender<Note>,
    /// Sessions that are not dropped yet.
    open: AtomicUsize,
    closed: Notify,
    tasks: TaskTracker,
    /// Cancelled to end the background tasks.
    end: CancellationToken,
}

impl Delivery {
    /// What is delivered from `db`, to at most `most` sockets of this process, and the tasks that do it. They end with
    /// [`Delivery::stop`].
    pub fn open(
        (db, clock, ids): (Database, Clock, &Ids),
        audit: Audit,
        sealing: Sealing,
        most: usize,
    ) -> (Self, [BackgroundTask; 2]) {
        let (notes, waiting) = mpsc::channel(notes::QUEUE);
        let (hub, open, closed, tasks, end) = Default::default();
        let process = ids.prefixed("sockets_", 16);
        let delivery =
            Self(Arc::new(Inner { db, clock, audit, sealing, hub, process, most, notes, open, closed, tasks, end }));
        let (tasks, end) = (&delivery.0.tasks, &delivery.0.end);
        let notes = tasks.track_future(delivery.clone().take_notes(waiting, end.clone()));
        let follow = tasks.track_future(delivery.clone().follow(end.clone()));
        let background =
            [BackgroundTask::new("messages.notes", notes), BackgroundTask::new("messages.follower", follow)];
        (delivery, background)
    }

    /// Register the metrics of delivery.
    pub fn register(&self, registry: &mut Registry) {
        self.0.hub.metrics().register(registry);
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// Connect `agent`: the session yields what to send, the other value queues replies.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`]; [`Error::Busy`] when the maximum number of connections is reached;
    /// [`Error::Stopping`].
    pub async fn connect(&self, agent: &str) -> Result<(Session, Replies)> {
        let agent = agent_id("agent_id", agent)?;
        let last = match self.0.hub.count() {
            0 => messages::last_id(&mut *self.0.db.read().await?).await?,
            _ => 0,
        };
        let joined = self.0.hub.join(&agent, self.0.most, last).map_err(|full| match full {
            hub::Full::Stopping => Error::Stopping,
            full => Error::Busy(full.to_string()),
        })?;
        self.0.open.fetch_add(1, Ordering::AcqRel);
        let first = joined.first;
        let (session, replies) = Session::new(self.clone(), joined);
        if first {
            self.note(Note::Presence { agent: session.agent().clone(), online: true }).await;
        }
        Ok((session, replies))
    }

    /// Acknowledge messages for `agent`. They are recorded shortly after, in batches; until then they may be sent
    /// again.
    pub async fn acknowledge(&self, agent: &Arc<str>, message_ids: Vec<String>) {
        for message_id in message_ids {
            self.note(Note::Came { message_id, agent: agent.clone() }).await;
        }
    }

    async fn note(&self, note: Note) {
        // After the end nothing is recorded, and unrecorded messages are delivered again.
        let _ = self.0.notes.send(note).await;
    }

    fn note_at_once(&self, note: Note) {
        let _ = self.0.notes.try_send(note);
    }

    /// Decrypt a message; `None` when that fails. A message that was altered after its encryption is marked as failed;
    /// one under a key that is not configured may become readable later.
    async fn opened(&self, conn: &mut Connection, stored: Stored) -> Result<Option<Message>> {
        match messages::opened(&self.0.sealing, conn, stored).await? {
            (message, None) => Ok(Some(message)),
            (message, Some(error)) => {
                tracing::warn!(message = message.message_id, %error, "a message can't be decrypted for delivery");
                if matches!(error, SealError::Tampered(_)) {
                    let why = error.to_string();
                    self.note(Note::Failed { message_id: message.message_id, why }).await;
                }
                Ok(None)
            }
        }
    }

    /// Disconnect all connections, wait until they are closed, and record their events.
    pub async fn stop(&self) {
        self.0.hub.stop();
        loop {
            let closed = self.0.closed.notified();
            if self.0.open.load(Ordering::Acquire) == 0 {
                break;
            }
            closed.await;
        }
        self.finish().await;
    }

    /// Stop without waiting for connections.
    pub async fn finish(&self) {
        self.0.end.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

/// Serialize a message for a connection.
pub(super) fn frame(message: &Message) -> Bytes {
    #[derive(Serialize)]
    struct Frame<'a> {
        r#type: &'static str,
        #[serde(flatten)]
        message: &'a Message,
    }
    serde_json::to_vec(&Frame { r#type: "message", message }).map_or_else(|_| Bytes::new(), Bytes::from)
}
