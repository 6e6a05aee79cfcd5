//! A session: the messages and replies for one connection.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use bytes::Bytes;
use tokio::sync::mpsc::{self, error::TryRecvError};

use super::{
    Delivery, frame,
    hub::{Joined, Out},
    notes::Note,
};
use crate::{error::Result, messages};
use am_db::codec::Timestamp;

/// Messages read per query.
const PAGE: i64 = 50;

/// Stream of what a connection is to send, in order.
pub struct Session {
    delivery: Delivery,
    joined: Joined,
    /// Number of the last message returned.
    cursor: i64,
    /// Messages that were read and not returned yet.
    page: VecDeque<(i64, Bytes)>,
    behind: bool,
}

/// Sender of replies to a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Replies(mpsc::WeakSender<Out>);

impl Replies {
    /// Queue a reply, waiting while the queue is full. Returns false when the connection is being closed.
    pub async fn send(&self, answer: impl Into<Bytes>) -> bool {
        match self.0.upgrade() {
            Some(queue) => queue.send(Out::Reply(answer.into())).await.is_ok(),
            None => false,
        }
    }
}

impl Session {
    pub(super) fn new(delivery: Delivery, joined: Joined) -> (Self, Replies) {
        let replies = Replies(joined.sender.clone());
        (Self { delivery, joined, cursor: 0, page: VecDeque::new(), behind: true }, replies)
    }

    /// Name of the connected agent.
    pub fn agent(&self) -> &Arc<str> {
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
    fn taken(&mut self, out: Out) -> Option<Bytes> {
        match out {
            Out::Reply(frame) => Some(frame),
            Out::Message(id, frame) if id > self.cursor => {
                self.cursor = id;
                Some(frame)
            }
            Out::Message(..) => None,
        }
    }

    /// Read the next messages from the database, or become live when there are none.
    async fn catch_up(&mut self) -> Result<()> {
        let inner = &self.delivery.0;
        let now = Timestamp(inner.clock.now());
        let mut conn = inner.db.read().await?;
        let found = messages::pending(&mut conn, &self.joined.agent, self.cursor, now, PAGE).await?;
        if found.is_empty() {
            self.behind = !inner.hub.go_live(&self.joined.agent, self.joined.key);
            return Ok(());
        }
        for stored in found {
            let id = stored.message.id;
            match self.delivery.opened(&mut conn, stored).await? {
                Some(message) => self.page.push_back((id, frame(&message))),
                // Undecryptable messages are not sent.
                None if self.page.is_empty() => self.cursor = id,
                None => {}
            }
        }
        inner.hub.metrics().read.inc_by(self.page.len() as u64);
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.delivery.0.hub.leave(&self.joined.agent, self.joined.key) {
            self.delivery.note_at_once(Note::Presence { agent: self.joined.agent.clone(), online: false });
        }
        self.delivery.0.open.fetch_sub(1, Ordering::AcqRel);
        self.delivery.0.closed.notify_waiters();
    }
}
