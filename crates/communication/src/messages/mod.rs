//! Messages: sending, inbox, history, and status.

mod draft_hash;
mod message_writer;
mod metrics;
mod model;
mod send_queue;
mod store;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub(super) use model::IMPORT_ID_PREFIX;
pub use model::{MAX_TTL, MessageDestination, MessageDraft, RejectedRecipient, SendReceipt};

use self::{
    message_writer::{MessageWriter, OutgoingMessage},
    metrics::MessageMetrics,
    send_queue::SendQueue,
};
use super::{
    channels::ChannelService,
    delivery::DeliveryService,
    encryption::EncryptionService,
    error::{CommunicationError, Result},
    message_log::{self, HistoryFilter, MessageView, StoredMessage},
    model::MessageStatus,
    relations::AgentRelations,
};
use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{
    ambient::{Clock, IdGenerator, sleep_or_cancelled},
    boxed,
    ids::{AgentId, MessageId},
};
use am_db::{
    Connection, Database, Tx,
    codec::Timestamp,
    idempotency::{IdempotencyKey, IdempotentResult},
    owner,
    page::PageRequest,
    principal::Principal,
};
use am_ledger::LedgerService;

/// Interval at which expired messages are looked for.
const EXPIRY_POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which idle channels are closed and waiting messages are counted.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(30);
/// Messages marked per transaction.
const EXPIRY_BATCH: i64 = 2000;

/// The messages. Cheap to clone.
#[derive(Clone)]
pub struct MessageService(Arc<MessageServiceInner>);

struct MessageServiceInner {
    db: Database,
    clock: Clock,
    audit: AuditLog,
    sealing: EncryptionService,
    delivery: DeliveryService,
    channels: ChannelService,
    office: SendQueue,
    metrics: MessageMetrics,
}

/// Services that messages depend on.
pub struct MessageServiceParts {
    /// Database of the messages.
    pub db: Database,
    /// Clock of the service.
    pub clock: Clock,
    /// Generator of ids.
    pub ids: IdGenerator,
    /// Log of all changes.
    pub audit: AuditLog,
    /// Ledger in which prices are posted, and whose budgets bind senders.
    pub ledger: LedgerService,
    /// Encryption of the content.
    pub sealing: EncryptionService,
    /// Permissions between agents.
    pub relations: AgentRelations,
    /// Delivery over connections.
    pub delivery: DeliveryService,
    /// Channels of the messages.
    pub channels: ChannelService,
}

impl MessageService {
    /// Create the service, and the task that writes sent messages, which ends after `stop` is cancelled.
    pub fn open(parts: MessageServiceParts, stop: CancellationToken) -> (Self, impl Future<Output = ()>) {
        let MessageServiceParts { db, clock, ids, audit, ledger, sealing, relations, delivery, channels } = parts;
        let metrics = MessageMetrics::default();
        let post = MessageWriter {
            clock: clock.clone(),
            ids,
            audit: audit.clone(),
            ledger,
            sealing: sealing.clone(),
            relations,
            hub: delivery.hub().clone(),
            delivery: delivery.clone(),
        };
        let (office, work) = SendQueue::open(db.clone(), post, metrics.clone(), stop);
        (Self(Arc::new(MessageServiceInner { db, clock, audit, sealing, delivery, channels, office, metrics })), work)
    }

    /// Register the metrics of messages.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.0.metrics.register(registry);
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// Send a message; returns when it is durable.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Invalid`]; [`CommunicationError::Refused`] when the sender may not write to the recipient; [`CommunicationError::EncryptionFailed`];
    /// [`CommunicationError::NotFound`], [`CommunicationError::InvalidState`] and [`CommunicationError::Forbidden`] of a channel; [`CommunicationError::Conflict`] for an id that
    /// another sender used.
    #[boxed]
    pub async fn send(
        &self,
        by: &Principal,
        draft: MessageDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<SendReceipt>> {
        self.hand_in(by, draft, once).await?.await.unwrap_or(Err(CommunicationError::Stopping))
    }

    /// Queue a message and return a receiver for its receipt.
    ///
    /// # Errors
    /// Returns [`CommunicationError::Invalid`], also for a signature that is not good; other errors come with the receipt.
    #[boxed]
    pub async fn hand_in(
        &self,
        by: &Principal,
        draft: MessageDraft,
        once: Option<IdempotencyKey>,
    ) -> Result<oneshot::Receiver<Result<IdempotentResult<SendReceipt>>>> {
        let (draft, bytes) = draft.checked()?;
        // A repeated request is answered as before, though its signature may be too old by now.
        if let Some((message, signature)) = draft.signed()
            && self.0.db.answered::<SendReceipt>(&self.0.clock, once.as_ref()).await?.is_none()
        {
            self.0.sealing.check_signature(&message, signature).await?;
        }
        self.0.office.hand_in(OutgoingMessage { draft, bytes, by: by.clone() }, once).await
    }

    /// Inbox of `agent`: with `unread_only` unread messages after number `from`, oldest first; otherwise all messages
    /// before it, newest first. Returned messages count as delivered.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn inbox(
        &self,
        agent: &AgentId,
        unread_only: bool,
        from: Option<i64>,
        limit: u32,
    ) -> Result<Vec<MessageView>> {
        let now = self.now();
        let (mut messages, mut came) = (Vec::new(), Vec::new());
        let mut conn = self.0.db.read().await?;
        for stored in message_log::read_inbox(&mut conn, agent, unread_only, from, i64::from(limit)).await? {
            let mut message = self.opened(&mut conn, stored).await?;
            if message.status == MessageStatus::Pending {
                if message.expires_at <= now || message.failure.is_some() {
                    continue;
                }
                came.push(message.id);
                (message.status, message.delivered_at) = (MessageStatus::Delivered, Some(now));
            }
            messages.push(message);
        }
        drop(conn);
        if !came.is_empty() {
            self.0.db.write(async move |tx: &mut Tx| message_log::mark_delivered(tx, &came, now).await).await?;
        }
        Ok(messages)
    }

    /// A page of the history, newest first, and the total number of matches.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn past(&self, past: &HistoryFilter, page: &PageRequest) -> Result<(Vec<MessageView>, i64)> {
        let mut conn = self.0.db.read_list().await?;
        let (found, total) = message_log::read_history(&mut conn, past, page).await?;
        let mut messages = Vec::with_capacity(found.len());
        for stored in found {
            messages.push(self.opened(&mut conn, stored).await?);
        }
        Ok((messages, total))
    }

    /// A message by its id, from `sender` if given, and from or to `party` if given.
    ///
    /// # Errors
    /// Returns [`CommunicationError::NotFound`] when it does not exist, also for one that `party` neither sent nor
    /// received; [`CommunicationError::Conflict`] without a sender when several agents used the id.
    #[boxed]
    pub async fn get(
        &self,
        message_id: &MessageId,
        sender: Option<&AgentId>,
        party: Option<&AgentId>,
    ) -> Result<MessageView> {
        let mut conn = self.0.db.read().await?;
        let received = message_log::get_message(&mut conn, message_id, sender, party).await;
        let stored = match (received, party) {
            (Err(CommunicationError::NotFound(_)), Some(party)) if sender.is_none_or(|named| named == party) => {
                message_log::get_message(&mut conn, message_id, Some(party), None).await?
            }
            (received, _) => received?,
        };
        self.opened(&mut conn, stored).await
    }

    /// Mark a message as read by its recipient `agent`, from `sender` if given. Repeating it changes nothing.
    ///
    /// # Errors
    /// Returns [`CommunicationError::NotFound`], also for a message to another agent than `agent`; [`CommunicationError::InvalidState`] for one that has
    /// expired or failed; [`CommunicationError::Conflict`] as in [`MessageService::get`].
    #[boxed]
    pub async fn read(
        &self,
        by: &Principal,
        agent: Option<&AgentId>,
        sender: Option<&AgentId>,
        message_id: &MessageId,
        once: Option<IdempotencyKey>,
    ) -> Result<IdempotentResult<MessageStatus>> {
        let (agent, sender, id) = (agent.cloned(), sender.cloned(), message_id.clone());
        let by = by.clone();
        let (now, audit) = (self.now(), self.0.audit.clone());
        let work = async move |tx: &mut Tx| {
            let (from, to) = (sender.as_ref(), agent.as_ref());
            let before = message_log::get_message(tx.conn().await?, &id, from, to).await?.message;
            let late = before.status == MessageStatus::Pending && before.expires_at <= now;
            if late || matches!(before.status, MessageStatus::Expired | MessageStatus::Failed) {
                let status = if late { MessageStatus::Expired } else { before.status };
                return Err(CommunicationError::InvalidState(format!("the message has {status}")));
            }
            if message_log::mark_read(tx, before.id, now).await? {
                let entry = AuditEntry::new(EventType::WorkflowUpdated, now).of("message", "read").by(&by);
                let entry = entry.data("message_id", json!(id)).data("recipient", json!(before.recipient));
                let change = |status: MessageStatus| Some(json!({"status": status}));
                audit.append(tx, vec![entry.change(change(before.status), change(MessageStatus::Read))]).await?;
            }
            Ok(MessageStatus::Read)
        };
        self.0.db.write_idempotent(&self.0.clock, once, work).await
    }

    async fn opened(&self, conn: &mut Connection, stored: StoredMessage) -> Result<MessageView> {
        match message_log::decrypt_stored(&self.0.sealing, conn, stored).await? {
            (message, None) => Ok(message),
            (message, Some(error)) => {
                tracing::warn!(message = message.message_id.as_str(), %error, "a message can't be decrypted");
                Ok(MessageView { failure: Some(error.to_string()), ..message })
            }
        }
    }

    /// Mark expired messages and close idle channels, until `stop` is cancelled.
    #[boxed]
    pub async fn work(self, stop: CancellationToken) {
        let mut kept = tokio::time::Instant::now().checked_sub(MAINTENANCE_INTERVAL);
        while sleep_or_cancelled(&stop, EXPIRY_POLL_INTERVAL).await {
            if let Err(error) = self.expire().await {
                tracing::warn!(%error, "could not mark expired messages");
            }
            if kept.is_none_or(|at| at.elapsed() >= MAINTENANCE_INTERVAL) {
                kept = Some(tokio::time::Instant::now());
                if let Err(error) = self.keep_house().await {
                    tracing::warn!(%error, "could not close idle channels or forget absent agents");
                }
            }
        }
    }

    async fn keep_house(&self) -> Result<()> {
        self.0.metrics.waiting.set(message_log::count_pending(&mut *self.0.db.read_list().await?).await?);
        while let (_, true) = self.0.channels.close_idle().await? {}
        self.0.delivery.forget_absent().await?;
        Ok(())
    }

    async fn expire(&self) -> Result<()> {
        let now = self.now();
        while message_log::has_expired(&mut *self.0.db.read().await?, now).await? {
            let audit = self.0.audit.clone();
            let marked = self.0.db.write(async move |tx: &mut Tx| {
                let marked = message_log::mark_expired(tx, now, EXPIRY_BATCH).await?;
                let entry = AuditEntry::new(EventType::WorkflowUpdated, now)
                    .of("message", "expired")
                    .on_behalf_of(owner::SYSTEM_PRINCIPAL);
                audit.append(tx, vec![entry.data("count", json!(marked))]).await?;
                Ok::<_, CommunicationError>(marked)
            });
            self.0.metrics.expired.inc_by(marked.await?);
        }
        Ok(())
    }

    /// The delivery service.
    pub fn delivery(&self) -> &DeliveryService {
        &self.0.delivery
    }
}
