//! Export of the log as JSON lines.

use serde::{Deserialize, Serialize};

use super::{
    AuditLog, Result,
    cosigned_heads::append_cosignatures,
    leaf,
    merkle::NodeHash,
    model::{EntrySource, ExportedEntry},
    store,
};
use am_core::{boxed, ids::AuditId};
use am_db::{Connection, sql_value::SqlValue};

/// Line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(super) enum AuditExportLine {
    Entry(ExportedEntry),
    Head { checkpoint: String },
}

/// Entries read per query.
const EXPORT_PAGE: i64 = 500;

/// Reader of an export that reads in pages, so that no snapshot is held for long.
pub struct AuditExport {
    audit: AuditLog,
    /// Position of the last entry returned.
    after: u64,
    until: u64,
    /// Size of the last head returned.
    headed: u64,
}

impl AuditLog {
    /// Export everything from entry `first` (1: from the beginning) to the last signed head; each head follows the
    /// entries that it covers, with the cosignatures over it.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn export(&self, first: u64) -> Result<AuditExport> {
        let head = store::head_until(&mut *self.0.db.read().await?, u64::MAX).await?;
        let after = first.saturating_sub(1);
        Ok(AuditExport { audit: self.clone(), after, until: head.map_or(0, |head| head.size), headed: after })
    }
}

impl AuditExport {
    /// The next lines, each with its newline; `None` at the end.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn next(&mut self) -> Result<Option<String>> {
        let mut conn = self.audit.0.db.read().await?;
        next_lines(&mut conn, &mut self.after, &mut self.headed, self.until).await
    }
}

pub(super) async fn next_lines(
    conn: &mut Connection,
    after: &mut u64,
    headed: &mut u64,
    until: u64,
) -> Result<Option<String>> {
    let left = until.saturating_sub(*after);
    let entries = store::read_exported(conn, *after, EXPORT_PAGE.min(left.cast_signed())).await?;
    // At the end, entries may have been deleted: the heads that cover them are exported nevertheless. What is signed while
    // the export is read covers entries that are not in it.
    let covered = entries.last().map_or(until, |last| last.seq);
    let mut heads = store::heads(conn, *headed, EXPORT_PAGE).await?;
    heads.retain(|head| head.size <= covered);
    append_cosignatures(conn, &mut heads).await?;
    let mut text = String::new();
    let mut put = |line: &AuditExportLine| {
        // Texts, numbers and nulls always have a JSON form.
        text.push_str(&serde_json::to_string(line).unwrap_or_default());
        text.push('\n');
    };
    let mut heads = heads.into_iter().peekable();
    for entry in entries {
        *after = entry.seq;
        put(&AuditExportLine::Entry(entry));
        while let Some(head) = heads.next_if(|head| head.size <= *after) {
            *headed = head.size;
            put(&AuditExportLine::Head { checkpoint: head.checkpoint });
        }
    }
    for head in heads {
        *headed = head.size;
        put(&AuditExportLine::Head { checkpoint: head.checkpoint });
    }
    Ok((!text.is_empty()).then_some(text))
}

/// The leaf hash that an entry's columns make.
pub(super) fn leaf_hash_of(
    audit_id: &AuditId,
    source: &str,
    columns: Option<&[SqlValue]>,
) -> std::result::Result<NodeHash, String> {
    let columns = columns.ok_or("its row is gone")?;
    if columns.len() != leaf::LEAF_COLUMNS.len() {
        return Err(format!("it has {} columns instead of {}", columns.len(), leaf::LEAF_COLUMNS.len()));
    }
    if let Some(at) = columns.iter().position(|column| !column.is_canonical()) {
        return Err(format!("its column {} is not written as it is exported", leaf::LEAF_COLUMNS[at]));
    }
    if columns[0].text() != Some(audit_id.as_str()) {
        return Err("its row has another id than was sealed".into());
    }
    let source = EntrySource::from_stored(source).ok_or_else(|| format!("its source {source:?} is none"))?;
    Ok(leaf::leaf_hash(source, columns))
}
