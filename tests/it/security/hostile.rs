//! Programs that want to leave their sandbox, to take all there is, or not to end. Each is contained, ends in time, is
//! recorded where it tried to get out, and the service answers all the while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{audited, gone, monitor, python, run};
use crate::harness::{ApiClient, Server};
use crate::kit::JsonDocument;

/// A hostile program: it ends with status 42 if it gets what it wants.
struct Hostile {
    name: &'static str,
    code: String,
    limits: Value,
    /// What the step's error says: one of these.
    errors: Vec<&'static str>,
    /// What is on record as a breach: its kind and what it was; none: it only takes too much.
    breach: Option<(&'static str, &'static str)>,
}

/// For programs that call the kernel themselves.
const LIBC: &str = "import ctypes, os, sys, errno\nlibc = ctypes.CDLL(None, use_errno=True)\n\
    def tried(result):\n    if result != -1: os._exit(42)\n    sys.exit(ctypes.get_errno() != errno.EPERM)\n";

/// It may read nothing of what `open` opens.
fn reads(path: &str) -> String {
    format!(
        "import os\ntry:\n    data = open({path:?}, 'rb').read()\n    os._exit(42)\nexcept OSError as error:\n    print(error)\n"
    )
}

fn programs(server: &ApiClient) -> Vec<Hostile> {
    let small = || json!({"seconds": 12, "memory_mb": 64, "disk_mb": 16, "processes": 30});
    let takes = |name, code: &str, error| Hostile {
        name,
        code: code.to_owned(),
        limits: small(),
        errors: vec![error],
        breach: None,
    };
    let tries = |name, code: String, kind, what| {
        let errors = vec!["sandbox breach"];
        Hostile { name, code, limits: small(), errors, breach: Some((kind, what)) }
    };
    let calls = |name, call: &str, what| tries(name, format!("{LIBC}tried({call})"), "system_call", what);
    let database = server.database().canonicalize().unwrap();
    let mut bomb =
        takes("fork bomb", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "process limit");
    // Thirty interpreters; it is their number that must end it.
    bomb.limits["memory_mb"] = json!(512);
    let mut hog = takes("memory hog", "held = []\nwhile True: held.append(bytearray(1 << 20))", "memory limit");
    // Where there are no control groups, the kernel gives one process no more, before anybody has measured.
    hog.errors.push("MemoryError");
    let mut late = takes(
        "disk filler that waits to be ended",
        "import signal, time\ndef fill(*_):\n    n = 0\n    while True:\n        open(f'/workspace/{n}', 'wb').write(b'x' * (16 << 20))\n        n += 1\n\
         signal.signal(signal.SIGTERM, fill)\ntime.sleep(60)",
        "time limit",
    );
    late.limits["seconds"] = json!(1);
    vec![
        bomb,
        hog,
        takes(
            "disk filler",
            "n = 0\nwhile True:\n    open(f'/workspace/{n}', 'wb').write(b'x' * (1 << 20))\n    n += 1",
            "disk limit",
        ),
        takes(
            "space without writing",
            "import os\nn = 0\nwhile True:\n    file = os.open(f'/workspace/{n}', os.O_RDWR | os.O_CREAT)\n    os.posix_fallocate(file, 0, 16 << 20)\n    n += 1",
            "disk limit",
        ),
        takes(
            "deaf disk filler",
            "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nn = 0\nwhile True:\n    open(f'/workspace/{n}', 'wb').write(b'x' * (16 << 20))\n    n += 1",
            "disk limit",
        ),
        takes(
            "filler that is done before anybody looks",
            "for n in range(4): open(f'/workspace/{n}', 'wb').write(b'x' * (12 << 20))",
            "disk limit",
        ),
        late,
        takes(
            "files without a name",
            "import os\nheld = []\nwhile True:\n    file = open('/workspace/x', 'wb', buffering=0)\n    os.unlink('/workspace/x')\n    file.write(b'x' * (1 << 20))\n    held.append(file)",
            "disk limit",
        ),
        takes(
            "directories without end",
            "import os\nos.chdir('/workspace')\nwhile True:\n    os.mkdir('d')\n    os.chdir('d')",
            "disk limit",
        ),
        takes("a gigabyte of output", "import sys\nfor _ in range(1024): sys.stdout.write('x' * (1 << 20))", "too much output"),
        takes(
            "deaf to SIGTERM",
            "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\nwhile True: time.sleep(1)",
            "time limit",
        ),
        tries("password hashes", reads("/etc/shadow"), "read", "/etc/shadow"),
        tries("the service's database", reads(database.to_str().unwrap()), "read", "coordinator.db"),
        tries(
            "writing outside",
            "import os\nfor path in ('/usr/lib/evil', '/etc/passwd', '/evil'):\n    try:\n        open(path, 'w'); os._exit(42)\n    except OSError: pass".into(),
            "write",
            "/usr/lib/evil",
        ),
        tries(
            "a socket",
            "import os, socket\ntry:\n    socket.socket(socket.AF_INET, socket.SOCK_STREAM); os._exit(42)\nexcept PermissionError: pass".into(),
            "network",
            "socket",
        ),
        calls("ptrace", "libc.ptrace(16, 1, 0, 0)", "ptrace"),
        calls("mount", "libc.mount(b'none', b'/tmp', b'tmpfs', 0, None)", "mount"),
        calls("a user namespace", "libc.unshare(0x10000000)", "unshare"),
        calls("the host's namespaces", "libc.setns(0, 0)", "setns"),
        calls("a ring", "libc.syscall(425, 1, 0)", "io_uring_setup"),
        calls("another's memory", "libc.process_vm_readv(1, 0, 0, 0, 0, 0)", "process_vm_readv"),
        calls("a program for the kernel", "libc.syscall(321, 0, 0, 0)", "bpf"),
        tries(
            "kill of the parent",
            "import os\ntry:\n    os.kill(os.getppid(), 9); os._exit(42)\nexcept PermissionError: pass".into(),
            "system_call",
            "kill",
        ),
        tries(
            "a blocked program",
            "import os, subprocess\ntry:\n    subprocess.run(['rm', '-rf', '/workspace']); os._exit(42)\nexcept OSError: pass".into(),
            "command",
            "rm",
        ),
        tries(
            "a race of links",
            "import os, threading, time\nopen('/workspace/own', 'w').write('mine')\nend = time.time() + 0.5\n\
             def flip():\n    while time.time() < end:\n        for to in ('/etc/shadow', '/workspace/own'):\n            os.symlink(to, '/workspace/new')\n            os.rename('/workspace/new', '/workspace/link')\n\
             threading.Thread(target=flip).start()\n\
             while time.time() < end:\n    try:\n        if open('/workspace/link').read() != 'mine': os._exit(42)\n    except OSError: pass".into(),
            "read",
            "/etc/shadow",
        ),
    ]
}

/// Asks for the service's health until it is told to stop; answers how often, and how long the longest took.
fn watch(server: &ApiClient, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<(u32, Duration)> {
    let (client, url) = (server.client().clone(), server.url("/health"));
    tokio::spawn(async move {
        let (mut count, mut longest) = (0, Duration::ZERO);
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        while !stop.load(Ordering::Acquire) {
            pace.tick().await;
            let began = Instant::now();
            assert!(client.get(&url).send().await.unwrap().status().is_success());
            longest = longest.max(began.elapsed());
            count += 1;
        }
        (count, longest)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_programs_are_contained_and_recorded() {
    let server = Server::builder().env("LOG_LEVEL", "warn,agent_management::lifecycle=info").start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let health = watch(&server, stop.clone());
    for hostile in programs(&server) {
        let name = hostile.name;
        let began = Instant::now();
        let step = python(&hostile.code, json!({"limits": hostile.limits}));
        let ended = run(&server, json!({"s": step}), json!({})).await;
        assert!(began.elapsed() < Duration::from_secs(30), "{name} took {:?}", began.elapsed());
        assert_eq!(ended["status"], "failed", "{name}: {ended}");
        let error = ended.text("error_message");
        assert!(hostile.errors.iter().any(|expected| error.contains(expected)), "{name}: {error}");
        let execution = ended.text("id");
        let seen = monitor(&server, execution).await;
        assert_ne!(seen["last_exit_code"], 42, "{name} got what it wanted: {seen}");
        // Beyond the 16 MiB that are allowed: what is written until it is seen.
        let written = seen["totals"]["disk_bytes"].as_u64().unwrap() >> 20;
        assert!(written < 16 + 144, "{name} wrote {written} MiB");
        let breaches = audited(&server, execution, "SANDBOX_BREACH").await;
        server.post(&format!("/api/v1/agents/security/sandbox/{execution}/cleanup"), Value::Null).await.ok();
        assert!(!server.dir().join("sandboxes").join(execution).exists(), "{name} left something");
        let Some((kind, what)) = hostile.breach else {
            assert!(breaches.is_empty() && seen["breaches"] == 0, "{name}: {breaches:?}");
            continue;
        };
        assert_eq!(breaches.len(), 1, "{name}: {breaches:?}");
        let is = |attempt: &&Value| attempt["kind"] == kind && attempt.text("what").contains(what);
        let attempts = breaches[0]["attempts"].as_array().unwrap();
        assert!(attempts.iter().find(is).is_some_and(|attempt| attempt["breach"] == true), "{name}: {attempts:?}");
        assert!(seen["security_events"].as_array().unwrap().iter().any(|event| is(&event)), "{name}: {seen}");
    }
    stop.store(true, Ordering::Release);
    let (count, longest) = health.await.unwrap();
    assert!(count > 100 && longest < Duration::from_secs(5), "{count} answers, the longest took {longest:?}");
}

#[tokio::test]
async fn sandbox_hides_host_files_and_processes() {
    let server = Server::start().await;
    let code = r##"
import ctypes, fcntl, json, os, socket, subprocess
def denied(attempt):
    try:
        attempt()
        return "allowed"
    except OSError as error:
        return os.strerror(error.errno)
def own_program():
    open("/workspace/own", "w").write("#!/usr/bin/python3\n")
    os.chmod("/workspace/own", 0o755)
    subprocess.run(["/workspace/own"])
libc = ctypes.CDLL(None, use_errno=True)
def called(result):
    return os.strerror(ctypes.get_errno()) if result == -1 else "allowed"
def reserve():
    with open("/workspace/reserved", "wb") as file: fcntl.ioctl(file, 0x40305828, bytes(48))
print(json.dumps({
    "root": sorted(os.listdir("/")),
    "programs": sorted(os.listdir("/usr/bin")),
    "processes": [int(name) for name in os.listdir("/proc") if name.isdigit()],
    "uid": os.getuid(),
    "own_program": denied(own_program),
    "loader": denied(lambda: os.stat("/usr/bin/rm")),
    "foreign": [name for name in ("/usr/src", "/usr/local/src", "/usr/local/etc", "/usr/etc", "/usr/games") if os.path.isdir(name) and os.listdir(name)],
    "vmsplice": called(libc.vmsplice(1, None, 0, 0)),
    "pidfd": called(libc.syscall(434, os.getpid(), 0)),
    "landlock": called(libc.syscall(444, None, 0, 1)),
    "ldt": called(libc.syscall(154, 0, None, 0)),
    "filter": called(libc.prctl(22, 2, None)),
    "dumpable": called(libc.prctl(4, 0)),
    "reserved": denied(reserve),
    "helpers": [name for name in ("/usr/libexec", "/usr/lib/git-core", "/usr/games") if os.path.isdir(name) and os.listdir(name)],
    "init_memory": denied(lambda: open("/proc/1/mem", "rb")),
    "init_root": denied(lambda: os.listdir("/proc/1/root")),
    "unix_socket": denied(lambda: socket.socket(socket.AF_UNIX)),
    "pair": denied(lambda: socket.socketpair()),
    "device": denied(lambda: open("/dev/mem", "rb")),
    "null": denied(lambda: open("/dev/null", "w").write("x")),
    "memfd": libc.syscall(319, b"x", 0),
    "affinity": denied(lambda: os.sched_setaffinity(0, range(os.cpu_count()))),
    "processors": len(os.sched_getaffinity(0)),
}))
"##;
    let ended = run(&server, json!({"s": python(code, json!({}))}), json!({})).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let seen = &ended["final_result"]["step_results"]["s"]["json"];
    for place in ["etc", "home", "root", "srv", "var", "sys", "opt"] {
        let shown = seen["root"].as_array().unwrap().contains(&json!(place));
        assert_eq!(shown, place == "etc", "of /etc a few files, of others nothing: {}", seen["root"]);
    }
    let programs: Vec<&str> = seen["programs"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let allowed = ["python", "node", "java"];
    assert!(programs.iter().all(|name| allowed.iter().any(|allowed| name.starts_with(allowed))), "{programs:?}");
    assert!(seen["processes"].as_array().unwrap().len() <= 3, "{seen}");
    assert_ne!(seen["uid"], 0);
    assert_eq!(seen["processors"], 1, "{seen}");
    for (what, expected) in [
        ("own_program", "Permission denied"),
        ("loader", "No such file or directory"),
        ("init_memory", "Permission denied"),
        ("init_root", "Permission denied"),
        ("unix_socket", "Operation not permitted"),
        ("pair", "allowed"),
        ("device", "No such file or directory"),
        ("null", "allowed"),
        ("affinity", "Operation not permitted"),
        ("vmsplice", "Operation not permitted"),
        ("pidfd", "Function not implemented"),
        ("landlock", "Function not implemented"),
        ("ldt", "Operation not permitted"),
        ("filter", "Operation not permitted"),
        ("dumpable", "Operation not permitted"),
        ("reserved", "Operation not supported"),
    ] {
        assert_eq!(seen[what], expected, "{what}");
    }
    assert_eq!((&seen["memfd"], &seen["foreign"], &seen["helpers"]), (&json!(-1), &json!([]), &json!([])));
}

#[tokio::test]
async fn real_programs_run_inside() {
    let server = Server::start().await;
    let everything = r##"
import concurrent.futures, hashlib, json, mmap, multiprocessing, os, pathlib, queue, random, select, shutil, signal, socket
import sqlite3, subprocess, tempfile, threading, time, zipfile
place = pathlib.Path(tempfile.mkdtemp(dir="/workspace"))
(place / "a").write_text("text")
os.chmod(place / "a", 0o600); os.utime(place / "a"); os.link(place / "a", place / "b"); os.rename(place / "b", place / "c")
os.symlink("a", place / "d"); os.truncate(place / "c", 2); shutil.copytree(place, "/workspace/copy", symlinks=True)
with zipfile.ZipFile(place / "z", "w") as archive: archive.write(place / "a")
database = sqlite3.connect(place / "db"); database.execute("CREATE TABLE t (x)"); database.commit()
with open(place / "m", "wb+") as file:
    file.truncate(8192); held = mmap.mmap(file.fileno(), 8192); held[0] = 7; held.flush(); os.fsync(file.fileno())
    os.posix_fallocate(file.fileno(), 0, 65536)
with concurrent.futures.ThreadPoolExecutor(4) as pool: sums = list(pool.map(lambda n: n * n, range(50)))
def child(connection): connection.send(os.getpid())
mine, theirs = multiprocessing.Pipe()
process = multiprocessing.Process(target=child, args=(theirs,)); process.start(); mine.recv(); process.join()
one, other = socket.socketpair(); one.send(b"x"); ready = select.select([other], [], [], 1)[0]
epoll = select.epoll(); epoll.register(other.fileno()); epoll.poll(0.1)
signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.01); time.sleep(0.02)
print(json.dumps({"sums": sum(sums), "ready": len(ready), "hash": hashlib.sha256(random.randbytes(8)).digest_size,
                  "load": os.getloadavg() is not None, "python": process.exitcode}))
"##;
    let ended = run(&server, json!({"s": python(everything, json!({}))}), json!({})).await;
    let seen = &ended["final_result"]["step_results"]["s"]["json"];
    assert_eq!((&seen["sums"], &seen["ready"], &seen["python"]), (&json!(40425), &json!(1), &json!(0)), "{ended}");
    // Others as far as they are installed, git among them.
    let node = "const fs = require('fs'), { Worker, isMainThread } = require('worker_threads'); \
        if (isMainThread) { fs.writeFileSync('/workspace/n', 'x'); fs.watch('/workspace').close(); \
        new Worker('process.exit(0)', { eval: true }).on('exit', code => console.log('node ' + code)); }";
    let shell = "set -e; cd /workspace; echo a b | while read x y; do echo $y > f; done; (sleep 0.01; exit 3) || test -s f; echo sh $(cat f | tr b c)";
    for (argv, said) in [
        (vec!["sh", "-c", shell], "sh c"),
        (vec!["awk", "BEGIN { while ((\"echo x\" | getline line) > 0) n++; print \"awk\" n }"], "awk1"),
        (vec!["jq", "-n", "[range(3)] | add | \"jq\\(.)\""], "jq3"),
        (vec!["node", "-e", node], "node 0"),
        (vec!["git", "init", "--quiet", "--initial-branch=there", "/workspace/repository"], ""),
    ] {
        let found = std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|place| place.join(argv[0]).exists());
        if !found {
            println!("left out: {} is not there", argv[0]);
            continue;
        }
        let rest = json!({"limits": {"memory_mb": 1024, "processes": 64}, "requirements": {"allowed_commands":
            ["sh", "awk", "jq", "node", "git", "cat", "sleep", "tr"]}});
        let ended = run(&server, json!({"s": super::command(&argv, rest)}), json!({})).await;
        let text = ended["final_result"]["step_results"]["s"]["stdout"].as_str().unwrap_or_default();
        assert!(ended["status"] == "completed" && text.contains(said), "{}: {ended}", argv[0]);
    }
}

#[tokio::test]
async fn sandbox_processes_do_not_outlive_it() {
    let mut server = Server::start().await;
    let word = format!("left-behind-{}", server.pid());
    let daemon = "import os, sys, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.execv('/usr/bin/python3', ['python3', '-c', 'import time; time.sleep(600)', sys.argv[1]])\n    os._exit(0)\ntime.sleep(0.2)\n";
    let step = super::command(&["python3", "-c", daemon, &word], json!({}));
    let ended = run(&server, json!({"s": step}), json!({})).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    gone(&word).await;

    // A command whose execution is cancelled, and one whose service is killed.
    let sleeper = |word: &str| super::command(&["python3", "-c", "import time; time.sleep(600)", word], json!({}));
    let cancelled = format!("cancelled-{}", server.pid());
    let workflow = server.workflow(json!({"s": sleeper(&cancelled)})).await;
    let run = server.execute(&workflow, json!({})).await;
    until_there(&cancelled).await;
    let id = run.text("id");
    server.post(&format!("/api/v1/agents/executions/{id}/cancel"), json!({})).await.ok();
    gone(&cancelled).await;

    let orphan = format!("orphan-{}", server.pid());
    let workflow = server.workflow(json!({"s": sleeper(&orphan)})).await;
    server.execute(&workflow, json!({})).await;
    until_there(&orphan).await;
    server.kill();
    gone(&orphan).await;
    // The step was under way, and is begun again.
    let _server = server.restart().await;
    until_there(&orphan).await;
}

async fn until_there(word: &str) {
    let deadline = Instant::now() + crate::harness::PATIENCE;
    while super::processes_with(word).is_empty() {
        assert!(Instant::now() < deadline, "{word} never ran");
        crate::harness::poll_interval().await;
    }
}

#[tokio::test]
async fn sandbox_limits_hold_without_cgroups() {
    let server = Server::builder().env("SANDBOX_CGROUPS", false).start().await;
    let capabilities = server.get("/api/v1/agents/security/sandbox/capabilities").await.ok();
    assert_eq!(capabilities["unenforced"], json!([]), "{capabilities}");
    let many = "import json, os, time\nn = 0\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(600)\n        n += 1\nexcept OSError: print(n)";
    let ended = run(&server, json!({"s": python(many, json!({"limits": {"processes": 10}}))}), json!({})).await;
    let count = ended["final_result"]["step_results"]["s"]["json"].as_u64().unwrap();
    assert!((5..=11).contains(&count), "{ended}");
    let shared = "import mmap, time\nheld = mmap.mmap(-1, 200 << 20)\nfor at in range(0, len(held), 4096): held[at] = 1\ntime.sleep(600)";
    let ended =
        run(&server, json!({"s": python(shared, json!({"limits": {"memory_mb": 64, "seconds": 15}}))}), json!({}))
            .await;
    assert!(ended.text("error_message").contains("memory limit"), "{ended}");
    // Several processes, each below the limit of one.
    let hogs = "import os, time\nfor _ in range(6):\n    if os.fork() == 0:\n        held = bytearray(30 << 20)\n        for at in range(0, len(held), 4096): held[at] = 1\n        time.sleep(600)\ntime.sleep(600)";
    let ended =
        run(&server, json!({"s": python(hogs, json!({"limits": {"memory_mb": 64, "seconds": 15}}))}), json!({})).await;
    assert!(ended.text("error_message").contains("memory limit"), "{ended}");
}
