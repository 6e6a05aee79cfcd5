//! System calls without a safe wrapper: seccomp with a listener, and its notifications.

#![expect(unsafe_code, reason = "seccomp's filters and notifications have no safe interface")]

use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// An instruction of a filter program.
pub type FilterInstruction = libc::sock_filter;

/// Notification of a system call that waits for a decision.
pub struct SyscallNotification {
    /// Id of the notification, for the answer.
    pub id: u64,
    /// Id of the calling process, as seen by this process.
    pub pid: u32,
    /// Number of the system call.
    pub call: i32,
    /// Arguments of the call.
    pub arguments: [u64; 6],
}

/// Decision on a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyscallDecision {
    /// The kernel continues the call, under all other rules.
    Continue,
    /// The call fails with EPERM.
    Refuse,
}

fn check_result(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Install `filter` for this thread and everything that it starts. Returns the descriptor for its notifications.
pub fn install_filter(filter: &[FilterInstruction]) -> io::Result<OwnedFd> {
    let length = u16::try_from(filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_ptr().cast_mut() };
    let listen = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // A process that waits for a decision can then be interrupted by fatal signals only; kernels before 5.19 lack this
    // flag.
    let killable = libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV;
    let put = |flags: libc::c_ulong| {
        // SAFETY: the program and its instructions live until the call has returned; the kernel copies them.
        let put = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
        check_result(put)
    };
    let listener = put(listen | killable).or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => put(listen),
        _ => Err(error),
    })?;
    // SAFETY: the kernel has just made this descriptor for the caller, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(listener as libc::c_int) })
}

/// The next notification; `None` when the caller has ended meanwhile.
pub fn next_notification(listener: BorrowedFd<'_>) -> io::Result<Option<SyscallNotification>> {
    // SAFETY: all-zero is what the kernel demands of this plain structure.
    let mut notice: libc::seccomp_notif = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one such structure, which lives here.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notice) };
    match check_result(done.into()) {
        Ok(_) => Ok(Some(SyscallNotification {
            id: notice.id,
            pid: notice.pid,
            call: notice.data.nr,
            arguments: notice.data.args,
        })),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the caller still waits, which proves that data read from the process belongs to it.
pub fn is_still_waiting(listener: BorrowedFd<'_>, id: u64) -> bool {
    // SAFETY: the kernel reads one number, which lives here.
    unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw const id) == 0 }
}

/// Send the decision on a call. It is no error that the caller no longer waits.
pub fn send_decision(listener: BorrowedFd<'_>, id: u64, verdict: SyscallDecision) -> io::Result<()> {
    let (error, flags) = match verdict {
        SyscallDecision::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        SyscallDecision::Refuse => (-libc::EPERM, 0),
    };
    let mut answer = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the kernel reads one such structure, which lives here.
    let done = unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
    match check_result(done.into()) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// Mark every descriptor from 3 on to be closed when another program is executed.
pub fn close_on_exec() -> io::Result<()> {
    const CLOEXEC: libc::c_uint = 1 << 2;
    // SAFETY: no memory is passed, and no descriptor is closed now.
    check_result(unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, CLOEXEC) }).map(drop)
}

/// Create a mount namespace for this process, which must have a single thread.
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: descriptors stay shared; only what is mounted where becomes this process's own.
    Ok(unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?)
}

/// Make a system call that takes no memory, to test its result.
pub fn try_system_call(call: libc::c_long, arguments: [libc::c_long; 4]) -> io::Result<()> {
    let [a, b, c, d] = arguments;
    // SAFETY: used with calls and arguments that name no memory of this process.
    check_result(unsafe { libc::syscall(call, a, b, c, d) }).map(drop)
}

/// Duplicate descriptor 0 as an owned descriptor.
pub fn duplicate_stdin() -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(io::stdin().as_fd(), 3)?)
}

/// Ignore SIGXFSZ, so that a file beyond its limit is an error and not a fatal signal.
pub fn ignore_file_size_signal() {
    // SAFETY: no handler of this process's own is installed.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}
