//! Delivery of messages that other processes wrote: one task checks whether another connection committed, and only then
//! reads messages.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{DeliveryService, connection_hub::OutgoingEntry, message_frame};
use crate::{error::Result, message_log};
use am_core::ambient::sleep_or_cancelled;
use am_db::codec::Timestamp;

/// Polling interval while there are connections.
const MESSAGE_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Polling interval without connections.
const IDLE_POLL_INTERVAL: Duration = Duration::from_millis(500);
/// Messages read per query.
const MESSAGE_READ_BATCH: i64 = 2000;

impl DeliveryService {
    /// Follow the database until `stop` is cancelled.
    pub(super) async fn follow(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.poll_until(&stop).await {
                tracing::warn!(%error, "could not read other processes' messages; retrying");
                sleep_or_cancelled(&stop, IDLE_POLL_INTERVAL).await;
            }
        }
    }

    async fn poll_until(&self, stop: &CancellationToken) -> Result<()> {
        let mut watcher = self.0.db.open_watcher().await?;
        // The first read is needed in any case: something may have been written before the watcher existed.
        let mut owed = true;
        while !stop.is_cancelled() {
            let wait = if self.0.hub.count() > 0 { MESSAGE_POLL_INTERVAL } else { IDLE_POLL_INTERVAL };
            let gap = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.0.hub.gap() => true,
                () = tokio::time::sleep(wait) => false,
            };
            if gap || watcher.changed().await? || owed {
                while self.look().await? {}
                owed = false;
            }
        }
        Ok(())
    }

    /// Deliver messages that were written since the last call. Returns true when there may be more.
    async fn look(&self) -> Result<bool> {
        let Some(from) = self.0.hub.seen() else { return Ok(false) };
        let mut conn = self.0.db.read().await?;
        let written = message_log::recipients_after(&mut conn, from, MESSAGE_READ_BATCH).await?;
        let Some((last, _)) = written.last() else { return Ok(false) };
        let (last, full) = (*last, written.len() as i64 == MESSAGE_READ_BATCH);
        let here = written.into_iter().filter(|(_, recipient)| self.0.hub.has(recipient));
        let ids: Vec<i64> = here.map(|(id, _)| id).collect();
        let mut pushed = Vec::with_capacity(ids.len());
        if !ids.is_empty() {
            let now = Timestamp(self.0.clock.now());
            for stored in message_log::pending_by_ids(&mut conn, &ids, now).await? {
                if let Some(message) = self.opened(&mut conn, stored).await? {
                    let recipient = message.recipient.clone();
                    pushed.push(OutgoingEntry { id: message.id, recipient, frame: message_frame(&message) });
                }
            }
        }
        drop(conn);
        let mine = self.0.hub.advance(from, last, pushed);
        Ok(full || !mine)
    }
}
