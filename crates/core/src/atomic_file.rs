//! Files that are replaced as a whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

/// Write `bytes` to `path` atomically: after a crash the file holds its old content or all of the new one. `mode` has the
/// permissions of the new file, less those that the process's umask takes.
///
/// # Errors
/// Fails when the file or its directory can't be written; nothing is left then.
pub fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_atomically_with(path, mode, |file| file.write_all(bytes))
}

/// [`write_atomically`] of what `write` writes.
///
/// # Errors
/// As [`write_atomically`], and those of `write`.
pub fn write_atomically_with<T>(
    path: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<T>,
) -> io::Result<T> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    // Several requests and processes may write the same file, so each uses its own temporary name.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    name.push(format!(".{}-{}.partial", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    let partial = directory.join(name);
    let written =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&partial).and_then(|mut file| {
            let result = write(&mut file)?;
            file.sync_all()?;
            Ok(result)
        });
    match written.and_then(|result| fs::rename(&partial, path).map(|()| result)) {
        Ok(result) => File::open(directory)?.sync_all().map(|()| result),
        Err(error) => {
            let _ = fs::remove_file(&partial);
            Err(error)
        }
    }
}
