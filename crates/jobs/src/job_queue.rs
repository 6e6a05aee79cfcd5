//! The job queue as a service: what its parts share.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
use prometheus_client::registry::Registry;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    metrics::JobMetrics, model::JobState, outcome::JobOutcome, queue_view::QueueView, shown_names::ShownNames,
};
use am_audit::AuditLog;
use am_core::{
    ambient::{Clock, IdGenerator},
    config::ConstraintRule,
    ids::JobId,
};
use am_db::Database;
use am_ledger::LedgerService;
use am_webhooks::WebhookService;

/// Settings of the job queue.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// Interval at which commits are looked for while something waits.
    pub poll: Duration,
    /// Whether requests may contain addresses of hosts outside the public Internet.
    pub private_addresses: bool,
    /// Which requirements on miners are written with a job.
    pub constraints: ConstraintRule,
    /// Ids under which the coordinator knows clients, by principal.
    pub client_ids: BTreeMap<String, String>,
    /// Whether the clock of the coordinator's times is found out from its rows.
    pub finds_clock: bool,
}

/// The job queue as served by this process. Cheap to clone.
#[derive(Clone)]
pub struct JobQueue(pub(super) Arc<JobQueueInner>);

pub(super) struct JobQueueInner {
    pub(super) db: Database,
    pub(super) clock: Clock,
    pub(super) ids: IdGenerator,
    pub(super) audit: AuditLog,
    pub(super) ledger: LedgerService,
    pub(super) webhooks: WebhookService,
    pub(super) settings: JobSettings,
    /// What names of clients and miners may be shown as.
    pub(super) names: ShownNames,
    pub(super) metrics: JobMetrics,
    /// Waiting steps by the id of their job.
    pub(super) waiting: Mutex<HashMap<JobId, JobWaiter>>,
    /// Followed states by the id of the job.
    pub(super) followed: Mutex<HashMap<JobId, watch::Sender<Option<JobState>>>>,
    /// Open jobs of the whole queue.
    pub(super) queue: Mutex<QueueView>,
    /// Names of models that miners announce, as last read.
    pub(super) announced: Mutex<HashSet<String>>,
    /// Notified of a new job or a new waiter.
    pub(super) newcomer: Notify,
    /// Cancelled at a shutdown; unset until the watching task runs.
    pub(super) stop: OnceLock<CancellationToken>,
}

/// A step that waits for the end of its job.
pub(super) struct JobWaiter {
    /// Time at which the job expires; `None` once it was expired, or when it has no expiry.
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) tell: oneshot::Sender<JobOutcome>,
}

impl JobQueue {
    /// Create the queue. Nothing is read before [`JobQueue::watch`] runs.
    pub fn new(
        db: Database,
        clock: Clock,
        ids: IdGenerator,
        (audit, ledger): (AuditLog, LedgerService),
        webhooks: WebhookService,
        settings: JobSettings,
        names: ShownNames,
    ) -> Self {
        let inner = JobQueueInner {
            db,
            clock,
            ids,
            audit,
            ledger,
            webhooks,
            settings,
            names,
            metrics: JobMetrics::default(),
            waiting: Mutex::default(),
            followed: Mutex::default(),
            queue: Mutex::default(),
            announced: Mutex::default(),
            newcomer: Notify::new(),
            stop: OnceLock::new(),
        };
        Self(Arc::new(inner))
    }

    /// Register the metrics of jobs.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// The open jobs of the whole queue.
    pub(super) fn queue(&self) -> MutexGuard<'_, QueueView> {
        self.0.queue.lock()
    }

    /// Steps of this process that wait for the ends of their jobs, by the id of the job.
    pub(super) fn waiting(&self) -> MutexGuard<'_, HashMap<JobId, JobWaiter>> {
        self.0.waiting.lock()
    }

    /// Jobs whose states are followed in this process, by their id.
    pub(super) fn followed(&self) -> MutexGuard<'_, HashMap<JobId, watch::Sender<Option<JobState>>>> {
        self.0.followed.lock()
    }

    /// Whether followers should stop although their job goes on, as in a shutdown.
    pub(super) fn is_stopping(&self) -> bool {
        self.0.stop.get().is_some_and(CancellationToken::is_cancelled)
    }

    /// Wake the watching task: there is a new job or a new waiter.
    pub(super) fn wake(&self) {
        self.0.newcomer.notify_one();
    }
}
