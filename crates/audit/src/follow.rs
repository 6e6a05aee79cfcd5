//! Readers that follow the log in order and make something of it: each entry counts exactly once, because how far a reader
//! has come is kept in the transaction of what it made.

use super::{
    Audit, Result,
    model::EventType,
    store::{self, Following},
};
use am_db::{
    Tx,
    codec::{Doc, Timestamp},
    owner::Owner,
};

/// What an entry tells those who follow the log.
#[derive(Clone, Debug)]
pub struct Fact {
    /// The entry.
    pub audit_id: String,
    /// What happened.
    pub event: EventType,
    /// When.
    pub at: Timestamp,
    /// Who did it: a principal.
    pub user: Option<Owner>,
    /// The workflow it concerns.
    pub workflow_id: Option<String>,
    /// What else is known.
    pub data: Doc,
}

impl Audit {
    /// Let `reader` begin at the log's present end, unless it has begun.
    ///
    /// # Errors
    /// As the database.
    pub async fn begin(&self, reader: &'static str) -> Result<()> {
        if store::known_cursor(&mut *self.0.db.read().await?, reader).await?.is_some() {
            return Ok(());
        }
        let begun = self.0.db.write(async move |tx: &mut Tx| {
            if store::known_cursor(tx.conn().await?, reader).await?.is_none() {
                let size = store::size(tx.conn().await?).await?;
                store::advance(tx, reader, size).await?;
            }
            Ok::<_, am_db::Error>(())
        });
        Ok(begun.await?)
    }

    /// Entries that `reader` has not come to yet.
    ///
    /// # Errors
    /// As the database.
    pub async fn behind(&self, reader: &str) -> Result<u64> {
        let mut conn = self.0.db.read().await?;
        let size = store::size(&mut conn).await?;
        Ok(size.saturating_sub(store::known_cursor(&mut conn, reader).await?.unwrap_or(size)))
    }

    /// The entries of these events among the next `most` of the log, which `reader` has then come behind: what is made of
    /// them belongs into the same transaction. What the coordinator wrote before this log began is left out.
    ///
    /// # Errors
    /// As the database.
    pub async fn follow(&self, tx: &mut Tx, reader: &str, events: &[EventType], most: u64) -> am_db::Result<Vec<Fact>> {
        let conn = tx.conn().await?;
        let size = store::size(conn).await?;
        let from = store::known_cursor(conn, reader).await?.unwrap_or(size);
        let to = size.min(from.saturating_add(most));
        if to <= from {
            return Ok(Vec::new());
        }
        let facts = store::facts(conn, &Following { from, to, events }).await?;
        store::advance(tx, reader, to).await?;
        Ok(facts)
    }
}
