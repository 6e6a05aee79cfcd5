//! A session: the messages and replies for one connection.

use std::{collections::VecDeque, sync::atomic::Ordering};

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::{
    DeliveryService,
    connection_hub::{AgentConnection, OutboundFrame},
    event_recorder::AckEvent,
    message_frame,
};
use crate::{error::Result, message_log};
use am_core::boxed;
use am_core::ids::AgentId;
use am_db::codec::Timestamp;

/// Messages read per query.
const SESSION_READ_BATCH: i64 = 50;

/// Stream of what a connection is to send, in order.
pub struct DeliverySession {
    delivery: DeliveryService,
    joined: AgentConnection,
    /// Number of the last message returned.
    cursor: i64,
    /// Messages that were read and not returned yet.
    page: VecDeque<(i64, Bytes)>,
    behind: bool,
}

/// Sender of replies to a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReplySender(mpsc::WeakSender<OutboundFrame>);

impl ReplySender {
    /// Queue a reply, waiting while the queue is full. Returns false when the connection is being closed.
    pub async fn send(&self, answer: impl Into<Bytes>) -> bool {
        match self.0.upgrade() {
            Some(queue) => queue.send(OutboundFrame::Reply(answer.into())).await.is_ok(),
            None => false,
        }
    }
}

impl DeliverySession {
    pub(super) fn new(delivery: DeliveryService, joined: AgentConnection) -> (Self, ReplySender) {
        let replies = ReplySender(joined.sender.clone());
        (Self { delivery, joined, cursor: 0, page: VecDeque::new(), behind: true }, replies)
    }

    /// Name of the connected agent.
    pub fn agent(&self) -> &AgentId {
        &self.joined.agent
    }

    /// The next message or reply, if one is available without waiting.
    pub fn ready(&mut self) -> Option<Bytes> {
        if let Some((id, frame)) = self.page.pop_front() {
            self.cursor = id;
            return Some(frame);
        }
        loop {
            match self.joined.receiver.try_recv() {
                Ok(out) => {
                    if let Some(frame) = self.taken(out) {
                        return Some(frame);
                    }
                }
                Err(_) => return None,
            }
        }
    }

    /// Wait for the next message or reply; `None` when the service closes its connections.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some((id, frame)) = self.page.pop_front() {
                self.cursor = id;
                return Ok(Some(frame));
            }
            let out = if self.behind || !self.joined.live.load(Ordering::Acquire) {
                match self.joined.receiver.try_recv() {
                    Ok(out) => Some(out),
                    Err(TryRecvError::Disconnected) => return Ok(None),
                    Err(TryRecvError::Empty) => {
                        self.behind = true;
                        self.catch_up().await?;
                        None
                    }
                }
            } else {
                match self.joined.receiver.recv().await {
                    Some(out) => Some(out),
                    None => return Ok(None),
                }
            };
            if let Some(frame) = out.and_then(|out| self.taken(out)) {
                return Ok(Some(frame));
            }
        }
    }

    /// Take an entry of the queue, unless it is a message that was read from the database already.
    fn taken(&mut self, out: OutboundFrame) -> Option<Bytes> {
        match out {
            OutboundFrame::Reply(frame) => Some(frame),
            OutboundFrame::Message(id, frame) if id > self.cursor => {
                self.cursor = id;
                Some(frame)
            }
            OutboundFrame::Message(..) => None,
        }
    }

    /// Read the next messages from the database, or become live when there are none.
    async fn catch_up(&mut self) -> Result<()> {
        let inner = &self.delivery.0;
        let now = Timestamp(inner.clock.now());
        let mut conn = inner.db.read().await?;
        let found =
            message_log::pending_messages(&mut conn, &self.joined.agent, self.cursor, now, SESSION_READ_BATCH).await?;
        if found.is_empty() {
            self.behind = !inner.hub.mark_live(&self.joined.agent, self.joined.key);
            return Ok(());
        }
        for stored in found {
            let id = stored.message.id;
            match self.delivery.opened(&mut conn, stored).await? {
                Some(message) => self.page.push_back((id, message_frame(&message))),
                // Undecryptable messages are not sent.
                None if self.page.is_empty() => self.cursor = id,
                None => {}
            }
        }
        inner.hub.metrics().read.inc_by(self.page.len() as u64);
        Ok(())
    }
}

impl Drop for DeliverySession {
    fn drop(&mut self) {
        if self.delivery.0.hub.leave(&self.joined.agent, self.joined.key) {
            self.delivery.try_queue_event(AckEvent::Presence { agent: self.joined.agent.clone(), online: false });
        }
        self.delivery.0.open.fetch_sub(1, Ordering::AcqRel);
        self.delivery.0.closed.notify_waiters();
    }
}
