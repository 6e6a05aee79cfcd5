//! Decisions on waiting system calls, with the arguments read from the calling process.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{fd::BorrowedFd, unix::fs::FileExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2, readlinkat};

use super::{
    launch::WORKSPACE_PATH,
    violation_recorder::{ViolationRecorder, is_below, normalize_path},
};
use am_sandbox_init::{
    seccomp_filter::{self, FileAccess, FileArguments},
    sys::{self, SyscallDecision, SyscallNotification},
};

/// Handler of the notifications of one sandbox.
pub struct NotifyListener {
    /// Recorder of attempts.
    pub judge: ViolationRecorder,
    workspace: PathBuf,
}

const MAX_PATH_LEN: usize = 4096;

impl NotifyListener {
    /// Create the handler of a sandbox whose files are in `workspace`.
    pub fn new(workspace: PathBuf) -> Self {
        Self { judge: ViolationRecorder::default(), workspace }
    }

    /// Decide on a call. A call that names a file continues, because mounts and Landlock decide on it: another thread
    /// can change what is read here before the kernel reads it.
    pub fn verdict(&mut self, listener: BorrowedFd<'_>, notice: &SyscallNotification) -> SyscallDecision {
        if let Some(names) = seccomp_filter::file_arguments(notice.call) {
            let seen = self.file(notice, names);
            // The process may have died, and its id may belong to another process now.
            if let Some((path, access)) = seen.filter(|_| sys::is_still_waiting(listener, notice.id)) {
                match access {
                    ObservedAccess::Execute => self.judge.program(&path),
                    ObservedAccess::Read => self.judge.file(&path, false),
                    ObservedAccess::Write => self.judge.file(&path, true),
                }
            }
            return SyscallDecision::Continue;
        }
        if i64::from(notice.call) == libc::SYS_connect {
            let address =
                read_process_memory(notice.pid, notice.arguments[1], 28).and_then(|bytes| parse_socket_address(&bytes));
            if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
                self.judge.record_connection(&address.to_string(), false);
            }
            return SyscallDecision::Continue;
        }
        self.judge.record_system_call(seccomp_filter::call_name(notice.call));
        SyscallDecision::Refuse
    }

    fn file(&self, notice: &SyscallNotification, names: FileArguments) -> Option<(String, ObservedAccess)> {
        let path = read_process_text(notice.pid, notice.arguments[names.path])?;
        let path = if path.starts_with('/') { path } else { format!("{}/{path}", base_directory(notice, names)?) };
        let seen = match names.access {
            FileAccess::Execute => ObservedAccess::Execute,
            FileAccess::Write => ObservedAccess::Write,
            FileAccess::Flags(at) => access_from_flags(notice.arguments[at]),
            FileAccess::FlagsPointer(at) => {
                let bytes = read_process_memory(notice.pid, notice.arguments[at], 8)?;
                access_from_flags(u64::from_ne_bytes(bytes.try_into().ok()?))
            }
        };
        let path = normalize_path(&path);
        let target = if seen == ObservedAccess::Execute { None } else { self.target(&path) };
        Some((target.unwrap_or(path), seen))
    }

    /// Target of a link inside the sandbox, since opening the link opens its target. No link is followed on the way to
    /// it, because outside it might lead anywhere.
    fn target(&self, path: &str) -> Option<String> {
        let rest = is_below(path, WORKSPACE_PATH).then(|| path[WORKSPACE_PATH.len()..].trim_start_matches('/'))?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.workspace, flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let link = openat2(&root, rest, flags, Mode::empty(), resolve).ok()?;
        let target = readlinkat(&link, "", Vec::new()).ok()?.into_string().ok()?;
        Some(normalize_path(Path::new(path).parent()?.join(target).to_str()?))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ObservedAccess {
    Read,
    Write,
    Execute,
}

fn access_from_flags(flags: u64) -> ObservedAccess {
    let writes = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u64;
    if flags & writes == 0 { ObservedAccess::Read } else { ObservedAccess::Write }
}

/// Directory that a relative path starts from.
fn base_directory(notice: &SyscallNotification, names: FileArguments) -> Option<String> {
    let descriptor = names.directory.map(|at| notice.arguments[at] as i32).filter(|fd| *fd != libc::AT_FDCWD);
    let link = match descriptor {
        Some(descriptor) => format!("/proc/{}/fd/{descriptor}", notice.pid),
        None => format!("/proc/{}/cwd", notice.pid),
    };
    Some(fs::read_link(link).ok()?.to_str()?.to_owned())
}

/// Read at most `most` bytes of a process's memory.
fn read_process_memory(pid: u32, at: u64, most: usize) -> Option<Vec<u8>> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = vec![0; most];
    let count = memory.read_at(&mut bytes, at).ok()?;
    bytes.truncate(count);
    Some(bytes)
}

/// Read a zero-terminated text from a process's memory.
fn read_process_text(pid: u32, at: u64) -> Option<String> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut found = Vec::new();
    let mut at = at;
    while found.len() < MAX_PATH_LEN {
        // Up to the end of the page, because the next one may be unmapped.
        let mut piece = [0; 4096];
        let room = (4096 - at % 4096) as usize;
        let count = memory.read_at(&mut piece[..room], at).ok().filter(|count| *count > 0)?;
        if let Some(end) = piece[..count].iter().position(|byte| *byte == 0) {
            found.extend_from_slice(&piece[..end]);
            return Some(String::from_utf8_lossy(&found).into_owned());
        }
        found.extend_from_slice(&piece[..count]);
        at += count as u64;
    }
    None
}

/// Parse a socket address in the kernel's form.
fn parse_socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::from((Ipv4Addr::from(ip), port)))
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some(SocketAddr::from((Ipv6Addr::from(ip), port)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_reads_its_own_memory() {
        let path = c"/etc/shadow";
        let own = std::process::id();
        assert_eq!(read_process_text(own, path.as_ptr() as u64).unwrap(), "/etc/shadow");
        assert_eq!(read_process_text(own, 0), None);
        assert_eq!(read_process_memory(own, path.as_ptr() as u64, 4).unwrap(), b"/etc");
    }

    #[test]
    fn addresses_are_read() {
        let mut bytes = (libc::AF_INET as u16).to_ne_bytes().to_vec();
        bytes.extend([0, 80, 203, 0, 113, 7]);
        assert_eq!(parse_socket_address(&bytes).unwrap().to_string(), "203.0.113.7:80");
        assert_eq!(parse_socket_address(&bytes[..5]), None);
    }
}
