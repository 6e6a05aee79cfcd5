//! The service as its users have it: the real executable, a database of its own, real HTTP, real signals.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use reqwest::{Client, Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const ADMIN: &str = "admin-key-0123456789abcdef";
pub const OTHER_ADMIN: &str = "admin-key-fedcba9876543210";
pub const CLIENT: &str = "client-key-0123456789abcdef";
pub const MINER: &str = "miner-key-0123456789abcdef";
/// A master key, with its name.
pub const MESSAGE_KEY: &str = "m1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How a server is to be started.
pub struct Builder {
    dir: Arc<TempDir>,
    env: Vec<(String, String)>,
}

impl Builder {
    /// Set a variable of its environment.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.into(), value.to_string()));
        self
    }

    /// Begin with a copy of this database.
    pub fn database(self, file: &Path) -> Self {
        std::fs::copy(file, self.dir.path().join("coordinator.db")).unwrap();
        self
    }

    /// Start it and wait until it serves.
    pub async fn start(self) -> Server {
        let (mut process, log, port) = launch(&self.dir, &self.env);
        let Ok(port) = port.recv_timeout(PATIENCE) else {
            let _ = process.kill();
            panic!("the server did not start: {}", log.lock().unwrap().join("\n"));
        };
        Server { process, log, port, client: Client::new(), key: ADMIN.into(), setup: self }
    }

    /// Start it, unless it dies before it serves (a crash point); then what it was to be started with.
    pub fn try_start(self) -> Result<Server, Self> {
        let (mut process, log, port) = launch(&self.dir, &self.env);
        match port.recv_timeout(PATIENCE) {
            Ok(port) => Ok(Server { process, log, port, client: Client::new(), key: ADMIN.into(), setup: self }),
            Err(_) => {
                let _ = process.kill();
                let _ = process.wait();
                Err(self)
            }
        }
    }

    /// Start it and wait until it ends by itself: its exit status and what it logged.
    pub fn start_and_fail(self) -> (ExitStatus, String) {
        let (mut process, log, port) = launch(&self.dir, &self.env);
        // The sender goes with the log's reader, when the process has ended.
        if port.recv_timeout(PATIENCE).is_ok() {
            let _ = process.kill();
            panic!("the server started");
        }
        let status = process.wait().unwrap();
        let text = log.lock().unwrap().join("\n");
        (status, text)
    }
}

fn launch(dir: &TempDir, env: &[(String, String)]) -> (Child, Arc<Mutex<Vec<String>>>, mpsc::Receiver<u16>) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_agent-management"))
        .arg("serve")
        .current_dir(dir.path())
        .env_clear()
        .envs(
            std::env::vars()
                .filter(|(name, _)| matches!(name.as_str(), "PATH" | "HOME" | "LD_LIBRARY_PATH" | "LIBTORCH" | "TZ")),
        )
        .envs([
            ("APP_ENV", "production"),
            ("APP_PORT", "0"),
            ("DATA_DIR", "."),
            ("ADMIN_API_KEYS", &format!("{ADMIN},{OTHER_ADMIN}")),
            ("CLIENT_API_KEYS", CLIENT),
            ("MINER_API_KEYS", MINER),
            ("LOG_FORMAT", "json"),
            ("SHUTDOWN_GRACE_SECONDS", "5"),
            ("MESSAGE_KEYS", MESSAGE_KEY),
        ])
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = Arc::new(Mutex::new(Vec::new()));
    let (tell, port) = mpsc::channel();
    let lines = BufReader::new(process.stderr.take().unwrap()).lines();
    std::thread::spawn({
        let log = log.clone();
        move || {
            for line in lines.map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                log.lock().unwrap().push(line);
                if event["message"] == "ready" {
                    let address = event["address"].as_str().unwrap_or_default();
                    let _ = tell.send(address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0));
                }
            }
        }
    });
    (process, log, port)
}

/// A server under test; it is killed with the test.
pub struct Server {
    process: Child,
    log: Arc<Mutex<Vec<String>>>,
    port: u16,
    client: Client,
    key: String,
    setup: Builder,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log.lock().unwrap();
            let last = log.len().saturating_sub(40);
            eprintln!("the server's last lines:\n{}", log[last..].join("\n"));
        }
    }
}

impl Server {
    /// With an empty database and default settings.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder { dir: Arc::new(tempfile::tempdir().unwrap()), env: Vec::new() }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
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

    pub fn dir(&self) -> &Path {
        self.setup.dir.path()
    }

    pub fn database(&self) -> PathBuf {
        self.dir().join("coordinator.db")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// A request with the admin key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path)).header("x-api-key", &self.key)
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path)).await
    }

    /// Make a workflow of `steps` and answer its id.
    pub async fn workflow(&self, steps: Value) -> String {
        let made = self.post("/api/v1/agents/workflows", json!({"name": "test", "steps": steps})).await.ok();
        made["id"].as_str().unwrap().to_owned()
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
            tokio::task::yield_now().await;
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// SIGTERM, and wait for the end.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status().unwrap();
        assert!(done.success());
    }

    /// Wait for the process to end by itself (or by a crash point).
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not end");
            std::thread::yield_now();
        }
    }

    /// Kill it, and answer what starts it again on the same database.
    pub fn again(mut self) -> Builder {
        self.kill();
        Builder { dir: self.setup.dir.clone(), env: self.setup.env.clone() }
    }

    /// Start again on the same database; `env` replaces what was set before by the same name.
    pub async fn restart_with(mut self, env: &[(&str, &str)]) -> Self {
        self.kill();
        let mut setup = Builder { dir: self.setup.dir.clone(), env: self.setup.env.clone() };
        setup.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        setup.start().await
    }

    pub async fn restart(self) -> Self {
        self.restart_with(&[]).await
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
        let text = response.text().await.unwrap();
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
