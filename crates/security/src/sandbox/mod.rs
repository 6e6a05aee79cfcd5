//! Sandboxes: the permissions of a client's program depend on its security level and are enforced by the kernel.
//! bubblewrap creates namespaces that contain nothing but what the rules allow; Landlock and seccomp confine the
//! program; limits bound its resources. Forbidden attempts are counted.
//!
//! A test determines what a host does not enforce ([`HostCapabilities`]); it is never ignored silently.

mod ceilings;
mod cgroups;
mod changes;
mod command_runner;
mod enforcement_probe;
mod error;
mod event_loop;
mod launch;
mod measure;
mod metrics;
mod model;
mod presets;
mod programs;
mod proxy;
mod seccomp_notify;
mod store;
mod supervise;
mod supervised_job;
mod violation_recorder;

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

pub use ceilings::SandboxCeilings;
pub use changes::{CleanupReport, SandboxView};
pub use command_runner::CommandContext;
pub use enforcement_probe::{EnforcedRule, HostCapabilities};
pub use error::{Result, SandboxError};
pub use model::{
    AttemptKind, CapturedOutput, CommandOutcome, RemovedItems, SandboxBounds, SandboxCommand, SandboxRecord,
    SandboxRequirements, SandboxRules, SandboxState, SandboxUsage, StepLimits, TerminationReason, ViolationAttempt,
};

pub use presets::{covers_domain, rules_for_level};
pub use violation_recorder::is_version_of;

use command_runner::RunningCommands;
use launch::SandboxHost;
use metrics::SandboxMetrics;

use am_audit::AuditLog;
use am_core::{ambient::Clock, boxed, config::SandboxConfig, ids::ExecutionId};
use am_db::{Database, codec::Timestamp};

/// Interval at which files of executions that ended long ago are removed.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(3600);

/// The sandboxes of this process. Cheap to clone.
#[derive(Clone)]
pub struct SandboxService(Arc<SandboxServiceInner>);

struct SandboxServiceInner {
    db: Database,
    clock: Clock,
    audit: AuditLog,
    host: SandboxHost,
    capabilities: OnceCell<Arc<HostCapabilities>>,
    places: Semaphore,
    running: Mutex<RunningCommands>,
    metrics: SandboxMetrics,
    stopping: CancellationToken,
}

/// Paths used by sandboxes.
#[derive(Clone, Debug)]
pub struct SandboxPaths {
    /// Path of the helper executable.
    pub helper: PathBuf,
    /// Directory of the workspaces.
    pub directory: PathBuf,
    /// Paths of the service that must be invisible inside.
    pub hidden: Vec<PathBuf>,
}

impl SandboxService {
    /// Create the service, with `places.helper` as the helper executable.
    ///
    /// # Errors
    /// Fails when the directory of workspaces can't be created.
    pub fn open(
        db: Database,
        clock: Clock,
        audit: AuditLog,
        places: SandboxPaths,
        settings: SandboxConfig,
    ) -> Result<Self> {
        let at_once = settings.max_running;
        let host = SandboxHost::open(places.helper, places.directory, places.hidden, settings)?;
        Ok(Self(Arc::new(SandboxServiceInner {
            db,
            clock,
            audit,
            host,
            capabilities: OnceCell::new(),
            places: Semaphore::new(at_once),
            running: Mutex::default(),
            metrics: SandboxMetrics::default(),
            stopping: CancellationToken::new(),
        })))
    }

    /// Register the metrics of sandboxes.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// Test what this host enforces, then remove files of executions that ended long ago at intervals, until `stop` is
    /// cancelled.
    #[boxed]
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
                () = tokio::time::sleep(CLEANUP_INTERVAL) => {}
            }
        }
    }

    /// Number of active sandboxes, including the coordinator's.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn count_active(&self) -> Result<u64> {
        store::count_active(&mut *self.0.db.read().await?).await
    }

    /// Recorded rules of an execution's sandbox, whoever wrote them; `None` without a record.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn recorded_limits(&self, execution: &ExecutionId) -> Result<Option<SandboxRecord>> {
        store::read_record(&mut *self.0.db.read().await?, execution).await
    }

    /// The operator's ceilings.
    pub fn ceilings(&self) -> SandboxCeilings {
        SandboxCeilings::from_config(&self.0.host.settings)
    }

    /// Rules that this host enforces, tested once per process.
    #[boxed]
    pub async fn capabilities(&self) -> Arc<HostCapabilities> {
        let test = async || {
            let (inner, now) = (self.0.clone(), self.now());
            let tested = tokio::task::spawn_blocking(move || enforcement_probe::test_host(&inner.host, now)).await;
            Arc::new(tested.unwrap_or_else(|error| HostCapabilities {
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

    fn lock(&self) -> MutexGuard<'_, RunningCommands> {
        self.0.running.lock()
    }
}

/// Processors for a sandbox: as many as it may have, chosen in rotation. Empty: all.
fn select_processors(rules: &SandboxRules) -> Vec<usize> {
    static NEXT_PROCESSOR: AtomicUsize = AtomicUsize::new(0);
    let all = available_processors();
    let wanted = (rules.cpu_limit.ceil() as usize).max(1);
    if wanted >= all.len() {
        return Vec::new();
    }
    let first = NEXT_PROCESSOR.fetch_add(wanted, Ordering::Relaxed);
    (0..wanted).map(|at| all[(first + at) % all.len()]).collect()
}

/// Processors that this process may use.
fn available_processors() -> Vec<usize> {
    let set = rustix::thread::sched_getaffinity(None);
    set.map(|set| (0..rustix::thread::CpuSet::MAX_CPU).filter(|at| set.is_set(*at)).collect()).unwrap_or_default()
}
