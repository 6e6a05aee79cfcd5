//! Weights files, named by their hash and written atomically.

use std::{fs, io, path::Path};

use super::model::StoredWeights;
use crate::{
    error::{Result, RlError},
    serving::weights_path,
};
use am_core::{atomic_file, crypto::sha256_hex};

/// Permissions of weights files, less the umask.
const WEIGHTS_MODE: u32 = 0o666;

/// Write `bytes` to `path` atomically: after a crash the file holds its old content or all of the new one.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    atomic_file::write_atomically(path, bytes, WEIGHTS_MODE)
}

/// [`write_atomically`] of what `write` writes.
pub fn write_atomically_with<T>(path: &Path, write: impl FnOnce(&mut fs::File) -> io::Result<T>) -> io::Result<T> {
    atomic_file::write_atomically_with(path, WEIGHTS_MODE, write)
}

/// Store weights in `directory`; equal bytes are stored once. Blocks.
///
/// # Errors
/// [`RlError::Storage`].
pub fn store_weights(directory: &Path, bytes: &[u8]) -> Result<StoredWeights> {
    let sha256 = sha256_hex(bytes);
    let path = weights_path(directory, &sha256);
    let whole = fs::metadata(&path).is_ok_and(|found| found.len() == bytes.len() as u64);
    if !whole {
        let kept = fs::create_dir_all(directory).and_then(|()| write_atomically(&path, bytes));
        kept.map_err(|error| RlError::Storage("the policy's weights can't be kept".into(), error))?;
    }
    Ok(StoredWeights { sha256, size: bytes.len() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serving::read_weights;

    #[test]
    fn what_is_kept_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("policies");
        let first = store_weights(&place, b"some weights").unwrap();
        assert_eq!(store_weights(&place, b"some weights").unwrap(), first);
        assert_eq!(read_weights(&place, &first.sha256).unwrap(), b"some weights");
        assert_eq!(fs::read_dir(&place).unwrap().count(), 1, "nothing else is left");
        let blocked = directory.path().join("file");
        fs::write(&blocked, b"").unwrap();
        assert!(matches!(store_weights(&blocked, b"x"), Err(RlError::Storage(..))));
    }
}
