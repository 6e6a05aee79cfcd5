//! Secrets of 32 bytes in files that only their owner can read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rand::{TryRng as _, rngs::SysRng};
use zeroize::Zeroizing;

use super::KeyFileError;

/// Read a secret from a file of 64 hex digits, or create the file with 32 random bytes from the operating system. A new
/// file is on stable storage and readable by its owner only before this function returns. The second value is true when
/// the secret is new.
///
/// When two processes start at once, one of them creates the secret and both use it.
///
/// # Errors
/// Fails when the file can't be read or created, holds something else, or other users can read it.
pub fn load_or_create_secret(path: &Path) -> Result<(Zeroizing<[u8; 32]>, bool), KeyFileError> {
    match File::open(path) {
        Ok(file) => return Ok((read_key_file(file, path)?, false)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(KeyFileError::Io { path: path.to_owned(), source }),
    }
    let mut seed = Zeroizing::new([0u8; 32]);
    SysRng.try_fill_bytes(&mut *seed).map_err(|error| KeyFileError::RandomnessUnavailable(error.to_string()))?;
    let created = write_secret(path, &seed)?;
    // The file is read back even when this process wrote it, so that this start uses what the next one will read.
    let file = File::open(path).map_err(|source| KeyFileError::Io { path: path.to_owned(), source })?;
    Ok((read_key_file(file, path)?, created))
}

/// Read a secret from a file of 64 hex digits.
///
/// # Errors
/// Same as [`load_or_create_secret`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let file = File::open(path).map_err(|source| KeyFileError::Io { path: path.to_owned(), source })?;
    read_key_file(file, path)
}

/// Write a secret to a new file at `path`, completely or not at all. Returns false when a file exists there already; it
/// stays unchanged.
///
/// # Errors
/// Fails when the file can't be written.
pub fn write_secret(path: &Path, secret: &[u8; 32]) -> Result<bool, KeyFileError> {
    let mut suffix = [0u8; 8];
    SysRng.try_fill_bytes(&mut suffix).map_err(|error| KeyFileError::RandomnessUnavailable(error.to_string()))?;
    create_key_file(path, secret, &hex::encode(suffix))
        .map_err(|source| KeyFileError::Io { path: path.to_owned(), source })
}

/// Parse 32 bytes from 64 hex digits.
pub(super) fn parse_hex_key(text: &str) -> Result<[u8; 32], KeyFileError> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| KeyFileError::InvalidHex)?;
    Ok(bytes)
}

fn read_key_file(file: File, path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    // Taken from the open file, so that the file can't be replaced between the check and the read.
    let meta = file.metadata().map_err(failed)?;
    let mode = meta.permissions().mode() & 0o7777;
    if !meta.is_file() {
        return Err(KeyFileError::MalformedFile { path: path.to_owned() });
    }
    if mode & 0o077 != 0 {
        return Err(KeyFileError::InsecurePermissions { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(1024));
    file.take(1024).read_to_string(&mut text).map_err(failed)?;
    parse_hex_key(text.trim()).map(Zeroizing::new).map_err(|_| KeyFileError::MalformedFile { path: path.to_owned() })
}

fn create_key_file(path: &Path, seed: &[u8], suffix: &str) -> io::Result<bool> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{suffix}.new"));
    let temporary = directory.join(name);

    let placed = write_key_file(&temporary, seed)
        // A hard link instead of a rename: it never replaces an existing key.
        .and_then(|()| match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            linked => linked.map(|()| true),
        });
    let removed = fs::remove_file(&temporary);
    let created = placed?;
    removed?;
    File::open(directory)?.sync_all()?;
    Ok(created)
}

fn write_key_file(path: &Path, seed: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(Zeroizing::new(format!("{}\n", hex::encode(seed))).as_bytes())?;
    file.sync_all()
}
