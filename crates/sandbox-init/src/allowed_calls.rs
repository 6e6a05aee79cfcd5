//! The system calls that programs inside may make. All others fail, those of later kernels too. The selection follows that of
//! container engines, without what lets one process look into another, what outlives processes, what the sandbox itself uses
//! to confine them, and what ordinary programs do not need.

macro_rules! numbers {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// Files by descriptor, and what is known of files by name.
const FILE_CALLS: &[i64] = numbers![
    SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_preadv2 SYS_pwritev2
    SYS_close SYS_close_range SYS_lseek SYS_fstat SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs SYS_ftruncate SYS_fchmod
    SYS_fchown SYS_faccessat SYS_faccessat2 SYS_fcntl SYS_flock SYS_fsync SYS_fdatasync SYS_sync_file_range SYS_getdents64
    SYS_getcwd SYS_chdir SYS_fchdir SYS_dup SYS_dup3 SYS_pipe2 SYS_ioctl SYS_readlinkat SYS_utimensat SYS_umask
    SYS_copy_file_range SYS_sendfile SYS_splice SYS_tee SYS_fadvise64 SYS_readahead SYS_getxattr SYS_lgetxattr
    SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_setxattr SYS_lsetxattr SYS_fsetxattr SYS_removexattr
    SYS_lremovexattr SYS_fremovexattr SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch
];

/// Memory of the process itself.
const MEMORY_CALLS: &[i64] = numbers![
    SYS_brk SYS_mmap SYS_munmap SYS_mprotect SYS_mremap SYS_madvise SYS_mincore SYS_msync SYS_mlock SYS_mlock2 SYS_munlock
    SYS_mlockall SYS_munlockall SYS_membarrier SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect
];

/// Processes, threads, signals and their limits. Namespaces, and signals to process 1, have rules of their own.
const PROCESS_CALLS: &[i64] = numbers![
    SYS_clone SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_kill SYS_tkill SYS_tgkill SYS_getpid SYS_getppid SYS_gettid
    SYS_getpgid SYS_setpgid SYS_getsid SYS_setsid SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getresuid
    SYS_getresgid SYS_getgroups SYS_setuid SYS_setgid SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setgroups
    SYS_setfsuid SYS_setfsgid SYS_capget SYS_capset SYS_prctl SYS_personality SYS_set_tid_address SYS_set_robust_list
    SYS_get_robust_list SYS_rseq SYS_futex SYS_futex_waitv SYS_restart_syscall SYS_sched_yield SYS_sched_getaffinity
    SYS_sched_getparam SYS_sched_setparam SYS_sched_getscheduler SYS_sched_setscheduler SYS_sched_getattr
    SYS_sched_setattr SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_rr_get_interval SYS_getcpu
    SYS_getpriority SYS_setpriority SYS_ioprio_get SYS_ioprio_set SYS_getrlimit SYS_setrlimit SYS_prlimit64 SYS_getrusage
    SYS_times SYS_sysinfo SYS_uname SYS_getrandom SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask
    SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_sigaltstack
    SYS_signalfd4
];

/// Time, and waiting for events.
const TIME_CALLS: &[i64] = numbers![
    SYS_nanosleep SYS_clock_nanosleep SYS_clock_gettime SYS_clock_getres SYS_gettimeofday SYS_timer_create
    SYS_timer_delete SYS_timer_gettime SYS_timer_settime SYS_timer_getoverrun SYS_timerfd_create SYS_timerfd_gettime
    SYS_timerfd_settime SYS_getitimer SYS_setitimer SYS_ppoll SYS_pselect6 SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait
    SYS_epoll_pwait2 SYS_eventfd2
];

/// Sockets that are open: pairs within the sandbox, and with a network streams to the proxy.
const SOCKET_CALLS: &[i64] = numbers![
    SYS_socket SYS_socketpair SYS_getsockname SYS_getpeername SYS_getsockopt SYS_setsockopt SYS_sendto SYS_recvfrom
    SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg SYS_shutdown
];

/// Names and connections of sockets, with a network only.
const NETWORK_CALLS: &[i64] = numbers![SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_connect];

/// Older forms of the same, which this architecture still has.
#[cfg(target_arch = "x86_64")]
const ARCH_CALLS: &[i64] = numbers![
    SYS_stat SYS_lstat SYS_access SYS_readlink SYS_utime SYS_utimes SYS_futimesat SYS_getdents SYS_pipe SYS_dup2 SYS_fork
    SYS_vfork SYS_getpgrp SYS_poll SYS_select SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_signalfd SYS_inotify_init
    SYS_alarm SYS_pause SYS_time SYS_arch_prctl
];
#[cfg(not(target_arch = "x86_64"))]
const ARCH_CALLS: &[i64] = &[];

/// Numbers of the calls that are allowed unless another rule refuses them; calls that name files are not among them.
pub fn allowed_calls(network: bool) -> impl Iterator<Item = i64> {
    let network = if network { NETWORK_CALLS } else { &[] };
    [FILE_CALLS, MEMORY_CALLS, PROCESS_CALLS, TIME_CALLS, SOCKET_CALLS, network, ARCH_CALLS]
        .into_iter()
        .flatten()
        .copied()
}
