//! The service under test, in the test's own process (`TestApp`) or in one of its own (`Server`), and a client of its API.
//!
//! Both begin with a database of their own in a directory that goes with them, and both give the same methods through
//! [`ApiClient`]: a test that needs signals, a crash or a second process says `Server`, any other `TestApp`.

mod app;
mod process;

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::kit::JsonDocument;
use reqwest::{Client, Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpSocket;

pub use app::{AppBuilder, TestApp};
pub use process::{Builder, Server};

pub const ADMIN: &str = "admin-key-0123456789abcdef";
pub const OTHER_ADMIN: &str = "admin-key-fedcba9876543210";
pub const CLIENT: &str = "client-key-0123456789abcdef";
pub const MINER: &str = "miner-key-0123456789abcdef";
/// A master key, with its name.
pub const MESSAGE_KEY: &str = "m1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at what comes by itself. Who looks without a pause takes the processor from what it waits for.
pub const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Wait until it is time to look again.
pub async fn poll_interval() {
    tokio::time::sleep(POLL_INTERVAL).await;
}

/// Until a log has `text`: a line comes a moment after what it tells of.
async fn until_logged(log: impl Fn() -> String, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !log().contains(text) {
        assert!(Instant::now() < deadline, "it was never logged: {text}");
        poll_interval().await;
    }
}

/// A free port of 127.0.0.1 that is given to nobody who asks for any, while whoever names it may listen there: both bind it with
/// `SO_REUSEADDR`, and this socket never listens.
pub struct ReservedPort(TcpSocket);

impl ReservedPort {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self(socket)
    }

    pub fn number(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }
}

/// The directory and the variables that a service is started with.
#[derive(Clone)]
struct Setup {
    dir: Arc<TempDir>,
    env: Vec<(String, String)>,
}

impl Setup {
    fn new() -> Self {
        Self { dir: Arc::new(tempfile::tempdir().unwrap()), env: Vec::new() }
    }

    fn set(&mut self, name: &str, value: impl ToString) {
        self.env.push((name.into(), value.to_string()));
    }

    fn copy_database(&self, file: &Path) {
        std::fs::copy(file, self.dir.path().join("coordinator.db")).unwrap();
    }

    /// The variables of the environment, later ones winning over earlier ones of the same name.
    fn variables(&self) -> Vec<(String, String)> {
        let fixed = [
            ("APP_ENV", "production"),
            ("APP_PORT", "0"),
            ("DATA_DIR", "."),
            ("ADMIN_API_KEYS", &format!("{ADMIN},{OTHER_ADMIN}")),
            ("CLIENT_API_KEYS", CLIENT),
            ("MINER_API_KEYS", MINER),
            ("LOG_FORMAT", "json"),
            ("SHUTDOWN_GRACE_SECONDS", "5"),
            ("MESSAGE_KEYS", MESSAGE_KEY),
        ];
        fixed.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().chain(self.env.clone()).collect()
    }
}

/// The end of a log, for whoever looks why a test failed.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A client of the service's API, with the admin key.
#[derive(Clone)]
pub struct ApiClient {
    port: u16,
    client: Client,
    key: String,
    dir: Arc<TempDir>,
    router: Option<app::Router>,
}

impl ApiClient {
    fn new(port: u16, dir: Arc<TempDir>, router: Option<app::Router>) -> Self {
        // It speaks to this machine without TLS: no certificates are read.
        let client = Client::builder().tls_danger_accept_invalid_certs(true).build().unwrap();
        Self { port, client, key: ADMIN.into(), dir, router }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The service's data directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn database(&self) -> PathBuf {
        self.dir().join("coordinator.db")
    }

    /// A request with the admin key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).header("x-api-key", &self.key)
    }

    /// The answer to a request: of the router itself where it is in this process.
    pub async fn answer(&self, request: RequestBuilder) -> Answer {
        match &self.router {
            Some(router) => router.answer(request.build().unwrap()).await,
            None => Answer::of(request).await,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.answer(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.answer(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.answer(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.answer(self.request(Method::DELETE, path)).await
    }

    /// Make a workflow of `steps` and answer its id.
    pub async fn workflow(&self, steps: Value) -> String {
        let made = self.post("/api/v1/agents/workflows", json!({"name": "test", "steps": steps})).await.ok();
        made.text("id").to_owned()
    }

    /// Start a run and answer its document as it was first answered.
    pub async fn execute(&self, workflow: &str, inputs: Value) -> Value {
        self.post(&format!("/api/v1/agents/workflows/{workflow}/execute"), json!({"inputs": inputs})).await.ok()
    }

    /// Wait for an execution's end.
    pub async fn ended(&self, execution: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let document = self.get(&format!("/api/v1/agents/executions/{execution}?wait=5")).await.ok();
            if matches!(document["status"].as_str(), Some("completed" | "failed" | "cancelled")) {
                return document;
            }
            assert!(Instant::now() < deadline, "the execution did not end: {document}");
        }
    }

    /// Until `done` holds of an execution's document.
    pub async fn until(&self, execution: &str, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let document = self.get(&format!("/api/v1/agents/executions/{execution}")).await.ok();
            if done(&document) {
                return document;
            }
            assert!(Instant::now() < deadline, "it never came: {document}");
            poll_interval().await;
        }
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Self::new(status, headers, response.text().await.unwrap())
    }

    fn new(status: StatusCode, headers: HeaderMap, text: String) -> Self {
        Self { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text }
    }

    /// The body of a good answer.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text);
        self.body
    }

    /// The body of an answer with this status.
    #[track_caller]
    pub fn is(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.body
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}
