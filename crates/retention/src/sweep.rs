//! The task that removes what is older than its kind is kept: a part of it is written to an archive, then deleted in small batches.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{
    RetentionInner,
    archive::{ArchiveRecord, ArchiveWriter, FinishedFile, PARTIAL_SUFFIX, place_file, read_archive},
    error::{Result, RetentionError},
    files::blocking,
    kinds::{RemovalCause, RetentionKind},
    metrics::KindLabel,
    removal::{self, BatchOutcome, DraftThing},
    store::{self, DueThing, NamingTable},
};
use am_audit::{AuditEntry, EventType};
use am_core::{ambient::sleep_or_cancelled, crash_point};
use am_db::{Tx, codec::Timestamp, owner::SYSTEM_PRINCIPAL};

/// Why things are removed, in archives.
const CAUSE: &str = "retention";
/// Things that are read at once for an archive.
const READ_BATCH: i64 = 50;
/// Things of an archive at most.
const MAX_ARCHIVE_THINGS: usize = 20_000;
/// Bytes of the lines of an archive, before compression, after which it is closed.
const MAX_ARCHIVE_BYTES: u64 = 256 << 20;
/// Time that a batch of deletions should have the write lock: a small part of what a write may.
const BATCH_TIME: Duration = Duration::from_millis(2);
/// Things of a batch at most, and at the beginning.
const BATCH_THINGS: (usize, usize) = (500, 8);
/// Time from the start to the first round.
const FIRST_ROUND: Duration = Duration::from_secs(1);
/// Age of a definition from which it may be deleted: processes rely on those that they wrote in the last hour.
const MIN_DEFINITION_AGE: Duration = Duration::from_secs(2 * 3600);
/// Age of a request of the marketplace from which it may be deleted: until then it may be rated.
const MIN_REQUEST_AGE: Duration = Duration::from_secs(30 * 86_400);
/// Texts that are read at once in search of versions' names.
const NAMING_BATCH: i64 = 200;
/// Age of a file that was never completed from which it is removed: another process may be writing it.
const PARTIAL_AGE: chrono::Duration = chrono::Duration::hours(1);
/// Answers to repeated requests that are deleted at once.
const ANSWERS_BATCH: u64 = am_db::idempotency::EXPIRED_BATCH;

impl RetentionInner {
    /// Remove what is due, at intervals until `stop`.
    pub async fn work(&self, stop: CancellationToken) {
        let mut wait = FIRST_ROUND.min(self.settings.interval);
        while sleep_or_cancelled(&stop, wait).await {
            wait = self.settings.interval;
            if let Err(error) = self.delete_answers(&stop).await {
                tracing::warn!(%error, "could not delete expired idempotency keys");
            }
            // Of several processes on one database one removes.
            let Some(_lock) = self.lock() else { continue };
            if let Err(error) = self.round(&stop).await {
                self.metrics.failures.inc();
                tracing::warn!(%error, "retention ended early; the next round goes on");
            }
        }
    }

    fn lock(&self) -> Option<File> {
        let file = File::options().create(true).truncate(false).write(true).open(&self.settings.lock).ok()?;
        file.try_lock().ok()?;
        Some(file)
    }

    async fn delete_answers(&self, stop: &CancellationToken) -> Result<()> {
        loop {
            let begun = Instant::now();
            let deleted = am_db::idempotency::delete_expired_results(&self.db, &self.clock).await?;
            if deleted < ANSWERS_BATCH || !sleep_or_cancelled(stop, begun.elapsed()).await {
                return Ok(());
            }
        }
    }

    /// Finish what an earlier process left, then remove what is due of each kind.
    async fn round(&self, stop: &CancellationToken) -> Result<()> {
        self.resume(stop).await?;
        for (kind, age) in &self.settings.ages {
            let age = match kind {
                RetentionKind::Definitions => (*age).max(MIN_DEFINITION_AGE),
                RetentionKind::MarketRequests => (*age).max(MIN_REQUEST_AGE),
                _ => *age,
            };
            let age = chrono::Duration::from_std(age).unwrap_or(chrono::Duration::MAX);
            let Some(limit) = self.clock.now().checked_sub_signed(age) else { continue };
            let (begun, mut total) = (Instant::now(), BatchOutcome::default());
            while !stop.is_cancelled() {
                let done = self.remove_part(*kind, Timestamp(limit), stop).await?;
                let Some(done) = done else { break };
                (total.removed, total.kept) = (total.removed + done.removed, total.kept + done.kept);
                // What stays would be archived again.
                if done.removed == 0 {
                    break;
                }
            }
            if total != BatchOutcome::default() {
                let (kind, seconds) = (kind.word(), begun.elapsed().as_secs());
                tracing::info!(kind, removed = total.removed, kept = total.kept, seconds, "old rows removed");
            }
        }
        Ok(())
    }

    /// Archive and delete a part of what is due; none: nothing is.
    async fn remove_part(
        &self,
        kind: RetentionKind,
        limit: Timestamp,
        stop: &CancellationToken,
    ) -> Result<Option<BatchOutcome>> {
        let Some((things, file)) = self.collect(kind, limit, stop).await? else { return Ok(None) };
        let name = match file {
            None => {
                self.tell(kind, things.len()).await?;
                None
            }
            Some(file) => {
                crash_point!("retention.before_register");
                let record = self.register(kind, file).await?;
                crash_point!("retention.after_register");
                self.place(&record.name)?;
                Some(record.name)
            }
        };
        crash_point!("retention.before_delete");
        self.delete(kind, name, things, stop).await.map(Some)
    }

    /// Read what is due into an archive, if archives are made. A part of it: the rest is for the next.
    async fn collect(
        &self,
        kind: RetentionKind,
        limit: Timestamp,
        stop: &CancellationToken,
    ) -> Result<Option<(Vec<DraftThing>, Option<FinishedFile>)>> {
        let mut after = DueThing { at: Timestamp(DateTime::<Utc>::UNIX_EPOCH), id: String::new() };
        let (mut found, mut writer) = (Vec::new(), None::<ArchiveWriter>);
        let mut chosen = match kind {
            RetentionKind::PolicyVersions => Some(self.unnamed_versions(limit, stop).await?.into_iter()),
            _ => None,
        };
        while found.len() < MAX_ARCHIVE_THINGS && !stop.is_cancelled() {
            let ids: Vec<String> = match &mut chosen {
                Some(chosen) => chosen.take(READ_BATCH as usize).collect(),
                None => {
                    let due = store::due(&mut *self.db.read_list().await?, kind, limit, &after, READ_BATCH).await?;
                    if let Some(last) = due.last() {
                        after = DueThing { at: last.at, id: last.id.clone() };
                    }
                    due.into_iter().map(|thing| thing.id).collect()
                }
            };
            if ids.is_empty() {
                break;
            }
            let Some(folder) = self.settings.archive.clone() else {
                found.extend(ids.into_iter().map(|id| DraftThing { id, digest: None }));
                continue;
            };
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let mut things = removal::read_things(&mut *self.db.read_list().await?, kind, &ids).await?;
            if things.is_empty() {
                continue;
            }
            found.extend(things.iter().map(|thing| DraftThing { id: thing.id.clone(), digest: Some(thing.digest()) }));
            let begun = match writer.take() {
                Some(writer) => Ok(writer),
                None => self.begin_archive(&folder, kind, CAUSE),
            };
            let (begun, weights) = (begun?, self.settings.weights.clone());
            let added = blocking(move || {
                let mut begun = begun;
                removal::add_files(&weights, &mut things);
                things.iter().try_for_each(|thing| begun.add(thing))?;
                Ok(begun)
            });
            let added = added.await.map_err(RetentionError::storage(&folder))?;
            let is_full = added.bytes() >= MAX_ARCHIVE_BYTES;
            writer = Some(added);
            if is_full {
                break;
            }
        }
        if found.is_empty() {
            return Ok(None);
        }
        let file = match (writer, &self.settings.archive) {
            (Some(writer), Some(folder)) => {
                Some(blocking(move || writer.finish()).await.map_err(RetentionError::storage(folder))?)
            }
            _ => None,
        };
        Ok(Some((found, file)))
    }

    /// Begin an archive with a name of its own.
    pub(super) fn begin_archive(&self, folder: &Path, kind: RetentionKind, cause: &str) -> Result<ArchiveWriter> {
        let now = Timestamp(self.clock.now());
        let time: String = now.stored().chars().take(19).filter(char::is_ascii_digit).collect();
        let name = format!("{}-{time}-{}.jsonl.zst", kind.word().replace('_', "-"), self.ids.hex(8));
        ArchiveWriter::begin(folder, name, kind.word(), cause, now.to_string()).map_err(RetentionError::storage(folder))
    }

    /// Ids of versions that are due, of which no step of a workflow or a definition names one by its number. The texts of steps are read
    /// once, however many versions are due.
    async fn unnamed_versions(&self, limit: Timestamp, stop: &CancellationToken) -> Result<Vec<String>> {
        let mut after = DueThing { at: Timestamp(DateTime::<Utc>::UNIX_EPOCH), id: String::new() };
        let (mut ids, mut names) = (Vec::new(), HashMap::new());
        while ids.len() < MAX_ARCHIVE_THINGS && !stop.is_cancelled() {
            let kind = RetentionKind::PolicyVersions;
            let due = store::due(&mut *self.db.read_list().await?, kind, limit, &after, NAMING_BATCH).await?;
            let Some(last) = due.last() else { break };
            after = DueThing { at: last.at, id: last.id.clone() };
            let due: Vec<&str> = due.iter().map(|thing| thing.id.as_str()).collect();
            for (id, name, version) in store::version_names(&mut *self.db.read_list().await?, &due).await? {
                names.insert(format!("{name}@{version}"), id.clone());
                ids.push(id);
            }
        }
        for table in [NamingTable::Workflows, NamingTable::Definitions] {
            let mut after = String::new();
            while !names.is_empty() && !stop.is_cancelled() {
                let found = store::texts_naming(&mut *self.db.read_list().await?, table, &after, NAMING_BATCH).await?;
                let Some(last) = found.last() else { break };
                after.clone_from(&last.id);
                // A name stands between quotes, as a whole.
                for word in found.iter().flat_map(|one| one.text.split('"')).filter(|word| word.contains('@')) {
                    names.remove(word);
                }
            }
        }
        if stop.is_cancelled() {
            return Ok(Vec::new());
        }
        let unnamed: BTreeSet<String> = names.into_values().collect();
        Ok(ids.into_iter().filter(|id| unnamed.contains(id)).collect())
    }

    /// Tell the audit log that things without an archive are removed.
    async fn tell(&self, kind: RetentionKind, things: usize) -> Result<()> {
        let entry = AuditEntry::new(EventType::WorkflowUpdated, Timestamp(self.clock.now()))
            .of("retention", "removed")
            .on_behalf_of(SYSTEM_PRINCIPAL)
            .data("kind", json!(kind.word()))
            .data("things", json!(things));
        let audit = self.audit.clone();
        self.db.write(async move |tx: &mut Tx| audit.append(tx, vec![entry]).await).await?;
        Ok(())
    }

    /// Store an archive together with the audit entry that has its hash.
    async fn register(&self, kind: RetentionKind, file: FinishedFile) -> Result<ArchiveRecord> {
        let now = Timestamp(self.clock.now());
        self.metrics.archived_bytes.inc_by(file.size_bytes);
        let entry = AuditEntry::new(EventType::WorkflowUpdated, now)
            .of("archive", "created")
            .on_behalf_of(SYSTEM_PRINCIPAL)
            .data("kind", json!(kind.word()))
            .data("archive", json!(file.name))
            .data("archive_sha256", json!(file.sha256))
            .data("things", json!(file.counts.things))
            .data("rows", json!(file.counts.rows));
        let audit = self.audit.clone();
        let written = self.db.write(async move |tx: &mut Tx| {
            let audit_id = audit.record(tx, entry).await?;
            let record = record_of(kind, CAUSE, &file, audit_id.as_str(), now);
            store::insert_archive(tx, &record).await?;
            Ok::<_, am_db::DatabaseError>(record)
        });
        Ok(written.await?)
    }

    /// Give an archive its final name.
    pub(super) fn place(&self, name: &str) -> Result<()> {
        let Some(folder) = &self.settings.archive else { return Ok(()) };
        place_file(folder, name).map_err(RetentionError::storage(&folder.join(name)))
    }

    /// Delete things in small batches, with time for other writers after each.
    async fn delete(
        &self,
        kind: RetentionKind,
        archive: Option<String>,
        mut things: Vec<DraftThing>,
        stop: &CancellationToken,
    ) -> Result<BatchOutcome> {
        let label = KindLabel { kind: kind.word() };
        let left = self.metrics.left.get_or_create_owned(&label);
        let (most, mut size) = BATCH_THINGS;
        let mut total = BatchOutcome::default();
        while !things.is_empty() {
            if stop.is_cancelled() {
                return Ok(total);
            }
            left.set(things.len() as i64);
            let batch: Vec<DraftThing> = things.drain(..size.min(things.len())).collect();
            let (weights, name) = (self.settings.weights.clone(), archive.clone());
            let deleted = self.db.write(async move |tx: &mut Tx| {
                let begun = Instant::now();
                let done = removal::delete_things(tx, kind, RemovalCause::Age, &batch, &weights).await?;
                if let Some(name) = name {
                    store::count_removed(tx, &name, done.removed, done.kept).await?;
                }
                Ok::<_, RetentionError>((done, begun.elapsed()))
            });
            let (done, took) = deleted.await?;
            crash_point!("retention.after_batch");
            self.metrics.batch_seconds.observe(took.as_secs_f64());
            self.metrics.removed.get_or_create(&label).inc_by(done.removed.unsigned_abs());
            self.metrics.kept.get_or_create(&label).inc_by(done.kept.unsigned_abs());
            (total.removed, total.kept) = (total.removed + done.removed, total.kept + done.kept);
            size = if took > BATCH_TIME { size / 2 } else { size + size.div_ceil(4) }.clamp(1, most);
            // Two thirds of the time are others'.
            tokio::time::sleep((took * 2).clamp(Duration::from_millis(1), Duration::from_millis(400))).await;
        }
        left.set(0);
        if let Some(name) = archive {
            let now = Timestamp(self.clock.now());
            self.db.write(async move |tx: &mut Tx| store::finish_archive(tx, &name, now).await).await?;
        }
        Ok(total)
    }

    /// Bring to its end what a process that died has begun: names of archives, deletions, and files that nobody knows of.
    async fn resume(&self, stop: &CancellationToken) -> Result<()> {
        let Some(folder) = self.settings.archive.clone() else { return Ok(()) };
        self.tidy(&folder).await?;
        let open = store::open_archives(&mut *self.db.read_list().await?).await?;
        for archive in open {
            let path = folder.join(&archive.name);
            let Some(kind) = RetentionKind::from_word(&archive.kind) else { continue };
            let read = path.clone();
            let read = blocking(move || {
                let mut things = Vec::new();
                read_archive(&read, |thing| {
                    things.push(DraftThing { id: thing.id.clone(), digest: Some(thing.digest()) });
                    Ok(())
                })?;
                Ok(things)
            });
            match read.await {
                Ok(things) => {
                    tracing::info!(archive = archive.name, "deletions of an archive go on that a process has begun");
                    self.delete(kind, Some(archive.name), things, stop).await?;
                }
                // What it holds and is not deleted yet is archived anew.
                Err(error) => {
                    tracing::warn!(archive = archive.name, %error, "an archive can't be read; nothing more of it is deleted");
                    let now = Timestamp(self.clock.now());
                    let name = archive.name;
                    self.db.write(async move |tx: &mut Tx| store::finish_archive(tx, &name, now).await).await?;
                }
            }
        }
        Ok(())
    }

    /// Name archives that the database knows of as complete ones, and remove those that it does not: nothing of them was deleted.
    async fn tidy(&self, folder: &Path) -> Result<()> {
        for path in partial_files(folder) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(name) = name.strip_suffix(PARTIAL_SUFFIX) else { continue };
            if store::get_archive(&mut *self.db.read_list().await?, name).await?.is_some() {
                self.place(name)?;
                continue;
            }
            let changed = fs::metadata(&path).and_then(|file| file.modified()).map(DateTime::<Utc>::from);
            if changed.is_ok_and(|changed| changed < self.clock.now() - PARTIAL_AGE) {
                tracing::warn!(file = %path.display(), "an archive that was never completed is removed; nothing of it was deleted");
                fs::remove_file(&path).map_err(RetentionError::storage(&path))?;
            }
        }
        Ok(())
    }
}

/// An archive as it is stored when it is written.
pub(crate) fn record_of(
    kind: RetentionKind,
    cause: &str,
    file: &FinishedFile,
    audit_id: &str,
    now: Timestamp,
) -> ArchiveRecord {
    ArchiveRecord {
        name: file.name.clone(),
        kind: kind.word().to_owned(),
        cause: cause.to_owned(),
        sha256: file.sha256.clone(),
        size_bytes: i64::try_from(file.size_bytes).unwrap_or(i64::MAX),
        things: file.counts.things,
        removed: 0,
        kept: 0,
        row_counts: serde_json::to_string(&file.counts.rows).unwrap_or_default(),
        audit_id: audit_id.to_owned(),
        created_at: now,
        done_at: None,
    }
}

fn partial_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().ends_with(PARTIAL_SUFFIX)).collect()
}
