//! Delivery of messages: over a WebSocket connection if the recipient has one, otherwise when it connects or reads its
//! inbox. A message is sent on each new connection until its recipient acknowledges it, always with the same id and in
//! the order of its channel.

mod connection_hub;
mod cross_process_poller;
mod delivery_session;
mod event_recorder;
mod metrics;
mod model;
mod presence;
mod store;
mod topics;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(super) use connection_hub::{ConnectionHub, OutgoingEntry};
pub use delivery_session::{DeliverySession, ReplySender};
pub use model::{AgentPresence, SocketFrameKind, TopicSubscription};
pub(super) use topics::matching_subscribers;

use self::event_recorder::AckEvent;
use super::{
    encryption::{EncryptionError, EncryptionService},
    error::{CommunicationError, Result},
    message_log::{self, MessageView, StoredMessage},
    model::validate_agent_name,
};
use am_audit::AuditLog;
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::{AgentId, MessageId},
    supervisor::BackgroundTask,
};
use am_db::{Connection, Database};

/// The delivery service. Cheap to clone.
#[derive(Clone)]
pub struct DeliveryService(Arc<DeliveryServiceInner>);

struct DeliveryServiceInner {
    db: Database,
    clock: Clock,
    audit: AuditLog,
    sealing: EncryptionService,
    hub: ConnectionHub,
    /// Name of this process among those with connections.
    process: String,
    limits: DeliveryLimits,
    notes: mpsc::Sender<AckEvent>,
    /// Sessions that are not dropped yet.
    open: AtomicUsize,
    closed: Notify,
    tasks: TaskTracker,
    /// Cancelled to end the background tasks.
    end: CancellationToken,
}

/// Limits of delivery.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLimits {
    /// Maximum number of connections of this process.
    pub connections: usize,
    /// Time after which an agent without a connection is forgotten.
    pub presence_kept: Duration,
}

impl DeliveryService {
    /// What is delivered from `db`, within `limits`, and the tasks that do it. They end with
    /// [`DeliveryService::stop`].
    pub fn open(
        db: Database,
        clock: Clock,
        ids: &IdGenerator,
        audit: AuditLog,
        sealing: EncryptionService,
        limits: DeliveryLimits,
    ) -> (Self, [BackgroundTask; 2]) {
        let (notes, waiting) = mpsc::channel(event_recorder::EVENT_QUEUE_CAPACITY);
        let process = ids.random_id("sockets_", 16);
        let delivery = Self(Arc::new(DeliveryServiceInner {
            db,
            clock,
            audit,
            sealing,
            hub: ConnectionHub::default(),
            process,
            limits,
            notes,
            open: AtomicUsize::new(0),
            closed: Notify::new(),
            tasks: TaskTracker::new(),
            end: CancellationToken::new(),
        }));
        let (tasks, end) = (&delivery.0.tasks, &delivery.0.end);
        let notes = tasks.track_future(delivery.clone().run_event_recorder(waiting, end.clone()));
        let follow = tasks.track_future(delivery.clone().follow(end.clone()));
        let background =
            [BackgroundTask::new("messages.notes", notes), BackgroundTask::new("messages.follower", follow)];
        (delivery, background)
    }

    /// Register the metrics of delivery.
    pub fn register(&self, registry: &mut Registry) {
        self.0.hub.metrics().register(registry);
    }

    pub(super) fn hub(&self) -> &ConnectionHub {
        &self.0.hub
    }

    /// Connect `agent`: the session yields what to send, the other value queues replies.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Invalid`]; [`CommunicationError::LimitReached`] when the maximum number of connections is reached;
    /// [`CommunicationError::Stopping`].
    #[boxed]
    pub async fn connect(&self, agent: &AgentId) -> Result<(DeliverySession, ReplySender)> {
        let agent = validate_agent_name("agent_id", agent)?;
        let last = match self.0.hub.count() {
            0 => message_log::last_id(&mut *self.0.db.read().await?).await?,
            _ => 0,
        };
        let joined = self.0.hub.join(&agent, self.0.limits.connections, last).map_err(|full| match full {
            connection_hub::CapacityError::Stopping => CommunicationError::Stopping,
            full => CommunicationError::LimitReached(full.to_string()),
        })?;
        self.0.open.fetch_add(1, Ordering::AcqRel);
        let first = joined.first;
        let (session, replies) = DeliverySession::new(self.clone(), joined);
        if first {
            self.note(AckEvent::Presence { agent: session.agent().clone(), online: true }).await;
        }
        Ok((session, replies))
    }

    /// Acknowledge messages for `agent`. They are recorded shortly after, in batches; until then they may be sent
    /// again.
    #[boxed]
    pub async fn acknowledge(&self, agent: &AgentId, message_ids: Vec<MessageId>) {
        for message_id in message_ids {
            self.note(AckEvent::Delivered { message_id, agent: agent.clone() }).await;
        }
    }

    async fn note(&self, note: AckEvent) {
        // After the end nothing is recorded, and unrecorded messages are delivered again.
        let _ = self.0.notes.send(note).await;
    }

    fn try_queue_event(&self, note: AckEvent) {
        let _ = self.0.notes.try_send(note);
    }

    /// Decrypt a message; `None` when that fails. A message that was altered after its encryption is marked as failed;
    /// one under a key that is not configured may become readable later.
    async fn opened(&self, conn: &mut Connection, stored: StoredMessage) -> Result<Option<MessageView>> {
        match message_log::decrypt_stored(&self.0.sealing, conn, stored).await? {
            (message, None) => Ok(Some(message)),
            (message, Some(error)) => {
                tracing::warn!(message = message.message_id.as_str(), %error, "a message can't be decrypted for delivery");
                if matches!(error, EncryptionError::Tampered(_)) {
                    let why = error.to_string();
                    self.note(AckEvent::Failed { id: message.id, why }).await;
                }
                Ok(None)
            }
        }
    }

    /// Disconnect all connections, wait until they are closed, and record their events.
    #[boxed]
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
    #[boxed]
    pub async fn finish(&self) {
        self.0.end.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

/// Serialize a message for a connection.
pub(super) fn message_frame(message: &MessageView) -> Bytes {
    #[derive(Serialize)]
    struct MessageFrame<'a> {
        r#type: SocketFrameKind,
        #[serde(flatten)]
        message: &'a MessageView,
    }
    serde_json::to_vec(&MessageFrame { r#type: SocketFrameKind::Message, message })
        .map_or_else(|_| Bytes::new(), Bytes::from)
}
