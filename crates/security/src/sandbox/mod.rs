//! Sandboxes: the permissions of a client's program depend on its security level and are enforced by the kernel.
//! bubblewrap creates namespaces that contain nothing but what the rules allow; Landlock and seccomp confine the
//! program; limits bound its resources. Forbidden attempts are counted.
//!
//! A test determines what a host does not enforce ([`Capabilities`]); it is never ignored silently.

mod capabilities;
mod changes;
mod error;
mod groups;
mod judge;
mod launch;
mod levels;
mod measure;
mod metrics;
mod model;
mod notices;
mod programs;
mod proxy;
mod running;
mod store;
mod supervise;
mod watch;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};
use prometheus_client::registry::Registry;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;

pub use capabilities::{Capabilities, Capability};
pub use changes::{Cleaned, Seen};
pub use error::{Error, Result};
pub use model::{
    Attempt, AttemptKind, Captured, Command, Ended, Ran, Removed, Requirements, Rules, Sandbox, SandboxRecord,
    StepLimits, Usage,
};
pub use running::Run;

use launch::Host;
use metrics::Metrics;
use running::Running;

use am_audit::Audit;
use am_core::{ambient::Clock, config::SandboxConfig};
use am_db::{Database, codec::Timestamp};

/// Interval at which files of executions that ended long ago are removed.
const SWEEP: Duration = Duration::from_secs(3600);

/// The sandboxes of this process. Cheap to clone.
#[derive(Clone)]
pub struct Sandboxes(Arc<Inner>);

struct Inner {
    db: Database,
    clock: Clock,
    audit: Audit,
    host: Host,
    capabilities: OnceCell<Arc<Capabilities>>,
    places: Semaphore,
    running: Mutex<Running>,
    metrics: Metrics,
    stopping: CancellationToken,
}

/// Paths used by sandboxes.
#[derive(Clone, Debug)]
pub struct Places {
    /// Path of the helper executable.
    pub helper: PathBuf,
    /// Directory of the workspaces.
    pub directory: PathBuf,
    /// Paths of the service that must be invisible inside.
    pub hidden: Vec<PathBuf>,
}

impl Sandboxes {
    /// Create the service, with `places.helper` as the helper executable.
    ///
    /// # Errors
    /// Fails when the directory of workspaces can't be created.
    pub fn open(db: Database, clock: Clock, audit: Audit, places: Places, settings: SandboxConfig) -> Result<Self> {
        let at_once = settings.max_running;
        let host = Host::open(places.helper, places.directory, places.hidden, settings)?;
        Ok(Self(Arc::new(Inner {
            db,
            clock,
            audit,
            host,
            capabilities: OnceCell::new(),
            places: Semaphore::new(at_once),
            running: Mutex::default(),
            metrics: Metrics::default(),
            stopping: CancellationToken::new(),
        })))
    }

    /// Register the metrics of sandboxes.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// Test what this host enforces, then remove files of executions that ended long ago at intervals, until `stop` is
    /// cancelled.
    pub async fn work(self, stop: CancellationToken) {
        let found = self.capabilities().await;
        match (&found.reason, found.unenforced.as_slice()) {
            (Some(reason), _) => tracing::warn!(reason, "sandboxes are not available: steps of kind command will fail"),
            (None, []) => tracing::info!(seconds = found.seconds, "this host enforces all sandbox rules"),
            (None, missing) => tracing::warn!(?missing, "this host does not enforce all sandbox rules"),
        }
        while !stop.is_cancelled() {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "could not remove files of ended executions");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SWEEP) => {}
            }
        }
    }

    /// Number of active sandboxes, including the coordinator's.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub async fn count_active(&self) -> Result<u64> {
        store::count_active(&mut *self.0.db.read().await?).await
    }

    /// Recorded rules of an execution's sandbox, whoever wrote them; `None` without a record.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    pub async fn on_record(&self, execution: &str) -> Result<Option<SandboxRecord>> {
        store::record(&mut *self.0.db.read().await?, execution).await
    }

    /// Rules that this host enforces, tested once per process.
    pub async fn capabilities(&self) -> Arc<Capabilities> {
        let test = async || {
            let (inner, now) = (self.0.clone(), self.now());
            let tested = tokio::task::spawn_blocking(move || capabilities::test(&inner.host, now)).await;
            Arc::new(tested.unwrap_or_else(|error| Capabilities {
                available: false,
                isolation: "none".to_owned(),
                reason: Some(error.to_string()),
                user: String::new(),
                capabilities: Vec::new(),
                unenforced: Vec::new(),
                allow_unenforced: false,
                tested_at: now,
                seconds: 0.0,
            }))
        };
        self.0.capabilities.get_or_init(test).await.clone()
    }

    /// Terminate all commands.
    pub fn stop(&self) {
        self.0.stopping.cancel();
        self.lock().values().flatten().for_each(|(live, _)| live.stop());
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.running.lock()
    }
}

/// Processors for a sandbox: as many as it may have, chosen in rotation. Empty: all.
fn processors(rules: &Rules) -> Vec<usize> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let all = all_processors();
    let wanted = (rules.cpu_limit.ceil() as usize).max(1);
    if wanted >= all.len() {
        return Vec::new();
    }
    let first = NEXT.fetch_add(wanted, Ordering::Relaxed);
    (0..wanted).map(|at| all[(first + at) % all.len()]).collect()
}

/// Processors that this process may use.
fn all_processors() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None);
    set.map(|set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|at| set.is_set(*at)).collect()).unwrap_or_default()
}
