//! Supervision of a command by a thread of its own: the kernel ends a sandbox together with the thread that started it,
//! so that thread must live as long.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, MutexGuard};
use rustix::{
    event::{EventfdFlags, eventfd},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
};

use super::{
    cgroups::CgroupGuard,
    error::{Result, SandboxError},
    event_loop::CommandEventLoop,
    launch::PreparedLaunch,
    model::{CommandOutcome, CommandTimeLimits, SandboxUsage, ViolationAttempt},
};
use am_sandbox_init::ipc;

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

/// Run a job to its end.
///
/// # Errors
/// Returns [`SandboxError::StartFailed`] when the rules could not be enforced, so that nothing was run.
pub fn run_job(mut job: SupervisedJob) -> Result<CommandOutcome> {
    let (proxy, judge) = (job.proxy.take(), std::mem::take(&mut job.launch.judge));
    let failed = |error: io::Error| SandboxError::StartFailed(error.to_string());
    let (control, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(io::Error::from)
        .map_err(failed)?;
    let (reads, writes) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from).map_err(failed)?;
    let outer =
        serde_json::to_string(&job.launch.outer).map_err(|error| SandboxError::StartFailed(error.to_string()))?;
    let mut child = Command::new(&job.helper)
        .args([ipc::OUTER_MODE, &outer])
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let plan = serde_json::to_vec(&job.launch.plan).map_err(io::Error::from);
    let sent = plan
        .and_then(|plan| ipc::memory_file(&plan))
        .and_then(|plan| ipc::send(control.as_fd(), b"plan", &[plan.as_fd(), reads.as_fd()]));
    drop(reads);
    let mut watch = match sent.and_then(|()| CommandEventLoop::new(&job, &mut child, control, writes)) {
        Ok(watch) => watch,
        Err(error) => {
            kill_outermost(&mut child);
            return Err(failed(error));
        }
    };
    (watch.proxy, watch.notices.judge) = (proxy, judge);
    watch.go_on(&mut child, &job.stdin);
    let status = kill_outermost(&mut child);
    watch.finish(status)
}

/// Kill the outermost process; the kernel ends everything inside with it.
fn kill_outermost(child: &mut Child) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    let _ = child.kill();
    child.wait().ok()
}
