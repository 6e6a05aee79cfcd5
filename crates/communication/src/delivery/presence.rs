//! Presence of agents.

use std::time::Duration;

use super::{DeliveryService, model::AgentPresence, store};
use crate::error::{CommunicationError, Result};
use am_core::boxed;
use am_core::ids::AgentId;
use am_db::{Connection, Tx, codec::Timestamp};

/// Time after which a process without a report is considered dead, and its connections closed.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(15);

/// Time after which a process without a report is forgotten.
const PROCESS_KEPT: chrono::Duration = chrono::Duration::hours(1);
/// Agents forgotten per transaction.
const FORGET_BATCH: i64 = 500;

impl DeliveryService {
    /// Time before which an agent without a connection was last seen if it is forgotten.
    fn unseen_since(&self) -> Timestamp {
        let kept = chrono::Duration::from_std(self.0.limits.presence_kept).unwrap_or(chrono::Duration::MAX);
        let now = self.0.clock.now();
        Timestamp(now.checked_sub_signed(kept).unwrap_or(now))
    }

    /// Agents that a message to all goes to, at most `limit`, last seen first.
    pub(crate) async fn known_agents(&self, conn: &mut Connection, limit: usize) -> Result<Vec<AgentId>> {
        store::known_agents(conn, self.unseen_since(), limit).await
    }

    /// Forget agents that were not seen for as long as the configuration says, and processes that are dead.
    pub(crate) async fn forget_absent(&self) -> Result<()> {
        let (silent, unseen) = (Timestamp(self.0.clock.now() - PROCESS_KEPT), self.unseen_since());
        while store::has_absent(&mut *self.0.db.read().await?, silent, unseen).await? {
            let forget = async move |tx: &mut Tx| store::forget_absent(tx, silent, unseen, FORGET_BATCH).await;
            if self.0.db.write(forget).await? < FORGET_BATCH as u64 {
                break;
            }
        }
        Ok(())
    }

    fn alive_since(&self) -> Timestamp {
        Timestamp(self.0.clock.now() - PROCESS_TIMEOUT)
    }

    /// Presence of `agent`.
    ///
    /// # Errors
    /// Returns [`CommunicationError::NotFound`] for an agent that was never connected.
    #[boxed]
    pub async fn presence(&self, agent: &AgentId) -> Result<AgentPresence> {
        let mut found =
            store::list_presence(&mut *self.0.db.read().await?, Some(agent), false, self.alive_since(), 1).await?;
        found.pop().ok_or(CommunicationError::NotFound("Agent"))
    }

    /// Presence of all agents that were connected, last seen first; with `online_only` only of those that are connected
    /// now.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn seen(&self, online_only: bool, limit: u32) -> Result<Vec<AgentPresence>> {
        store::list_presence(
            &mut *self.0.db.read_list().await?,
            None,
            online_only,
            self.alive_since(),
            i64::from(limit),
        )
        .await
    }
}
