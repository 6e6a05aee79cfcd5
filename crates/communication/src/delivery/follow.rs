//! Delivery of messages that other processes wrote: one task checks whether another connection committed, and only then
//! reads messages.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Delivery, frame, hub::Pushed};
use crate::{error::Result, messages};
use am_core::ambient::pause;
use am_db::codec::Timestamp;

/// Polling interval while there are connections.
const LOOK: Duration = Duration::from_millis(50);
/// Polling interval without connections.
const IDLE: Duration = Duration::from_millis(500);
/// Messages read per query.
const AT_ONCE: i64 = 2000;

impl Delivery {
    /// Follow the database until `stop` is cancelled.
    pub(super) async fn follow(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.follow_until(&stop).await {
                tracing::warn!(%error, "could not read other processes' messages; retrying");
                pause(&stop, IDLE).await;
            }
        }
    }

    async fn follow_until(&self, stop: &CancellationToken) -> Result<()> {
        let mut watcher = self.0.db.watcher().await?;
        // The first read is needed in any case: something may have been written before the watcher existed.
        let mut owed = true;
        while !stop.is_cancelled() {
            let wait = if self.0.hub.count() > 0 { LOOK } else { IDLE };
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
        let written = messages::recipients_after(&mut conn, from, AT_ONCE).await?;
        let Some((last, _)) = written.last() else { return Ok(false) };
        let (last, full) = (*last, written.len() as i64 == AT_ONCE);
        let here = written.into_iter().filter(|(_, recipient)| self.0.hub.has(recipient));
        let ids: Vec<i64> = here.map(|(id, _)| id).collect();
        let mut pushed = Vec::with_capacity(ids.len());
        if !ids.is_empty() {
            let now = Timestamp(self.0.clock.now());
            for stored in messages::waiting(&mut conn, &ids, now).await? {
                if let Some(message) = self.opened(&mut conn, stored).await? {
                    let recipient = Arc::from(message.recipient.as_str());
                    pushed.push(Pushed { id: message.id, recipient, frame: frame(&message) });
                }
            }
        }
        drop(conn);
        let mine = self.0.hub.advance(from, last, pushed);
        Ok(full || !mine)
    }
}
