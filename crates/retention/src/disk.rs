//! What takes the disk: the database by cause, its log, and the files beside it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};
use serde::Serialize;

use super::{
    error::{Result, RetentionError},
    files::blocking,
};
use am_db::{Database, disk_usage::page_usage};

/// Causes of bytes in the database, each with its tables. What begins with `am_` and has no cause is `other`, everything else
/// `coordinator`.
const CAUSES: &[(&str, &[&str])] = &[
    (
        "executions",
        &[
            "agent_executions",
            "agent_step_executions",
            "am_runs",
            "am_events",
            "am_execution_list",
            "am_sandboxes",
            "am_proofs",
            "am_proof_parts",
            "am_proof_orders",
        ],
    ),
    ("definitions", &["am_definitions"]),
    ("workflows", &["ai_agent_workflows", "agent_steps", "am_workflow_list"]),
    ("messages", &["am_messages", "am_message_contents", "am_broadcasts", "am_channels", "am_channel_members"]),
    ("jobs", &["job", "am_jobs", "am_job_list", "jobreceipt"]),
    ("plans", &["am_plans"]),
    ("assignments", &["am_assignments", "am_assignment_attempts", "am_assignment_notices"]),
    (
        "policies",
        &["am_policies", "am_policy_versions", "am_policy_aliases", "am_policy_alias_moves", "am_act_outcomes"],
    ),
    ("marketplace", &["am_market_requests", "am_market_request_events", "am_market_ratings", "am_market_services"]),
    (
        "training",
        &[
            "am_training_runs",
            "am_training_feedback",
            "am_training_labels",
            "am_sweeps",
            "am_sweep_trials",
            "am_background_tasks",
            "am_background_checkpoints",
            "am_optimisations",
            "am_meta_models",
            "am_meta_weights",
            "am_own_environments",
            "am_own_environment_versions",
        ],
    ),
    (
        "audit_log",
        &["agent_audit_logs", "am_audit_entries", "am_audit_tiles", "am_audit_heads", "am_audit_cosignatures"],
    ),
    ("idempotency_keys", &["am_idempotency"]),
    ("webhooks", &["am_webhook_deliveries", "am_webhook_endpoints", "am_webhook_hooks"]),
];

/// Where files are that belong to the service.
#[derive(Clone, Debug)]
pub struct DiskPlaces {
    /// Directories by cause.
    pub folders: Vec<(&'static str, PathBuf)>,
}

/// Bytes of a cause in the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CauseUsage {
    /// What they are used for.
    pub cause: String,
    /// Bytes of all its tables with their indexes.
    pub bytes: i64,
    /// Bytes by table.
    pub tables: BTreeMap<String, i64>,
}

/// Bytes of the files in a directory and below it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FolderUsage {
    /// What they are.
    pub cause: &'static str,
    /// The directory that was measured.
    pub path: PathBuf,
    /// Bytes that the files take on the disk.
    pub bytes: u64,
    /// Number of files.
    pub files: u64,
}

/// What takes the disk.
#[derive(Clone, Debug, Serialize)]
pub struct DiskUsage {
    /// The database's file.
    pub database: PathBuf,
    /// Bytes of the database's file.
    pub database_bytes: i64,
    /// Bytes of it that nothing uses.
    pub unused_bytes: i64,
    /// Bytes of its write-ahead log.
    pub wal_bytes: u64,
    /// Bytes in the database by cause, the most first; null: this SQLite can't tell.
    pub causes: Option<Vec<CauseUsage>>,
    /// Files beside the database.
    pub folders: Vec<FolderUsage>,
    /// Bytes that the database's disk has.
    pub disk_bytes: u64,
    /// Bytes of it that this process may still use.
    pub disk_free_bytes: u64,
}

fn cause_of(table: &str) -> &'static str {
    let found = CAUSES.iter().find(|(_, tables)| tables.contains(&table));
    match found {
        Some((cause, _)) => cause,
        None if table.starts_with("am_") || table.starts_with("sqlite") => "other",
        None => "coordinator",
    }
}

/// Add up what tables take, by cause.
fn causes_of(tables: BTreeMap<String, i64>) -> Vec<CauseUsage> {
    let mut causes: BTreeMap<&str, CauseUsage> = BTreeMap::new();
    for (table, bytes) in tables {
        let cause = cause_of(&table);
        let empty = || CauseUsage { cause: cause.to_owned(), bytes: 0, tables: BTreeMap::new() };
        let entry = causes.entry(cause).or_insert_with(empty);
        entry.bytes += bytes;
        entry.tables.insert(table, bytes);
    }
    let mut causes: Vec<CauseUsage> = causes.into_values().collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.bytes));
    causes
}

fn measure(path: &Path) -> (u64, u64) {
    let (mut bytes, mut files, mut open) = (0, 0, vec![path.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            if found.is_dir() {
                open.push(entry.path());
            } else {
                // Units of stat(2), whatever the file system's blocks are.
                bytes += std::os::unix::fs::MetadataExt::blocks(&found) * 512;
                files += 1;
            }
        }
    }
    (bytes, files)
}

fn wal_of(database: &Path) -> PathBuf {
    let mut wal = database.to_owned().into_os_string();
    wal.push("-wal");
    wal.into()
}

/// Bytes of the disk that a path is on, and those that may still be used.
fn disk_of(path: &Path) -> std::io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(path)?;
    Ok((found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize))
}

/// Measure what takes the disk. Reads every page of the database once.
///
/// # Errors
/// [`RetentionError::Storage`] when the disk can't be asked; as the database.
pub async fn disk_usage(db: &Database, places: DiskPlaces) -> Result<DiskUsage> {
    let pages = page_usage(&mut *db.read_list().await?).await?;
    let database = db.path().to_owned();
    let (disk_bytes, disk_free_bytes) = disk_of(&database).map_err(RetentionError::storage(&database))?;
    let wal_bytes = fs::metadata(wal_of(&database)).map_or(0, |file| file.len());
    let measured = blocking(move || {
        let folder = |(cause, path): (&'static str, PathBuf)| {
            let (bytes, files) = measure(&path);
            FolderUsage { cause, path, bytes, files }
        };
        Ok(places.folders.into_iter().map(folder).collect())
    });
    let folders = measured.await.map_err(RetentionError::storage(&database))?;
    Ok(DiskUsage {
        database,
        database_bytes: pages.bytes,
        unused_bytes: pages.free_bytes,
        wal_bytes,
        causes: pages.tables.map(causes_of),
        folders,
        disk_bytes,
        disk_free_bytes,
    })
}

/// Collector of the sizes that are asked at each scrape.
#[derive(Debug)]
pub(crate) struct DiskCollector(pub PathBuf);

impl Collector for DiskCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let bytes = fs::metadata(&self.0).map_or(0, |file| file.len());
        let free = disk_of(&self.0).map_or(0, |(_, free)| free);
        for (name, meaning, value) in [
            ("db_bytes", "Size of the database's file in bytes, without its write-ahead log", bytes),
            ("disk_free_bytes", "Bytes of the database's disk that may still be used", free),
        ] {
            let gauge = encoder.encode_descriptor(name, meaning, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(gauge)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_added_up_by_cause() {
        let tables = [("am_runs", 30), ("agent_executions", 50), ("am_new", 5), ("miner", 7), ("am_plans", 1)];
        let causes = causes_of(tables.map(|(table, bytes)| (table.to_owned(), bytes)).into());
        let found: Vec<(&str, i64)> = causes.iter().map(|cause| (cause.cause.as_str(), cause.bytes)).collect();
        assert_eq!(found, [("executions", 80), ("coordinator", 7), ("other", 5), ("plans", 1)]);
    }

    #[test]
    fn files_below_a_directory_are_counted_and_one_that_is_missing_has_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/x"), vec![1u8; 10_000]).unwrap();
        fs::write(folder.path().join("y"), "1").unwrap();
        let (bytes, files) = measure(folder.path());
        assert!(files == 2 && bytes >= 10_000, "{bytes} {files}");
        assert_eq!(measure(&folder.path().join("none")), (0, 0));
    }
}
