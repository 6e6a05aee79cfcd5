//! Deployments: real processes that serve workflows, and how a new revision takes the place of an old one.
//!
//! A deployment's revisions hold a workflow as it was when it was deployed. Instances are processes that a supervisor keeps running
//! (`supervisor`); the fleet's task (`fleet`) looks at them, and does what the rules without I/O say (`rollout`, `balance`,
//! `scaling`, `alerts/rules`). Calls go through the proxy (`proxy`), which balances them.

pub mod alerts;
mod balance;
mod configs;
mod deploys;
mod draft;
mod error;
mod fleet;
mod instances;
mod live;
mod metrics;
mod model;
mod ports;
mod proxy;
mod reports;
mod rollout;
mod runs;
mod samples;
mod scaling;
mod standing;
mod store;
mod supervisor;
mod systemd;
mod tokens;

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{
    ambient::{Clock, IdGenerator},
    ids::{PrincipalId, WorkflowId},
};
use am_db::{Database, codec::Timestamp, principal::Principal};
use am_webhooks::WebhookService;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, watch};

pub use self::{
    deploys::{DeployAnswer, RollbackAnswer, ScaleAnswer},
    draft::{DeploymentDraft, INSTANCE_COUNTS},
    error::{DeploymentError, Result},
    model::{
        ChangeDocument, DeploymentDocument, DeploymentSettingsDocument, DeploymentStatus, HealthCheckRecord,
        InstanceDocument, InstanceHealth, InstanceState, RevisionDocument, RevisionState, SnapshotAnswer, SnapshotRun,
        WorkflowSnapshot,
    },
    ports::PortRange,
    proxy::{CallAnswer, CallRequest},
    reports::{
        DeploymentDashboard, DeploymentHealthReport, DeploymentMetricsReport, DeploymentSummary, FleetHealthReport,
        InstanceHealthReport, MetricPoint,
    },
    rollout::{CanaryTrial, Rollout, RolloutPhase, RolloutStrategy, SequentialTest},
    samples::SampleSums,
    scaling::ScalingPolicy,
    supervisor::{InstanceSupervisor, ProcessSettings, ProcessSupervisor, SupervisorFault},
    systemd::{SystemdBusAddress, SystemdSettings, SystemdSupervisor},
};
use self::{fleet::CheckResult, live::LiveFleet, metrics::DeploymentMetrics};

/// Workflows, as the service has them.
pub trait WorkflowSource: Send + Sync {
    /// A workflow as it is now.
    ///
    /// # Errors
    /// What to tell the caller, for one that is gone or that it may not run.
    fn snapshot<'a>(
        &'a self,
        caller: &'a Principal,
        workflow: &'a WorkflowId,
    ) -> BoxFuture<'a, std::result::Result<WorkflowSnapshot, String>>;

    /// Run a snapshot. The answer names no instance: the caller does.
    fn run(&self, run: SnapshotRun) -> BoxFuture<'_, Result<SnapshotAnswer>>;
}

/// Settings of deployments.
#[derive(Clone, Debug)]
pub struct DeploymentSettings {
    /// Ports that instances may take.
    pub ports: PortRange,
    /// Directory of tokens, and of the supervisor.
    pub directory: PathBuf,
    /// Address of this service for its instances; `None`: it is told when the service listens.
    pub service_url: Option<String>,
    /// Deployments of one principal at most.
    pub most_of_owner: i64,
    /// Time for which a call waits for an instance.
    pub hold: Duration,
    /// Time that calls under way have when their instance ends.
    pub drain: Duration,
}

/// What deployments are made of.
pub struct DeploymentParts {
    /// Where all of it is stored.
    pub db: Database,
    /// Source of the time.
    pub clock: Clock,
    /// Source of ids and randomness.
    pub ids: IdGenerator,
    /// Audit log of all changes.
    pub audit: AuditLog,
    /// Webhooks for alerts.
    pub webhooks: WebhookService,
    /// Workflows to deploy and run.
    pub workflows: Arc<dyn WorkflowSource>,
    /// Who keeps instances running.
    pub supervisor: Arc<dyn InstanceSupervisor>,
    /// What operators set.
    pub settings: DeploymentSettings,
}

/// The service for deployments. Cheap to clone.
#[derive(Clone)]
pub struct DeploymentService(Arc<DeploymentInner>);

struct DeploymentInner {
    parts: DeploymentParts,
    client: reqwest::Client,
    service_url: OnceLock<String>,
    live: Mutex<LiveFleet>,
    /// The fleet's task has something to do.
    wake: Notify,
    /// Counts changes of which instances calls may go to.
    routes: watch::Sender<u64>,
    /// Results of checks that the fleet's task has not looked at.
    checked: Mutex<Vec<CheckResult>>,
    snapshots: runs::SnapshotCache,
    metrics: DeploymentMetrics,
}

/// Seconds that a connection to an instance is kept without calls. Longer than the instance itself would; it ends none.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);
/// Time limit of a call to an instance, which itself answers earlier.
const CALL_TIMEOUT: Duration = Duration::from_secs(150);

impl DeploymentService {
    /// The service of these parts.
    ///
    /// # Errors
    /// When the client for calls can't be made.
    pub fn new(parts: DeploymentParts) -> Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(IDLE_CONNECTION)
            .connect_timeout(Duration::from_secs(2))
            .timeout(CALL_TIMEOUT)
            .build()?;
        let service_url = OnceLock::new();
        if let Some(url) = parts.settings.service_url.clone() {
            let _ = service_url.set(url);
        }
        Ok(Self(Arc::new(DeploymentInner {
            parts,
            client,
            service_url,
            live: Mutex::default(),
            wake: Notify::new(),
            routes: watch::Sender::new(0),
            checked: Mutex::default(),
            snapshots: runs::SnapshotCache::default(),
            metrics: DeploymentMetrics::default(),
        })))
    }

    /// Tell at which port of this host the service answers, for its instances. Nothing is started before.
    pub fn serves_at(&self, port: u16) {
        let _ = self.0.service_url.set(format!("http://127.0.0.1:{port}"));
        self.0.wake.notify_one();
    }

    /// Register the metrics of deployments.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.parts.clock.now())
    }

    fn db(&self) -> &Database {
        &self.0.parts.db
    }

    /// The audit entry of what `by` did with a deployment; the service itself acts for an owner.
    fn entry(&self, by: Actor<'_>, action: &str, id: &str, now: Timestamp) -> AuditEntry {
        let entry = AuditEntry::new(EventType::WorkflowUpdated, now).of("deployment", action);
        let entry = match by {
            Actor::Caller(principal) => entry.by(principal),
            Actor::Owner(owner) => entry.on_behalf_of(owner.as_str()),
        };
        entry.data("deployment", serde_json::json!(id))
    }
}

/// Who changes a deployment.
#[derive(Clone, Copy)]
enum Actor<'a> {
    Caller(&'a Principal),
    /// The service, for the deployment's owner.
    Owner(&'a PrincipalId),
}
