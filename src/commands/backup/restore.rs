//! Command `restore`: a verified backup takes the place of what is there.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use agent_management::{app, lifecycle};
use am_audit::CustodyError;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::Config,
};
use clap::Args;
use serde_json::json;

use super::{
    manifest::{BackupManifest, DATABASE_FILE, KEY_FILES, POLICIES_DIR, copy_file},
    start_progress,
};
use crate::commands::{
    CommandError,
    output::{OutputForm, print_document},
    print_output,
};

/// What is restored, and over what.
#[derive(Args)]
pub struct RestoreArguments {
    /// Directory of the backup.
    #[arg(value_name = "DIR")]
    backup: PathBuf,
    /// Restore although there is a database, or another key. What was there is kept beside it, as `*.replaced-TIME`.
    #[arg(long)]
    force: bool,
    /// SHA-256 of the manifest that `backup` printed. Without it the backup is compared with itself only.
    #[arg(long, value_name = "HEX")]
    manifest_sha256: Option<String>,
    /// Why it is restored, for those who verify the audit log. Default: the backup's time.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Print JSON on a terminal too.
    #[arg(long)]
    json: bool,
}

/// Verify the backup, put it in place, and write the audit log's entry of the restore. Nothing is changed unless all of the backup
/// is as it was made and no other process has the database open.
pub async fn restore_backup(config: &Config, arguments: RestoreArguments) -> Result<(), CommandError> {
    let backup = arguments.backup.as_path();
    let progress = start_progress("verifying the backup");
    let manifest = BackupManifest::verify(backup, arguments.manifest_sha256.as_deref())?;
    let source = backup.join(DATABASE_FILE);
    if let Some(damage) = am_db::backup::find_damage(&source).await? {
        return Err(format!("{}: the database is damaged: {damage}", source.display()).into());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(config.data_dir.join(POLICIES_DIR))?;
    let database_dir = config.database.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(database_dir)?;
    check_owner(&config.data_dir)?;
    check_owner(database_dir)?;
    let replaced = find_replaced(config, backup, &manifest)?;
    if let (Some(first), false) = (replaced.first(), arguments.force) {
        return Err(format!(
            "{} is there already; --force replaces it, and keeps it beside the new one",
            first.display()
        )
        .into());
    }
    if config.database.exists() && !am_db::backup::close_wal(&config.database).await? {
        let path = config.database.display();
        return Err(format!(
            "another process has {path} open: stop the service and the coordinator first (`fuser -v {path}` names them)"
        )
        .into());
    }
    progress.set_message("copying");
    let new = with_suffix(&config.database, ".restoring");
    remove_if_there(&new)?;
    copy_file(&source, &new, DATABASE_FILE.to_owned())?;
    restore_weights(config, backup, &manifest)?;
    am_core::crash_point!("restore.copied");
    let stamp = format!(".replaced-{}", Clock::system().now().format("%Y%m%dT%H%M%S%.6f"));
    let mut kept = Vec::new();
    for old in &replaced {
        let aside = with_suffix(old, &stamp);
        fs::rename(old, &aside)?;
        kept.push(aside);
    }
    // They belong to a file that is gone.
    for side in ["-wal", "-shm"] {
        remove_if_there(&with_suffix(&config.database, side))?;
    }
    for name in KEY_FILES.into_iter().filter(|name| manifest.files.iter().any(|file| file.path == *name)) {
        let target = config.data_dir.join(name);
        if !target.exists() {
            copy_file(&backup.join(name), &target, name.to_owned())?;
        }
    }
    fs::rename(&new, &config.database)?;
    for directory in [config.data_dir.as_path(), database_dir] {
        File::open(directory)?.sync_all()?;
    }
    progress.set_message("writing the audit log's entry");
    let reason = arguments.reason.unwrap_or_else(|| format!("backup of {}", manifest.created_at));
    let head = accept_in_audit_log(config, &reason).await?;
    progress.finish_and_clear();
    print_restored(&manifest, &kept, head.as_deref(), arguments.json);
    Ok(())
}

/// Files of another user would be unreadable for the service.
fn check_owner(directory: &Path) -> Result<(), CommandError> {
    let (owner, own) = (fs::metadata(directory)?.uid(), rustix::process::geteuid().as_raw());
    if owner == own {
        return Ok(());
    }
    let path = directory.display();
    Err(format!("{path} belongs to the user {owner}, and this is the user {own}: run the command as that user").into())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What has to make place: the database, and keys other than those of the backup.
fn find_replaced(config: &Config, backup: &Path, manifest: &BackupManifest) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if config.database.exists() {
        found.push(config.database.clone());
    }
    for name in KEY_FILES {
        let present = config.data_dir.join(name);
        let in_backup = manifest.files.iter().any(|file| file.path == name);
        if in_backup && present.exists() && fs::read(&present)? != fs::read(backup.join(name))? {
            found.push(present);
        }
    }
    Ok(found)
}

/// Weights are named by their content, so those that are there already are the same.
fn restore_weights(config: &Config, backup: &Path, manifest: &BackupManifest) -> Result<(), CommandError> {
    for file in &manifest.files {
        let target = config.data_dir.join(&file.path);
        if !file.path.starts_with(POLICIES_DIR) || target.exists() {
            continue;
        }
        let partial = with_suffix(&target, ".partial");
        remove_if_there(&partial)?;
        copy_file(&backup.join(&file.path), &partial, file.path.clone())?;
        fs::rename(&partial, &target)?;
    }
    Ok(())
}

/// Migrate the restored database to this version, and write the entry that tells the audit log of the restore. Returns the head
/// that begins the next epoch; `None` where no entry was lost, as far as this machine knows.
async fn accept_in_audit_log(config: &Config, reason: &str) -> Result<Option<String>, CommandError> {
    lifecycle::migrate_database(config).await?;
    let (clock, ids) = (Clock::system(), IdGenerator::system()?);
    let db = app::open_database(config).await?;
    let (audit, _) = app::open_audit(config, &db, &clock, &ids).await?;
    let head = match audit.accept_restore(reason).await {
        Ok(head) => Some(head.checkpoint),
        Err(CustodyError::NothingRestored) => None,
        Err(error) => return Err(error.into()),
    };
    db.close().await;
    Ok(head)
}

fn print_restored(manifest: &BackupManifest, kept: &[PathBuf], head: Option<&str>, json: bool) {
    if OutputForm::choose(json) == OutputForm::Json {
        print_document(&json!({
            "restored": manifest.created_at, "files": manifest.files.len(), "bytes": manifest.bytes(), "kept": kept,
            "audit_head": head, "keys_in_settings": manifest.keys_in_settings,
        }));
        return;
    }
    print_output(&format!("restored the backup of {}, {} files", manifest.created_at, manifest.files.len()));
    for path in kept {
        print_output(&format!("kept {}", path.display()));
    }
    match head {
        Some(head) => print_output(&format!("first head of the audit log after the restore:\n{head}")),
        None => print_output("no entry of the audit log was lost, as far as this machine knows"),
    }
    for name in &manifest.keys_in_settings {
        print_output(&format!("the backup was made with a key in {name}: the settings must have it"));
    }
}
