//! Life cycle of the server: listening, signals, the two stages of a stop, and notifications to systemd.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::{App, StartError},
    http, routes, service_manager,
};
use am_core::{ambient::Clock, boxed, config::Config, supervisor::TaskFailure};

/// How long the service answers that it is not ready before it stops for a background task that is gone.
const FAILURE_NOTICE: Duration = Duration::from_secs(5);

/// Reason for which the server ended, other than a signal.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The services could not be built.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The address could not be bound.
    #[error("can't listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// An entry of `CORS_ORIGINS` is invalid.
    #[error(transparent)]
    Origin(#[from] http::cors::InvalidOrigin),
    /// An operation of the operating system failed.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// A background task panicked or ended unasked.
    #[error("{0}")]
    Task(#[from] TaskFailure),
    /// The outcome of a commit is unknown; the next start recovers.
    #[error("the database can't be trusted any more: {0}")]
    Database(String),
}

/// Serve until SIGTERM or SIGINT, then stop in two stages: first no new connections and no new work, while work in
/// progress ends within the configured grace period; then everything is released as it is. A second signal skips to the
/// second stage.
///
/// # Errors
/// The reason for which it did not start, or ended.
#[boxed]
pub async fn serve_until_stopped(config: Config) -> Result<(), ServeError> {
    let address = SocketAddr::new(config.host, config.port);
    // Before anything is built: until then a signal ends the process at once, in whatever it is doing.
    let mut signals = StopSignals::new()?;
    raise_open_file_limit();
    let grace = config.shutdown_grace;
    // Bound before anything is built: a second process on the same port must not touch the database.
    let listener = TcpListener::bind(address).await.map_err(|error| ServeError::Listen(address, error))?;
    let address = listener.local_addr()?;
    let app = tokio::select! {
        app = App::start(config) => app?,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped before it had started");
            return Ok(());
        }
    };
    let service = routes::build_router(routes::route_groups(), app.clone(), &app.shared)?;
    let closing = app.supervisor.stopping().clone();
    let limits = http::connections::ConnectionLimits::from_config(&app.shared.config);
    let server = http::listener::serve_connections(listener, service, limits, closing);
    let drained = CancellationToken::new();
    app.supervisor.start("http", |_| {
        let drained = drained.clone();
        async move {
            server.await;
            drained.cancel();
        }
    });
    // Instances ask from now on only.
    app.deployments.serves_at(address.port());
    tracing::info!(%address, environment = ?app.shared.config.environment, key_id = app.signer.key_id(), "ready");
    service_manager::notify(&[
        sd_notify::NotifyState::Ready,
        sd_notify::NotifyState::Status(&format!("serving on {address}")),
    ]);
    app.supervisor.start("watchdog", |stop| run_watchdog(app.clone(), stop));
    let released = am_rl::release_start_memory();
    tracing::debug!(code_bytes = released, "memory that only the start needed was given back");

    let outcome = serve_until_end(&app, &mut signals).await;
    if let Err(error @ ServeError::Database(_)) = outcome {
        // Nothing is acknowledged and nothing is drained: the start after this one recovers.
        return Err(error);
    }
    service_manager::notify(&[sd_notify::NotifyState::Stopping]);
    app.shared.readiness.stop();
    let stop = async {
        // The engine stops while the server still runs: requests that wait for an execution are answered when it is
        // released.
        let ((), drained) = tokio::join!(app.stop(), tokio::time::timeout(grace, drained.cancelled()));
        if drained.is_err() {
            tracing::warn!("connections were still open after the grace period; closing them");
        }
        app.close().await;
    };
    tokio::select! {
        () = stop => tracing::info!("stopped"),
        name = signals.next() => tracing::warn!(signal = name, "second signal: stopped without waiting"),
    }
    outcome
}

/// Return when the service is to stop: a signal, a database that can't be trusted, or a background task that is missed.
/// After the last the service is not ready for [`FAILURE_NOTICE`], so that balancers see it, and then stops.
async fn serve_until_end(app: &App, signals: &mut StopSignals) -> Result<(), ServeError> {
    let mut fatal = app.db.fatal();
    let database = async {
        let failed = fatal.wait_for(Option::is_some).await.map(|text| text.clone());
        ServeError::Database(failed.ok().flatten().unwrap_or_default())
    };
    let failed = async {
        let failure = app.supervisor.failed().await;
        tracing::error!(task = failure.name, "a background task is gone; the service is no longer ready, and stops");
        service_manager::notify(&[sd_notify::NotifyState::Status(&failure.to_string())]);
        tokio::time::sleep(FAILURE_NOTICE).await;
        ServeError::Task(failure)
    };
    tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "stopping");
            // Whoever restarts the service must see that it did not stop as it should.
            app.supervisor.failure().map_or(Ok(()), |failure| Err(ServeError::Task(failure)))
        }
        error = database => Err(error),
        error = failed => Err(error),
    }
}

/// Raise the limit of open files to the maximum for this process: each agent's WebSocket is an open file, and the usual
/// soft limit of 1024 is too low.
fn raise_open_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const MAX_OPEN_FILES: u64 = 1 << 20;
    let limit = getrlimit(Resource::Nofile);
    let wanted = Some(limit.maximum.unwrap_or(MAX_OPEN_FILES).min(MAX_OPEN_FILES));
    if limit.current.is_some_and(|current| Some(current) < wanted) {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: limit.maximum });
        if let Err(error) = raised {
            tracing::warn!(%error, "the limit of open files could not be raised");
        }
    }
}

struct StopSignals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl StopSignals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

/// Notify the watchdog.
async fn run_watchdog(app: App, closing: CancellationToken) {
    let Some(interval) = sd_notify::watchdog_enabled().map(|interval| interval / 2) else {
        return closing.cancelled().await;
    };
    let mut beat = tokio::time::interval(interval);
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            _ = beat.tick() => {}
        }
        if app.db.ping().await.is_ok() {
            service_manager::notify(&[sd_notify::NotifyState::Watchdog]);
        }
    }
}

/// Migrate the database to this version; returns the changes, one line each.
///
/// # Errors
/// The missing or unexpected database objects, by name.
#[boxed]
pub async fn migrate_database(config: &Config) -> Result<Vec<String>, StartError> {
    let clock = Clock::system();
    let failed = |source| StartError::Database { path: config.database.clone(), source };
    let settings = am_db::DatabaseSettings { readers: 1, busy_timeout: config.db_busy_timeout };
    let database = am_db::Database::open(&config.database, &settings).await.map_err(failed)?;
    let report = am_db::migrate(&database, &clock).await.map_err(failed)?;
    database.close().await;
    let mut lines = vec![format!("database {}", config.database.display())];
    lines.extend(report.created.iter().map(|name| format!("created {name}")));
    lines.extend(report.adopted.iter().map(|name| format!("adopted {name}")));
    lines.extend(report.applied.iter().map(|name| format!("applied {name}")));
    Ok(lines)
}
