//! What an operator sees: health, metrics, the log, the commands, and how the service starts and stops.

use std::{
    io::Write as _,
    os::unix::net::UnixDatagram,
    process::{Command, Output, Stdio},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{ADMIN, Answer, ApiClient, PATIENCE, Server, TestApp},
    kit::{AGENTS, JsonDocument, ask, jq, operations, waiting},
};

async fn open(server: &ApiClient, path: &str) -> Answer {
    ask(server, None, Method::GET, path, None).await
}

#[tokio::test]
async fn health_needs_no_key() {
    let server = TestApp::start().await;
    for path in ["/health", "/v1/health", "/api/v1/health", "/health/"] {
        let health = open(&server, path).await.is(200);
        assert_eq!((&health["status"], &health["service"]), (&json!("healthy"), &json!("agent-management")));
        assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    }
    open(&server, "/health/live").await.is(200);
    let ready = open(&server, "/api/v1/health/ready").await.is(200);
    assert_eq!(ready["status"], "ready");
    let checks: Vec<&str> = ready["checks"].as_array().unwrap().iter().map(|check| check.text("name")).collect();
    assert_eq!(checks, ["database", "migrations", "coordinator_tables", "lists", "audit_log", "workers"]);
    assert!(ready["checks"].as_array().unwrap().iter().all(|check| check["ok"] == true), "{ready}");
    let answer = Answer::of(server.client().head(server.url("/health"))).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
}

/// The value of the first sample whose name and labels begin so.
fn sample(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn metrics_count_requests_and_executions() {
    let server = TestApp::start().await;
    let quick = server.workflow(json!({"a": jq("1")})).await;
    for _ in 0..3 {
        server.post(&format!("{AGENTS}/workflows/{quick}/execute?wait=20"), json!({})).await.ok();
    }
    let long = server.workflow(json!({"a": waiting()})).await;
    let run = server.execute(&long, json!({})).await;
    server.until(run.text("id"), |run| run["step_states"]["a"]["job_id"].is_string()).await;
    server.get(&format!("{AGENTS}/workflows/none")).await.is(404);
    open(&server, &format!("{AGENTS}/workflows")).await.is(401);
    open(&server, "/nothing").await.is(404);
    let answer = open(&server, "/metrics").await;
    assert!(answer.header("content-type").contains("openmetrics"), "{}", answer.header("content-type"));
    let page = answer.text;
    assert!(page.ends_with("# EOF\n"));
    let execute =
        "http_requests_total{method=\"POST\",route=\"/api/v1/agents/workflows/{workflow_id}/execute\",status=\"200\"}";
    assert_eq!(sample(&page, execute), 4.0);
    assert_eq!(
        sample(
            &page,
            "http_requests_total{method=\"GET\",route=\"/api/v1/agents/workflows/{workflow_id}\",status=\"404\"}"
        ),
        1.0
    );
    assert_eq!(sample(&page, "http_requests_total{method=\"GET\",route=\"unmatched\",status=\"404\"}"), 1.0);
    assert_eq!(sample(&page, "http_refused_total{code=\"unauthorized\"}"), 1.0);
    assert_eq!(
        sample(&page, "http_request_duration_seconds_count{route=\"/api/v1/agents/workflows/{workflow_id}/execute\"}"),
        4.0
    );
    assert_eq!(sample(&page, "engine_executions_ended_total{status=\"completed\"}"), 3.0);
    assert_eq!(sample(&page, "engine_leases_held"), 1.0);
    assert_eq!(sample(&page, "jobs_waited_for"), 1.0);
    assert!(sample(&page, "db_writer_batch_size_count") >= 5.0);
    for name in [
        "engine_executions_waiting",
        "db_writer_queue_depth",
        "db_commit_seconds_count",
        "db_lock_wait_seconds_count",
        "db_reader_wait_seconds_count",
        "db_busy_total",
        "db_wal_bytes",
        "jq_evaluations_total",
        "process_resident_memory_bytes",
        "http_requests_in_flight",
    ] {
        assert!(sample(&page, name) >= 0.0);
    }
    assert!(!page.contains(&quick) && !page.contains(&long), "labels are templates, never ids");
}

#[tokio::test]
async fn openapi_document_and_docs_page_are_served() {
    let server = TestApp::start().await;
    let document = open(&server, "/openapi.json").await.is(200);
    assert_eq!(document["openapi"].as_str().map(|version| version.starts_with("3.")), Some(true));
    for (method, path) in operations(&document) {
        let operation = &document["paths"][&path][method.as_str().to_lowercase()];
        assert!(
            operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()),
            "{method} {path} has no summary"
        );
        // Each place in the path is a parameter.
        let places = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        for place in places {
            let parameters =
                operation["parameters"].as_array().unwrap_or_else(|| panic!("{method} {path} has no parameters"));
            assert!(
                parameters.iter().any(|p| p["name"] == place && p["in"] == "path"),
                "{method} {path} lacks {place}"
            );
        }
    }
    let page = open(&server, "/docs").await;
    assert!(page.header("content-type").starts_with("text/html") && page.text.contains("/docs/swagger-ui-bundle.js"));
    assert!(page.header("content-security-policy").contains("default-src 'none'; script-src 'self'"));
    let root = open(&server, "/").await;
    assert_eq!((root.status.as_u16(), root.header("location")), (307, "/docs"));
    let script = open(&server, "/docs/swagger-ui-bundle.js").await;
    assert_eq!((script.header("content-type"), script.header("content-encoding")), ("text/javascript", "gzip"));
    assert!(open(&server, "/docs/swagger-initializer.js").await.text.contains("\"/openapi.json\""));
}

#[tokio::test]
async fn each_request_is_logged_as_one_json_line() {
    let server = Server::start().await;
    let id = server.workflow(json!({"a": jq("1")})).await;
    server.get(&format!("{AGENTS}/workflows/{id}?owner_id={ADMIN}")).await.is(422);
    open(&server, "/nothing").await.is(404);
    let mut server = server;
    server.terminate();
    let lines: Vec<Value> = server
        .log()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")))
        .collect();
    for line in &lines {
        for member in ["timestamp", "level", "message", "target"] {
            assert!(line[member].is_string(), "{member} is missing: {line}");
        }
    }
    let requests: Vec<&Value> = lines.iter().filter(|line| line["target"] == "request").collect();
    assert_eq!(requests.len(), 3, "{requests:#?}");
    let read = requests[1];
    assert_eq!((&read["method"], &read["status"], &read["message"]), (&json!("GET"), &json!(422), &json!("answered")));
    assert_eq!(read["route"], "/api/v1/agents/workflows/{workflow_id}");
    assert!(read["path"].is_null(), "a path may contain what nobody should read: {read}");
    assert_eq!(read["principal"], "key_8211bbf633a893df9505");
    assert!(
        read["ms"].as_f64().unwrap() > 0.0 && read["bytes"].as_u64().unwrap() > 100 && read["request_id"].is_string()
    );
    assert_eq!((&requests[2]["status"], &requests[2]["route"]), (&json!(404), &json!("unmatched")));
    assert!(lines.iter().any(|line| line["message"] == "ready" && line["address"].is_string()));
    assert_eq!(lines.last().unwrap()["message"], "stopped");
}

#[tokio::test]
async fn shutdown_answers_waiting_requests_and_keeps_executions() {
    let server = Server::start().await;
    let id = server
        .workflow(
            json!({"a": jq("1"), "b": {"step_type": "inference", "depends_on": ["a"], "action": waiting()["action"]}}),
        )
        .await;
    let run = server.execute(&id, json!({})).await;
    let execution = run.text("id");
    server.until(execution, |run| run["step_states"]["b"]["job_id"].is_string()).await;
    let (status, wait) =
        (format!("{AGENTS}/executions/{execution}?wait=50"), format!("{AGENTS}/workflows/{id}/execute?wait=50"));
    // A stream too is ended, not torn.
    let stream = Answer::of(server.request(Method::GET, &format!("{AGENTS}/executions/{execution}/events")));
    let ((polled, started), streamed, ()) =
        tokio::join!(async { tokio::join!(server.get(&status), server.post(&wait, json!({}))) }, stream, async {
            // All three are being answered: the stream has begun, which its log line tells, and the others wait.
            server.logged("executions/{execution_id}/events").await;
            while in_flight(&server).await < 3.0 {
                crate::harness::poll_interval().await;
            }
            server.signal("TERM");
        });
    for answer in [&polled, &started] {
        assert_eq!((answer.status.as_u16(), &answer.body["status"]), (200, &json!("running")), "{}", answer.text);
    }
    assert!(streamed.status == 200 && streamed.text.contains("execution_started"), "{}", streamed.text);
    let mut server = server;
    assert_eq!(server.wait().code(), Some(0));
    let job = polled.body["step_states"]["b"]["job_id"].clone();
    let server = server.restart().await;
    let again = server.get(&format!("{AGENTS}/executions/{execution}")).await.ok();
    assert_eq!(
        (&again["status"], &again["step_states"]["b"]["job_id"]),
        (&json!("running"), &job),
        "it waits for the same job"
    );
    assert_eq!(again["step_states"]["a"]["status"], "completed");
}

async fn in_flight(server: &ApiClient) -> f64 {
    // This very scrape counts as well.
    sample(&open(server, "/metrics").await.text, "http_requests_in_flight ")
}

#[tokio::test(flavor = "multi_thread")]
async fn second_signal_ends_a_slow_shutdown() {
    let mut server =
        Server::builder().env("SHUTDOWN_GRACE_SECONDS", 600).env("REQUEST_TIMEOUT_SECONDS", 600).start().await;
    // A request whose body never ends keeps its connection open.
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let head =
        format!("POST {AGENTS}/workflows HTTP/1.1\r\nHost: h\r\nX-Api-Key: {ADMIN}\r\nContent-Length: 9\r\n\r\n{{");
    std::io::Write::write_all(&mut socket, head.as_bytes()).unwrap();
    while in_flight(&server).await < 2.0 {}
    server.signal("TERM");
    server.logged("\"message\":\"stopping\"").await;
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
    assert!(server.log().contains("second signal: stopped without waiting"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_notified_of_start_watchdog_and_stop() {
    use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    systemd_hears(&socket, &path.display().to_string()).await;
    let name = format!("agent-management-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    systemd_hears(&socket, &format!("@{name}")).await;
}

async fn systemd_hears(socket: &UnixDatagram, address: &str) {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut bytes = [0; 4096];
        let count = socket.recv(&mut bytes).expect("a message in time");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    let until = |word: &str| while !heard().lines().any(|line| line == word) {};
    let mut server = Server::builder().env("NOTIFY_SOCKET", address).env("WATCHDOG_USEC", 200_000).start().await;
    let ready = heard();
    assert!(ready.lines().any(|line| line == "READY=1") && ready.contains("STATUS=serving on "), "{ready}");
    until("WATCHDOG=1");
    until("WATCHDOG=1");
    server.signal("TERM");
    until("STOPPING=1");
    assert!(server.wait().success());
}

/// The executable with these arguments, in `dir`.
pub fn run(dir: &std::path::Path, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    run_with(dir, arguments, env, "")
}

/// The same with something on its standard input.
pub fn run_with(dir: &std::path::Path, arguments: &[&str], env: &[(&str, &str)], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agent-management"));
    command.args(arguments).current_dir(dir).env_clear();
    for name in ["PATH", "LD_LIBRARY_PATH", "LIBTORCH"] {
        command.envs(std::env::var(name).map(|value| (name, value)));
    }
    command.envs(env.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that does not read it may have ended.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn command_line_lists_its_commands() {
    let dir = tempfile::tempdir().unwrap();
    let text = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let help = run(dir.path(), &["--help"], &[]);
    assert!(help.status.success());
    for word in [
        "serve",
        "migrate",
        "keys",
        "agent-key",
        "message-keys",
        "openapi",
        "verify-receipt",
        "proof-keys",
        "verify-proof",
        "verify-audit",
        "export-audit",
        "--config",
    ] {
        assert!(text(&help).contains(word), "{word}: {}", text(&help));
    }
    assert!(text(&run(dir.path(), &["--version"], &[])).contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(run(dir.path(), &["dance"], &[]).status.code(), Some(2));
    let document = run(dir.path(), &["openapi"], &[]);
    let document: Value = serde_json::from_slice(&document.stdout).unwrap();
    assert!(operations(&document).len() > 25);
    // No setting is needed for that, and nothing was made.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn migrate_command_reports_and_is_repeatable() {
    let dir = tempfile::tempdir().unwrap();
    let env = [("DATA_DIR", "."), ("APP_ENV", "dev")];
    let first = run(dir.path(), &["migrate"], &env);
    let text = String::from_utf8(first.stdout).unwrap();
    assert!(first.status.success() && dir.path().join("coordinator.db").exists());
    for line in ["created ai_agent_workflows", "created job", "applied 0001_durable_executions"] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    let second = String::from_utf8(run(dir.path(), &["migrate"], &env).stdout).unwrap();
    assert!(
        second.contains("adopted ai_agent_workflows") && !second.contains("created ") && !second.contains("applied "),
        "{second}"
    );
}

#[tokio::test]
async fn start_without_migration_requires_a_migrated_database() {
    let (status, log) = Server::builder().env("MIGRATE_ON_START", "false").start_and_fail();
    assert!(!status.success() && log.contains("agent-management migrate"), "{log}");
    let mut server = Server::start().await;
    server.terminate();
    server.restart_with(&[("MIGRATE_ON_START", "false")]).await.get("/health/ready").await.is(200);
}

#[test]
fn unknown_setting_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.toml"), "app_port = 0\napp_prot = 8012\n").unwrap();
    let refused = run(dir.path(), &["--config", "config.toml", "migrate"], &[]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.to_lowercase().contains("app_prot"), "{said}");
    std::fs::write(dir.path().join("config.toml"), "app_port = 0\ndata_dir = \"elsewhere\"\n").unwrap();
    assert!(run(dir.path(), &["migrate", "--config", "config.toml"], &[]).status.success());
    assert!(dir.path().join("elsewhere/coordinator.db").exists());
    // The environment goes before .env, and .env before the file.
    std::fs::write(dir.path().join(".env"), "DATA_DIR=dotenv\n").unwrap();
    assert!(run(dir.path(), &["migrate", "--config", "config.toml"], &[]).status.success());
    assert!(dir.path().join("dotenv/coordinator.db").exists());
    assert!(run(dir.path(), &["migrate", "--config", "config.toml"], &[("DATA_DIR", "env")]).status.success());
    assert!(dir.path().join("env/coordinator.db").exists());
    // As the coordinator writes it: three slashes for a relative path, four for an absolute one.
    let absolute = format!("sqlite:///{}", dir.path().join("abs.db").display());
    for (url, file) in [("sqlite:///rel.db", "rel.db"), (absolute.as_str(), "abs.db")] {
        assert!(run(dir.path(), &["migrate"], &[("DATABASE_URL", url)]).status.success(), "{url}");
        assert!(dir.path().join(file).exists(), "{url}");
    }
}

#[tokio::test]
async fn taken_port_is_reported() {
    let server = Server::start().await;
    let (status, log) = Server::builder().env("APP_PORT", server.port()).start_and_fail();
    assert!(!status.success() && log.contains(&format!("127.0.0.1:{}", server.port())), "{log}");
}

#[test]
fn files_belong_to_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    // What a shell begins with, and what an operator has chosen who shares the database with a group.
    for (umask, denied) in [("022", 0o077), ("002", 0o077), ("007", 0o007)] {
        let dir = tempfile::tempdir().unwrap();
        let migrate = format!("umask {umask} && exec \"$0\" migrate");
        let status = Command::new("sh")
            .args(["-c", &migrate, env!("CARGO_BIN_EXE_agent-management")])
            .current_dir(dir.path())
            .env("DATA_DIR", "data")
            .env("APP_ENV", "dev")
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        for path in [dir.path().join("data"), dir.path().join("data/coordinator.db")] {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & denied, 0, "{} has {mode:o} under umask {umask}", path.display());
            let group = if umask == "007" { 0o040 } else { 0 };
            assert_eq!(mode & group, group, "{} has {mode:o}", path.display());
        }
    }
}
