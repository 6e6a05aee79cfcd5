//! Real nginx (Debian's package) in front, with the text of `deploy/nginx.conf` as it is shipped: only the two ports and
//! the log directory are changed. Where the service's own behaviour does not matter, a socket that the test drives by
//! hand stands behind nginx, so that what reaches it can be read byte for byte.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    harness::{self, ReservedPort},
    kit::{JsonDocument, json_fixture},
};

/// How long anything here may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(20);
const SHIPPED: &str = include_str!("../../deploy/nginx.conf");
const BODY_LIMIT: usize = 10 * 1024 * 1024;

/// A running nginx, ended when dropped.
struct Nginx {
    child: Child,
    place: tempfile::TempDir,
    port: ReservedPort,
}

impl Nginx {
    /// Starts nginx before whatever listens on `upstream`.
    async fn before(upstream: u16) -> Self {
        let place = tempfile::tempdir().unwrap();
        let port = ReservedPort::new();
        let logs = place.path().display().to_string();
        let text = swap(SHIPPED, "server 127.0.0.1:8012;", &format!("server 127.0.0.1:{upstream};"));
        let text = swap(&text, "listen 80;", &format!("listen 127.0.0.1:{};", port.number()));
        fs::write(place.path().join("agent-management.conf"), text.replace("/var/log/nginx", &logs)).unwrap();
        fs::write(place.path().join("nginx.conf"), main_config()).unwrap();
        let said = place.path().join("said");
        let child = Command::new(program())
            .arg("-p")
            .arg(place.path())
            .args(["-c", "nginx.conf", "-e", "stderr"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&said).unwrap())
            .spawn()
            .unwrap();
        let mut nginx = Self { child, place, port };
        // nginx writes its pid file once it listens.
        let started = wait_until(|| nginx.place.path().join("nginx.pid").exists() || nginx.has_ended()).await;
        assert!(started && !nginx.has_ended(), "nginx does not start: {}", fs::read_to_string(said).unwrap());
        nginx
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port.number())
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port.number())).await.unwrap()
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.place.path().join(name)).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // TERM, so that the master ends its worker too.
        let _ =
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// The part around the shipped file that Debian's own nginx.conf gives on a real machine.
fn main_config() -> String {
    // As root the worker would become another user, who may not enter the test's directory.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    format!(
        "{user} daemon off; worker_processes 1; pid nginx.pid; error_log stderr;
         events {{ worker_connections 256; }}
         http {{
             client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
             uwsgi_temp_path uwsgi; scgi_temp_path scgi;
             include agent-management.conf;
         }}"
    )
}

fn program() -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|place| place.join("nginx"))
        .find(|file| file.is_file())
        .expect("nginx is not there: `apt-get install nginx`, or `make test`, which unpacks it below target/")
}

/// Replaces the one occurrence of `from`.
fn swap(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "deploy/nginx.conf must say `{from}` once");
    text.replace(from, to)
}

async fn wait_until(mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}

/// Stands behind nginx in the service's place.
struct Stub(TcpListener);

impl Stub {
    async fn start() -> (Self, Nginx) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nginx = Nginx::before(listener.local_addr().unwrap().port()).await;
        (Self(listener), nginx)
    }

    /// The next request: its connection, and its head in lower case.
    async fn request(&self) -> (TcpStream, String) {
        let (mut connection, _) = timeout(PATIENCE, self.0.accept()).await.expect("no request came").unwrap();
        let head = head(&mut connection).await.to_lowercase();
        (connection, head)
    }

    /// Answers the next request with 200 and no body, and returns its head.
    async fn answer(&self) -> String {
        let (mut connection, head) = self.request().await;
        let length = header(&head, "content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        timeout(PATIENCE, connection.read_exact(&mut body)).await.expect("the body stopped").unwrap();
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        head
    }
}

/// Reads a head up to its empty line.
async fn head(connection: &mut TcpStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(timeout(PATIENCE, connection.read_u8()).await.expect("the head stopped").unwrap());
    }
    String::from_utf8(read).unwrap()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn nginx_forwards_answers_unchanged() {
    let server = harness::Server::start().await;
    let nginx = Nginx::before(server.port()).await;
    let ask = async |url: String| {
        let request = server.client().get(url).header("x-api-key", server.key()).header("x-request-id", "asked-twice");
        let answer = request.send().await.unwrap();
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        (answer.status(), id, answer.json::<Value>().await.unwrap())
    };
    for path in
        ["/api/v1/agents/workflows", "/api/v1/agents/workflows/agent_00000000", "/api/v1/agents/workflows?limit=x"]
    {
        let through = ask(nginx.url(path)).await;
        assert_eq!(through, ask(server.url(path)).await, "{path}");
        assert_eq!(through.1, "asked-twice");
    }
    for path in ["/health", "/health/live", "/health/ready"] {
        assert_eq!(ask(nginx.url(path)).await.0, StatusCode::OK, "{path}");
    }
    // What is the operator's stays on the machine.
    for path in ["/metrics", "/docs", "/openapi.json", "/"] {
        let (status, _, body) = ask(nginx.url(path)).await;
        assert_eq!((status, &body["code"]), (StatusCode::NOT_FOUND, &json!("not_found")), "{path}");
    }
}

/// Every name under which a path of this service is known: the present one, and those of the monolith and of its proxy.
fn names(path: &str) -> Vec<String> {
    let older = [
        ("/api/v1/agents/performance/", "/v1/agent-performance/"),
        ("/api/v1/agents/creativity/", "/v1/agent-creativity/"),
        ("/api/v1/agents/", "/v1/agents/"),
        ("/api/v1/agents/", "/api/v1/agent/"),
        ("/api/v1/services", "/v1/services"),
        ("/health", "/v1/health"),
        ("/health", "/api/v1/health"),
    ];
    let older = older.iter().filter_map(|(now, before)| Some([before, path.strip_prefix(now)?].concat()));
    older.chain([path.to_owned()]).collect()
}

#[tokio::test]
async fn nginx_forwards_each_path_under_all_its_names_and_no_other() {
    let (stub, nginx) = Stub::start().await;
    let forwarding = tokio::spawn(async move {
        loop {
            let (mut connection, _) = stub.request().await;
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            connection.write_all(answer).await.unwrap();
        }
    });
    let app = harness::TestApp::start().await;
    let own = app.get("/openapi.json").await.ok();
    let contract = json_fixture("contract/openapi.json");
    let mut expected = BTreeMap::new();
    for template in [&own, &contract].into_iter().flat_map(|document| document["paths"].as_object().unwrap().keys()) {
        let parts = template.split('/').map(|part| if part.starts_with('{') { "x1" } else { part });
        let path = parts.collect::<Vec<_>>().join("/");
        if ["/metrics", "/docs", "/openapi.json"].contains(&path.as_str()) {
            expected.insert(path, StatusCode::NOT_FOUND);
        } else {
            expected.extend(names(&path).into_iter().map(|name| (name, StatusCode::OK)));
        }
    }
    assert!(expected.len() > 250, "{} paths", expected.len());
    let others = [
        "/v1/agents/0x0000000000000000000000000000000000000001/staking",
        "/v1/agents/0x1/stakes/5/events",
        "/v1/agents/0x1/rewards",
        "/v1/agents/stakes/events",
        "/v1/agents/workflowsmith/x",
        "/v1/agents/x/status/history",
        "/v1/agents",
        "/v1/agent-identity/x",
        "/v1/agent-performances",
        "/v1/servicesmith",
        "/v1/jobs/x",
        "/v1/jobs/x/events",
        "/v1/miners/register",
        "/v1/marketplace/offers",
        "/v1/healthy",
        "/v1/",
        "/api/v1/jobs",
        "/api/v1/agentsmith/x",
    ];
    expected.extend(others.map(|other| (other.to_owned(), StatusCode::NOT_FOUND)));
    let expected: Vec<(String, StatusCode)> = expected.into_iter().collect();
    // Each address may ask some hundred times at once.
    for (at, some) in (2u8..).zip(expected.chunks(100)) {
        let address = std::net::Ipv4Addr::new(127, 0, 0, at);
        let client =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).local_address(Some(address.into()));
        let client = client.build().unwrap();
        for (path, status) in some {
            let found = client.get(nginx.url(path)).send().await.unwrap().status();
            assert_eq!(found, *status, "{path}");
        }
    }
    forwarding.abort();
}

#[tokio::test]
async fn nginx_streams_execution_events() {
    let server = harness::Server::start().await;
    let nginx = Nginx::before(server.port()).await;
    let post = async |path: &str, body: Value| {
        let request = server.client().post(nginx.url(path)).header("x-api-key", server.key()).json(&body);
        request.send().await.unwrap().error_for_status().unwrap().json::<Value>().await.unwrap()
    };
    let workflow = post(
        "/api/v1/agents/workflows",
        json!({"name": "seen through nginx", "steps": {"only": {"name": "only", "step_type": "custom"}}}),
    )
    .await;
    let id = workflow.text("id");
    let run =
        post(&format!("/api/v1/agents/workflows/{id}/execute?wait=10"), json!({"workflow_id": id, "inputs": {}})).await;
    let run = run.text("execution_id");
    let request = server
        .client()
        .get(nginx.url(&format!("/api/v1/agents/executions/{run}/events")))
        .header("x-api-key", server.key())
        .header("accept", "text/event-stream");
    let mut events = request.send().await.unwrap().error_for_status().unwrap();
    assert!(events.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream"));
    let first = timeout(PATIENCE, events.chunk()).await.expect("no event came").unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("id:"), "{first:?}");
}

#[tokio::test]
async fn nginx_does_not_buffer_event_streams() {
    let (stub, nginx) = Stub::start().await;
    let events = reqwest::Client::new().get(nginx.url("/api/v1/agents/executions/exec_0/events")).send();
    // Without a length or chunks: an answer of this form is kept back until nginx's buffer is full, if it buffers.
    let service = async {
        let (mut connection, _) = stub.request().await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nid: 1\n\n";
        connection.write_all(answer).await.unwrap();
        connection
    };
    let (events, mut connection) =
        timeout(PATIENCE, async { tokio::join!(events, service) }).await.expect("no answer came");
    let mut events = events.unwrap();
    // The service has said no more than the first event, and has not closed.
    let first = timeout(PATIENCE, events.chunk()).await.expect("nginx keeps the first event back").unwrap();
    assert_eq!(first.as_deref(), Some(b"id: 1\n\n".as_slice()));
    connection.write_all(b"id: 2\n\n").await.unwrap();
    drop(connection);
    assert_eq!(events.text().await.unwrap(), "id: 2\n\n");
}

#[tokio::test]
async fn nginx_forwards_the_client_address() {
    let (stub, nginx) = Stub::start().await;
    let client = reqwest::Client::new();
    let url = nginx.url("/api/v1/services/whisper?x=1");
    let spoofed = client.get(&url).header("x-request-id", "mine-1").header("x-real-ip", "203.0.113.9").send();
    let (answer, head) = tokio::join!(spoofed, stub.answer());
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    assert!(head.starts_with("get /api/v1/services/whisper?x=1 http/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "x-request-id"), Some("mine-1"));
    assert_eq!(header(&head, "x-real-ip"), Some("127.0.0.1"));
    assert_eq!(header(&head, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(header(&head, "x-forwarded-proto"), Some("http"));
    // The connection to the service stays open for the next request.
    assert_eq!((header(&head, "connection"), header(&head, "upgrade")), (None, None));
}

#[tokio::test]
async fn nginx_makes_missing_request_ids() {
    let (stub, nginx) = Stub::start().await;
    let client = reqwest::Client::new();
    for bad in [None, Some("two words"), Some("\"},{\"")] {
        let mut request = client.get(nginx.url("/health"));
        if let Some(bad) = bad {
            request = request.header("x-request-id", bad);
        }
        let (answer, head) = tokio::join!(request.header("connection", "close").send(), stub.answer());
        answer.unwrap();
        let id = header(&head, "x-request-id").unwrap();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    }
}

#[tokio::test]
async fn nginx_upgrades_websockets() {
    let (stub, nginx) = Stub::start().await;
    let mut client = nginx.connect().await;
    let handshake = "GET /api/v1/agent/messages/stream?agent_id=a HTTP/1.1\r\nHost: agents.example\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    client.write_all(handshake.as_bytes()).await.unwrap();
    let (mut service, asked) = stub.request().await;
    assert_eq!(header(&asked, "host"), Some("agents.example"));
    assert_eq!((header(&asked, "connection"), header(&asked, "upgrade")), (Some("upgrade"), Some("websocket")));
    assert_eq!(header(&asked, "sec-websocket-version"), Some("13"));

    service
        .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .await
        .unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
    // From here on bytes go both ways as they are.
    let mut seen = [0; 4];
    client.write_all(b"PING").await.unwrap();
    timeout(PATIENCE, service.read_exact(&mut seen)).await.expect("nothing came up").unwrap();
    assert_eq!(&seen, b"PING");
    service.write_all(b"PONG").await.unwrap();
    timeout(PATIENCE, client.read_exact(&mut seen)).await.expect("nothing came down").unwrap();
    assert_eq!(&seen, b"PONG");
}

#[tokio::test]
async fn nginx_limits_bodies_to_ten_megabytes() {
    let (stub, nginx) = Stub::start().await;
    let url = nginx.url("/api/v1/agents/workflows");
    let largest = reqwest::Client::new().post(url).body(vec![b' '; BODY_LIMIT]).send();
    let (answer, head) = tokio::join!(largest, stub.answer());
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    assert_eq!(header(&head, "content-length"), Some(BODY_LIMIT.to_string().as_str()));

    // Refused by its announced length alone, before any of it is sent.
    let mut client = nginx.connect().await;
    let ask = format!(
        "POST /api/v1/agents/workflows HTTP/1.1\r\nHost: x\r\nX-Request-Id: big\r\nContent-Length: {}\r\n\r\n",
        BODY_LIMIT + 1
    );
    client.write_all(ask.as_bytes()).await.unwrap();
    let refusal = self::head(&mut client).await;
    assert!(refusal.starts_with("HTTP/1.1 413 "), "{refusal}");
    let length = header(&refusal.to_lowercase(), "content-length").unwrap().parse().unwrap();
    let mut body = vec![0; length];
    client.read_exact(&mut body).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["code"], &body["request_id"]), (&json!("body_too_large"), &json!("big")));
    assert!(body["detail"].is_string());
}

#[tokio::test]
async fn nginx_answers_503_when_the_service_is_down() {
    let nobodys = ReservedPort::new();
    let nginx = Nginx::before(nobodys.number()).await;
    let url = nginx.url("/api/v1/agent/messages/stream?agent_id=a&token=a-key-to-be-kept-secret");
    let answer = reqwest::Client::new().get(url).header("x-request-id", "down-1").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "2");
    let body: Value = answer.json().await.unwrap();
    assert_eq!((&body["code"], &body["request_id"]), (&json!("unavailable"), &json!("down-1")));

    assert!(wait_until(|| nginx.log("agent-management.log").ends_with('\n')).await, "nothing was logged");
    let line: Value = serde_json::from_str(&nginx.log("agent-management.log")).unwrap();
    assert_eq!((&line["request_id"], &line["status"]), (&json!("down-1"), &json!(503)));
    assert_eq!(line["path"], "/api/v1/agent/messages/stream");
    for entry in fs::read_dir(nginx.place.path()).unwrap() {
        let file = entry.unwrap().path();
        assert!(!holds(&file, "kept-secret"), "{} shows the key", file.display());
    }
}

fn holds(file: &Path, text: &str) -> bool {
    file.is_file() && fs::read_to_string(file).unwrap().contains(text)
}
