//! Test inside a sandbox: a process tries what its rules forbid and reports the results.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::sys;

/// Result of a test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Name of the test.
    pub name: String,
    /// Whether the rule was enforced.
    pub held: bool,
    /// Error of the kernel, or what was found.
    pub said: String,
}

/// Facts about the outside that a test needs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProbeFacts {
    /// Namespaces of the service, by their names in `/proc/self/ns`.
    pub namespaces: BTreeMap<String, String>,
    /// Path of a file of the service that must be unreadable inside.
    pub secret: String,
    /// Maximum number of processes and threads of the sandbox.
    pub processes: u64,
    /// Largest file in bytes.
    pub file_bytes: u64,
    /// Maximum size of `/tmp` in bytes.
    pub scratch_bytes: u64,
    /// Number of processors that the sandbox may use.
    pub processors: u64,
}

/// Run `rules OUTSIDE`, `memory BYTES` or `sleep`.
pub fn main(arguments: &[String]) -> io::Result<()> {
    match arguments {
        [what, outside] if what == "rules" => {
            let outside: ProbeFacts = serde_json::from_str(outside)?;
            let text = serde_json::to_string(&run_rule_trials(&outside))?;
            io::stdout().write_all(text.as_bytes())
        }
        [what, bytes] if what == "memory" => {
            fill_memory(bytes.parse().map_err(io::Error::other)?);
            io::stdout().write_all(b"filled")
        }
        [what] if what == "sleep" => {
            thread::sleep(Duration::from_secs(3600));
            Ok(())
        }
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Allocate memory and write to all of it, in pieces, so that a limit measured at intervals can act.
fn fill_memory(bytes: usize) {
    const PIECE: usize = 1 << 20;
    let mut held = Vec::new();
    for _ in 0..bytes / PIECE {
        held.push(vec![1u8; PIECE]);
        if held.len() % 16 == 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }
    thread::sleep(Duration::from_millis(500));
    drop(std::hint::black_box(held));
}

fn run_rule_trials(outside: &ProbeFacts) -> Vec<TrialResult> {
    let mut trials = Vec::new();
    let mut add =
        |name: &str, (held, said): (bool, String)| trials.push(TrialResult { name: name.to_owned(), held, said });
    for (name, theirs) in &outside.namespaces {
        let own = fs::read_link(format!("/proc/self/ns/{name}"));
        let own = own.map_or_else(|error| error.to_string(), |own| own.to_string_lossy().into_owned());
        add(&format!("{name}_namespace"), (own != *theirs && own.contains(':'), format!("{own}, outside {theirs}")));
    }
    add("no_new_privileges", check_status("NoNewPrivs:", |value| value == "1"));
    add("capabilities_dropped", check_status("CapEff:", |value| value.bytes().all(|digit| digit == b'0')));
    let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    let known = ["PATH", "HOME", "LANG", "TMPDIR", "PYTHONDONTWRITEBYTECODE", "PWD"];
    add("environment_cleared", (names.iter().all(|name| known.contains(&name.as_str())), names.join(" ")));
    add("hidden_files", is_refusal(File::open(&outside.secret).map(drop)));
    add("read_only_system", is_refusal(File::create("/usr/agent-management-probe").map(drop)));
    add("read_only_root", is_refusal(File::create("/agent-management-probe").map(drop)));
    // File permissions alone would allow it.
    add("landlock_write", is_refusal(OpenOptions::new().write(true).open("/proc/self/comm").map(drop)));
    add("landlock_execute", try_execute_own_file());
    add(
        "seccomp_namespaces",
        is_refusal(sys::try_system_call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0])),
    );
    add("seccomp_mount", is_refusal(sys::try_system_call(libc::SYS_umount2, [0, 0, 0, 0])));
    add("seccomp_ptrace", is_refusal(sys::try_system_call(libc::SYS_ptrace, [0, 0, 0, 0])));
    add("seccomp_io_uring", is_refusal(sys::try_system_call(libc::SYS_io_uring_setup, [1, 0, 0, 0])));
    add("seccomp_allow_list", try_unlisted_calls());
    add("no_socket", is_refusal(TcpStream::connect(("127.0.0.1", 1)).map(drop)));
    add("cpu_limit", check_status("Cpus_allowed_list:", |list| count_processors(list) <= outside.processors));
    add("process_limit", try_threads(outside.processes));
    sys::ignore_file_size_signal();
    add("file_size_limit", try_large_file("/workspace/probe", outside.file_bytes));
    add("scratch_limit", try_many_files("/tmp", outside.scratch_bytes));
    trials
}

/// Make calls that any kernel answers and that no program inside needs.
fn try_unlisted_calls() -> (bool, String) {
    let own = i64::from(std::process::id() as i32);
    let calls = [
        ("pidfd_open", libc::SYS_pidfd_open, [own, 0, 0, 0]),
        // Its answer is the version of Landlock.
        ("landlock_create_ruleset", libc::SYS_landlock_create_ruleset, [0, 0, 1, 0]),
        ("semget", libc::SYS_semget, [0, 1, 0o600, 0]),
        #[cfg(target_arch = "x86_64")]
        ("modify_ldt", libc::SYS_modify_ldt, [0, 0, 0, 0]),
    ];
    let refused = |result: io::Result<()>| {
        result.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)))
    };
    let passed = calls.iter().filter(|(_, call, arguments)| !refused(sys::try_system_call(*call, *arguments)));
    let passed: Vec<&str> = passed.map(|(name, ..)| *name).collect();
    let said = if passed.is_empty() { "none was made".to_owned() } else { format!("{} was made", passed.join(", ")) };
    (passed.is_empty(), said)
}

/// Check that an attempt failed with a refusal and not for another reason.
fn is_refusal(tried: io::Result<()>) -> (bool, String) {
    match tried {
        Ok(()) => (false, "it was allowed".to_owned()),
        Err(error) => {
            let refusals = [libc::EPERM, libc::EACCES, libc::ENOENT, libc::EROFS];
            (error.raw_os_error().is_some_and(|number| refusals.contains(&number)), error.to_string())
        }
    }
}

fn check_status(name: &str, good: impl Fn(&str) -> bool) -> (bool, String) {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    (good(value), format!("{name} {value}"))
}

/// Number of processors in a list such as `0-3,7`.
fn count_processors(list: &str) -> u64 {
    let count = |part: &str| -> Option<u64> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(last.parse::<u64>().ok()? + 1 - first.parse::<u64>().ok()?)
    };
    list.split(',').filter_map(count).sum()
}

/// Try to execute a file that was created inside, which is not among the allowed programs.
fn try_execute_own_file() -> (bool, String) {
    let file = Path::new("/workspace/probe.sh");
    let made =
        fs::write(file, "#!/bin/sh\n").and_then(|()| fs::set_permissions(file, fs::Permissions::from_mode(0o755)));
    let tried = made.and_then(|()| Command::new(file).status().map(drop));
    let _ = fs::remove_file(file);
    is_refusal(tried)
}

/// Count the threads that can run at once.
fn try_threads(limit: u64) -> (bool, String) {
    let mut held = Vec::new();
    let wanted = limit as usize + 8;
    // Keeps every thread until all that could be had are counted.
    let counted = Arc::new(AtomicBool::new(false));
    let mut said = "none was refused".to_owned();
    for _ in 0..wanted {
        let released = counted.clone();
        let begun = thread::Builder::new().stack_size(64 * 1024).spawn(move || {
            while !released.load(Ordering::Acquire) {
                thread::park();
            }
        });
        match begun {
            Ok(thread) => held.push(thread),
            Err(error) => {
                said = error.to_string();
                break;
            }
        }
    }
    let count = held.len();
    counted.store(true, Ordering::Release);
    for thread in held {
        thread.thread().unpark();
        let _ = thread.join();
    }
    (count < wanted && count as u64 <= limit, format!("{count} threads, then: {said}"))
}

/// Try to write a file of twice the allowed size.
fn try_large_file(path: &str, limit: u64) -> (bool, String) {
    const PIECE: usize = 64 * 1024;
    let mut written = 0u64;
    let result = OpenOptions::new().create(true).write(true).truncate(true).open(path).and_then(|mut file| {
        while written < limit * 2 {
            written += file.write(&[1; PIECE])? as u64;
        }
        Ok(())
    });
    let _ = fs::remove_file(path);
    match result {
        Ok(()) => (false, format!("{written} bytes were written")),
        Err(error) => (written <= limit, format!("{written} bytes, then: {error}")),
    }
}

/// Try to write files that are small enough each, and together twice the allowed size.
fn try_many_files(directory: &str, limit: u64) -> (bool, String) {
    const FILE_COUNT: u64 = 8;
    let piece = vec![1; (limit / (FILE_COUNT / 2)) as usize];
    let paths: Vec<String> = (0..FILE_COUNT).map(|at| format!("{directory}/probe-{at}")).collect();
    let written = paths.iter().map(|path| fs::write(path, &piece)).take_while(Result::is_ok).count();
    let held = paths.iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum::<u64>();
    paths.iter().for_each(|path| drop(fs::remove_file(path)));
    (held <= limit && (written as u64) < FILE_COUNT, format!("{held} bytes in {written} files, then no more"))
}
