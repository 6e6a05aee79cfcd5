//! Delivery: over a socket where the recipient has one, else when it opens one or looks into its inbox. A message is sent
//! again on each new socket until its recipient acknowledges it, always under the same id, and in the order of its channel.

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
use am_core::ambient::{Clock, Ids};
use am_db::{Connection, Database};

/// The way to sockets. Cheap to clone.
#[derive(Clone)]
pub struct Delivery(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    audit: Audit,
    sealing: Sealing,
    hub: Hub,
    /// What this process is called among those that hold sockets.
    process: String,
    /// Sockets of this process at most.
    most: usize,
    notes: mpsc::Sender<Note>,
    /// Sessions that are not dropped yet.
    open: AtomicUsize,
    closed: Notify,
    tasks: TaskTracker,
    /// Ends the tasks.
    end: CancellationToken,
}

impl Delivery {
    /// What is delivered from `db`, to at most `most` sockets of this process.
    pub fn open((db, clock, ids): (Database, Clock, &Ids), audit: Audit, sealing: Sealing, most: usize) -> Self {
        let (notes, waiting) = mpsc::channel(notes::QUEUE);
        let (hub, open, closed, tasks, end) = Default::default();
        let process = ids.prefixed("sockets_", 16);
        let delivery =
            Self(Arc::new(Inner { db, clock, audit, sealing, hub, process, most, notes, open, closed, tasks, end }));
        delivery.0.tasks.spawn(delivery.clone().take_notes(waiting, delivery.0.end.clone()));
        delivery.0.tasks.spawn(delivery.clone().follow(delivery.0.end.clone()));
        delivery
    }

    /// Add the room's metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.0.hub.metrics().register(registry);
    }

    pub(super) fn hub(&self) -> &Hub {
        &self.0.hub
    }

    /// A socket of `agent`: what it is to be sent, and the way of answers to it.
    ///
    /// # Errors
    /// [`Error::Invalid`]; [`Error::Busy`] when there are as many as there may be; [`Error::Stopping`].
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

    /// `agent` has got these messages. Noted soon, and together with others'; until then they may come again.
    pub async fn acknowledge(&self, agent: &Arc<str>, message_ids: Vec<String>) {
        for message_id in message_ids {
            self.note(Note::Came { message_id, agent: agent.clone() }).await;
        }
    }

    async fn note(&self, note: Note) {
        // After the end nothing is noted any more, and what came is delivered again.
        let _ = self.0.notes.send(note).await;
    }

    fn note_at_once(&self, note: Note) {
        let _ = self.0.notes.try_send(note);
    }

    /// A message with its content; none: it can't be opened. What was changed since it was sealed never can be, and is
    /// marked; what is under a key that is not configured may be once it is.
    async fn opened(&self, conn: &mut Connection, stored: Stored) -> Result<Option<Message>> {
        match messages::opened(&self.0.sealing, conn, stored).await? {
            (message, None) => Ok(Some(message)),
            (message, Some(error)) => {
                tracing::warn!(message = message.message_id, %error, "a message can't be opened for delivery");
                if matches!(error, SealError::Tampered(_)) {
                    let why = error.to_string();
                    self.note(Note::Failed { message_id: message.message_id, why }).await;
                }
                Ok(None)
            }
        }
    }

    /// Let every socket go, wait until they are closed, and note what they brought about.
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

    /// End without waiting for sockets.
    pub async fn finish(&self) {
        self.0.end.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

/// A message as a socket is sent it.
pub(super) fn frame(message: &Message) -> Bytes {
    #[derive(Serialize)]
    struct Frame<'a> {
        r#type: &'static str,
        #[serde(flatten)]
        message: &'a Message,
    }
    serde_json::to_vec(&Frame { r#type: "message", message }).map_or_else(|_| Bytes::new(), Bytes::from)
}
