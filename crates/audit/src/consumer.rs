//! Consumers that follow the log in order. Each entry is processed exactly once, because a consumer's position is
//! stored in the transaction of its results.

use super::{
    AuditLog, Result,
    model::{AuditRecord, EventType},
    store::{self, ConsumerRange},
};
use am_core::boxed;
use am_db::Tx;

impl AuditLog {
    /// Start consumer `reader` at the current end of the log, unless it has a position already.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn begin(&self, reader: &'static str) -> Result<()> {
        if store::find_consumer_position(&mut *self.0.db.read().await?, reader).await?.is_some() {
            return Ok(());
        }
        let begun = self.0.db.write(async move |tx: &mut Tx| {
            if store::find_consumer_position(tx.conn().await?, reader).await?.is_none() {
                let size = store::log_size(tx.conn().await?).await?;
                store::advance_consumer(tx, reader, size).await?;
            }
            Ok::<_, am_db::DatabaseError>(())
        });
        Ok(begun.await?)
    }

    /// Number of entries that consumer `reader` has not processed yet. It processes these at a time and leaves to the next what is
    /// written meanwhile: a busy log always has something new, and a transaction for each few entries would cost others their turn.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn behind(&self, reader: &str) -> Result<u64> {
        let mut conn = self.0.db.read().await?;
        let size = store::log_size(&mut conn).await?;
        Ok(size.saturating_sub(store::find_consumer_position(&mut conn, reader).await?.unwrap_or(size)))
    }

    /// Entries of the given event types among the next `most` of the log; the position of `reader` is advanced behind
    /// them in the same transaction, which must also contain the consumer's results. Entries that the coordinator wrote
    /// before this log began are left out.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn follow(
        &self,
        tx: &mut Tx,
        reader: &str,
        events: &[EventType],
        most: u64,
    ) -> am_db::Result<Vec<AuditRecord>> {
        let conn = tx.conn().await?;
        let size = store::log_size(conn).await?;
        let from = store::find_consumer_position(conn, reader).await?.unwrap_or(size);
        let to = size.min(from.saturating_add(most));
        if to <= from {
            return Ok(Vec::new());
        }
        let facts = store::read_audit_records(conn, &ConsumerRange { from, to, events }).await?;
        store::advance_consumer(tx, reader, to).await?;
        Ok(facts)
    }
}
