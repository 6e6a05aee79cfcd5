//! What a sandbox takes, read from /proc and from its workspace.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};

/// What the processes of a sandbox take at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Memory that is theirs alone, in bytes.
    pub memory: u64,
    /// Processor time so far, in seconds, of those that live and of children they have waited for.
    pub cpu_seconds: f64,
    /// Processes and threads.
    pub processes: u64,
}

/// `root` and all that descend from it. A process whose parent died belongs to the first process inside.
pub fn descendants(root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let tasks = fs::read_dir(format!("/proc/{}/task", found[at]));
        for task in tasks.into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
        at += 1;
    }
    found
}

/// Measure these processes.
pub fn sample(pids: &[u32]) -> Sample {
    let page = rustix::param::page_size() as u64;
    let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
    let mut all = Sample::default();
    for pid in pids {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name stands in parentheses and may hold anything.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        // utime, stime, cutime, cstime; num_threads.
        all.cpu_seconds += (11..15).map(field).sum::<u64>() as f64 / ticks;
        all.processes += field(17);
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        let mut sizes = statm.split_whitespace().skip(1).filter_map(|text| text.parse::<u64>().ok());
        if let (Some(resident), Some(shared)) = (sizes.next(), sizes.next()) {
            all.memory += resident.saturating_sub(shared) * page;
        }
    }
    all
}

/// Files below a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Their number, directories included.
    pub count: u64,
    /// What they take on the disk, in bytes.
    pub bytes: u64,
}

/// More are not counted: a sandbox that has them has too many.
pub const MOST_FILES: u64 = 100_000;

/// Measure what lies below `directory`. Links are never followed, whatever is put in their place meanwhile.
pub fn files(directory: &Path) -> Files {
    let mut all = Files::default();
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let Ok(root) = rustix::fs::open(directory, flags, Mode::empty()) {
        walk(root.as_fd(), &mut all, 0);
    }
    all
}

fn walk(directory: BorrowedFd<'_>, all: &mut Files, depth: u32) {
    const DEEPEST: u32 = 64;
    let Ok(entries) = Dir::read_from(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") || all.count > MOST_FILES {
            continue;
        }
        let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        all.count += 1;
        all.bytes += stat.st_blocks as u64 * 512;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && depth < DEEPEST {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let below: Result<OwnedFd, _> = openat(directory, name, flags, Mode::empty());
            if let Ok(below) = below {
                walk(below.as_fd(), all, depth + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_measures_itself() {
        let own = std::process::id();
        assert!(descendants(own).contains(&own));
        let mine = sample(&[own]);
        assert!(mine.memory > 100_000 && mine.processes >= 1, "{mine:?}");
        assert_eq!(sample(&[u32::MAX - 1]), Sample::default(), "one that is not there");
    }

    #[test]
    fn files_are_counted_and_links_are_not_followed() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(other.path().join("big"), vec![1; 1 << 20]).unwrap();
        fs::create_dir(own.path().join("a")).unwrap();
        fs::write(own.path().join("a/small"), vec![1; 5000]).unwrap();
        std::os::unix::fs::symlink(other.path(), own.path().join("link")).unwrap();
        let found = files(own.path());
        assert_eq!(found.count, 3);
        assert!((5000..500_000).contains(&found.bytes), "{found:?}");
        assert_eq!(files(&own.path().join("link")), Files::default(), "the root is no link either");
    }
}
