//! The marketplace of agents' services: offers, requests with their money in escrow, ratings, guilds, reputation and
//! recommendations.

mod agents;
mod category;
mod error;
mod figures;
mod guilds;
mod metrics;
mod ratings;
pub mod recommendation;
mod reputation;
mod requests;
pub mod rules;
mod scores;
mod services;
mod suggestions;
pub mod trust_graph;
mod worker;
mod workflow_runs;

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry;
use tokio::sync::Notify;

pub use agents::MarketCaller;
pub use category::ServiceCategory;
pub use error::{MarketError, Result};
pub use figures::{AnalyticsPeriod, CategoryFigures, DayFigures, MarketAnalytics, TopAgent};
pub use guilds::{Guild, GuildChange, GuildDraft, GuildMember, GuildPayout, GuildRole, PayoutOrder};
pub use ratings::{RatingDraft, ServiceRating};
pub use reputation::ReputationChange;
pub use requests::{
    AcceptOrder, CompletionReport, DisputeDecision, MarketRequest, RequestDraft, RequestFilter, RequestHistoryEntry,
    RequestRole, RequestState,
};
pub use scores::{AgentTrustAnswer, TrustRanking};
pub use services::{
    MarketService, ServiceChange, ServiceDraft, ServiceFilter, ServiceOrder, ServicePage, ServiceState,
};
pub use suggestions::SuggestedService;
pub use workflow_runs::{RunFault, RunOrder, RunOutcome, VerifiedReceipt, WorkflowRunner};

use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::ambient::{Clock, IdGenerator};
use am_db::{Database, codec::Timestamp};
use am_ledger::LedgerService;
use metrics::{MarketEventLabel, MarketMetrics};
use scores::TrustWork;

/// The marketplace. Cheap to clone.
#[derive(Clone)]
pub struct Marketplace(Arc<MarketInner>);

struct MarketInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    ledger: LedgerService,
    runner: Arc<dyn WorkflowRunner>,
    settings: MarketSettings,
    metrics: MarketMetrics,
    /// Notified when a request waits for its workflow to be started.
    wake: Notify,
    trust: tokio::sync::Mutex<TrustWork>,
}

/// Dependencies of the marketplace.
pub struct MarketParts {
    /// Database of the marketplace.
    pub db: Database,
    /// Source of the time.
    pub clock: Clock,
    /// Source of ids.
    pub ids: IdGenerator,
    /// Audit log of all changes.
    pub audit: AuditLog,
    /// Ledger that the money is in.
    pub ledger: LedgerService,
    /// What runs workflows and checks receipts.
    pub runner: Arc<dyn WorkflowRunner>,
    /// Settings of the marketplace.
    pub settings: MarketSettings,
}

/// Settings of the marketplace.
#[derive(Clone, Debug)]
pub struct MarketSettings {
    /// Time in which a client may dispute what was completed, before it is paid.
    pub review: Duration,
    /// Time in which an arbiter may decide a dispute, before the rule for undecided disputes applies.
    pub arbitration: Duration,
    /// Interval at which trust is computed anew where something has changed.
    pub trust_interval: Duration,
    /// Clients whose ratings are trusted beforehand.
    pub trusted_raters: Vec<String>,
    /// Agents that are trusted beforehand.
    pub trusted_agents: Vec<String>,
}

impl Marketplace {
    /// Create the marketplace. Nothing happens by itself before [`Marketplace::work`] runs.
    pub fn new(parts: MarketParts) -> Self {
        let MarketParts { db, clock, ids, audit, ledger, runner, settings } = parts;
        let (metrics, wake, trust) = (MarketMetrics::default(), Notify::new(), tokio::sync::Mutex::default());
        Self(Arc::new(MarketInner { db, clock, ids, audit, ledger, runner, settings, metrics, wake, trust }))
    }

    /// Register the metrics.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// An audit entry of what is done with a resource of the marketplace.
    fn entry(&self, event: EventType, resource: &str, action: &str) -> AuditEntry {
        AuditEntry::new(event, self.now()).of(resource, action)
    }

    /// Count an event, unless its answer was given before.
    fn count_event(&self, event: &'static str, is_replayed: bool) {
        if !is_replayed {
            self.0.metrics.events.get_or_create(&MarketEventLabel { event }).inc();
        }
    }

    /// Pass on the result of an operation with money; where it was refused, the audit log tells so.
    async fn with_refusal<T>(
        &self,
        caller: &MarketCaller,
        subject: (&'static str, &str),
        action: &'static str,
        result: Result<T>,
    ) -> Result<T> {
        let reason = match &result {
            Err(error) if error.is_refusal() => error.to_string(),
            _ => return result,
        };
        self.count_event("refused", false);
        self.0.ledger.record_refusal(&caller.principal, subject, action, &reason).await;
        result
    }
}
