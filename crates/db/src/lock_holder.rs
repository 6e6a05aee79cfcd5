//! Which other processes hold the database's write lock, as far as the kernel tells.

use std::{fmt, os::unix::fs::MetadataExt as _, path::Path};

/// Bytes of `<database>-shm` that SQLite locks for a writer, a checkpoint and a recovery in WAL mode.
const WAL_LOCK_BYTES: std::ops::RangeInclusive<u64> = 120..=122;
/// Bytes of the database file that SQLite locks for a writer without WAL: pending and reserved.
const FILE_LOCK_BYTES: std::ops::RangeInclusive<u64> = 0x4000_0000..=0x4000_0001;

/// A process that holds the write lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// Id of the process.
    pub pid: u32,
    /// Name of the process; null when it may not be read.
    pub name: Option<String>,
    /// Whether the process is stopped by a signal or frozen, and will not release the lock by itself.
    pub stopped: bool,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {}", self.pid)?;
        let name = self.name.iter().map(String::as_str);
        let facts: Vec<&str> = name.chain(self.stopped.then_some("stopped")).collect();
        if facts.is_empty() { Ok(()) } else { write!(f, " ({})", facts.join(", ")) }
    }
}

/// Return the other processes that hold the write lock of `database`. Empty: none does any more, or the kernel does not
/// tell it here (`/proc` is not mounted, or the holder is in another container).
pub fn write_lock_holders(database: &Path) -> Vec<LockHolder> {
    let inode = |path: &Path| std::fs::metadata(path).ok().map(|file| file.ino());
    let mut shared = database.as_os_str().to_owned();
    shared.push("-shm");
    let files = [(inode(database), FILE_LOCK_BYTES), (inode(Path::new(&shared)), WAL_LOCK_BYTES)];
    let table = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let mut pids: Vec<u32> = table.lines().filter_map(|line| lock_owner(line, &files)).collect();
    pids.sort_unstable();
    pids.dedup();
    pids.into_iter().filter(|pid| *pid != std::process::id()).map(describe_process).collect()
}

/// Return the owner of a write lock on one of `files`, from a line of `/proc/locks`:
/// `1: POSIX  ADVISORY  WRITE 4711 fd:01:1234 120 120`. Lines of waiting processes have an arrow.
fn lock_owner(line: &str, files: &[(Option<u64>, std::ops::RangeInclusive<u64>)]) -> Option<u32> {
    let mut fields = line.split_whitespace().skip(1);
    let (_, _, mode, pid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let inode: u64 = fields.next()?.rsplit(':').next()?.parse().ok()?;
    let first: u64 = fields.next()?.parse().ok()?;
    let last = match fields.next()? {
        "EOF" => u64::MAX,
        last => last.parse().ok()?,
    };
    let held = |(file, bytes): &(Option<u64>, std::ops::RangeInclusive<u64>)| {
        *file == Some(inode) && first <= *bytes.end() && last >= *bytes.start()
    };
    (mode == "WRITE" && files.iter().any(held)).then(|| pid.parse().ok()).flatten()
}

fn describe_process(pid: u32) -> LockHolder {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let member = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let stopped = member("State:").is_some_and(|state| state.starts_with(['T', 't']));
    LockHolder { pid, name: member("Name:").map(str::to_owned), stopped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_write_locks_on_the_writers_bytes_count() {
        let files = [(Some(10), FILE_LOCK_BYTES), (Some(11), WAL_LOCK_BYTES)];
        let owner = |line: &str| lock_owner(line, &files);
        assert_eq!(owner("1: POSIX  ADVISORY  WRITE 4711 fd:01:11 120 120"), Some(4711));
        assert_eq!(owner("2: POSIX  ADVISORY  WRITE 4712 fd:01:10 1073741824 1073742335"), Some(4712));
        assert_eq!(owner("2: POSIX  ADVISORY  WRITE 4712 fd:01:10 0 EOF"), Some(4712));
        for other in [
            "1: POSIX  ADVISORY  READ 4711 fd:01:11 120 120",
            "1: POSIX  ADVISORY  WRITE 4711 fd:01:11 124 124",
            "1: POSIX  ADVISORY  WRITE 4711 fd:01:12 120 120",
            "1: -> POSIX  ADVISORY  WRITE 4711 fd:01:11 120 120",
            "1: OFDLCK ADVISORY  WRITE -1 fd:01:11 120 120",
            "",
        ] {
            assert_eq!(owner(other), None, "{other}");
        }
    }

    #[test]
    fn holder_is_told_as_far_as_it_is_known() {
        let own = describe_process(std::process::id());
        assert!(own.name.is_some() && !own.stopped);
        assert_eq!(LockHolder { pid: 7, name: None, stopped: false }.to_string(), "process 7");
        let stopped = LockHolder { pid: 7, name: Some("python3".into()), stopped: true };
        assert_eq!(stopped.to_string(), "process 7 (python3, stopped)");
    }
}
