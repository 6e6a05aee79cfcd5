//! The supervisor and its instances as real processes: started, killed, adopted, given up, ended.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what goes wrong in a test's helper fails the test, and is told there"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use am_agent_process::protocol::{
    InstanceSpec, KeptInstance, KeptState, SupervisorAnswer, SupervisorRequest, socket_path,
};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_agent-management-agent");
/// Time in which what is waited for must come.
const PATIENCE: Duration = Duration::from_secs(20);
const TOKEN: &str = "ainst_0123456789abcdef";

/// A supervisor's directory, and its process. Whatever still runs is killed at the end.
struct Ground {
    folder: tempfile::TempDir,
    supervisor: Option<Child>,
}

impl Ground {
    fn start() -> Self {
        let mut ground = Self { folder: tempfile::tempdir().unwrap(), supervisor: None };
        fs::write(ground.token(), TOKEN).unwrap();
        ground.supervise();
        ground
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("supervisor")
    }

    fn token(&self) -> PathBuf {
        self.folder.path().join("token")
    }

    fn supervise(&mut self) {
        let mut command = Command::new(PROGRAM);
        command.arg("supervise").arg("--directory").arg(self.directory()).arg("--allow-root");
        self.supervisor = Some(command.stdin(Stdio::null()).spawn().unwrap());
        until("the supervisor answers", || {
            let socket = socket_path(&self.directory());
            UnixStream::connect(socket).is_ok().then(|| self.ask(&SupervisorRequest::Ping))
        });
    }

    fn kill_supervisor(&mut self) {
        let mut child = self.supervisor.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn ask(&self, request: &SupervisorRequest) -> SupervisorAnswer {
        let mut stream = UnixStream::connect(socket_path(&self.directory())).unwrap();
        let mut line = serde_json::to_vec(request).unwrap();
        line.push(b'\n');
        stream.write_all(&line).unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    fn list(&self) -> Vec<KeptInstance> {
        match self.ask(&SupervisorRequest::List) {
            SupervisorAnswer::Instances { instances } => instances,
            other => panic!("{other:?}"),
        }
    }

    fn spec(&self, port: u16, service: &str) -> InstanceSpec {
        InstanceSpec {
            id: format!("deploy_1.{port}"),
            instance_id: format!("shop-production-{port}"),
            workflow_id: "agent_1".into(),
            revision: 3,
            port,
            service_url: service.to_owned(),
            token_file: self.token(),
            health_path: "/ready".into(),
            memory_mb: 512,
            cpu_millis: 1000,
        }
    }

    fn keep(&self, spec: &InstanceSpec) -> SupervisorAnswer {
        self.ask(&SupervisorRequest::Keep { spec: Box::new(spec.clone()) })
    }

    /// The one instance, once it runs and answers.
    fn running(&self, port: u16) -> KeptInstance {
        until("the instance answers", || {
            let one = self.list().into_iter().find(|one| one.port == port)?;
            (one.state == KeptState::Running && get(port, "/health", "").is_some()).then_some(one)
        })
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(mut child) = self.supervisor.take() {
            let pids: Vec<u32> = self.list().iter().filter_map(|one| one.pid).collect();
            child.kill().unwrap();
            child.wait().unwrap();
            pids.into_iter().for_each(kill);
        }
    }
}

#[track_caller]
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        // Another process is waited for, which tells nobody.
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// One request on a connection of its own: status and body. `None`: nobody answers.
fn exchange(port: u16, request: &str) -> Option<(u16, String, String)> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, head.to_ascii_lowercase(), body.to_owned()))
}

fn get(port: u16, path: &str, headers: &str) -> Option<(u16, String, String)> {
    exchange(port, &format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n"))
}

fn post(port: u16, path: &str, headers: &str, body: &str) -> (u16, String, String) {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
    exchange(port, &(head + body)).unwrap()
}

/// A service that answers each request with this status, and hands on what it was asked.
fn toy_service(status: &'static str) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = text.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let answer = r#"{"status":"failed"}"#;
            let sent = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nx-execution-status: failed\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            );
            stream.write_all(sent.as_bytes()).unwrap();
            if sender.send(head + &String::from_utf8(body).unwrap()).is_err() {
                return;
            }
        }
    });
    (address, receiver)
}

#[test]
fn a_killed_instance_is_started_again() {
    let ground = Ground::start();
    let port = free_port();
    ground.keep(&ground.spec(port, "http://127.0.0.1:9"));
    let first = ground.running(port);
    let (status, _, body) = get(port, "/ready", "").unwrap();
    let said: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(
        (&said["status"], &said["instance_id"], &said["revision"]),
        (&json!("healthy"), &json!(format!("shop-production-{port}")), &json!(3))
    );
    kill(first.pid.unwrap());
    let begun = Instant::now();
    let second = until("it runs again", || {
        ground.list().into_iter().find(|one| one.state == KeptState::Running && one.pid != first.pid)
    });
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(second.restarts, 1);
    assert!(second.last_end.unwrap().contains("signal: 9"));
    ground.running(port);
}

#[test]
fn instances_outlive_their_supervisor_and_are_adopted() {
    let mut ground = Ground::start();
    let port = free_port();
    ground.keep(&ground.spec(port, "http://127.0.0.1:9"));
    let before = ground.running(port);
    ground.kill_supervisor();
    assert_eq!(get(port, "/health", "").unwrap().0, 200, "it goes on alone");
    ground.supervise();
    let after = ground.running(port);
    assert_eq!((after.pid, after.started_ticks), (before.pid, before.started_ticks), "it is known again");
    kill(after.pid.unwrap());
    let next = until("it is started again", || {
        ground.list().into_iter().find(|one| one.state == KeptState::Running && one.pid != before.pid)
    });
    assert_eq!(next.restarts, 1);
    // One whose pid is another process's by now is not adopted.
    ground.kill_supervisor();
    kill(next.pid.unwrap());
    let file = ground.directory().join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    state[0]["process"] = json!([std::process::id(), 1]);
    fs::write(&file, state.to_string()).unwrap();
    ground.supervise();
    let fresh = ground.running(port);
    assert_ne!(fresh.pid, Some(std::process::id()));
}

#[test]
fn one_that_can_never_start_is_given_up_and_tried_again_when_asked() {
    let ground = Ground::start();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let spec = ground.spec(port, "http://127.0.0.1:9");
    ground.keep(&spec);
    let lost = until("it is given up", || ground.list().into_iter().find(|one| one.state == KeptState::GivenUp));
    assert_eq!((lost.restarts, lost.pid), (4, None));
    let log = fs::read_to_string(ground.directory().join("logs").join(format!("{}.log", spec.id))).unwrap();
    assert!(log.contains("Address already in use"), "{log}");
    drop(held);
    ground.keep(&spec);
    assert_eq!(ground.running(port).restarts, 4);
}

#[test]
fn requests_that_make_no_sense_start_nothing() {
    let ground = Ground::start();
    let good = ground.spec(free_port(), "http://127.0.0.1:9");
    let bad = [
        InstanceSpec { id: "../../etc".into(), ..good.clone() },
        InstanceSpec { id: ".hidden".into(), ..good.clone() },
        InstanceSpec { id: String::new(), ..good.clone() },
        InstanceSpec { port: 80, ..good.clone() },
    ];
    for spec in bad {
        assert!(matches!(ground.keep(&spec), SupervisorAnswer::Failed { .. }), "{spec:?}");
    }
    assert!(ground.list().is_empty());
    ground.keep(&good);
    let other = InstanceSpec { revision: 4, ..good };
    let SupervisorAnswer::Failed { error } = ground.keep(&other) else { panic!() };
    assert!(error.contains("another specification"), "{error}");
    let mut stream = UnixStream::connect(socket_path(&ground.directory())).unwrap();
    stream.write_all(b"{\"do\": \"run\", \"command\": \"id\"}\n").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert!(answer.contains("\"is\":\"failed\""), "{answer}");
}

#[test]
fn only_the_service_calls_an_instance_and_calls_are_passed_on() {
    let ground = Ground::start();
    let (service, asked) = toy_service("200 OK");
    let port = free_port();
    ground.keep(&ground.spec(port, &service));
    let one = ground.running(port);
    assert_eq!(post(port, "/invoke", "", "{}").0, 401);
    assert_eq!(post(port, "/invoke", "authorization: Bearer guess\r\n", "{}").0, 401);
    assert_eq!(get(port, "/invoke", "").unwrap().0, 405);
    assert_eq!(get(port, "/etc/passwd", "").unwrap().0, 404);
    let headers = format!("authorization: Bearer {TOKEN}\r\nidempotency-key: k1\r\n");
    let (status, head, body) = post(port, "/invoke?wait=2", &headers, r#"{"inputs":{"a":1}}"#);
    assert_eq!((status, body.as_str()), (200, r#"{"status":"failed"}"#));
    assert!(head.contains("x-execution-status: failed"), "{head}");
    let request = asked.recv_timeout(PATIENCE).unwrap();
    let path = format!("POST /api/v1/agents/integration/deployments/instances/deploy_1.{port}/execute?wait=2 HTTP/1.1");
    assert!(request.starts_with(&path), "{request}");
    assert!(request.contains(&format!("Bearer {TOKEN}")) && request.contains("idempotency-key: k1"), "{request}");
    assert!(request.ends_with(r#"{"inputs":{"a":1}}"#), "{request}");
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", one.pid.unwrap())).unwrap();
    assert!(!arguments.contains(TOKEN), "the token is no argument");
    let (_, _, json) = get(port, "/metrics", "").unwrap();
    let counted: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&counted["request_count"], &counted["error_count"]), (&json!(1), &json!(1)));
    let (_, head, text) = get(port, "/metrics", "accept: text/plain\r\n").unwrap();
    assert!(head.contains("text/plain; version=0.0.4") && text.contains("agent_requests_total 1"), "{text}");
}

#[test]
fn an_instance_without_its_service_says_so() {
    let ground = Ground::start();
    let port = free_port();
    let nobody = free_port();
    ground.keep(&ground.spec(port, &format!("http://127.0.0.1:{nobody}")));
    ground.running(port);
    let (status, _, body) = post(port, "/invoke", &format!("authorization: Bearer {TOKEN}\r\n"), "{}");
    assert_eq!(status, 502);
    assert!(body.contains("service_unreachable"), "{body}");
}

#[test]
fn one_that_is_removed_answers_first_and_ends() {
    let ground = Ground::start();
    let port = free_port();
    let spec = ground.spec(port, "http://127.0.0.1:9");
    ground.keep(&spec);
    ground.running(port);
    ground.ask(&SupervisorRequest::Remove { id: spec.id.clone(), grace_ms: 5000 });
    until("it has ended", || ground.list().is_empty().then_some(()));
    assert!(get(port, "/health", "").is_none());
    let state = fs::read_to_string(ground.directory().join("state.json"));
    until("it is forgotten", || {
        fs::read_to_string(ground.directory().join("state.json")).is_ok_and(|text| text == "[]").then_some(())
    });
    drop(state);
    assert!(matches!(ground.ask(&SupervisorRequest::Remove { id: spec.id, grace_ms: 0 }), SupervisorAnswer::Done));
}

#[test]
fn nothing_runs_as_root_unasked() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str]| {
        let done = Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap();
        assert!(!done.status.success());
        String::from_utf8(done.stderr).unwrap()
    };
    let directory = folder.path().join("s");
    let said = refused(&["supervise", "--directory", path(&directory)]);
    assert!(said.contains("instances don't run as root"), "{said}");
    let said = refused(&["supervise", "--directory", path(&directory), "--user", "0:0"]);
    assert!(said.contains("root is no user"), "{said}");
    let said = refused(&["instance", "--workflow", "a", "--port", "20000"]);
    assert!(said.contains("does not run as root"), "{said}");
    let said = refused(&["instance", "--workflow", "a", "--port", "80", "--allow-root"]);
    assert!(said.contains("1024"), "{said}");
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
