//! Signed entries are read again, some in each round, and compared with their leaves and the tree.

use std::sync::atomic::Ordering;

use super::{
    AuditLog, Result,
    export::leaf_hash_of,
    merkle,
    store::{self, TILE_WIDTH},
};

/// Complete subtrees of 256 entries that are read in each round: a million entries take 20 minutes.
const TILES_PER_ROUND: u64 = 16;

impl AuditLog {
    /// Read the entries below the last head that are in no complete subtree, and the next complete subtrees.
    pub(super) async fn look_through(&self) -> Result<()> {
        let mut conn = self.0.db.read().await?;
        let Some(head) = store::head_until(&mut conn, u64::MAX).await? else { return Ok(()) };
        let complete = head.size / TILE_WIDTH;
        let next = self.0.looked_at.load(Ordering::Relaxed);
        let begin = if next < complete { next } else { 0 };
        let end = complete.min(begin + TILES_PER_ROUND);
        self.0.looked_at.store(end, Ordering::Relaxed);
        for place in (begin..end).chain([complete]) {
            let first = place * TILE_WIDTH;
            let count = TILE_WIDTH.min(head.size - first);
            let entries = store::read_exported(&mut conn, first, count.cast_signed()).await?;
            let mut leaves = Vec::with_capacity(entries.len());
            for entry in &entries {
                match leaf_hash_of(&entry.audit_id, &entry.source, entry.columns.as_deref()) {
                    Ok(leaf) if hex::encode(leaf) == entry.leaf_hash => leaves.push(leaf),
                    Ok(_) => self.0.alarms.changed(entry.seq, "its columns are not those that were sealed"),
                    Err(what) => self.0.alarms.changed(entry.seq, &what),
                }
            }
            if place < complete && leaves.len() as u64 == TILE_WIDTH {
                let root = hex::encode(merkle::root_of_complete(leaves));
                if store::find_tile(&mut conn, place).await? != Some(root) {
                    self.0.alarms.changed(first + 1, "its leaf or one of the next 255 is not the one that was sealed");
                }
            } else if entries.len() as u64 != count {
                self.0.alarms.changed(first + 1, "it or one of the next entries is gone");
            }
        }
        Ok(())
    }
}
