//! Sandboxes: the permissions of a client's program depend on its security level and are enforced by the kernel.
//! bubblewrap creates namespaces that contain nothing but what the rules allow; Landlock and seccomp confine the
//! program; limits bound its resources. Forbidden attempts are counted.
//!
//! A test determines what a host does not enforce ([`HostCapabilities`]); it is never ignored silently.

mod ceilings;
mod cgroups;
mod changes;
mod command_runner;
mod disk_watch;
mod enforcement_probe;
mod error;
mod event_loop;
mod host_trials;
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
use tokio::{sync::Semaphore, time::Instant};
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
use host_trials::HostTrials;
use launch::SandboxHost;
use metrics::SandboxMetrics;

use am_audit::AuditLog;
use am_core::{ambient::Clock, boxed, config::SandboxConfig, ids::ExecutionId};
use am_db::{Database, codec::Timestamp};

/// Interval at which files of executions that ended long ago are removed.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(3600);
/// Delay of the first test of the host, which takes a process some hundred milliseconds of the processor.
const FIRST_TEST_DELAY: Duration = Duration::from_secs(1);

/// The sandboxes of this process. Cheap to clone.
#[derive(Clone)]
pub struct SandboxService(Arc<SandboxServiceInner>);

struct SandboxServiceInner {
    db: Database,
    clock: Clock,
    audit: AuditLog,
    host: SandboxHost,
    trials: HostTrials,
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
            trials: HostTrials::default(),
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

    /// Test what this host enforces, once the start is over or a command needs it, and remove files of executions that ended long
    /// ago at intervals, until `stop` is cancelled.
    #[boxed]
    pub async fn work(self, stop: CancellationToken) {
        let tests = async {
            tokio::time::sleep(FIRST_TEST_DELAY).await;
            loop {
                self.capabilities().await;
                match self.0.trials.next() {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => tokio::time::sleep(CLEANUP_INTERVAL).await,
                }
            }
        };
        let sweeps = async {
            loop {
                if let Err(error) = self.sweep().await {
                    tracing::warn!(%error, "could not remove files of ended executions");
                }
                tokio::time::sleep(CLEANUP_INTERVAL).await;
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tests => {}
            () = sweeps => {}
        }
    }

    /// Number of active sandboxes, including the coordinator's.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn count_active(&self) -> Result<u64> {
        store::count_active(&self.0.db).await
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

    /// Rules that this host enforces: tested at the start, and again with back-off while commands are refused for what the
    /// test found.
    #[boxed]
    pub async fn capabilities(&self) -> Arc<HostCapabilities> {
        match self.0.trials.found(Instant::now()) {
            Some(found) => found,
            // A task of its own: a test must not be begun twice because a caller goes away.
            None => match tokio::spawn(self.clone().test_host()).await {
                Ok(found) => found,
                Err(error) => Arc::new(HostCapabilities::untested(error.to_string(), self.now())),
            },
        }
    }

    async fn test_host(self) -> Arc<HostCapabilities> {
        let _one = self.0.trials.running.lock().await;
        if let Some(found) = self.0.trials.found(Instant::now()) {
            return found;
        }
        let (inner, now) = (self.0.clone(), self.now());
        let tested = tokio::task::spawn_blocking(move || enforcement_probe::test_host(&inner.host, now)).await;
        let found = tested.unwrap_or_else(|error| HostCapabilities::untested(error.to_string(), now));
        match (&found.reason, found.unenforced.as_slice()) {
            (Some(reason), _) => tracing::warn!(reason, "sandboxes are not available: steps of kind command will fail"),
            (None, []) => tracing::info!(seconds = found.seconds, "this host enforces all sandbox rules"),
            (None, missing) => tracing::warn!(?missing, "this host does not enforce all sandbox rules"),
        }
        let found = Arc::new(found);
        self.0.trials.keep(found.clone(), Instant::now());
        found
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
