//! Decisions on waiting system calls, with the arguments read from the calling process.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{fd::BorrowedFd, unix::fs::FileExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2, readlinkat};

use super::{
    judge::{Judge, below, normal},
    launch::WORKSPACE,
};
use am_sandbox_init::{
    filter::{self, Access, Names},
    kernel::{self, Notice, Verdict},
};

/// Handler of the notifications of one sandbox.
pub struct Notices {
    /// Recorder of attempts.
    pub judge: Judge,
    workspace: PathBuf,
}

const LONGEST_PATH: usize = 4096;

impl Notices {
    /// Create the handler of a sandbox whose files are in `workspace`.
    pub fn new(workspace: PathBuf) -> Self {
        Self { judge: Judge::default(), workspace }
    }

    /// Decide on a call. A call that names a file continues, because mounts and Landlock decide on it: another thread
    /// can change what is read here before the kernel reads it.
    pub fn verdict(&mut self, listener: BorrowedFd<'_>, notice: &Notice) -> Verdict {
        if let Some(names) = filter::names_file(notice.call) {
            let seen = self.file(notice, names);
            // The process may have died, and its id may belong to another process now.
            if let Some((path, access)) = seen.filter(|_| kernel::still_waits(listener, notice.id)) {
                match access {
                    Seen::Execute => self.judge.program(&path),
                    Seen::Read => self.judge.file(&path, false),
                    Seen::Write => self.judge.file(&path, true),
                }
            }
            return Verdict::GoOn;
        }
        if i64::from(notice.call) == libc::SYS_connect {
            let address = read(notice.pid, notice.arguments[1], 28).and_then(|bytes| address(&bytes));
            if let Some(address) = address.filter(|address| !address.ip().is_loopback()) {
                self.judge.connection(&address.to_string(), false);
            }
            return Verdict::GoOn;
        }
        self.judge.system_call(filter::call_name(notice.call));
        Verdict::Refuse
    }

    fn file(&self, notice: &Notice, names: Names) -> Option<(String, Seen)> {
        let path = text(notice.pid, notice.arguments[names.path])?;
        let path = if path.starts_with('/') { path } else { format!("{}/{path}", base(notice, names)?) };
        let seen = match names.access {
            Access::Execute => Seen::Execute,
            Access::Write => Seen::Write,
            Access::Flags(at) => of_flags(notice.arguments[at]),
            Access::FlagsBehind(at) => {
                let bytes = read(notice.pid, notice.arguments[at], 8)?;
                of_flags(u64::from_ne_bytes(bytes.try_into().ok()?))
            }
        };
        let path = normal(&path);
        let target = if seen == Seen::Execute { None } else { self.target(&path) };
        Some((target.unwrap_or(path), seen))
    }

    /// Target of a link inside the sandbox, since opening the link opens its target. No link is followed on the way to
    /// it, because outside it might lead anywhere.
    fn target(&self, path: &str) -> Option<String> {
        let rest = below(path, WORKSPACE).then(|| path[WORKSPACE.len()..].trim_start_matches('/'))?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.workspace, flags | OFlags::DIRECTORY, Mode::empty()).ok()?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let link = openat2(&root, rest, flags, Mode::empty(), resolve).ok()?;
        let target = readlinkat(&link, "", Vec::new()).ok()?.into_string().ok()?;
        Some(normal(Path::new(path).parent()?.join(target).to_str()?))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Read,
    Write,
    Execute,
}

fn of_flags(flags: u64) -> Seen {
    let writes = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u64;
    if flags & writes == 0 { Seen::Read } else { Seen::Write }
}

/// Directory that a relative path starts from.
fn base(notice: &Notice, names: Names) -> Option<String> {
    let descriptor = names.directory.map(|at| notice.arguments[at] as i32).filter(|fd| *fd != libc::AT_FDCWD);
    let link = match descriptor {
        Some(descriptor) => format!("/proc/{}/fd/{descriptor}", notice.pid),
        None => format!("/proc/{}/cwd", notice.pid),
    };
    Some(fs::read_link(link).ok()?.to_str()?.to_owned())
}

/// Read at most `most` bytes of a process's memory.
fn read(pid: u32, at: u64, most: usize) -> Option<Vec<u8>> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut bytes = vec![0; most];
    let count = memory.read_at(&mut bytes, at).ok()?;
    bytes.truncate(count);
    Some(bytes)
}

/// Read a zero-terminated text from a process's memory.
fn text(pid: u32, at: u64) -> Option<String> {
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut found = Vec::new();
    let mut at = at;
    while found.len() < LONGEST_PATH {
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
fn address(bytes: &[u8]) -> Option<SocketAddr> {
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
        assert_eq!(text(own, path.as_ptr() as u64).unwrap(), "/etc/shadow");
        assert_eq!(text(own, 0), None);
        assert_eq!(read(own, path.as_ptr() as u64, 4).unwrap(), b"/etc");
    }

    #[test]
    fn addresses_are_read() {
        let mut bytes = (libc::AF_INET as u16).to_ne_bytes().to_vec();
        bytes.extend([0, 80, 203, 0, 113, 7]);
        assert_eq!(address(&bytes).unwrap().to_string(), "203.0.113.7:80");
        assert_eq!(address(&bytes[..5]), None);
    }
}
