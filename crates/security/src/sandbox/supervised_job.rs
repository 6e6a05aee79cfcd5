//! A command to be started and supervised, and the handle of a running one.

use std::{
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use rustix::event::{EventfdFlags, eventfd};

use super::{
    cgroups::CgroupGuard,
    launch::PreparedLaunch,
    model::{CommandTimeLimits, SandboxUsage, ViolationAttempt},
};

/// Limits of a command that are enforced by measuring.
#[derive(Clone, Copy, Debug)]
pub struct CommandLimits {
    /// Time limits of the command.
    pub times: CommandTimeLimits,
    /// Memory in bytes.
    pub memory: u64,
    /// Size of files in bytes.
    pub disk: u64,
    /// Number of processes and threads.
    pub processes: u64,
    /// Bytes kept of each output stream.
    pub output: usize,
}

/// Handle of a running command: its measured state, and the means to stop it.
pub struct CommandHandle {
    seen: Mutex<(SandboxUsage, Vec<ViolationAttempt>)>,
    stop: AtomicBool,
    /// Descriptor that becomes readable when the command is to stop.
    pub wake: OwnedFd,
}

impl CommandHandle {
    /// Create the handle.
    ///
    /// # Errors
    /// Fails when the process has no free descriptors.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { seen: Mutex::default(), stop: AtomicBool::new(false), wake })
    }

    /// Stop the command.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Whether the command is to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Last measured usage, and attempts so far.
    pub fn seen(&self) -> (SandboxUsage, Vec<ViolationAttempt>) {
        self.lock().clone()
    }

    /// Lock usage and attempts for a change.
    pub fn lock(&self) -> MutexGuard<'_, (SandboxUsage, Vec<ViolationAttempt>)> {
        self.seen.lock()
    }
}

/// A command to be started.
pub struct SupervisedJob {
    /// Path of the helper executable.
    pub helper: PathBuf,
    /// Prepared start of the command.
    pub launch: PreparedLaunch,
    /// Standard input of the command.
    pub stdin: Vec<u8>,
    /// Limits of the command.
    pub bounds: CommandLimits,
    /// Control groups, if available.
    pub group: Option<CgroupGuard>,
    /// Path of the workspace.
    pub workspace: PathBuf,
    /// Handle for observers.
    pub live: Arc<CommandHandle>,
    /// Function that takes the socket on which the proxy listens in the sandbox's network, and returns the receiver of
    /// refused hosts; `None` without network access.
    pub proxy: Option<ProxyStarter>,
}

/// Function that starts a proxy on a listening socket.
pub type ProxyStarter = Box<dyn FnOnce(std::net::TcpListener) -> std::sync::mpsc::Receiver<String> + Send>;
