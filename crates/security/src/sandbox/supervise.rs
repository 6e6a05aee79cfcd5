//! Supervision of a command by a thread of its own: the kernel ends a sandbox together with the thread that started it,
//! so that thread must live as long.

use std::{
    io,
    os::fd::AsFd as _,
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::{
    error::{Result, SandboxError},
    event_loop::CommandEventLoop,
    model::CommandOutcome,
    supervised_job::SupervisedJob,
};
use am_sandbox_init::ipc;

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
