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
    error::{Error, Result},
    groups::Group,
    launch::Launch,
    model::{Attempt, Ran, Times, Usage},
    watch::Watch,
};
use am_sandbox_init::wire;

/// Limits of a command that are enforced by measuring.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Time limits of the command.
    pub times: Times,
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
pub struct Live {
    seen: Mutex<(Usage, Vec<Attempt>)>,
    stop: AtomicBool,
    /// Descriptor that becomes readable when the command is to stop.
    pub wake: OwnedFd,
}

impl Live {
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
    pub fn seen(&self) -> (Usage, Vec<Attempt>) {
        self.lock().clone()
    }

    /// Lock usage and attempts for a change.
    pub fn lock(&self) -> MutexGuard<'_, (Usage, Vec<Attempt>)> {
        self.seen.lock()
    }
}

/// A command to be started.
pub struct Job {
    /// Path of the helper executable.
    pub helper: PathBuf,
    /// Prepared start of the command.
    pub launch: Launch,
    /// Standard input of the command.
    pub stdin: Vec<u8>,
    /// Limits of the command.
    pub bounds: Bounds,
    /// Control groups, if available.
    pub group: Option<Group>,
    /// Path of the workspace.
    pub workspace: PathBuf,
    /// Handle for observers.
    pub live: Arc<Live>,
    /// Function that takes the socket on which the proxy listens in the sandbox's network, and returns the receiver of
    /// refused hosts; `None` without network access.
    pub proxy: Option<ProxyStart>,
}

/// Function that starts a proxy on a listening socket.
pub type ProxyStart = Box<dyn FnOnce(std::net::TcpListener) -> std::sync::mpsc::Receiver<String> + Send>;

/// Run a job to its end.
///
/// # Errors
/// Returns [`Error::Start`] when the rules could not be enforced, so that nothing was run.
pub fn run(mut job: Job) -> Result<Ran> {
    let (proxy, judge) = (job.proxy.take(), std::mem::take(&mut job.launch.judge));
    let failed = |error: io::Error| Error::Start(error.to_string());
    let (control, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(io::Error::from)
        .map_err(failed)?;
    let (reads, writes) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(io::Error::from).map_err(failed)?;
    let outer = serde_json::to_string(&job.launch.outer).map_err(|error| Error::Start(error.to_string()))?;
    let mut child = Command::new(&job.helper)
        .args([wire::OUTER, &outer])
        .env_clear()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let plan = serde_json::to_vec(&job.launch.plan).map_err(io::Error::from);
    let sent = plan
        .and_then(|plan| wire::in_memory(&plan))
        .and_then(|plan| wire::send(control.as_fd(), b"plan", &[plan.as_fd(), reads.as_fd()]));
    drop(reads);
    let mut watch = match sent.and_then(|()| Watch::new(&job, &mut child, control, writes)) {
        Ok(watch) => watch,
        Err(error) => {
            end(&mut child);
            return Err(failed(error));
        }
    };
    (watch.proxy, watch.notices.judge) = (proxy, judge);
    watch.go_on(&mut child, &job.stdin);
    let status = end(&mut child);
    watch.finish(status)
}

/// Kill the outermost process; the kernel ends everything inside with it.
fn end(child: &mut Child) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    let _ = child.kill();
    child.wait().ok()
}
