//! Sandboxes: what a program that a client brings may do is decided by its security level and held by the kernel.
//! bubblewrap gives namespaces, in which there is nothing but what the rules allow; Landlock and seccomp hold the program
//! there; limits bound what it takes. What it tries all the same is counted.
//!
//! What a host does not enforce is found out by trying ([`Capabilities`]) and never left out silently.

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
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

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

/// How often files of executions that ended long ago are looked for.
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

/// Where things lie.
#[derive(Clone, Debug)]
pub struct Places {
    /// This project's executable for sandboxes.
    pub helper: PathBuf,
    /// Workspaces.
    pub directory: PathBuf,
    /// What of the service's nobody inside may see.
    pub hidden: Vec<PathBuf>,
}

impl Sandboxes {
    /// Commands run by `places.helper`.
    ///
    /// # Errors
    /// When the directory of workspaces can't be made.
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

    /// Add the room's metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// Find out what this host enforces, then take away what is left of executions that ended long ago, until `stop`.
    pub async fn work(self, stop: CancellationToken) {
        let found = self.capabilities().await;
        match (&found.reason, found.unenforced.as_slice()) {
            (Some(reason), _) => tracing::warn!(reason, "there are no sandboxes here: steps of kind command will fail"),
            (None, []) => tracing::info!(seconds = found.seconds, "sandboxes hold on this host"),
            (None, missing) => tracing::warn!(?missing, "this host does not enforce all that sandboxes demand"),
        }
        while !stop.is_cancelled() {
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "could not take away what executions have left");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(SWEEP) => {}
            }
        }
    }

    /// How many sandboxes are active, the coordinator's among them.
    ///
    /// # Errors
    /// As the database.
    pub async fn count_active(&self) -> Result<u64> {
        store::count_active(&mut *self.0.db.read().await?).await
    }

    /// What is on record of an execution's sandbox, whoever wrote it.
    ///
    /// # Errors
    /// As the database.
    pub async fn on_record(&self, execution: &str) -> Result<Option<SandboxRecord>> {
        store::record(&mut *self.0.db.read().await?, execution).await
    }

    /// What this host enforces, as it was tried once in this process.
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

    /// End every command.
    pub fn stop(&self) {
        self.0.stopping.cancel();
        self.lock().values().flatten().for_each(|(live, _)| live.stop());
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The processors that a sandbox may use: as many as it may have, each time others. None: all.
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

/// Those that this process may use itself.
fn all_processors() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None);
    set.map(|set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|at| set.is_set(*at)).collect()).unwrap_or_default()
}
