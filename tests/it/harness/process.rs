//! The service as its users have it: the real executable, real signals.

use std::{
    io::{BufRead, BufReader},
    ops::Deref,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::JoinHandle,
    time::Instant,
};

use serde_json::Value;

use super::{ApiClient, PATIENCE, POLL_INTERVAL, Setup, last_lines, until_logged};

/// How a server is to be started.
pub struct Builder(Setup);

impl Builder {
    /// Set a variable of its environment.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.0.set(name, value);
        self
    }

    /// A second process on the database and the keys of `first`.
    pub fn beside(self, first: &ApiClient) -> Self {
        self.env("DATABASE_URL", format!("sqlite:///{}", first.database().display()))
            .env("DATA_DIR", first.dir().display())
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.0.dir.path()
    }

    /// Begin with a copy of this database.
    pub fn database(self, file: &Path) -> Self {
        self.0.copy_database(file);
        self
    }

    /// Start it and wait until it serves.
    pub async fn start(self) -> Server {
        let (mut process, log, port) = launch(&self.0);
        let Ok(port) = port.recv_timeout(PATIENCE) else {
            let _ = process.kill();
            panic!("the server did not start: {}", log.text());
        };
        Server::new(process, log, port, self.0)
    }

    /// Start it, unless it dies before it serves (a crash point); then what it was to be started with.
    pub fn try_start(self) -> Result<Server, Self> {
        let (mut process, log, port) = launch(&self.0);
        match port.recv_timeout(PATIENCE) {
            Ok(port) => Ok(Server::new(process, log, port, self.0)),
            Err(_) => {
                let _ = process.kill();
                let _ = process.wait();
                Err(self)
            }
        }
    }

    /// Start it and wait until it ends by itself: its exit status and what it logged.
    pub fn start_and_fail(self) -> (ExitStatus, String) {
        let (mut process, log, port) = launch(&self.0);
        // The sender goes with the log's reader, when the process has ended.
        if port.recv_timeout(PATIENCE).is_ok() {
            let _ = process.kill();
            panic!("the server started");
        }
        let status = process.wait().unwrap();
        (status, log.text())
    }
}

/// What a process has logged, as far as it was read.
struct ProcessLog {
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl ProcessLog {
    fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// Wait for its last line: a process that has ended may have written more than was read.
    fn finish(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.reader.is_finished() {
            assert!(Instant::now() < deadline, "another process holds the log of one that has ended");
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

fn launch(setup: &Setup) -> (Child, ProcessLog, mpsc::Receiver<u16>) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_agent-management"))
        .arg("serve")
        .current_dir(setup.dir.path())
        .env_clear()
        .envs(
            std::env::vars()
                .filter(|(name, _)| matches!(name.as_str(), "PATH" | "HOME" | "LD_LIBRARY_PATH" | "LIBTORCH" | "TZ")),
        )
        .envs(setup.variables())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let (tell, port) = mpsc::channel();
    let written = BufReader::new(process.stderr.take().unwrap()).lines();
    let reader = std::thread::spawn({
        let lines = lines.clone();
        move || {
            for line in written.map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                lines.lock().unwrap().push(line);
                if event["message"] == "ready" {
                    let address = event["address"].as_str().unwrap_or_default();
                    let _ = tell.send(address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or(0));
                }
            }
        }
    });
    (process, ProcessLog { lines, reader }, port)
}

/// A server in a process of its own; it is killed with the test.
pub struct Server {
    process: Child,
    log: ProcessLog,
    client: ApiClient,
    setup: Setup,
}

impl Deref for Server {
    type Target = ApiClient;

    fn deref(&self) -> &ApiClient {
        &self.client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the server's last lines:\n{}", last_lines(&self.log()));
        }
    }
}

impl Server {
    fn new(process: Child, log: ProcessLog, port: u16, setup: Setup) -> Self {
        Self { process, log, client: ApiClient::new(port, setup.dir.clone(), None), setup }
    }

    /// With an empty database and default settings.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> Builder {
        Builder(Setup::new())
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged, as far as that was read; all of it after [`Self::wait`].
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Until its log has `text`.
    pub async fn logged(&self, text: &str) {
        until_logged(|| self.log(), text).await;
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

    /// Stop the process as SIGSTOP does, and wait until all its threads stand still.
    pub fn stop(&self) {
        self.signal("STOP");
        let deadline = Instant::now() + PATIENCE;
        let moving = || {
            std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().flatten().any(|thread| {
                let state = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
                !state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
            })
        };
        while moving() {
            assert!(Instant::now() < deadline, "the server did not stop");
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Wait for the process to end by itself (or by a crash point).
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                self.log.finish();
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not end");
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Kill it, and answer what starts it again on the same database.
    pub fn again(mut self) -> Builder {
        self.kill();
        Builder(self.setup.clone())
    }

    /// Start again on the same database; `env` replaces what was set before by the same name.
    pub async fn restart_with(mut self, env: &[(&str, &str)]) -> Self {
        self.kill();
        let mut setup = self.setup.clone();
        env.iter().for_each(|(name, value)| setup.set(name, value));
        Builder(setup).start().await
    }

    pub async fn restart(self) -> Self {
        self.restart_with(&[]).await
    }
}
