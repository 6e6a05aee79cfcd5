//! Exclusive right to drive a run: a lock on a file, which the kernel releases when the process ends in any way.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
};

use super::TrainingRuns;
use am_core::ids::TrainingRunId;

/// Lock on a run's file, held while this value lives.
pub(super) struct RunLock {
    _file: File,
    path: PathBuf,
    runs: TrainingRuns,
    id: TrainingRunId,
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // Removed while locked: another process that has the file open finds the run ended and lets go.
        let _ = fs::remove_file(&self.path);
        let driven = self.runs.0.driven().remove(&self.id);
        if let Some(handle) = driven {
            self.runs.0.usage.lock().add(&handle.owner_id, handle.since.elapsed());
        }
        self.runs.0.left.notify_waiters();
        self.runs.0.wake.notify_one();
    }
}

impl TrainingRuns {
    /// Try to lock run `id`.
    pub(super) fn lock(&self, id: &TrainingRunId) -> Option<RunLock> {
        // Beside the database, like a worker's lock file: processes that share the database share the locks.
        let mut name = self.0.db.path().file_name().unwrap_or_default().to_owned();
        name.push(format!(".{id}.lock"));
        let path = self.0.db.path().with_file_name(name);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file =
            file.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "cannot lock a run")).ok()?;
        file.try_lock().ok()?;
        // The previous holder may have removed the file after it was opened here: the lock is then another file of that
        // name.
        let inode = |found: io::Result<fs::Metadata>| found.ok().map(|found| found.ino());
        if inode(file.metadata()) != inode(fs::metadata(&path)) {
            return None;
        }
        Some(RunLock { _file: file, path, runs: self.clone(), id: id.clone() })
    }
}
