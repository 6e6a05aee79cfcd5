//! Exclusive right to drive a task: a lock on a file, which the kernel releases when the process ends in any way.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use am_core::ids::BackgroundTaskId;

/// Lock on a task's file, held while this value lives.
#[derive(Debug)]
pub(crate) struct WorkLock {
    _file: File,
    path: PathBuf,
}

impl Drop for WorkLock {
    fn drop(&mut self) {
        // Removed while locked: another process that has the file open finds another file of that name, or none.
        let _ = fs::remove_file(&self.path);
    }
}

/// Try to lock task `id` of the database at `database`: processes that share it share the locks.
pub(crate) fn try_lock(database: &Path, id: &BackgroundTaskId) -> Option<WorkLock> {
    let mut name = database.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{id}.lock"));
    let path = database.with_file_name(name);
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "cannot lock a task")).ok()?;
    file.try_lock().ok()?;
    // The previous holder may have removed the file after it was opened here.
    let inode = |found: io::Result<fs::Metadata>| found.ok().map(|found| found.ino());
    if inode(file.metadata()) != inode(fs::metadata(&path)) {
        return None;
    }
    Some(WorkLock { _file: file, path })
}
