//! Who may drive a run: whoever holds the lock on its file, which the kernel gives back however a process dies.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use super::Runs;

/// The right to drive a run, for as long as this lives.
pub(super) struct Lock {
    _file: File,
    path: PathBuf,
    runs: Runs,
    id: String,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // While it is locked: another process that has the file open already finds the run ended, and lets go.
        let _ = fs::remove_file(&self.path);
        self.runs.0.driven().remove(&self.id);
        self.runs.0.left.notify_waiters();
        self.runs.0.wake.notify_one();
    }
}

impl Runs {
    /// The right to drive run `id`, if nobody has it.
    pub(super) fn lock(&self, id: &str) -> Option<Lock> {
        // Beside the database, as a worker's: processes that share it share the locks.
        let mut name = self.0.db.path().file_name().unwrap_or_default().to_owned();
        name.push(format!(".{id}.lock"));
        let path = self.0.db.path().with_file_name(name);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "can't lock a run")).ok()?;
        file.try_lock().ok()?;
        // Whoever held it may have removed it after we opened it: then another file of that name is, or will be, the lock.
        let inode = |found: io::Result<fs::Metadata>| found.ok().map(|found| found.ino());
        if inode(file.metadata()) != inode(fs::metadata(&path)) {
            return None;
        }
        Some(Lock { _file: file, path, runs: self.clone(), id: id.to_owned() })
    }
}
