//! Heads as they are shown: with the cosignatures that witnesses made over them.

mod store;

use super::{AuditLog, Result, cosignature::HeadCosignature, model::SignedTreeHead};
use am_core::boxed;
use am_db::Connection;

pub(super) use store::{insert_cosignature, last_cosigned};

/// Append the cosignatures to the checkpoints of heads, which are in the order of their sizes.
pub(super) async fn append_cosignatures(conn: &mut Connection, heads: &mut [SignedTreeHead]) -> am_db::Result<()> {
    let (Some(first), Some(last)) = (heads.first(), heads.last()) else { return Ok(()) };
    let found = store::cosignatures_between(conn, first.size, last.size).await?;
    for cosignature in found {
        if let Ok(place) = heads.binary_search_by_key(&cosignature.size, |head| head.size) {
            heads[place].checkpoint.push_str(&cosignature.line);
            heads[place].checkpoint.push('\n');
        }
    }
    Ok(())
}

impl AuditLog {
    /// Cosignatures over the head of this size, by their witnesses' names.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn cosignatures(&self, size: u64) -> Result<Vec<HeadCosignature>> {
        Ok(store::cosignatures_of(&mut *self.0.db.read().await?, size).await?)
    }
}
