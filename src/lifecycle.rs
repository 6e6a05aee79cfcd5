//! From start to stop: listening, signals, the two stages of a stop, and what systemd is told.

use std::{future::IntoFuture, net::SocketAddr, time::Duration};

use axum::serve::ListenerExt as _;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::{
    app::{App, StartError},
    http, routes,
};
use am_core::{ambient::Clock, config::Config};

/// Between two rounds of housekeeping.
const HOUSEKEEPING: Duration = Duration::from_secs(600);

/// Why the service ended otherwise than by a signal.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It could not be built.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The address is not to be had.
    #[error("can't listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// An origin of `CORS_ORIGINS`.
    #[error(transparent)]
    Origin(#[from] http::cors::BadOrigin),
    /// The operating system.
    #[error("{0}")]
    System(#[from] std::io::Error),
    /// A commit whose fate is unknown; the next start recovers.
    #[error("the database can't be trusted any more: {0}")]
    Database(String),
}

/// Serve until SIGTERM or SIGINT, then stop in two stages: no new connections and no new work while what is under way
/// ends, up to the configured grace; then everything is let go where it stands. A second signal skips to the second.
///
/// # Errors
/// What kept it from starting, or made it end.
pub async fn serve(config: Config) -> Result<(), ServeError> {
    let address = SocketAddr::new(config.host, config.port);
    allow_files();
    let grace = config.shutdown_grace;
    // Bound before anything is built: a second process on the same port must not get as far as the database.
    let listener = TcpListener::bind(address).await.map_err(|error| ServeError::Listen(address, error))?;
    let address = listener.local_addr()?;
    let app = App::start(config).await?;
    let service = routes::build(routes::groups(), app.clone(), &app.shared)?;
    let closing = CancellationToken::new();
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let make = tower::service_fn({
        let service = service.clone();
        move |incoming: axum::serve::IncomingStream<'_, _>| {
            let peer: SocketAddr = *incoming.remote_addr();
            let service = service.clone().map_request(move |mut request: axum::extract::Request| {
                request.extensions_mut().insert(axum::extract::ConnectInfo(peer));
                request
            });
            std::future::ready(Ok::<_, std::convert::Infallible>(service))
        }
    });
    let server = axum::serve(listener, make).with_graceful_shutdown(closing.clone().cancelled_owned()).into_future();
    let server = tokio::spawn(server);
    tracing::info!(%address, environment = ?app.shared.config.environment, key_id = app.signer.key_id(), "ready");
    let _ = sd_notify::notify(&[
        sd_notify::NotifyState::Ready,
        sd_notify::NotifyState::Status(&format!("serving on {address}")),
    ]);
    let keeper = tokio::spawn(keep_house(app.clone(), closing.clone()));

    let mut fatal = app.db.fatal();
    let mut signals = Signals::new()?;
    tokio::select! {
        name = signals.next() => tracing::info!(signal = name, "stopping"),
        failed = async { fatal.wait_for(Option::is_some).await.map(|text| text.clone()) } => {
            // Nothing is acknowledged and nothing is drained: the start after this one recovers.
            return Err(ServeError::Database(failed.ok().flatten().unwrap_or_default()));
        }
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    app.shared.readiness.stop();
    closing.cancel();
    keeper.abort();
    let stop = async {
        // The engine stops beside the server: requests that wait for a run get their answer when it is let go.
        let ((), drained) = tokio::join!(app.stop(), tokio::time::timeout(grace, server));
        if drained.is_err() {
            tracing::warn!("connections were still open; they are closed now");
        }
        app.close().await;
    };
    tokio::select! {
        () = stop => tracing::info!("stopped"),
        name = signals.next() => tracing::warn!(signal = name, "stopped at once"),
    }
    Ok(())
}

/// Each socket of an agent is an open file, and the usual limit of 1024 is a courtesy to old programs: as many as this process
/// may have.
fn allow_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const ENOUGH: u64 = 1 << 20;
    let limit = getrlimit(Resource::Nofile);
    let wanted = Some(limit.maximum.unwrap_or(ENOUGH).min(ENOUGH));
    if limit.current.is_some_and(|current| Some(current) < wanted) {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: wanted, maximum: limit.maximum });
        if let Err(error) = raised {
            tracing::warn!(%error, "the limit on open files stays as it is");
        }
    }
}

struct Signals {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Signals {
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

/// Tell the watchdog of life, forget what is old.
async fn keep_house(app: App, closing: CancellationToken) {
    let watchdog = sd_notify::watchdog_enabled().map(|interval| interval / 2);
    let mut beat = tokio::time::interval(watchdog.unwrap_or(HOUSEKEEPING).min(HOUSEKEEPING));
    let mut last = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = closing.cancelled() => return,
            _ = beat.tick() => {}
        }
        if watchdog.is_some() && app.db.ping().await.is_ok() {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
        }
        if last.elapsed() >= HOUSEKEEPING {
            last = tokio::time::Instant::now();
            match am_db::once::forget_expired(&app.db, &app.clock).await {
                Ok(0) => {}
                Ok(count) => tracing::debug!(count, "idempotency keys forgotten"),
                Err(error) => tracing::warn!(%error, "could not forget old idempotency keys"),
            }
        }
    }
}

/// Bring the database to what this version needs; answers what was done, a line each.
///
/// # Errors
/// What does not fit, by name.
pub async fn migrate(config: &Config) -> Result<Vec<String>, StartError> {
    let clock = Clock::system();
    let failed = |source| StartError::Database { path: config.database.clone(), source };
    let settings = am_db::Settings { readers: 1, busy_timeout: config.db_busy_timeout };
    let database = am_db::Database::open(&config.database, &settings).await.map_err(failed)?;
    let report = am_db::migrate(&database, &clock).await.map_err(failed)?;
    database.close().await;
    let mut lines = vec![format!("database {}", config.database.display())];
    lines.extend(report.created.iter().map(|name| format!("created {name}")));
    lines.extend(report.adopted.iter().map(|name| format!("adopted {name}")));
    lines.extend(report.applied.iter().map(|name| format!("applied {name}")));
    Ok(lines)
}
