//! The seccomp filter: system calls that are refused or reported, and the compilation of the rules and of the list of
//! allowed calls for the kernel. A call without a rule that is not on the list fails.

use super::{allowed_calls::allowed_calls, sys::FilterInstruction};

/// Effect on a matching call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallEffect {
    /// The service is notified; it refuses and counts the call, or records the file it names and lets it continue.
    Notify,
    /// The call fails with this error and is not reported, because ordinary programs make such calls.
    Fail(i32),
}

/// Condition on a call's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ArgumentCondition {
    Always,
    /// An argument has one of these bits.
    Bits(usize, u32),
    /// The lower half of an argument has this value.
    Is(usize, u32),
    /// The lower half of an argument has none of these values.
    IsNot(usize, &'static [u32]),
}

/// A rule of the filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyscallRule {
    call: i64,
    /// Name of the call.
    pub name: &'static str,
    when: ArgumentCondition,
    effect: CallEffect,
}

macro_rules! calls {
    ($($name:ident),* $(,)?) => { &[$((numbers::$name, stringify!($name))),*] };
}

/// Call numbers, named like the calls.
mod numbers {
    #![expect(non_upper_case_globals, reason = "they are the calls' own names")]

    macro_rules! numbers {
        ($($name:ident = $number:ident),* $(,)?) => { $(pub const $name: i64 = libc::$number;)* };
    }
    numbers! {
        mount = SYS_mount, umount2 = SYS_umount2, pivot_root = SYS_pivot_root, chroot = SYS_chroot, move_mount = SYS_move_mount,
        open_tree = SYS_open_tree, fsopen = SYS_fsopen, fsconfig = SYS_fsconfig, fsmount = SYS_fsmount,
        fspick = SYS_fspick, mount_setattr = SYS_mount_setattr, unshare = SYS_unshare, setns = SYS_setns,
        ptrace = SYS_ptrace, process_vm_readv = SYS_process_vm_readv, process_vm_writev = SYS_process_vm_writev,
        kcmp = SYS_kcmp, pidfd_getfd = SYS_pidfd_getfd, open_by_handle_at = SYS_open_by_handle_at, bpf = SYS_bpf,
        perf_event_open = SYS_perf_event_open, userfaultfd = SYS_userfaultfd, io_uring_setup = SYS_io_uring_setup,
        io_uring_enter = SYS_io_uring_enter, io_uring_register = SYS_io_uring_register, keyctl = SYS_keyctl,
        add_key = SYS_add_key, request_key = SYS_request_key, kexec_load = SYS_kexec_load,
        init_module = SYS_init_module, finit_module = SYS_finit_module, delete_module = SYS_delete_module,
        reboot = SYS_reboot, swapon = SYS_swapon, swapoff = SYS_swapoff, acct = SYS_acct, quotactl = SYS_quotactl,
        settimeofday = SYS_settimeofday, clock_settime = SYS_clock_settime, sethostname = SYS_sethostname,
        setdomainname = SYS_setdomainname, syslog = SYS_syslog, vhangup = SYS_vhangup,
        fanotify_init = SYS_fanotify_init, memfd_create = SYS_memfd_create, execveat = SYS_execveat,
        sched_setaffinity = SYS_sched_setaffinity,
        name_to_handle_at = SYS_name_to_handle_at, adjtimex = SYS_adjtimex, clock_adjtime = SYS_clock_adjtime,
        migrate_pages = SYS_migrate_pages, move_pages = SYS_move_pages, mbind = SYS_mbind,
        set_mempolicy = SYS_set_mempolicy, shmget = SYS_shmget, msgget = SYS_msgget, memfd_secret = SYS_memfd_secret, openat = SYS_openat, openat2 = SYS_openat2, execve = SYS_execve,
        truncate = SYS_truncate, unlinkat = SYS_unlinkat, mkdirat = SYS_mkdirat, symlinkat = SYS_symlinkat,
        linkat = SYS_linkat, renameat = SYS_renameat, renameat2 = SYS_renameat2, fchmodat = SYS_fchmodat,
        fchownat = SYS_fchownat, mknodat = SYS_mknodat,
    }
    /// Not every C library that this is built with knows it; it has the same number on all architectures.
    pub const fchmodat2: i64 = 452;
    #[cfg(target_arch = "x86_64")]
    numbers! {
        iopl = SYS_iopl, ioperm = SYS_ioperm, kexec_file_load = SYS_kexec_file_load, open = SYS_open, creat = SYS_creat,
        unlink = SYS_unlink, rmdir = SYS_rmdir, mkdir = SYS_mkdir, symlink = SYS_symlink, link = SYS_link,
        rename = SYS_rename, chmod = SYS_chmod, chown = SYS_chown, lchown = SYS_lchown, mknod = SYS_mknod,
    }
}

/// Calls that are refused and counted: ordinary programs don't make them, or only to leave the sandbox.
const REFUSED_CALLS: &[(i64, &str)] = calls![
    mount,
    umount2,
    pivot_root,
    chroot,
    move_mount,
    open_tree,
    fsopen,
    fsconfig,
    fsmount,
    fspick,
    mount_setattr,
    unshare,
    setns,
    ptrace,
    process_vm_readv,
    process_vm_writev,
    kcmp,
    pidfd_getfd,
    open_by_handle_at,
    bpf,
    perf_event_open,
    userfaultfd,
    io_uring_setup,
    io_uring_enter,
    io_uring_register,
    keyctl,
    add_key,
    request_key,
    kexec_load,
    init_module,
    finit_module,
    delete_module,
    reboot,
    swapon,
    swapoff,
    acct,
    quotactl,
    settimeofday,
    clock_settime,
    sethostname,
    setdomainname,
    syslog,
    vhangup,
    fanotify_init,
];
#[cfg(target_arch = "x86_64")]
const ARCH_REFUSED_CALLS: &[(i64, &str)] = calls![iopl, ioperm, kexec_file_load];
#[cfg(not(target_arch = "x86_64"))]
const ARCH_REFUSED_CALLS: &[(i64, &str)] = &[];

/// Calls that are refused without a report. `memfd_create` and `execveat` would execute files that no path rule covers;
/// System V shared memory and queues outlive their processes, so that no process accounts for them.
const SILENTLY_REFUSED_CALLS: &[(i64, &str)] = calls![
    memfd_create,
    memfd_secret,
    execveat,
    shmget,
    msgget,
    sched_setaffinity,
    name_to_handle_at,
    adjtimex,
    clock_adjtime,
    migrate_pages,
    move_pages,
    mbind,
    set_mempolicy,
];

/// Arguments by which a call names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileArguments {
    /// Index of the argument with the directory's descriptor; `None`: the path is absolute or relative to the working
    /// directory.
    pub directory: Option<usize>,
    /// Index of the argument that points to the path.
    pub path: usize,
    /// Access to the file.
    pub access: FileAccess,
}

/// Access of a call to the file that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileAccess {
    /// Access given by the flags in this argument.
    Flags(usize),
    /// Access given by the flags that this argument points to.
    FlagsPointer(usize),
    /// The file is changed.
    Write,
    /// The file is executed.
    Execute,
}

const fn relative_to(directory: usize, path: usize, access: FileAccess) -> FileArguments {
    FileArguments { directory: Some(directory), path, access }
}

/// Calls that name files: they are reported, and decided by mounts and Landlock.
const FILE_CALLS: &[(i64, &str, FileArguments)] = &[
    (numbers::openat, "openat", relative_to(0, 1, FileAccess::Flags(2))),
    (numbers::openat2, "openat2", relative_to(0, 1, FileAccess::FlagsPointer(2))),
    (numbers::execve, "execve", FileArguments { directory: None, path: 0, access: FileAccess::Execute }),
    (numbers::truncate, "truncate", FileArguments { directory: None, path: 0, access: FileAccess::Write }),
    (numbers::unlinkat, "unlinkat", relative_to(0, 1, FileAccess::Write)),
    (numbers::mkdirat, "mkdirat", relative_to(0, 1, FileAccess::Write)),
    (numbers::symlinkat, "symlinkat", relative_to(1, 2, FileAccess::Write)),
    (numbers::linkat, "linkat", relative_to(2, 3, FileAccess::Write)),
    (numbers::renameat, "renameat", relative_to(2, 3, FileAccess::Write)),
    (numbers::renameat2, "renameat2", relative_to(2, 3, FileAccess::Write)),
    (numbers::fchmodat, "fchmodat", relative_to(0, 1, FileAccess::Write)),
    (numbers::fchmodat2, "fchmodat2", relative_to(0, 1, FileAccess::Write)),
    (numbers::fchownat, "fchownat", relative_to(0, 1, FileAccess::Write)),
    (numbers::mknodat, "mknodat", relative_to(0, 1, FileAccess::Write)),
];
#[cfg(target_arch = "x86_64")]
const ARCH_FILE_CALLS: &[(i64, &str, FileArguments)] = &[
    (numbers::open, "open", path_only(0, FileAccess::Flags(1))),
    (numbers::creat, "creat", path_only(0, FileAccess::Write)),
    (numbers::unlink, "unlink", path_only(0, FileAccess::Write)),
    (numbers::rmdir, "rmdir", path_only(0, FileAccess::Write)),
    (numbers::mkdir, "mkdir", path_only(0, FileAccess::Write)),
    (numbers::symlink, "symlink", path_only(1, FileAccess::Write)),
    (numbers::link, "link", path_only(1, FileAccess::Write)),
    (numbers::rename, "rename", path_only(1, FileAccess::Write)),
    (numbers::chmod, "chmod", path_only(0, FileAccess::Write)),
    (numbers::chown, "chown", path_only(0, FileAccess::Write)),
    (numbers::lchown, "lchown", path_only(0, FileAccess::Write)),
    (numbers::mknod, "mknod", path_only(0, FileAccess::Write)),
];
#[cfg(not(target_arch = "x86_64"))]
const ARCH_FILE_CALLS: &[(i64, &str, FileArguments)] = &[];

#[cfg(target_arch = "x86_64")]
const fn path_only(path: usize, access: FileAccess) -> FileArguments {
    FileArguments { directory: None, path, access }
}

/// Name of a reported call, by its number.
pub fn call_name(call: i32) -> &'static str {
    let call = i64::from(call);
    let refused =
        REFUSED_CALLS.iter().chain(ARCH_REFUSED_CALLS).find(|(number, _)| *number == call).map(|(_, name)| *name);
    let special = [(libc::SYS_clone, "clone"), (libc::SYS_kill, "kill"), (libc::SYS_socket, "socket")];
    let special = || special.iter().find(|(number, _)| *number == call).map(|(_, name)| *name);
    refused.or_else(special).unwrap_or("a system call")
}

/// Arguments by which a reported call names a file; `None` when it names none.
pub fn file_arguments(call: i32) -> Option<FileArguments> {
    FILE_CALLS.iter().chain(ARCH_FILE_CALLS).find(|(number, ..)| *number == i64::from(call)).map(|(.., names)| *names)
}

/// Namespace flags of `clone`: mount, cgroup, uts, ipc, user, pid, net, time.
const NAMESPACE_FLAGS: u32 =
    0x0002_0000 | 0x0200_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000 | 0x80;

/// Requests of `ioctl` that reserve space in a file as `fallocate` does: `FS_IOC_RESVSP`, `FS_IOC_RESVSP64` and
/// `FS_IOC_ZERO_RANGE`.
const RESERVING_REQUESTS: [u32; 3] = [0x4030_5828, 0x4030_582a, 0x4030_5839];

/// All rules of a sandbox; the first match applies.
pub fn filter_rules(network: bool, watch_files: bool) -> Vec<SyscallRule> {
    let rule = |call: i64, name, when, effect| SyscallRule { call, name, when, effect };
    let denied = CallEffect::Fail(libc::EPERM);
    let mut rules = Vec::new();
    // Namespaces can't be recognised in its arguments, which are in memory; C libraries fall back to `clone`.
    rules.push(rule(libc::SYS_clone3, "clone3", ArgumentCondition::Always, CallEffect::Fail(libc::ENOSYS)));
    rules.push(rule(libc::SYS_clone, "clone", ArgumentCondition::Bits(0, NAMESPACE_FLAGS & !0x80), CallEffect::Notify));
    rules.extend(
        REFUSED_CALLS
            .iter()
            .chain(ARCH_REFUSED_CALLS)
            .map(|(call, name)| rule(*call, name, ArgumentCondition::Always, CallEffect::Notify)),
    );
    rules
        .extend(SILENTLY_REFUSED_CALLS.iter().map(|(call, name)| rule(*call, name, ArgumentCondition::Always, denied)));
    // 0 sets the usual domain, all ones only query it.
    rules.push(rule(libc::SYS_personality, "personality", ArgumentCondition::IsNot(0, &[0, u32::MAX]), denied));
    // Process 1 of the sandbox itself.
    rules.push(rule(libc::SYS_kill, "kill", ArgumentCondition::Is(0, 1), CallEffect::Notify));
    // What reserves space without writing takes all that the limits let a process have, in no time. C libraries write zeros
    // instead.
    let unsupported = CallEffect::Fail(libc::EOPNOTSUPP);
    rules.push(rule(libc::SYS_fallocate, "fallocate", ArgumentCondition::Always, unsupported));
    for request in RESERVING_REQUESTS {
        rules.push(rule(libc::SYS_ioctl, "ioctl", ArgumentCondition::Is(1, request), unsupported));
    }
    // A filter of the program's own could answer before this one reports, and a process that is not dumpable hides its
    // memory and its open files from a service that is not root.
    for option in [libc::PR_SET_SECCOMP, libc::PR_SET_DUMPABLE] {
        rules.push(rule(libc::SYS_prctl, "prctl", ArgumentCondition::Is(0, option as u32), denied));
    }
    // A program could type text into a terminal.
    rules.push(rule(libc::SYS_ioctl, "ioctl", ArgumentCondition::Is(1, libc::TIOCSTI as u32), denied));
    rules.push(rule(libc::SYS_ioctl, "ioctl", ArgumentCondition::Is(1, libc::TIOCLINUX as u32), denied));
    rules.extend(socket_rules(network));
    if watch_files {
        let files = FILE_CALLS.iter().chain(ARCH_FILE_CALLS);
        rules.extend(files.map(|(call, name, _)| rule(*call, name, ArgumentCondition::Always, CallEffect::Notify)));
    }
    rules
}

const AF_UNIX: u32 = libc::AF_UNIX as u32;
const AF_NETLINK: u32 = libc::AF_NETLINK as u32;
const AF_INET: u32 = libc::AF_INET as u32;
const AF_INET6: u32 = libc::AF_INET6 as u32;

fn socket_rules(network: bool) -> Vec<SyscallRule> {
    let denied = CallEffect::Fail(libc::EPERM);
    let socket = |when, effect| SyscallRule { call: libc::SYS_socket, name: "socket", when, effect };
    let pair = SyscallRule {
        call: libc::SYS_socketpair,
        name: "socketpair",
        when: ArgumentCondition::IsNot(0, &[AF_UNIX]),
        effect: denied,
    };
    // The C library itself looks for a name service and for interfaces.
    let mut rules = vec![
        pair,
        socket(ArgumentCondition::Is(0, AF_NETLINK), denied),
        socket(ArgumentCondition::Is(0, AF_UNIX), denied),
    ];
    if network {
        rules.push(socket(ArgumentCondition::IsNot(0, &[AF_INET, AF_INET6]), CallEffect::Notify));
        // Stream sockets, with or without flags, reach the proxy. Resolvers try datagrams.
        rules.push(socket(ArgumentCondition::Bits(1, 0xe), denied));
        rules.push(SyscallRule {
            call: libc::SYS_connect,
            name: "connect",
            when: ArgumentCondition::Always,
            effect: CallEffect::Notify,
        });
    } else {
        rules.push(socket(ArgumentCondition::Always, CallEffect::Notify));
    }
    rules
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
/// Calls with a higher number are newer than this list.
const MAX_KNOWN_CALL: u32 = libc::SYS_mseal as u32;

const BPF_LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const BPF_JUMP_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const BPF_JUMP_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const BPF_JUMP_ANY_BIT: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const BPF_RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// First of the calls that are younger than what C libraries require: they do without where it fails as unknown.
const FIRST_OPTIONAL_CALL: u32 = libc::SYS_pidfd_send_signal as u32;

/// Compile the rules, and behind them the list of allowed calls, to the kernel's filter program.
pub fn compile_filter(rules: &[SyscallRule], network: bool) -> Vec<FilterInstruction> {
    let mut code = vec![
        load_instruction(4),
        jump_instruction(BPF_JUMP_EQUAL, AUDIT_ARCH, 1, 0),
        return_instruction(libc::SECCOMP_RET_KILL_PROCESS),
        load_instruction(0),
        // Numbers of the x32 ABI are among these.
        jump_instruction(BPF_JUMP_GREATER, MAX_KNOWN_CALL, 0, 1),
        return_instruction(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
    ];
    for rule in rules {
        let effect = return_instruction(match rule.effect {
            CallEffect::Notify => libc::SECCOMP_RET_USER_NOTIF,
            CallEffect::Fail(error) => libc::SECCOMP_RET_ERRNO | error as u32,
        });
        let body = match rule.when {
            ArgumentCondition::Always => vec![effect],
            ArgumentCondition::Bits(argument, bits) => {
                vec![
                    load_instruction(argument_offset(argument)),
                    jump_instruction(BPF_JUMP_ANY_BIT, bits, 0, 1),
                    effect,
                    load_instruction(0),
                ]
            }
            ArgumentCondition::Is(argument, value) => vec![
                load_instruction(argument_offset(argument)),
                jump_instruction(BPF_JUMP_EQUAL, value, 0, 1),
                effect,
                load_instruction(0),
            ],
            ArgumentCondition::IsNot(argument, values) => {
                let mut body = vec![load_instruction(argument_offset(argument))];
                for (at, value) in values.iter().enumerate() {
                    body.push(jump_instruction(BPF_JUMP_EQUAL, *value, (values.len() - at) as u8, 0));
                }
                body.extend([effect, load_instruction(0)]);
                body
            }
        };
        code.push(jump_instruction(BPF_JUMP_EQUAL, rule.call as u32, 0, body.len() as u8));
        code.extend(body);
    }
    // The kernel remembers the calls that are always allowed, so that the length of the list costs nothing.
    let files = FILE_CALLS.iter().chain(ARCH_FILE_CALLS).map(|(call, ..)| *call);
    for call in allowed_calls(network).chain(files) {
        code.push(jump_instruction(BPF_JUMP_EQUAL, call as u32, 0, 1));
        code.push(return_instruction(libc::SECCOMP_RET_ALLOW));
    }
    code.extend([
        jump_instruction(BPF_JUMP_GREATER, FIRST_OPTIONAL_CALL - 1, 0, 1),
        return_instruction(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        return_instruction(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ]);
    code
}

/// Offset of the lower half of an argument.
const fn argument_offset(argument: usize) -> u32 {
    16 + 8 * argument as u32
}

const fn load_instruction(offset: u32) -> FilterInstruction {
    jump_instruction(BPF_LOAD, offset, 0, 0)
}

const fn return_instruction(value: u32) -> FilterInstruction {
    jump_instruction(BPF_RETURN, value, 0, 0)
}

const fn jump_instruction(code: u16, k: u32, jt: u8, jf: u8) -> FilterInstruction {
    FilterInstruction { code, jt, jf, k }
}

#[cfg(test)]
mod tests;
