//! Channels: where messages have an order. Two agents have one between them, made with their first message; groups are
//! made, joined and left. One that nobody wrote into for thirty days is closed, and a next message makes another.

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

/// After so long without a message a channel is closed.
const IDLE_DAYS: i64 = 30;
/// Channels closed in one transaction.
const AT_ONCE: i64 = 500;
/// Agents in a channel.
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
    /// Those of `db`.
    pub fn new((db, clock, ids): (Database, Clock, Ids), audit: Audit, relations: Relations) -> Self {
        Self(Arc::new(Inner { db, clock, ids, audit, relations }))
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// A channel that `agent` is in.
    ///
    /// # Errors
    /// [`Error::NotFound`], also where it is in another.
    pub async fn get(&self, agent: &str, id: &str) -> Result<Channel> {
        let found = store::get(&mut *self.0.db.read().await?, id).await?;
        found.filter(|channel| channel.has(agent)).ok_or(Error::NotFound("Channel"))
    }

    /// A page of the channels that `agent` is in, newest first, and how many there are in all.
    ///
    /// # Errors
    /// As the database.
    pub async fn list(&self, agent: &str, page: &Page) -> Result<(Vec<Channel>, i64)> {
        store::list(&mut *self.0.db.read().await?, agent, page).await
    }
}
