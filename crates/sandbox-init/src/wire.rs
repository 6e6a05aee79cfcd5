//! What the service and the executable inside a sandbox say to each other, over a pair of sockets.

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

/// The first argument: prepare the way for bubblewrap and become it. The second is an [`Outer`].
pub const OUTER: &str = "outer";
/// The first argument: the first process inside. It reads a [`Plan`] over its standard input.
pub const INNER: &str = "inner";
/// The first argument: try what must not be possible.
pub const PROBE: &str = "probe";

/// Where root shows an unprivileged bubblewrap what lies in directories that it may not enter.
pub const STAGE: &str = "/tmp";

/// What is done outside, before bubblewrap begins.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Outer {
    /// Become this user and group; none: stay.
    pub user: Option<(u32, u32)>,
    /// Control groups to enter, by their `cgroup.procs`.
    pub groups: Vec<PathBuf>,
    /// Processors to run on; empty: all.
    pub processors: Vec<usize>,
    /// What is shown below [`STAGE`], by its name there. Needs root.
    pub shown: Vec<(PathBuf, String)>,
    /// bubblewrap.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// What the first process inside puts itself under, and then becomes.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Plan {
    /// The program, by its absolute path inside, and its arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: Vec<(String, String)>,
    /// Files that may be executed, and directories below which all may.
    pub executable: Vec<String>,
    /// Directories below which all may be written.
    pub writable: Vec<String>,
    /// Limits of each process.
    pub limits: Limits,
    /// Whether it may reach the proxy.
    pub network: bool,
    /// Whether files that are opened and programs that are started are told.
    pub watch_files: bool,
    /// Whether Landlock must hold; else it is used as far as the kernel has it.
    pub landlock: bool,
}

/// Limits of one process; none: as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Seconds of processor time.
    pub cpu_seconds: Option<u64>,
    /// The largest file, in bytes.
    pub file_bytes: Option<u64>,
    /// Processes and threads of the sandbox.
    pub processes: Option<u64>,
    /// Open files.
    pub open_files: Option<u64>,
    /// Bytes of data and private writable memory.
    pub data_bytes: Option<u64>,
}

/// What the first process inside says before it becomes the program.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// All rules hold. With it come the listener of seccomp, and with a network the proxy's listening socket.
    Ready {
        /// The proxy's port inside.
        port: Option<u16>,
    },
    /// They can't be made to hold, or the program can't be started.
    Failed(String),
}

const LARGEST: usize = 4096;

/// Send `bytes` and descriptors as one message.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(&bytes[..bytes.len().min(LARGEST)])], &mut ancillary, flags)?;
    Ok(())
}

/// Receive one message; no bytes: the other side is gone.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; LARGEST];
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

/// Send something with descriptors.
pub fn say(socket: BorrowedFd<'_>, said: &Said, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send(socket, &serde_json::to_vec(said)?, descriptors)
}

/// A file in memory that holds `bytes`, read from its beginning.
pub fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("plan", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut written = 0;
    while written < bytes.len() {
        written += rustix::io::pwrite(file.as_fd(), &bytes[written..], written as u64)?;
    }
    Ok(file)
}
