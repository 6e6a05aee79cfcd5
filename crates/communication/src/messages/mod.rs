//! Messages: sending, inbox, history, and status.

mod metrics;
mod model;
mod office;
mod post;
mod state;
mod store;

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub use model::{Draft, LONGEST_TTL, LeftOut, Message, Past, Receipt, To, checked_topic};
pub(super) use store::{
    Stored, by_message_ids, delivered, failed, last_id, of_agent, pending, push, recipients_after, waiting,
};

use self::{
    metrics::Metrics,
    office::Office,
    post::{Letter, Post},
};
use super::{
    channels::Channels,
    delivery::Delivery,
    error::{Error, Result},
    model::MessageStatus,
    relations::Relations,
    sealing::{SealError, Sealing},
};
use am_audit::{Audit, Entry, EventType};
use am_core::ambient::{Clock, Ids, pause};
use am_db::{
    Connection, Database, Tx,
    codec::Timestamp,
    once::{Done, Once},
    owner,
    page::Page,
    principal::Principal,
};

/// Interval at which expired messages are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// Interval at which idle channels are closed and waiting messages are counted.
const HOUSEKEEPING: Duration = Duration::from_secs(30);
/// Messages marked per transaction.
const AT_ONCE: i64 = 2000;

/// The messages. Cheap to clone.
#[derive(Clone)]
pub struct Messages(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    audit: Audit,
    sealing: Sealing,
    delivery: Delivery,
    channels: Channels,
    office: Office,
    metrics: Metrics,
}

/// Services that messages depend on.
pub struct Parts {
    /// Database of the messages.
    pub db: Database,
    /// Clock of the service.
    pub clock: Clock,
    /// Generator of ids.
    pub ids: Ids,
    /// Log of all changes.
    pub audit: Audit,
    /// Encryption of the content.
    pub sealing: Sealing,
    /// Permissions between agents.
    pub relations: Relations,
    /// Delivery over connections.
    pub delivery: Delivery,
    /// Channels of the messages.
    pub channels: Channels,
}

impl Messages {
    /// Create the service, and the task that writes sent messages, which ends after `stop` is cancelled.
    pub fn open(parts: Parts, stop: CancellationToken) -> (Self, impl Future<Output = ()>) {
        let Parts { db, clock, ids, audit, sealing, relations, delivery, channels } = parts;
        let metrics = Metrics::default();
        let post = Post {
            clock: clock.clone(),
            ids,
            audit: audit.clone(),
            sealing: sealing.clone(),
            relations,
            hub: delivery.hub().clone(),
        };
        let (office, work) = Office::open(db.clone(), post, metrics.clone(), stop);
        (Self(Arc::new(Inner { db, clock, audit, sealing, delivery, channels, office, metrics })), work)
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
    /// Returns [`Error::Invalid`]; [`Error::Refused`] when the sender may not write to the recipient; [`Error::Seal`];
    /// [`Error::NotFound`], [`Error::State`] and [`Error::Forbidden`] of a channel; [`Error::Conflict`] for an id that
    /// another sender used.
    pub async fn send(&self, by: &Principal, draft: Draft, once: Option<Once>) -> Result<Done<Receipt>> {
        self.hand_in(by, draft, once).await?.await.unwrap_or(Err(Error::Stopping))
    }

    /// Queue a message and return a receiver for its receipt.
    ///
    /// # Errors
    /// Returns [`Error::Invalid`]; other errors come with the receipt.
    pub async fn hand_in(
        &self,
        by: &Principal,
        draft: Draft,
        once: Option<Once>,
    ) -> Result<oneshot::Receiver<Result<Done<Receipt>>>> {
        let (draft, bytes) = draft.checked()?;
        self.0.office.hand_in(Letter { draft, bytes, by: by.clone() }, once).await
    }

    /// Inbox of `agent`: with `unread_only` unread messages after number `from`, oldest first; otherwise all messages
    /// before it, newest first. Returned messages count as delivered.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub async fn inbox(&self, agent: &str, unread_only: bool, from: Option<i64>, limit: u32) -> Result<Vec<Message>> {
        let (now, mut messages, mut came) = (self.now(), Vec::new(), Vec::new());
        let mut conn = self.0.db.read().await?;
        for stored in store::inbox(&mut conn, agent, unread_only, from, i64::from(limit)).await? {
            let mut message = self.opened(&mut conn, stored).await?;
            if message.status == MessageStatus::Pending {
                if message.expires_at <= now || message.failure.is_some() {
                    continue;
                }
                came.push((message.message_id.clone(), message.recipient.clone()));
                (message.status, message.delivered_at) = (MessageStatus::Delivered, Some(now));
            }
            messages.push(message);
        }
        drop(conn);
        if !came.is_empty() {
            self.0.db.write(async move |tx: &mut Tx| store::delivered(tx, &came, now).await).await?;
        }
        Ok(messages)
    }

    /// A page of the history, newest first, and the total number of matches.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub async fn past(&self, past: &Past, page: &Page) -> Result<(Vec<Message>, i64)> {
        let mut conn = self.0.db.read().await?;
        let (found, total) = store::past(&mut conn, past, page).await?;
        let mut messages = Vec::with_capacity(found.len());
        for stored in found {
            messages.push(self.opened(&mut conn, stored).await?);
        }
        Ok((messages, total))
    }

    /// A message by its id.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`] when it does not exist.
    pub async fn get(&self, message_id: &str) -> Result<Message> {
        let mut conn = self.0.db.read().await?;
        let stored = store::get(&mut conn, message_id).await?.ok_or(Error::NotFound("Message"))?;
        self.opened(&mut conn, stored).await
    }

    /// Mark a message as read by its recipient. Repeating it changes nothing.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`], also for a message to another agent than `agent`; [`Error::State`] for one that has
    /// expired or failed.
    pub async fn read(
        &self,
        by: &Principal,
        agent: Option<&str>,
        message_id: &str,
        once: Option<Once>,
    ) -> Result<Done<MessageStatus>> {
        let (by, agent, id) = (by.clone(), agent.map(str::to_owned), message_id.to_owned());
        let (now, audit) = (self.now(), self.0.audit.clone());
        let work = async move |tx: &mut Tx| {
            let found = store::get(tx.conn().await?, &id).await?;
            let found = found.filter(|stored| agent.as_ref().is_none_or(|agent| *agent == stored.message.recipient));
            let before = found.ok_or(Error::NotFound("Message"))?.message;
            let late = before.status == MessageStatus::Pending && before.expires_at <= now;
            if late || matches!(before.status, MessageStatus::Expired | MessageStatus::Failed) {
                let status = if late { MessageStatus::Expired } else { before.status };
                return Err(Error::State(format!("the message has {status}")));
            }
            if store::read(tx, &id, now).await? {
                let entry = Entry::new(EventType::WorkflowUpdated, now).of("message", "read").by(&by);
                let entry = entry.data("message_id", json!(id)).data("recipient", json!(before.recipient));
                let change = |status: MessageStatus| Some(json!({"status": status}));
                audit.append(tx, vec![entry.change(change(before.status), change(MessageStatus::Read))]).await?;
            }
            Ok(MessageStatus::Read)
        };
        self.0.db.write_once(&self.0.clock, once, work).await
    }

    async fn opened(&self, conn: &mut Connection, stored: Stored) -> Result<Message> {
        match opened(&self.0.sealing, conn, stored).await? {
            (message, None) => Ok(message),
            (message, Some(error)) => {
                tracing::warn!(message = message.message_id, %error, "a message can't be decrypted");
                Ok(Message { failure: Some(error.to_string()), ..message })
            }
        }
    }

    /// Mark expired messages and close idle channels, until `stop` is cancelled.
    pub async fn work(self, stop: CancellationToken) {
        let mut kept = tokio::time::Instant::now().checked_sub(HOUSEKEEPING);
        while pause(&stop, LOOK).await {
            if let Err(error) = self.expire().await {
                tracing::warn!(%error, "could not mark expired messages");
            }
            if kept.is_none_or(|at| at.elapsed() >= HOUSEKEEPING) {
                kept = Some(tokio::time::Instant::now());
                if let Err(error) = self.keep_house().await {
                    tracing::warn!(%error, "could not close idle channels");
                }
            }
        }
    }

    async fn keep_house(&self) -> Result<()> {
        self.0.metrics.waiting.set(store::waiting_count(&mut *self.0.db.read().await?).await?);
        while let (_, true) = self.0.channels.close_idle().await? {}
        Ok(())
    }

    async fn expire(&self) -> Result<()> {
        let now = self.now();
        while store::has_expired(&mut *self.0.db.read().await?, now).await? {
            let audit = self.0.audit.clone();
            let marked = self.0.db.write(async move |tx: &mut Tx| {
                let marked = store::expire(tx, now, AT_ONCE).await?;
                let entry =
                    Entry::new(EventType::WorkflowUpdated, now).of("message", "expired").on_behalf_of(owner::SYSTEM);
                audit.append(tx, vec![entry.data("count", json!(marked))]).await?;
                Ok::<_, Error>(marked)
            });
            self.0.metrics.expired.inc_by(marked.await?);
        }
        Ok(())
    }

    /// The delivery service.
    pub fn delivery(&self) -> &Delivery {
        &self.0.delivery
    }
}

/// A message with its decrypted content, or without content and with the error.
pub(super) async fn opened(
    sealing: &Sealing,
    conn: &mut Connection,
    stored: Stored,
) -> Result<(Message, Option<SealError>)> {
    let result = sealing.open(conn, &stored.sealed, &stored.bound()).await;
    match result {
        Ok(content) => Ok((Message { content: content.into_value(), ..stored.message }, None)),
        Err(SealError::Db(error)) => Err(error.into()),
        Err(error) => Ok((stored.message, Some(error))),
    }
}
