//! Archives: files of JSON lines, compressed with zstd, that hold what was removed. The first line says what it is, each further
//! one is a thing with all of its rows, the last is a manifest with counts.

mod reader;
mod writer;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub(crate) use reader::{hash_file, read_archive};
pub(crate) use writer::{ArchiveWriter, FinishedFile, PARTIAL_SUFFIX, discard_file, place_file};

use am_db::{codec::Timestamp, whole_rows::WholeRow};

/// Version of the form of archives.
const ARCHIVE_FORM: u32 = 1;

/// An archive as the database knows it.
#[derive(Clone, Debug, Serialize)]
pub struct ArchiveRecord {
    /// Name of the file below the archive directory.
    pub name: String,
    /// Kind of what it holds.
    pub kind: String,
    /// Why it was removed: `retention` or `request`.
    pub cause: String,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Size of the file in bytes.
    pub size_bytes: i64,
    /// Number of things in it.
    pub things: i64,
    /// Number of them that were deleted so far.
    pub removed: i64,
    /// Number of them that stayed, because they had changed meanwhile.
    pub kept: i64,
    /// Number of rows by table, a JSON object.
    pub row_counts: String,
    /// Id of the audit entry that tells of it.
    pub audit_id: String,
    /// When it was written.
    pub created_at: Timestamp,
    /// Since when nothing of it is left to be deleted; null: something is.
    pub done_at: Option<Timestamp>,
}

/// A thing with its rows by table, and the files that belong to it, in base64.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArchivedThing {
    pub id: String,
    pub rows: BTreeMap<String, Vec<WholeRow>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

impl ArchivedThing {
    /// SHA-256 of its rows: whether it is still what was archived.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(serde_json::to_vec(&self.rows).unwrap_or_default()).into()
    }
}

/// The first line of an archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArchiveHeader {
    pub archive: u32,
    pub kind: String,
    pub cause: String,
    pub made_at: String,
}

/// The last line of an archive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArchiveManifest {
    pub manifest: ArchiveCounts,
}

/// How much is in an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArchiveCounts {
    pub things: i64,
    /// Rows by table.
    pub rows: BTreeMap<String, i64>,
}

impl ArchiveCounts {
    fn add(&mut self, thing: &ArchivedThing) {
        self.things += 1;
        for (table, rows) in &thing.rows {
            *self.rows.entry(table.clone()).or_default() += rows.len() as i64;
        }
    }
}
