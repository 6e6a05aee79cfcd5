//! Who is there.

use std::time::Duration;

use serde::Serialize;
use utoipa::ToSchema;

use super::{Delivery, store};
use crate::error::{Error, Result};
use am_db::codec::Timestamp;

/// A process that has told nothing for so long is gone, and with it those whose sockets it held.
const ALIVE: Duration = Duration::from_secs(15);

/// Whether an agent has a socket.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Presence {
    /// The agent.
    pub agent_id: String,
    /// Has it a socket now, in any process?
    pub online: bool,
    /// When it came or went last.
    #[schema(value_type = String)]
    pub last_seen: Timestamp,
}

impl Delivery {
    fn alive(&self) -> Timestamp {
        Timestamp(self.0.clock.now() - ALIVE)
    }

    /// Whether `agent` is there.
    ///
    /// # Errors
    /// [`Error::NotFound`] for one that never was.
    pub async fn presence(&self, agent: &str) -> Result<Presence> {
        let mut found = store::seen(&mut *self.0.db.read().await?, Some(agent), false, self.alive(), 1).await?;
        found.pop().ok_or(Error::NotFound("Agent"))
    }

    /// Agents that had a socket, those that have one alone if that is asked for, the last seen first.
    ///
    /// # Errors
    /// As the database.
    pub async fn seen(&self, online_only: bool, limit: u32) -> Result<Vec<Presence>> {
        store::seen(&mut *self.0.db.read().await?, None, online_only, self.alive(), i64::from(limit)).await
    }
}
