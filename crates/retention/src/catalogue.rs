//! The archives that there are: listed, verified against the audit log, and put back into the database.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    RetentionInner,
    archive::{ArchiveRecord, ArchivedThing, PARTIAL_SUFFIX, hash_file, read_archive},
    error::{Result, RetentionError},
    files::blocking,
    kinds::RetentionKind,
    removal, store,
};
use am_audit::{AuditEntry, AuditError, EventType};
use am_core::{atomic_file::write_atomically, crypto::sha256_hex};
use am_db::{Tx, codec::Timestamp, owner::SYSTEM_PRINCIPAL, whole_rows};

/// Archives that are read at once.
const LIST_BATCH: i64 = 500;
/// Things that are put back in one transaction.
const RESTORE_BATCH: usize = 20;

/// State of an archive's file.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ArchiveState {
    /// The file is as the audit log says.
    Intact,
    /// The file is not there.
    Missing,
    /// The file, the database or the audit log says something else than the others; the text tells what.
    Altered(String),
    /// The audit log knows nothing of the file.
    Unknown,
}

/// An archive with the state of its file.
#[derive(Clone, Debug, Serialize)]
pub struct VerifiedArchive {
    /// Name of the file.
    pub name: String,
    /// What was found.
    pub state: ArchiveState,
}

/// What to put back.
#[derive(Clone, Debug, Default)]
pub struct RestoreSelection {
    /// Only this kind; none: whatever the archives hold.
    pub kind: Option<RetentionKind>,
    /// Only things with these ids; empty: all.
    pub ids: BTreeSet<String>,
}

/// What was put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// Things that were put back.
    pub restored: u64,
    /// Things that were there already, and were left as they are.
    pub present: u64,
    /// Number of rows written.
    pub rows: u64,
}

impl RetentionInner {
    fn folder(&self) -> Result<&Path> {
        let folder = self.settings.archive.as_deref();
        folder.ok_or_else(|| RetentionError::InUse("no archives are made (RETENTION_ARCHIVE)".to_owned()))
    }

    /// All archives that the database knows of, in the order in which they were made.
    pub async fn archives(&self) -> Result<Vec<ArchiveRecord>> {
        let mut all: Vec<ArchiveRecord> = Vec::new();
        loop {
            let after =
                all.last().map_or((Timestamp(DateTime::<Utc>::UNIX_EPOCH), ""), |last| (last.created_at, &last.name));
            let found = store::archives_after(&mut *self.db.read_list().await?, after, LIST_BATCH).await?;
            if found.is_empty() {
                return Ok(all);
            }
            all.extend(found);
        }
    }

    /// Compare each archive's file with its hash in the database and in the audit log, and read it; and look for files that neither
    /// knows.
    pub async fn verify_archives(&self) -> Result<Vec<VerifiedArchive>> {
        let folder = self.folder()?;
        let records = self.archives().await?;
        let mut found = Vec::new();
        for record in &records {
            found.push(VerifiedArchive { name: record.name.clone(), state: self.verify_archive(record).await? });
        }
        let known: BTreeSet<&str> = records.iter().map(|record| record.name.as_str()).collect();
        let mut names: Vec<String> = fs::read_dir(folder)
            .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
            .unwrap_or_default();
        names.sort();
        let is_archive = |name: &&String| name.ends_with(".jsonl.zst") || name.ends_with(PARTIAL_SUFFIX);
        let unknown = names.iter().filter(is_archive);
        let unknown = unknown.filter(|name| !known.contains(name.trim_end_matches(PARTIAL_SUFFIX)));
        found.extend(unknown.map(|name| VerifiedArchive { name: name.clone(), state: ArchiveState::Unknown }));
        Ok(found)
    }

    async fn verify_archive(&self, record: &ArchiveRecord) -> Result<ArchiveState> {
        let path = self.folder()?.join(&record.name);
        if !path.exists() {
            return Ok(ArchiveState::Missing);
        }
        let told = match self.audit.get(&store::entry_of(record)).await {
            Ok(entry) => serde_json::to_value(&entry.event_data).unwrap_or_default(),
            Err(AuditError::NotFound(_)) => Value::Null,
            Err(error) => return Err(error.into()),
        };
        let read = blocking(move || {
            let (sha256, _) = hash_file(&path)?;
            Ok((sha256, read_archive(&path, |_| Ok(()))))
        });
        let (sha256, read) = read.await.map_err(RetentionError::storage(Path::new(&record.name)))?;
        let altered = |what: &str| Ok(ArchiveState::Altered(what.to_owned()));
        if told["archive"] != json!(record.name) || told["archive_sha256"] != json!(record.sha256) {
            return altered("the audit log has another hash than the database, or none");
        }
        if sha256 != record.sha256 {
            return altered("the file has another hash than the audit log says");
        }
        match read {
            Ok((_, manifest)) if manifest.manifest.things == record.things => Ok(ArchiveState::Intact),
            Ok(_) => altered("it holds another number of things than the database says"),
            Err(error) => altered(&error.to_string()),
        }
    }

    /// Put things of an archive back. What is there already stays as it is; the archive must be intact.
    pub async fn restore(&self, name: &str, selection: &RestoreSelection) -> Result<RestoreReport> {
        let record = store::get_archive(&mut *self.db.read().await?, name).await?;
        let record = record.ok_or(RetentionError::NotFound("Archive"))?;
        let damaged = |what: String| RetentionError::Damaged(name.to_owned(), what);
        match self.verify_archive(&record).await? {
            ArchiveState::Intact => {}
            ArchiveState::Altered(what) => return Err(damaged(what)),
            ArchiveState::Missing | ArchiveState::Unknown => return Err(damaged("its file is not there".to_owned())),
        }
        let kind = RetentionKind::from_word(&record.kind);
        let kind = kind.ok_or_else(|| damaged(format!("it holds {}, of which nothing is known", record.kind)))?;
        if selection.kind.is_some_and(|wanted| wanted != kind) {
            return Ok(RestoreReport::default());
        }
        let (path, ids) = (self.folder()?.join(name), selection.ids.clone());
        let (send, mut receive) = tokio::sync::mpsc::channel::<ArchivedThing>(RESTORE_BATCH);
        let reading = tokio::task::spawn_blocking(move || {
            read_archive(&path, |thing| {
                if ids.is_empty() || ids.contains(&thing.id) {
                    send.blocking_send(thing).map_err(std::io::Error::other)?;
                }
                Ok(())
            })
            .map(drop)
        });
        let (mut report, mut batch) = (RestoreReport::default(), Vec::new());
        while let Some(thing) = receive.recv().await {
            batch.push(thing);
            if batch.len() == RESTORE_BATCH {
                self.restore_things(name, kind, std::mem::take(&mut batch), &mut report).await?;
            }
        }
        self.restore_things(name, kind, batch, &mut report).await?;
        let read = reading.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        read.map_err(|error| damaged(error.to_string()))?;
        Ok(report)
    }

    async fn restore_things(
        &self,
        name: &str,
        kind: RetentionKind,
        things: Vec<ArchivedThing>,
        report: &mut RestoreReport,
    ) -> Result<()> {
        if things.is_empty() {
            return Ok(());
        }
        // Files are there before a row names them.
        for (file, text) in things.iter().flat_map(|thing| &thing.files) {
            restore_file(&self.settings.weights, file, text)?;
        }
        let (audit, name, now) = (self.audit.clone(), name.to_owned(), Timestamp(self.clock.now()));
        let restored = self.db.write(async move |tx: &mut Tx| {
            let mut done = RestoreReport::default();
            let ids: Vec<&str> = things.iter().map(|thing| thing.id.as_str()).collect();
            let present = removal::read_things(tx.conn().await?, kind, &ids).await?;
            let present: BTreeSet<&str> = present.iter().map(|thing| thing.id.as_str()).collect();
            let mut restored = Vec::new();
            for thing in &things {
                if present.contains(thing.id.as_str()) {
                    done.present += 1;
                    continue;
                }
                done.rows += restore_rows(tx, kind, &thing.rows).await?;
                done.restored += 1;
                restored.push(thing.id.as_str());
            }
            if !restored.is_empty() {
                let entry = AuditEntry::new(EventType::WorkflowUpdated, now)
                    .of("archive", "restored")
                    .on_behalf_of(SYSTEM_PRINCIPAL)
                    .data("archive", json!(name))
                    .data("kind", json!(kind.word()))
                    .data("things", json!(restored));
                audit.append(tx, vec![entry]).await?;
            }
            if kind == RetentionKind::PolicyVersions {
                let rows = things.iter().flat_map(|thing| thing.rows.values().flatten());
                let names: Vec<String> = rows.filter_map(|row| row.get("name")?.as_str().map(str::to_owned)).collect();
                store::touch_policies(tx, &names).await?;
            }
            Ok::<_, RetentionError>(done)
        });
        let done = restored.await?;
        report.restored += done.restored;
        report.present += done.present;
        report.rows += done.rows;
        Ok(())
    }
}

/// Put the rows of a thing back, its own first. Rows of tables that its kind does not have are refused.
async fn restore_rows(
    tx: &mut Tx,
    kind: RetentionKind,
    tables: &BTreeMap<String, Vec<whole_rows::WholeRow>>,
) -> Result<u64> {
    let mut written = 0;
    for source in kind.rows() {
        for row in tables.get(source.table).into_iter().flatten() {
            written += u64::from(whole_rows::restore_row(tx, source.table, row).await?);
        }
    }
    match tables.keys().find(|table| !kind.rows().iter().any(|source| source.table == *table)) {
        None => Ok(written),
        Some(other) => Err(RetentionError::InUse(format!("{} have no rows in {other}", kind.word()))),
    }
}

/// Put a file of weights back, unless it is there. Its name is its hash.
fn restore_file(folder: &Path, name: &str, text: &str) -> Result<()> {
    let damaged = || RetentionError::Damaged(name.to_owned(), "its weights are not what their name says".to_owned());
    let bytes = STANDARD.decode(text).map_err(|_| damaged())?;
    let path = removal::weights_path(folder, &sha256_hex(&bytes));
    if path.file_name().and_then(|name| name.to_str()) != Some(name) {
        return Err(damaged());
    }
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(RetentionError::storage(folder))?;
    write_atomically(&path, &bytes, 0o600).map_err(RetentionError::storage(&path))
}
