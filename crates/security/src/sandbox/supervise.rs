//! One command, watched from its beginning to its end by a thread of its own: the kernel ends a sandbox together with
//! the thread that started it, so that thread must live as long.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

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

/// What a command is held to, by measuring.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// How long it may go on.
    pub times: Times,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of files.
    pub disk: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Bytes of each output that are kept.
    pub output: usize,
}

/// What can be seen of a running command, and how it is stopped.
pub struct Live {
    seen: Mutex<(Usage, Vec<Attempt>)>,
    stop: AtomicBool,
    /// Can be read once it is.
    pub wake: OwnedFd,
}

impl Live {
    /// # Errors
    /// When the kernel has no more descriptors.
    pub fn new() -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { seen: Mutex::default(), stop: AtomicBool::new(false), wake })
    }

    /// End it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Whether it is to end.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// What was measured last, and what was tried.
    pub fn seen(&self) -> (Usage, Vec<Attempt>) {
        self.lock().clone()
    }

    /// The same, to be changed.
    pub fn lock(&self) -> MutexGuard<'_, (Usage, Vec<Attempt>)> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A command that is to be started.
pub struct Job {
    /// This project's executable for sandboxes.
    pub helper: PathBuf,
    /// How it is started.
    pub launch: Launch,
    /// What it reads.
    pub stdin: Vec<u8>,
    /// What it is held to.
    pub bounds: Bounds,
    /// Its control groups.
    pub group: Option<Group>,
    /// Where its files lie.
    pub workspace: PathBuf,
    /// Where it can be seen.
    pub live: Arc<Live>,
    /// Takes the socket on which the proxy listens, in the sandbox's own network; what the proxy refuses comes back.
    pub proxy: Option<ProxyStart>,
}

/// Starts a proxy on a listening socket.
pub type ProxyStart = Box<dyn FnOnce(std::net::TcpListener) -> std::sync::mpsc::Receiver<String> + Send>;

/// Run it to its end.
///
/// # Errors
/// [`Error::Start`] when the rules could not be made to hold, so that nothing was run.
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

/// The outermost process; the kernel ends everything inside with it.
fn end(child: &mut Child) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    let _ = child.kill();
    child.wait().ok()
}
