//! Retention: what is old or was deleted leaves the database, after it was written to an archive whose hash is in the audit log.

mod archive;
mod catalogue;
mod disk;
mod error;
mod files;
mod kinds;
mod metrics;
mod removal;
mod request;
mod store;
mod sweep;

use std::{path::PathBuf, sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

pub use archive::ArchiveRecord;
pub use catalogue::{ArchiveState, RestoreReport, RestoreSelection, VerifiedArchive};
pub use disk::{CauseUsage, DiskPlaces, DiskUsage, FolderUsage, disk_usage};
pub use error::{Result, RetentionError};
pub use kinds::RetentionKind;

use am_audit::{AuditEntry, AuditLog};
use am_core::{
    ambient::{Clock, IdGenerator},
    boxed,
    config::RetentionConfig,
};
use am_db::Database;

/// What is removed, and where archives are.
#[derive(Clone, Debug)]
pub struct RetentionSettings {
    /// Ages from which things are removed, by kind; kinds that are not named are kept.
    pub ages: Vec<(RetentionKind, Duration)>,
    /// Directory of the archives; `None`: nothing is archived.
    pub archive: Option<PathBuf>,
    /// Directory of the policies' weights.
    pub weights: PathBuf,
    /// File whose lock the process holds that removes.
    pub lock: PathBuf,
    /// Time between two rounds.
    pub interval: Duration,
}

impl RetentionSettings {
    /// From the configuration; `data` is the directory of what is kept beside the database.
    pub fn from_config(config: &RetentionConfig, data: &std::path::Path) -> Self {
        let ages = [
            (RetentionKind::Executions, config.executions),
            (RetentionKind::Assignments, config.assignments),
            (RetentionKind::Plans, config.plans),
            (RetentionKind::Messages, config.messages),
            (RetentionKind::MessageContents, config.messages),
            (RetentionKind::Jobs, config.jobs),
            (RetentionKind::TrainingRuns, config.training_runs),
            (RetentionKind::PolicyVersions, config.policy_versions),
            (RetentionKind::Definitions, config.definitions),
            (RetentionKind::WebhookDeliveries, config.webhook_deliveries),
            (RetentionKind::MarketRequests, config.market_requests),
            (RetentionKind::Settlements, config.settlements),
            (RetentionKind::BackgroundTasks, config.background_tasks),
            (RetentionKind::Optimisations, config.optimisations),
            (RetentionKind::Sweeps, config.optimisations),
            (RetentionKind::MetaModels, config.meta_models),
            (RetentionKind::CoordinatorExecutions, config.coordinator_rows),
            (RetentionKind::CoordinatorJobs, config.coordinator_rows),
        ];
        let archive = config.archive.then(|| config.archive_dir.clone().unwrap_or_else(|| data.join("archive")));
        Self {
            ages: ages.into_iter().filter_map(|(kind, age)| Some((kind, age?))).collect(),
            archive,
            weights: data.join("policies"),
            lock: data.join("retention.lock"),
            interval: config.interval,
        }
    }
}

/// Removes what is old or was deleted. Cheap to clone.
#[derive(Clone)]
pub struct RetentionService(Arc<RetentionInner>);

struct RetentionInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    settings: RetentionSettings,
    metrics: metrics::RetentionMetrics,
}

impl RetentionService {
    /// Create the service on `db`.
    pub fn new(db: Database, clock: Clock, ids: IdGenerator, audit: AuditLog, settings: RetentionSettings) -> Self {
        Self(Arc::new(RetentionInner {
            db,
            clock,
            ids,
            audit,
            settings,
            metrics: metrics::RetentionMetrics::default(),
        }))
    }

    /// Register the metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
        registry.register_collector(Box::new(disk::DiskCollector(self.0.db.path().to_owned())));
    }

    /// Remove what is due, at intervals until `stop`.
    #[boxed]
    pub async fn work(self, stop: CancellationToken) {
        self.0.work(stop).await;
    }

    /// Delete one thing, whose owner the caller has checked. It is archived first, and `entry` in the audit log names the archive.
    /// `what` names the kind for people.
    ///
    /// # Errors
    /// [`RetentionError::NotFound`]; [`RetentionError::InUse`] while it is open or referred to.
    #[boxed]
    pub async fn remove(&self, kind: RetentionKind, what: &'static str, id: &str, entry: AuditEntry) -> Result<()> {
        self.0.remove(kind, what, id, entry).await
    }

    /// The numbers of messages with this id that `agent` sent or got, two at most; by its number a message is removed.
    ///
    /// # Errors
    /// Returns a database error when the query fails.
    #[boxed]
    pub async fn message_places(&self, message: &str, agent: &str, sender: Option<&str>) -> Result<Vec<String>> {
        Ok(store::message_places(&mut *self.0.db.read().await?, message, agent, sender).await?)
    }

    /// All archives, in the order in which they were made.
    ///
    /// # Errors
    /// Returns a database error when a query fails.
    #[boxed]
    pub async fn archives(&self) -> Result<Vec<ArchiveRecord>> {
        self.0.archives().await
    }

    /// Verify the files of all archives against the audit log.
    ///
    /// # Errors
    /// [`RetentionError::Storage`] when a file can't be read; as the database.
    #[boxed]
    pub async fn verify_archives(&self) -> Result<Vec<VerifiedArchive>> {
        self.0.verify_archives().await
    }

    /// Put things of the archive `name` back, without changing what is there.
    ///
    /// # Errors
    /// [`RetentionError::NotFound`]; [`RetentionError::Damaged`] when the file is not what was written.
    #[boxed]
    pub async fn restore(&self, name: &str, selection: RestoreSelection) -> Result<RestoreReport> {
        self.0.restore(name, &selection).await
    }
}
