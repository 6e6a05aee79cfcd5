//! Export of the log as JSON lines, and offline verification from the file, the public key and checkpoints stored
//! elsewhere.

use std::{collections::BTreeMap, io::BufRead};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::{
    AuditLog, Result,
    checkpoint::LogCheckpoint,
    leaf,
    merkle::{IncrementalTree, NodeHash},
    model::{EntrySource, ExportedEntry},
    store,
};
use am_core::{boxed, crypto::Ed25519PublicKey, ids::AuditId};
use am_db::Connection;

/// Line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum AuditExportLine {
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
    /// entries that it covers.
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
    let heads = match entries.last() {
        Some(last) => {
            store::heads(conn, *headed, EXPORT_PAGE).await?.into_iter().filter(|head| head.size <= last.seq).collect()
        }
        // Entries may have been deleted: the heads that cover them are exported nevertheless.
        None => store::heads(conn, *headed, EXPORT_PAGE).await?,
    };
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

/// Report of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditVerificationReport {
    /// Whether everything is as it was signed.
    pub valid: bool,
    /// Number of entries read.
    pub entries: u64,
    /// Number of entries covered by a valid head.
    pub sealed: u64,
    /// Number of these entries that the coordinator wrote.
    pub by_coordinator: u64,
    /// Number of heads with a valid signature and root.
    pub heads: u64,
    /// Merkle root over all entries, in hex.
    pub root: String,
    /// First fault in the log's order; null when there is none.
    pub first_fault: Option<AuditFault>,
    /// Number of faults.
    pub faults: u64,
}

/// A fault of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditFault {
    /// Position of the entry, from 1; for a head, the position after the last entry that is known to be good.
    pub seq: u64,
    /// Id of the entry, if it has one.
    pub audit_id: Option<AuditId>,
    /// Description of the fault.
    pub what: String,
}

/// Verify an export that starts at entry 1, line by line. `kept` are checkpoints stored elsewhere: only they can prove
/// that the end was cut off, or that the whole log was rewritten with the key.
///
/// # Errors
/// Fails when the file can't be read.
pub fn verify_export(
    export: impl BufRead,
    key: &Ed25519PublicKey,
    kept: &[String],
) -> std::io::Result<AuditVerificationReport> {
    let mut check = ExportVerifier::new(key, kept);
    for (number, line) in (1..).zip(export.split(b'\n')) {
        let line = line?;
        if !line.is_empty() {
            check.line(number, &line);
        }
    }
    Ok(check.end())
}

struct ExportVerifier<'a> {
    key: &'a Ed25519PublicKey,
    tree: IncrementalTree,
    /// Roots of the checkpoints stored elsewhere, by size; removed once they were compared.
    kept: BTreeMap<u64, Vec<NodeHash>>,
    origin: Option<String>,
    report: AuditVerificationReport,
}

impl<'a> ExportVerifier<'a> {
    fn new(key: &'a Ed25519PublicKey, kept: &[String]) -> Self {
        let mut check = Self {
            key,
            tree: IncrementalTree::default(),
            kept: BTreeMap::new(),
            origin: None,
            report: AuditVerificationReport::default(),
        };
        for note in kept {
            match check.verify_checkpoint(note) {
                Ok(head) => check.kept.entry(head.size).or_default().push(head.root),
                Err(what) => check.fault(1, None, format!("a checkpoint that was kept elsewhere: {what}")),
            }
        }
        check
    }

    fn fault(&mut self, seq: u64, audit_id: Option<&AuditId>, what: String) {
        self.report.faults += 1;
        // The first in the log's order, whenever it was found.
        if self.report.first_fault.as_ref().is_none_or(|first| seq < first.seq) {
            self.report.first_fault = Some(AuditFault { seq, audit_id: audit_id.cloned(), what });
        }
    }

    fn verify_checkpoint(&mut self, note: &str) -> std::result::Result<LogCheckpoint, String> {
        let head = LogCheckpoint::parse_verified(note, self.key).map_err(|error| error.to_string())?;
        let origin = self.origin.get_or_insert_with(|| head.origin.clone());
        if *origin == head.origin { Ok(head) } else { Err(format!("it is of another log, {:?}", head.origin)) }
    }

    fn line(&mut self, number: u64, line: &[u8]) {
        match serde_json::from_slice(line) {
            Ok(AuditExportLine::Entry(entry)) => self.entry(&entry),
            Ok(AuditExportLine::Head { checkpoint }) => self.head(&checkpoint),
            Err(_) => self.fault(self.tree.size() + 1, None, format!("line {number} is neither an entry nor a head")),
        }
    }

    fn entry(&mut self, entry: &ExportedEntry) {
        let seq = self.tree.size() + 1;
        let id = Some(&entry.audit_id);
        if entry.seq != seq {
            self.fault(seq, id, format!("entry {seq} is missing or out of its place; entry {} stands here", entry.seq));
        }
        let leaf = leaf_hash_of(entry);
        match &leaf {
            Err(what) => self.fault(seq, id, what.clone()),
            Ok(leaf) if hex::encode(leaf) != entry.leaf_hash => {
                self.fault(seq, id, "its columns are not those that were sealed".into());
            }
            Ok(_) => {}
        }
        self.report.by_coordinator += u64::from(entry.source == EntrySource::Coordinator.word());
        // Roots are computed over the sealed hashes, so that a changed row is one fault and not another one for each
        // later head.
        let sealed = <[u8; 32]>::try_from(hex::decode(&entry.leaf_hash).unwrap_or_default());
        self.tree.push(sealed.or(leaf.map_err(drop)).unwrap_or_default());
        if let Some(roots) = self.kept.remove(&self.tree.size()) {
            for root in roots {
                self.root(&root, "a checkpoint that was kept elsewhere");
            }
        }
    }

    fn head(&mut self, note: &str) {
        let place = self.report.sealed + 1;
        match self.verify_checkpoint(note) {
            Err(what) => self.fault(place, None, format!("a signed head: {what}")),
            Ok(head) if head.size != self.tree.size() => {
                let (size, here) = (head.size, self.tree.size());
                let what =
                    format!("a head over {size} entries stands after entry {here}: entries are missing or were added");
                self.fault(here.min(size) + 1, None, what);
            }
            Ok(head) => self.root(&head.root, "a signed head"),
        }
    }

    fn root(&mut self, root: &NodeHash, whose: &str) {
        let (good, size) = (self.report.sealed + 1, self.tree.size());
        if self.tree.root() == *root {
            self.report.heads += 1;
            self.report.sealed = size;
        } else {
            let (said, made) = (STANDARD.encode(root), STANDARD.encode(self.tree.root()));
            let what =
                format!("the leaves of entries {good} to {size} are not those of {whose} ({said}, they make {made})");
            self.fault(good, None, what);
        }
    }

    fn end(mut self) -> AuditVerificationReport {
        let size = self.tree.size();
        if let Some((kept, _)) = self.kept.last_key_value() {
            let kept = *kept;
            self.fault(
                size + 1,
                None,
                format!("entries {} to {kept} are missing: a checkpoint over them was kept elsewhere", size + 1),
            );
        }
        if self.report.sealed < size && self.report.first_fault.is_none() {
            let what = format!("no head is over entries {} to {size}", self.report.sealed + 1);
            self.fault(self.report.sealed + 1, None, what);
        }
        self.report.entries = size;
        self.report.root = hex::encode(self.tree.root());
        self.report.valid = self.report.first_fault.is_none();
        self.report
    }
}

fn leaf_hash_of(entry: &ExportedEntry) -> std::result::Result<NodeHash, String> {
    let columns = entry.columns.as_ref().ok_or("its row is gone")?;
    if columns.len() != leaf::LEAF_COLUMNS.len() {
        return Err(format!("it has {} columns instead of {}", columns.len(), leaf::LEAF_COLUMNS.len()));
    }
    if columns[0].text() != Some(entry.audit_id.as_str()) {
        return Err("its row has another id than was sealed".into());
    }
    let source =
        EntrySource::from_stored(&entry.source).ok_or_else(|| format!("its source {:?} is none", entry.source))?;
    Ok(leaf::leaf_hash(source, columns))
}
