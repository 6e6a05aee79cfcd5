use super::*;

/// What the filter answers to a call, as the kernel would compute it.
fn run(code: &[FilterInstruction], architecture: u32, call: i64, arguments: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        0 => call as u32,
        4 => architecture,
        _ => (arguments[(offset as usize - 16) / 8] >> (32 * ((offset % 8) / 4))) as u32,
    };
    let (mut at, mut a) = (0, 0u32);
    loop {
        let step = &code[at];
        at += 1;
        let taken = match step.code {
            BPF_LOAD => {
                a = word(step.k);
                continue;
            }
            BPF_RETURN => return step.k,
            BPF_JUMP_EQUAL => a == step.k,
            BPF_JUMP_GREATER => a > step.k,
            BPF_JUMP_ANY_BIT => a & step.k != 0,
            other => panic!("no such instruction {other}"),
        };
        at += usize::from(if taken { step.jt } else { step.jf });
    }
}

const ASK: u32 = libc::SECCOMP_RET_USER_NOTIF;
const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const DENY: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

fn of(network: bool, call: i64, a: u64, b: u64) -> u32 {
    run(&compile_filter(&filter_rules(network, true), network), AUDIT_ARCH, call, [a, b, 0, 0, 0, 0])
}

#[test]
fn what_leads_out_is_refused_and_told() {
    for (call, name) in REFUSED_CALLS {
        assert_eq!(of(true, *call, 0, 0), ASK, "{name}");
        assert_eq!(call_name(*call as i32), *name);
    }
    assert_eq!(of(false, libc::SYS_clone, 0x1000_0000, 0), ASK, "a user namespace");
    assert_eq!(of(false, libc::SYS_clone, 0x0100_0000 | 17, 0), ALLOW, "a process");
    assert_eq!(of(false, libc::SYS_clone3, 0, 0), libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
    assert_eq!(of(false, libc::SYS_memfd_create, 0, 0), DENY);
    assert_eq!(of(false, libc::SYS_kill, 1, 9), ASK);
    assert_eq!(of(false, libc::SYS_kill, 7, 9), ALLOW);
    assert_eq!(of(false, libc::SYS_personality, 0xffff_ffff, 0), ALLOW);
    assert_eq!(of(false, libc::SYS_personality, 0x0004_0000, 0), DENY);
}

#[test]
fn what_is_not_listed_fails() {
    let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    for call in [libc::SYS_vmsplice, libc::SYS_io_setup, libc::SYS_semget, libc::SYS_mq_open, libc::SYS_seccomp] {
        assert_eq!(of(true, call, 0, 0), DENY, "{call}");
    }
    #[cfg(target_arch = "x86_64")]
    assert_eq!(of(true, libc::SYS_modify_ldt, 0, 0), DENY);
    for call in [libc::SYS_pidfd_open, libc::SYS_landlock_create_ruleset, libc::SYS_process_madvise] {
        assert_eq!(of(true, call, 0, 0), missing, "{call}");
    }
    // Of all numbers there are, most are not allowed.
    let allowed = (0..1000).filter(|call| of(false, *call, 0, 0) == ALLOW).count();
    assert!((150..260).contains(&allowed), "{allowed}");
}

#[test]
fn listed_calls_pass_whether_files_are_watched_or_not() {
    for watch_files in [true, false] {
        let code = compile_filter(&filter_rules(true, watch_files), true);
        let answer = |call: i64| run(&code, AUDIT_ARCH, call, [0; 6]);
        for call in allowed_calls(true).filter(|call| !special(*call)) {
            assert_eq!(answer(call), ALLOW, "{call}");
        }
        for (call, name, _) in FILE_CALLS.iter().chain(ARCH_FILE_CALLS) {
            assert_eq!(answer(*call), if watch_files { ASK } else { ALLOW }, "{name}");
        }
    }
    // What has a rule for every argument would be on the list in vain.
    for call in allowed_calls(true) {
        assert!(!REFUSED_CALLS.iter().chain(SILENTLY_REFUSED_CALLS).any(|(refused, _)| *refused == call), "{call}");
    }
}

/// Calls whose arguments decide.
fn special(call: i64) -> bool {
    [libc::SYS_socket, libc::SYS_socketpair, libc::SYS_connect, libc::SYS_personality].contains(&call)
}

#[test]
fn space_is_not_reserved_without_writing() {
    let unsupported = libc::SECCOMP_RET_ERRNO | libc::EOPNOTSUPP as u32;
    assert_eq!(of(true, libc::SYS_fallocate, 0, 0), unsupported);
    for request in RESERVING_REQUESTS {
        assert_eq!(of(true, libc::SYS_ioctl, 3, request.into()), unsupported);
    }
    assert_eq!(of(true, libc::SYS_ioctl, 3, libc::FIONREAD), ALLOW);
}

#[test]
fn programs_hide_nothing_from_those_who_supervise_them() {
    for option in [libc::PR_SET_SECCOMP, libc::PR_SET_DUMPABLE] {
        assert_eq!(of(true, libc::SYS_prctl, option as u64, 0), DENY, "{option}");
    }
    assert_eq!(of(true, libc::SYS_prctl, libc::PR_SET_NAME as u64, 0), ALLOW);
}

#[test]
fn without_a_network_there_is_no_socket() {
    assert_eq!(of(false, libc::SYS_connect, 0, 0), DENY);
    for family in [AF_INET, AF_INET6, libc::AF_PACKET as u32, libc::AF_VSOCK as u32] {
        assert_eq!(of(false, libc::SYS_socket, family.into(), 1), ASK, "{family}");
    }
    assert_eq!(of(false, libc::SYS_socket, AF_UNIX.into(), 1), DENY);
    assert_eq!(of(false, libc::SYS_socketpair, AF_UNIX.into(), 1), ALLOW, "a program's own pipes");
    assert_eq!(of(false, libc::SYS_socketpair, AF_INET.into(), 1), DENY);
}

#[test]
fn with_a_network_there_are_streams_only() {
    let stream = libc::SOCK_STREAM as u64;
    for family in [AF_INET, AF_INET6] {
        assert_eq!(of(true, libc::SYS_socket, family.into(), stream), ALLOW);
        assert_eq!(of(true, libc::SYS_socket, family.into(), stream | libc::SOCK_CLOEXEC as u64), ALLOW);
        assert_eq!(of(true, libc::SYS_socket, family.into(), libc::SOCK_DGRAM as u64), DENY);
        assert_eq!(of(true, libc::SYS_socket, family.into(), libc::SOCK_RAW as u64), DENY);
    }
    assert_eq!(of(true, libc::SYS_socket, libc::AF_PACKET as u64, stream), ASK);
}

#[test]
fn files_are_told_of_where_that_is_wanted() {
    assert_eq!(of(false, libc::SYS_openat, 0, 0), ASK);
    assert_eq!(of(false, libc::SYS_read, 0, 0), ALLOW);
    let unwatched = compile_filter(&filter_rules(false, false), false);
    assert_eq!(run(&unwatched, AUDIT_ARCH, libc::SYS_openat, [0; 6]), ALLOW);
    assert_eq!(file_arguments(libc::SYS_renameat2 as i32).unwrap().path, 3);
}

#[test]
fn other_architectures_and_later_calls_are_none_of_it() {
    let code = compile_filter(&filter_rules(true, true), true);
    assert_eq!(run(&code, 0x4000_0003, libc::SYS_read, [0; 6]), libc::SECCOMP_RET_KILL_PROCESS, "32 bits");
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    assert_eq!(run(&code, AUDIT_ARCH, i64::from(MAX_KNOWN_CALL) + 1, [0; 6]), unknown);
    assert_eq!(run(&code, AUDIT_ARCH, 0x4000_0000 | libc::SYS_read, [0; 6]), unknown, "x32");
    assert!(code.len() < 4096, "the kernel's limit");
}
