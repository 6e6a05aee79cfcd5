//! The service in the test's own process: the whole application behind its router, with a clock that the test sets and ids
//! that repeat.

use std::{
    convert::Infallible,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use agent_management::{
    app::{App, HostResources},
    http::{connections::ConnectionLimits, known_names::KnownNames, listener::serve_connections},
    routes,
};
use am_core::{
    ambient::{Clock, IdGenerator},
    config::{Config, ConfigError, ConfigSources},
};
use axum::{
    body::{Body, Bytes, HttpBody as _},
    extract::{ConnectInfo, Request},
    http::{HeaderValue, header},
    response::Response,
};
use chrono::TimeDelta;
use tokio::{
    net::TcpListener,
    runtime::{Handle, Runtime},
    sync::OnceCell,
    time::timeout,
};
use tower::{ServiceExt as _, util::BoxCloneSyncService};
use tracing_subscriber::EnvFilter;

use super::{Answer, ApiClient, PATIENCE, Setup, last_lines, until_logged};
use crate::kit::migrated_database;

/// The caller's address that the router sees.
const CALLER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 40_000);

/// Seed of the next application's ids; two that share a database must not draw the same.
static NEXT_SEED: AtomicU64 = AtomicU64::new(1);

/// What each application serves that is built from the routes alone: the OpenAPI document, and the names that it has.
static DOCUMENT: OnceLock<(Bytes, KnownNames)> = OnceLock::new();

/// A migrated database without rows, which an application without a database begins with.
static EMPTY_DATABASE: OnceCell<Vec<u8>> = OnceCell::const_new();

/// While there is one subscriber alone, what it is asked for depends on the thread that comes first: another test's.
static SECOND_SUBSCRIBER: OnceLock<tracing::Dispatch> = OnceLock::new();

/// The system's time, how far the test is ahead of it, and how far the wall clock was set.
#[derive(Clone, Default)]
pub struct TestClock(Arc<AtomicI64>, Arc<AtomicI64>);

impl TestClock {
    /// Let this much time pass at once.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap(), SeqCst);
    }

    /// Set the wall clock by so many seconds, while no time passes.
    pub fn jump(&self, seconds: i64) {
        self.1.fetch_add(seconds * 1_000_000, SeqCst);
    }

    fn clock(&self) -> Clock {
        let (system, ahead, set) = (Clock::system(), self.0.clone(), self.1.clone());
        let (even, passed) = (system.clone(), self.0.clone());
        Clock::from_parts(
            move || system.now() + TimeDelta::microseconds(ahead.load(SeqCst) + set.load(SeqCst)),
            move || even.elapsed() + Duration::from_micros(passed.load(SeqCst).unsigned_abs()),
        )
    }
}

/// The router, called without a socket.
#[derive(Clone)]
pub struct Router {
    service: BoxCloneSyncService<Request, Response, Infallible>,
    runtime: Handle,
}

impl Router {
    pub async fn answer(&self, request: reqwest::Request) -> Answer {
        let mut request = axum::http::Request::<reqwest::Body>::try_from(request).unwrap().map(Body::new);
        // What a server reads from a connection: a path, and the host beside it.
        if let Some(host) = request.uri().authority().map(|host| host.as_str().parse().unwrap()) {
            request.headers_mut().entry(header::HOST).or_insert(host);
        }
        if let Some(length) = request.body().size_hint().exact().filter(|length| *length > 0) {
            request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        request.headers_mut().entry(header::ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        *request.uri_mut() = request.uri().path_and_query().unwrap().as_str().parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(CALLER));
        let service = self.service.clone();
        let whole = async move {
            let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
            (parts, axum::body::to_bytes(body, usize::MAX).await.unwrap())
        };
        let (parts, bytes) = self.runtime.spawn(whole).await.unwrap();
        Answer::new(parts.status, parts.headers, String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// How an application is to be started.
pub struct AppBuilder {
    setup: Setup,
    clock: TestClock,
}

impl AppBuilder {
    /// Set a variable of its environment.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.setup.set(name, value);
        self
    }

    /// Begin with a copy of this database.
    pub fn database(self, file: &Path) -> Self {
        self.setup.copy_database(file);
        self
    }

    /// What its settings are refused with.
    pub fn refusal(self) -> String {
        match load(&self.setup) {
            Ok(_) => panic!("the settings are taken"),
            Err(error) => error.to_string(),
        }
    }

    /// Start it and wait until it serves.
    pub async fn start(self) -> TestApp {
        let config = load(&self.setup).unwrap();
        let log = Log::default();
        SECOND_SUBSCRIBER.get_or_init(|| tracing::Dispatch::new(Log::default().subscriber(&config.log_level)));
        let threads = {
            let subscriber = tracing::Dispatch::new(log.subscriber(&config.log_level));
            // For as long as the thread lives: each application logs for itself.
            move || std::mem::forget(tracing::dispatcher::set_default(&subscriber))
        };
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).on_thread_start(threads).enable_all().build().unwrap();
        let started = runtime.spawn(serve(config, self.clock.clone()));
        let (app, service, port) = started.await.unwrap();
        let router = Router { service, runtime: runtime.handle().clone() };
        let client = ApiClient::new(port, self.setup.dir.clone(), Some(router));
        TestApp { running: Some((runtime, app)), client, setup: self.setup, clock: self.clock, log }
    }
}

fn load(setup: &Setup) -> Result<Config, ConfigError> {
    let mut env = setup.variables();
    // The process's directory is not its own: relative places begin at the test's.
    for (name, value) in &mut env {
        if name == "DATA_DIR" && value == "." {
            *value = setup.dir.path().display().to_string();
        }
    }
    // What runs when a test is over is let go at once.
    env.push(("SHUTDOWN_GRACE_SECONDS".into(), "0".into()));
    Config::load(ConfigSources::from_variables(env))
}

async fn serve(config: Config, clock: TestClock) -> (App, BoxCloneSyncService<Request, Response, Infallible>, u16) {
    let host = HostResources {
        clock: clock.clock(),
        ids: IdGenerator::seeded(NEXT_SEED.fetch_add(1, SeqCst)),
        executables: PathBuf::from(env!("CARGO_BIN_EXE_agent-management")).parent().unwrap().to_owned(),
    };
    if !config.database.exists() {
        std::fs::write(&config.database, EMPTY_DATABASE.get_or_init(empty_database).await).unwrap();
    }
    let app = App::start_with(config, host).await.unwrap();
    if let Some((document, names)) = DOCUMENT.get().cloned() {
        app.shared.openapi.set(document).unwrap();
        app.shared.known_names.set(names).unwrap();
    }
    let service = routes::build_router(routes::route_groups(), app.clone(), &app.shared).unwrap();
    DOCUMENT.get_or_init(|| (app.shared.openapi.get().unwrap().clone(), app.shared.known_names.get().unwrap().clone()));
    let service = BoxCloneSyncService::new(service);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let limits = ConnectionLimits::from_config(&app.shared.config);
    app.deployments.serves_at(port);
    tokio::spawn(serve_connections(listener, service.clone(), limits, app.supervisor.stopping().clone()));
    (app, service, port)
}

async fn empty_database() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.db");
    migrated_database(&file).await.close().await;
    std::fs::read(file).unwrap()
}

/// What an application has logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn subscriber(&self, filter: &str) -> impl tracing::Subscriber + Send + Sync + use<> {
        let (lines, filter) = (self.clone(), EnvFilter::try_new(filter).unwrap());
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || lines.clone());
        log.json().flatten_event(true).with_current_span(false).with_span_list(true).finish()
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// An application in this process; it is stopped with the test.
pub struct TestApp {
    running: Option<(Runtime, App)>,
    client: ApiClient,
    setup: Setup,
    clock: TestClock,
    log: Log,
}

impl Deref for TestApp {
    type Target = ApiClient;

    fn deref(&self) -> &ApiClient {
        &self.client
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the application's last lines:\n{}", last_lines(&self.log()));
        }
        self.stop();
    }
}

impl TestApp {
    /// With an empty database and default settings.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    pub fn builder() -> AppBuilder {
        AppBuilder { setup: Setup::new(), clock: TestClock::default() }
    }

    /// Another application on the same database, beside this one.
    pub fn beside(&self) -> AppBuilder {
        AppBuilder { setup: self.setup.clone(), clock: self.clock.clone() }
    }

    /// Its clock.
    pub fn clock(&self) -> &TestClock {
        &self.clock
    }

    /// What it has logged so far, but for its threads outside the runtime (the database's writer, training, policies).
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Until its log has `text`.
    pub async fn logged(&self, text: &str) {
        until_logged(|| self.log(), text).await;
    }

    /// Stop what it does, wherever that stands, and close its database.
    fn stop(&mut self) {
        let Some((runtime, app)) = self.running.take() else { return };
        // On a thread of its own: a test's runtime can't wait for another one.
        let stopping = std::thread::spawn(move || {
            let stop = async {
                // A thread that computes while the process ends would end it by a fault.
                app.tasks.stop().await;
                app.stop().await;
                app.close().await;
            };
            let stopped = runtime.block_on(async { timeout(PATIENCE, stop).await });
            runtime.shutdown_background();
            stopped.is_ok()
        });
        let stopped = stopping.join().unwrap_or(false);
        assert!(stopped || std::thread::panicking(), "the application did not stop");
    }

    /// Start again on the same database; `env` replaces what was set before by the same name.
    pub async fn restart_with(mut self, env: &[(&str, &str)]) -> Self {
        self.stop();
        let mut setup = self.setup.clone();
        env.iter().for_each(|(name, value)| setup.set(name, value));
        AppBuilder { setup, clock: self.clock.clone() }.start().await
    }

    pub async fn restart(self) -> Self {
        self.restart_with(&[]).await
    }
}
