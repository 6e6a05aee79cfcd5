//! Resource usage of a sandbox, read from /proc and its workspace.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, chmodat, openat, renameat, statat, unlinkat},
    io::Errno,
};

/// Resource usage of a sandbox's processes at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// Anonymous memory in bytes.
    pub memory: u64,
    /// Processor time so far in seconds, of live processes and of children they have waited for.
    pub cpu_seconds: f64,
    /// Number of processes and threads.
    pub processes: u64,
}

/// Process `root` and all its descendants. A process whose parent died belongs to the first process inside.
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
pub fn measure_processes(pids: &[u32]) -> ProcessUsage {
    let ticks = rustix::param::clock_ticks_per_second().max(1) as f64;
    let mut all = ProcessUsage::default();
    for pid in pids {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // The name is in parentheses and may contain anything.
        let Some((_, rest)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        // utime, stime, cutime, cstime; num_threads.
        all.cpu_seconds += (11..15).map(field).sum::<u64>() as f64 / ticks;
        all.processes += field(17);
        // Memory mapped from files can be reclaimed by the kernel; shared memory is counted for each process that has
        // it.
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let kilobytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
        };
        all.memory += (kilobytes("RssAnon:") + kilobytes("RssShmem:")) << 10;
    }
    all
}

/// Files below a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileUsage {
    /// Number of files and directories.
    pub count: u64,
    /// Size on disk in bytes.
    pub bytes: u64,
}

/// Maximum number of files that are counted; a sandbox with more has too many.
pub const MAX_COUNTED_FILES: u64 = 100_000;

const DIRECTORY_FLAGS: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Measure the files below `directory`. Links are never followed, whatever replaces a file meanwhile.
pub fn measure_files(directory: &Path) -> FileUsage {
    let mut all = FileUsage::default();
    if let Ok(root) = rustix::fs::open(directory, DIRECTORY_FLAGS, Mode::empty()) {
        walk_directory(root.as_fd(), &mut all, 0);
    }
    all
}

fn walk_directory(directory: BorrowedFd<'_>, all: &mut FileUsage, depth: u32) {
    const MAX_DEPTH: u32 = 64;
    let Ok(entries) = Dir::read_from(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") || all.count > MAX_COUNTED_FILES {
            continue;
        }
        let Ok(stat) = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        all.count += 1;
        all.bytes += stat.st_blocks as u64 * 512;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            match openat(directory, name, DIRECTORY_FLAGS, Mode::empty()) {
                Ok(below) if depth < MAX_DEPTH => walk_directory(below.as_fd(), all, depth + 1),
                // Removed or replaced meanwhile.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                // A directory that can't be read may hide any number of files.
                _ => all.count = MAX_COUNTED_FILES + 1,
            }
        }
    }
}

/// Size in bytes of deleted files that processes hold open or mapped, on the disk of `directory`.
pub fn deleted_file_bytes(pids: &[u32], directory: &Path) -> u64 {
    let Ok(disk) = fs::metadata(directory).map(|metadata| metadata.dev()) else { return 0 };
    let mut found = HashMap::new();
    for pid in pids {
        let open = fs::read_dir(format!("/proc/{pid}/fd"));
        for entry in open.into_iter().flatten().flatten() {
            // Only the link's target is queried; it is not opened.
            let Ok(file) = fs::metadata(entry.path()) else { continue };
            if file.is_file() && file.nlink() == 0 && file.dev() == disk {
                found.insert(file.ino(), file.blocks() * 512);
            }
        }
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        for line in maps.lines().filter(|line| line.ends_with(" (deleted)")) {
            let words: Vec<&str> = line.split_whitespace().take(5).collect();
            let [range, _, _, device, inode] = words.as_slice() else { continue };
            let numbers = || {
                let (from, to) = range.split_once('-')?;
                let size = u64::from_str_radix(to, 16).ok()?.saturating_sub(u64::from_str_radix(from, 16).ok()?);
                let (major, minor) = device.split_once(':')?;
                let number = |text| u32::from_str_radix(text, 16).ok();
                Some((size, rustix::fs::makedev(number(major)?, number(minor)?), inode.parse::<u64>().ok()?))
            };
            if let Some((size, device, inode)) = numbers()
                && device == disk
            {
                found.entry(inode).or_insert(size);
            }
        }
    }
    found.values().sum()
}

/// Remove a directory with everything below it, and return what was removed. Nested directories are moved up first, so
/// that neither the stack nor the number of open files grows with the depth.
///
/// # Errors
/// Returns the error of the file system.
pub fn remove_tree(directory: &Path) -> io::Result<FileUsage> {
    let mut all = FileUsage::default();
    let root = match rustix::fs::open(directory, DIRECTORY_FLAGS, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(all),
        other => other?,
    };
    let mut moved = 0u64;
    loop {
        let directories = empty_directory(root.as_fd(), root.as_fd(), &mut all, &mut moved, true)?;
        if directories.is_empty() {
            break;
        }
        for name in directories {
            let below = open_directory(root.as_fd(), &name)?;
            empty_directory(below.as_fd(), root.as_fd(), &mut all, &mut moved, false)?;
            unlinkat(&root, &name, AtFlags::REMOVEDIR)?;
            all.count += 1;
        }
    }
    fs::remove_dir(directory)?;
    Ok(all)
}

/// Remove the files of a directory and move its directories into `root`, unless they are there. Returns the names of
/// the directories in `root`.
fn empty_directory(
    directory: BorrowedFd<'_>,
    root: BorrowedFd<'_>,
    all: &mut FileUsage,
    moved: &mut u64,
    is_root: bool,
) -> io::Result<Vec<CString>> {
    let mut directories = Vec::new();
    let names: Vec<CString> = Dir::read_from(directory)?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_owned()))
        .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
        .collect();
    for name in names {
        let stat = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            all.count += 1;
            all.bytes += stat.st_blocks as u64 * 512;
            unlinkat(directory, &name, AtFlags::empty())?;
        } else if is_root {
            all.bytes += stat.st_blocks as u64 * 512;
            directories.push(name);
        } else {
            // A directory that its owner may not write can't be moved.
            drop(open_directory(directory, &name)?);
            loop {
                *moved += 1;
                let place = format!(".removed-{moved}");
                match renameat(directory, &name, root, place.as_str()) {
                    Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                    other => break other?,
                }
            }
        }
    }
    Ok(directories)
}

/// Open a directory, after granting its owner all permissions.
fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    // No process runs any more that could replace it by a link.
    chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
    Ok(openat(parent, name, DIRECTORY_FLAGS, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_measures_itself() {
        let own = std::process::id();
        assert!(descendants(own).contains(&own));
        let mine = measure_processes(&[own]);
        assert!(mine.memory > 100_000 && mine.processes >= 1, "{mine:?}");
        assert_eq!(measure_processes(&[u32::MAX - 1]), ProcessUsage::default(), "one that is not there");
    }

    #[test]
    fn files_are_counted_and_links_are_not_followed() {
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(other.path().join("big"), vec![1; 1 << 20]).unwrap();
        fs::create_dir(own.path().join("a")).unwrap();
        fs::write(own.path().join("a/small"), vec![1; 5000]).unwrap();
        std::os::unix::fs::symlink(other.path(), own.path().join("link")).unwrap();
        let found = measure_files(own.path());
        assert_eq!(found.count, 3);
        assert!((5000..500_000).contains(&found.bytes), "{found:?}");
        assert_eq!(measure_files(&own.path().join("link")), FileUsage::default(), "the root is no link either");
    }

    #[test]
    fn files_without_a_name_are_counted_while_somebody_has_them() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("gone");
        let mut file = fs::File::create_new(&path).unwrap();
        std::io::Write::write_all(&mut file, &vec![1; 300_000]).unwrap();
        file.sync_all().unwrap();
        let own = [std::process::id()];
        let before = deleted_file_bytes(&own, place.path());
        fs::remove_file(&path).unwrap();
        let held = deleted_file_bytes(&own, place.path());
        assert!(held >= before + 300_000, "{before} {held}");
        drop(file);
        assert!(deleted_file_bytes(&own, place.path()) <= held - 300_000);
    }

    #[test]
    fn a_directory_goes_however_deep_it_is_and_whatever_its_modes() {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let (root, outside) = (place.path().join("root"), place.path().join("outside"));
        fs::create_dir_all(root.join("a/.removed-1/b")).unwrap();
        fs::create_dir_all(root.join("c/b")).unwrap();
        fs::write(&outside, "stays").unwrap();
        std::os::unix::fs::symlink(&outside, root.join("a/link")).unwrap();
        fs::write(root.join("c/b/file"), "x").unwrap();
        fs::set_permissions(root.join("c"), fs::Permissions::from_mode(0o000)).unwrap();
        let mut deep = rustix::fs::open(&root, DIRECTORY_FLAGS, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deep, "d", Mode::RWXU).unwrap();
            deep = openat(&deep, "d", DIRECTORY_FLAGS, Mode::empty()).unwrap();
        }
        drop(deep);
        assert!(measure_files(&root).count > MAX_COUNTED_FILES, "too deep to be looked into");
        let gone = remove_tree(&root).unwrap();
        assert_eq!(gone.count, 3000 + 7);
        assert!(!root.exists() && outside.exists());
        assert_eq!(remove_tree(&root).unwrap(), FileUsage::default(), "again");
    }
}
