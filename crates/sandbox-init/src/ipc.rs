//! Messages between the service and the helper executable, over a pair of sockets.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

/// First argument: prepare the environment for bubblewrap and execute it. The second argument is an [`LauncherPlan`].
pub const OUTER_MODE: &str = "outer";
/// First argument: act as the first process inside. It reads a [`InitPlan`] from its standard input.
pub const INNER_MODE: &str = "inner";
/// First argument: test what must be impossible.
pub const PROBE_MODE: &str = "probe";

/// Directory in which root mounts what an unprivileged bubblewrap could not reach.
pub const STAGE_PATH: &str = "/tmp";

/// Work outside the sandbox before bubblewrap starts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct LauncherPlan {
    /// User and group to change to; `None`: unchanged.
    pub user: Option<(u32, u32)>,
    /// Control groups to enter, by their `cgroup.procs`.
    pub groups: Vec<PathBuf>,
    /// Processors to run on; empty: all.
    pub processors: Vec<usize>,
    /// Paths to mount below [`STAGE_PATH`], with their names there. Needs root.
    pub shown: Vec<(PathBuf, String)>,
    /// Path of bubblewrap.
    pub program: PathBuf,
    /// Arguments of bubblewrap.
    pub arguments: Vec<String>,
}

/// Rules that the first process inside applies to itself, and the program that it executes then.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct InitPlan {
    /// Program, by its absolute path inside, and its arguments.
    pub argv: Vec<String>,
    /// Complete environment of the program.
    pub env: Vec<(String, String)>,
    /// Files that may be executed, and directories below which all files may.
    pub executable: Vec<String>,
    /// Directories below which all files may be written.
    pub writable: Vec<String>,
    /// Limits of each process.
    pub limits: ProcessLimits,
    /// Whether the proxy may be reached.
    pub network: bool,
    /// Whether opened files and started programs are reported.
    pub watch_files: bool,
    /// Whether Landlock must be enforced; otherwise it is used as far as the kernel supports it.
    pub landlock: bool,
}

/// Limits of a process; `None` leaves a limit unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLimits {
    /// Processor time in seconds.
    pub cpu_seconds: Option<u64>,
    /// Largest file in bytes.
    pub file_bytes: Option<u64>,
    /// Processes and threads of the sandbox.
    pub processes: Option<u64>,
    /// Number of open files.
    pub open_files: Option<u64>,
    /// Bytes of data and private writable memory.
    pub data_bytes: Option<u64>,
}

/// Report of the first process inside before it executes the program.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum InitMessage {
    /// All rules are in force. The message carries the listener of seccomp, and with a network the proxy's listening
    /// socket.
    Ready {
        /// Port of the proxy inside.
        port: Option<u16>,
    },
    /// The rules could not be enforced, or the program could not be started; the value is the reason.
    Failed(String),
}

const MAX_MESSAGE_LEN: usize = 4096;

/// Send `bytes` and descriptors as one message.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(&bytes[..bytes.len().min(MAX_MESSAGE_LEN)])], &mut ancillary, flags)?;
    Ok(())
}

/// Receive a message; no bytes mean that the other side has closed.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; MAX_MESSAGE_LEN];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags)?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    bytes.truncate(received.bytes);
    Ok((bytes, descriptors))
}

/// Send a report with descriptors.
pub fn send_report(socket: BorrowedFd<'_>, said: &InitMessage, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send(socket, &serde_json::to_vec(said)?, descriptors)
}

/// Create a file in memory that holds `bytes`, positioned at its beginning.
pub fn memory_file(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("plan", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut written = 0;
    while written < bytes.len() {
        written += rustix::io::pwrite(file.as_fd(), &bytes[written..], written as u64)?;
    }
    Ok(file)
}
