//! Presence of agents.

use std::time::Duration;

use super::{DeliveryService, model::AgentPresence, store};
use crate::error::{CommunicationError, Result};
use am_core::boxed;
use am_core::ids::AgentId;
use am_db::codec::Timestamp;

/// Time after which a process without a report is considered dead, and its connections closed.
const PROCESS_TIMEOUT: Duration = Duration::from_secs(15);

impl DeliveryService {
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
        store::list_presence(&mut *self.0.db.read().await?, None, online_only, self.alive_since(), i64::from(limit))
            .await
    }
}
