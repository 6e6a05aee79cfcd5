//! Manifest of a backup: its files with their hashes, written last, so that a directory without it is no backup.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, BufReader},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use am_core::{
    atomic_file::write_atomically,
    crypto::{HashingStream, sha256_hex},
};
use serde::{Deserialize, Serialize};

use crate::commands::CommandError;

/// Name of the manifest in a backup.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Name of the database's copy in a backup.
pub const DATABASE_FILE: &str = "coordinator.db";
/// Directory of the policies' weights, in a backup and in the data directory.
pub const POLICIES_DIR: &str = "policies";
/// Names of the signing keys, in a backup and in the data directory.
pub const KEY_FILES: [&str; 3] = ["receipt-signing-key.hex", "audit-signing-key.hex", "webhook-secrets.hex"];
/// Form of the manifests that this version writes.
const MANIFEST_FORMAT: u32 = 1;
/// Access to the files of a backup: their owner's alone.
const FILE_MODE: u32 = 0o600;

/// What a backup consists of.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupManifest {
    /// Form of this document.
    format: u32,
    /// Version of the service that made the backup.
    pub version: String,
    /// When the backup was begun.
    pub created_at: String,
    /// Settings that hold a key, which is therefore no file of the backup.
    pub keys_in_settings: Vec<String>,
    /// The files, the database first.
    pub files: Vec<BackupFile>,
}

/// A file of a backup.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupFile {
    /// Path below the backup.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the content in hexadecimal digits.
    pub sha256: String,
}

impl BackupManifest {
    /// A manifest of this version without files.
    pub fn new(created_at: String, keys_in_settings: Vec<String>) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { format: MANIFEST_FORMAT, version, created_at, keys_in_settings, files: Vec::new() }
    }

    /// Size of all files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Write the manifest, which completes the backup. Returns its SHA-256.
    pub fn write(&self, backup: &Path) -> Result<String, CommandError> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        write_atomically(&backup.join(MANIFEST_FILE), text.as_bytes(), FILE_MODE)?;
        Ok(sha256_hex(text.as_bytes()))
    }

    /// Read the manifest of `backup`, which must have this SHA-256 if one is expected, and compare every file with it.
    pub fn verify(backup: &Path, expected: Option<&str>) -> Result<Self, CommandError> {
        let path = backup.join(MANIFEST_FILE);
        let text = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                format!("{} is no complete backup: it has no {MANIFEST_FILE}, which is written last", backup.display())
            }
            _ => format!("{}: {error}", path.display()),
        })?;
        let found = sha256_hex(&text);
        if let Some(expected) = expected.filter(|expected| !expected.eq_ignore_ascii_case(&found)) {
            return Err(format!("{}: its SHA-256 is {found}, not {expected}", path.display()).into());
        }
        let manifest: Self = serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        if manifest.format != MANIFEST_FORMAT {
            return Err(format!("{}: form {} is not known to this version", path.display(), manifest.format).into());
        }
        if manifest.files.iter().filter(|file| file.path == DATABASE_FILE).count() != 1 {
            return Err(format!("{}: the backup has no {DATABASE_FILE}", path.display()).into());
        }
        let mut faults: Vec<String> = manifest.files.iter().filter_map(|file| file.fault(backup)).collect();
        if faults.is_empty() { Ok(manifest) } else { Err(faults_text(backup, &mut faults).into()) }
    }
}

fn faults_text(backup: &Path, faults: &mut [String]) -> String {
    faults.sort();
    format!("{} is not as it was made, and nothing was restored:\n  {}", backup.display(), faults.join("\n  "))
}

impl BackupFile {
    /// Whether a backup has files of this name: nothing else of a manifest is believed.
    fn has_known_name(&self) -> bool {
        let is_weights = |name: &str| {
            let hash = name.strip_suffix(".safetensors").unwrap_or_default();
            hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let weights = self.path.strip_prefix(POLICIES_DIR).and_then(|rest| rest.strip_prefix('/'));
        self.path == DATABASE_FILE || KEY_FILES.contains(&self.path.as_str()) || weights.is_some_and(is_weights)
    }

    /// What is wrong with the file; `None`: it is as it was written.
    fn fault(&self, backup: &Path) -> Option<String> {
        if !self.has_known_name() {
            return Some(format!("{}: no backup has such a file", self.path));
        }
        let hash = File::open(backup.join(&self.path)).and_then(|file| {
            let mut reader = HashingStream::new(BufReader::with_capacity(1 << 20, file));
            let bytes = io::copy(&mut reader, &mut io::sink())?;
            Ok((bytes, reader.finish()))
        });
        match hash {
            Ok((bytes, hash)) if bytes == self.bytes && hash == self.sha256 => None,
            Ok((bytes, _)) if bytes != self.bytes => Some(format!("{}: {bytes} bytes, not {}", self.path, self.bytes)),
            Ok((_, hash)) => Some(format!("{}: its SHA-256 is {hash}, not {}", self.path, self.sha256)),
            Err(error) => Some(format!("{}: {error}", self.path)),
        }
    }
}

/// Copy a file to a new one that only its owner may read, durably, and tell what was copied.
pub fn copy_file(from: &Path, to: &Path, path: String) -> io::Result<BackupFile> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(to)?;
    let mut writer = HashingStream::new(&mut target);
    let bytes = io::copy(&mut source, &mut writer)?;
    let sha256 = writer.finish();
    target.sync_all()?;
    Ok(BackupFile { path, bytes, sha256 })
}

/// Take a file that another library wrote into the backup: only its owner may read it, and it is durable.
pub fn adopt_file(file: &Path, path: String) -> io::Result<BackupFile> {
    fs::set_permissions(file, Permissions::from_mode(FILE_MODE))?;
    let source = File::open(file)?;
    let mut reader = HashingStream::new(BufReader::with_capacity(1 << 20, &source));
    let bytes = io::copy(&mut reader, &mut io::sink())?;
    let sha256 = reader.finish();
    source.sync_all()?;
    Ok(BackupFile { path, bytes, sha256 })
}

/// Weights in a directory by name; files that a writer has left unfinished are no part of them.
pub fn list_weights(policies: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(policies) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.ends_with(".safetensors") {
            found.push((name, path));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("source"), "the database").unwrap();
        let mut manifest = BackupManifest::new("2027-01-31T00:00:00Z".to_owned(), Vec::new());
        let file = copy_file(&dir.path().join("source"), &dir.path().join(DATABASE_FILE), DATABASE_FILE.to_owned());
        manifest.files.push(file.unwrap());
        let hash = manifest.write(dir.path()).unwrap();
        (dir, hash)
    }

    fn refusal(dir: &Path) -> String {
        BackupManifest::verify(dir, None).unwrap_err().to_string()
    }

    #[test]
    fn a_backup_verifies_as_it_was_made_and_is_its_owners() {
        let (dir, hash) = backup();
        let manifest = BackupManifest::verify(dir.path(), Some(&hash.to_uppercase())).unwrap();
        assert_eq!((manifest.files.len(), manifest.bytes()), (1, 12));
        for name in [MANIFEST_FILE, DATABASE_FILE] {
            assert_eq!(fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        let refused = BackupManifest::verify(dir.path(), Some(&"0".repeat(64))).unwrap_err().to_string();
        assert!(refused.contains(&hash), "{refused}");
    }

    #[test]
    fn what_was_changed_is_refused_with_its_name() {
        for (content, words) in [
            (Some("The database"), "its SHA-256 is"),
            (Some("the database and more"), "21 bytes, not 12"),
            (None, "No such file"),
        ] {
            let (dir, _) = backup();
            let file = dir.path().join(DATABASE_FILE);
            match content {
                Some(content) => fs::write(&file, content).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let refused = refusal(dir.path());
            assert!(refused.contains(&format!("{DATABASE_FILE}: ")) && refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn a_manifest_leads_to_no_file_outside_the_backup() {
        for path in
            ["../secret", "/etc/passwd", "policies/../../x.safetensors", "policies/x.safetensors", "other.hex", ""]
        {
            let (dir, _) = backup();
            let text = fs::read_to_string(dir.path().join(MANIFEST_FILE)).unwrap();
            let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
            let mut file = document["files"][0].clone();
            file["path"] = path.into();
            document["files"].as_array_mut().unwrap().push(file);
            fs::write(dir.path().join(MANIFEST_FILE), document.to_string()).unwrap();
            let refused = refusal(dir.path());
            assert!(refused.contains("no backup has such a file"), "{path}: {refused}");
        }
    }

    #[test]
    fn a_directory_without_a_manifest_is_no_backup() {
        let (dir, _) = backup();
        fs::remove_file(dir.path().join(MANIFEST_FILE)).unwrap();
        assert!(refusal(dir.path()).contains("no complete backup"));
        fs::write(dir.path().join(MANIFEST_FILE), "{}").unwrap();
        assert!(refusal(dir.path()).contains("missing field"));
    }
}
