//! Channels, which order messages. Two agents share one direct channel, created with their first message; groups are
//! created, joined and left. A channel without a message for thirty days is closed, and the next message creates a new
//! one.

mod changes;
mod model;
mod store;

use std::sync::Arc;

pub(super) use model::{ChannelKey, ChannelRef};
pub use model::{MessageChannel, NewChannel};
pub(super) use store::{add_channel_rows, channel_refs_by_id, channel_refs_by_key, members_of, update_last_seq};

use super::{
    error::{CommunicationError, Result},
    relations::AgentRelations,
};
use am_audit::AuditLog;
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    ids::{AgentId, ChannelId},
};
use am_db::{Database, codec::Timestamp, page::PageRequest};

/// Days without a message after which a channel is closed.
const IDLE_CLOSE_DAYS: i64 = 30;
/// Channels closed per transaction.
const CLOSE_BATCH: i64 = 500;
/// Maximum number of agents in a channel.
pub const MAX_CHANNEL_MEMBERS: usize = 1000;

/// The channels. Cheap to clone.
#[derive(Clone)]
pub struct ChannelService(Arc<ChannelServiceInner>);

struct ChannelServiceInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    relations: AgentRelations,
}

impl ChannelService {
    /// Create the service on `db`.
    pub fn new(db: Database, clock: Clock, ids: IdGenerator, audit: AuditLog, relations: AgentRelations) -> Self {
        Self(Arc::new(ChannelServiceInner { db, clock, ids, audit, relations }))
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// A channel that `agent` is a member of.
    ///
    /// # Errors
    /// Returns [`CommunicationError::NotFound`] when there is none, or `agent` is not a member.
    #[boxed]
    pub async fn get(&self, agent: &AgentId, id: &ChannelId) -> Result<MessageChannel> {
        let found = store::get_channel(&mut *self.0.db.read().await?, id).await?;
        found.filter(|channel| channel.has(agent)).ok_or(CommunicationError::NotFound("Channel"))
    }

    /// A page of the channels that `agent` is a member of, newest first, and their total number.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn list(&self, agent: &AgentId, page: &PageRequest) -> Result<(Vec<MessageChannel>, i64)> {
        store::list_channels(&mut *self.0.db.read_list().await?, agent, page).await
    }
}
