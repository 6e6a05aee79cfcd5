//! Commands `backup` and `restore`: the database, the policies' weights and the signing keys.

mod manifest;
mod restore;

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::Path,
    time::Duration,
};

use am_core::{ambient::Clock, config::Config};
use am_db::codec::Timestamp;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    CommandError,
    output::{OutputForm, print_document},
    print_output,
};
use manifest::{
    BackupManifest, DATABASE_FILE, KEY_FILES, MANIFEST_FILE, POLICIES_DIR, adopt_file, copy_file, list_weights,
};
pub use restore::{RestoreArguments, restore_backup};

/// Interval at which the sign of a running copy moves.
const TICK_INTERVAL: Duration = Duration::from_millis(120);

/// Make a backup of the service in the new directory `target`, while everything runs.
pub async fn create_backup(config: &Config, target: &Path, json: bool) -> Result<(), CommandError> {
    if !config.database.exists() {
        let path = config.database.display();
        return Err(format!("there is no database {path}").into());
    }
    make_empty_directory(target)?;
    let keys_in_settings = [
        (&config.receipt_signing_key, "RECEIPT_SIGNING_KEY_HEX"),
        (&config.audit.signing_key, "AUDIT_SIGNING_KEY_HEX"),
    ];
    let set = keys_in_settings.iter().filter(|(key, _)| key.is_some()).map(|(_, name)| (*name).to_owned()).collect();
    let mut manifest = BackupManifest::new(Timestamp(Clock::system().now()).to_string(), set);
    let progress = start_progress("copying the weights of policies");
    let policies = config.data_dir.join(POLICIES_DIR);
    // Before the database, because a version that is deleted meanwhile takes its file along; and after it, because a version that
    // is made meanwhile may be in the copy.
    let mut weights = Vec::new();
    copy_new_weights(&policies, target, &mut weights)?;
    progress.set_message("copying the database");
    let copy = target.join(DATABASE_FILE);
    am_db::backup::copy_database(&config.database, &copy).await?;
    am_core::crash_point!("backup.database_copied");
    copy_new_weights(&policies, target, &mut weights)?;
    progress.set_message("checking the copy");
    if let Some(damage) = am_db::backup::find_damage(&copy).await? {
        return Err(format!("the copy of {} is damaged: {damage}", config.database.display()).into());
    }
    manifest.files.push(adopt_file(&copy, DATABASE_FILE.to_owned())?);
    for name in KEY_FILES {
        match copy_file(&config.data_dir.join(name), &target.join(name), name.to_owned()) {
            Ok(file) => manifest.files.push(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{name}: {error}").into()),
        }
    }
    manifest.files.append(&mut weights);
    // What the manifest names is there before it.
    for directory in [target.join(POLICIES_DIR), target.to_owned()] {
        File::open(directory)?.sync_all()?;
    }
    let hash = manifest.write(target)?;
    progress.finish_and_clear();
    print_made(target, &manifest, &hash, json);
    Ok(())
}

fn make_empty_directory(target: &Path) -> Result<(), CommandError> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    match builder.create(target) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut entries = fs::read_dir(target).map_err(|error| format!("{}: {error}", target.display()))?;
            if entries.next().is_some() {
                let what = match target.join(MANIFEST_FILE).exists() {
                    true => "is a backup already",
                    false => "is not empty",
                };
                return Err(format!("{} {what}; name a new directory", target.display()).into());
            }
        }
        Err(error) => return Err(format!("{}: {error}", target.display()).into()),
    }
    builder.create(target.join(POLICIES_DIR))?;
    Ok(())
}

fn copy_new_weights(
    policies: &Path,
    target: &Path,
    copied: &mut Vec<manifest::BackupFile>,
) -> Result<(), CommandError> {
    for (name, file) in list_weights(policies)? {
        let path = format!("{POLICIES_DIR}/{name}");
        if copied.iter().any(|file| file.path == path) {
            continue;
        }
        match copy_file(&file, &target.join(&path), path) {
            Ok(file) => copied.push(file),
            // Deleted since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", file.display()).into()),
        }
    }
    Ok(())
}

/// A sign on a terminal that something is done.
fn start_progress(words: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
    let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.set_message(words);
    bar.enable_steady_tick(TICK_INTERVAL);
    bar
}

fn print_made(target: &Path, manifest: &BackupManifest, hash: &str, json: bool) {
    let (files, bytes) = (manifest.files.len(), manifest.bytes());
    if OutputForm::choose(json) == OutputForm::Json {
        print_document(&json!({
            "backup": target, "files": files, "bytes": bytes, "manifest_sha256": hash, "created_at": manifest.created_at,
            "keys_in_settings": manifest.keys_in_settings,
        }));
        return;
    }
    print_output(&format!("{files} files, {bytes} bytes in {}", target.display()));
    print_output(&format!("SHA-256 of its manifest: {hash}"));
    print_output("not part of it: the settings, and MESSAGE_KEYS with them; keep a copy of both elsewhere");
    for name in &manifest.keys_in_settings {
        print_output(&format!("not part of it: the key in {name}"));
    }
}
