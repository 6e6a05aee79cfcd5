//! Channels, which order messages. Two agents share one direct channel, created with their first message; groups are
//! created, joined and left. A channel without a message for thirty days is closed, and the next message creates a new
//! one.

mod changes;
mod model;
mod store;

use std::sync::Arc;

pub use model::{Channel, NewChannel};
pub(super) use model::{Place, Spot};
pub(super) use store::{advance, insert_rows, members_of, spots_by_id, spots_by_place};

use super::{
    error::{Error, Result},
    relations::Relations,
};
use am_audit::Audit;
use am_core::ambient::{Clock, Ids};
use am_db::{Database, codec::Timestamp, page::Page};

/// Days without a message after which a channel is closed.
const IDLE_DAYS: i64 = 30;
/// Channels closed per transaction.
const AT_ONCE: i64 = 500;
/// Maximum number of agents in a channel.
pub const MOST_MEMBERS: usize = 1000;

/// The channels. Cheap to clone.
#[derive(Clone)]
pub struct Channels(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    ids: Ids,
    audit: Audit,
    relations: Relations,
}

impl Channels {
    /// Create the service on `db`.
    pub fn new((db, clock, ids): (Database, Clock, Ids), audit: Audit, relations: Relations) -> Self {
        Self(Arc::new(Inner { db, clock, ids, audit, relations }))
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// A channel that `agent` is a member of.
    ///
    /// # Errors
    /// Returns [`Error::NotFound`] when there is none, or `agent` is not a member.
    pub async fn get(&self, agent: &str, id: &str) -> Result<Channel> {
        let found = store::get(&mut *self.0.db.read().await?, id).await?;
        found.filter(|channel| channel.has(agent)).ok_or(Error::NotFound("Channel"))
    }

    /// A page of the channels that `agent` is a member of, newest first, and their total number.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub async fn list(&self, agent: &str, page: &Page) -> Result<(Vec<Channel>, i64)> {
        store::list(&mut *self.0.db.read().await?, agent, page).await
    }
}
