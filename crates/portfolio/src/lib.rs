//! Portfolios of agents: strategies, holdings in the ledger, trades at recorded prices, rebalancing, and what all of it earned.
//!
//! What a portfolio holds is the ledger's to say: accounts of the owner `portfolio:ID`, one for each token. The coordinator's tables
//! (`agent_portfolio`, `portfolio_asset`, `portfolio_trade`, ...) are written in the same transactions. Values are in AIT, from prices
//! that somebody recorded; where there is none, nothing is traded and no figure is made up.

mod arithmetic;
mod book;
mod error;
mod flows;
mod metrics;
mod model;
mod optimisation;
mod portfolios;
mod prices;
mod rebalances;
mod reports;
mod reviews;
mod settlement;
mod signals;
mod strategies;
mod trades;

use std::sync::Arc;

use am_audit::{AuditEntry, AuditLog, EventType};
use am_core::{
    ambient::{Clock, IdGenerator},
    config::PortfolioConfig,
};
use am_db::{Database, codec::Timestamp, principal::Principal};
use am_ledger::LedgerService;
use prometheus_client::registry::Registry;

pub use self::{
    book::AssetDraft,
    error::{PortfolioError, Result},
    flows::{FlowDocument, FlowRequest, FlowSource},
    model::{
        AssetHolding, HoldingsReport, MAX_TOKENS, PortfolioDocument, SettlementStatus, SettlementSummary,
        SettlementVenue, SignalKind, SignalRule, SignalSide, StrategyDocument, StrategyType, TradeStatus,
    },
    optimisation::{
        AllocationMethod, AllocationPolicies, AllocationRequest, AllocationResult, BacktestChange, BacktestRequest,
        BacktestResult, BookLevels, FrontierPoint, PolicyAnswer, PolicyFault, ReturnViewRequest, SectorBound,
    },
    portfolios::{PortfolioDraft, PortfolioUpdate},
    prices::{PriceBatch, PriceDraft, PriceRecord, PriceReport},
    rebalances::{RebalanceRecord, RebalanceReport, RebalanceRequest},
    reports::{
        AssetAttribution, AttributionReport, PerformanceReport, ReportPeriod, RiskQuery, RiskReport, StressReport,
        StressRequest, StressShock,
    },
    reviews::{AlertRecord, SnapshotRecord},
    settlement::{SettlementFilter, SettlementKind, SettlementRecord, SettlementSetup, SettlementStartError},
    signals::{FollowRequest, SignalRecord},
    strategies::StrategyDraft,
    trades::{QuoteDocument, QuoteRequest, TradeDocument, TradeRequest, TradeTerms},
};
use self::{metrics::PortfolioMetrics, prices::PriceSource};

/// The caller of an operation.
#[derive(Clone, Debug)]
pub struct PortfolioCaller {
    /// The principal, which owns what it makes.
    pub principal: Principal,
    /// Whether it may see and change everybody's.
    pub is_admin: bool,
}

impl PortfolioCaller {
    /// Whether it may see and change what `owner` owns.
    fn may_use(&self, owner: &str) -> bool {
        self.is_admin || self.principal.owns(owner)
    }

    /// Value of the filter by owner: none for who sees all.
    fn owner_filter(&self) -> Option<am_core::ids::PrincipalId> {
        (!self.is_admin).then(|| self.principal.id())
    }
}

/// The service for portfolios. Cheap to clone.
#[derive(Clone)]
pub struct PortfolioService(Arc<PortfolioInner>);

struct PortfolioInner {
    db: Database,
    clock: Clock,
    ids: IdGenerator,
    audit: AuditLog,
    ledger: LedgerService,
    settings: PortfolioConfig,
    source: Option<PriceSource>,
    /// The contract that changes are written to; `None`: they are settled in the ledger alone.
    settlement: Option<SettlementSetup>,
    policies: Arc<dyn AllocationPolicies>,
    metrics: PortfolioMetrics,
}

impl PortfolioService {
    /// The service on `db`, whose books are `ledger`'s, for which `policies` act, and whose changes are written to the contract of
    /// `settlement`, where there is one.
    ///
    /// # Errors
    /// When the HTTP client of the configured price source can't be made.
    pub fn new(
        db: Database,
        clock: Clock,
        ids: IdGenerator,
        audit: AuditLog,
        ledger: LedgerService,
        settings: PortfolioConfig,
        (policies, settlement): (Arc<dyn AllocationPolicies>, Option<SettlementSetup>),
    ) -> Result<Self> {
        let source = PriceSource::from_config(&settings)?;
        let metrics = PortfolioMetrics::default();
        Ok(Self(Arc::new(PortfolioInner {
            db,
            clock,
            ids,
            audit,
            ledger,
            settings,
            source,
            settlement,
            policies,
            metrics,
        })))
    }

    /// Register the metrics of portfolios.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.0.clock.now())
    }

    /// The audit entry of what `caller` did with something of this crate.
    fn entry(&self, caller: &Principal, resource: &str, action: &str, now: Timestamp) -> AuditEntry {
        AuditEntry::new(EventType::WorkflowUpdated, now).by(caller).of(resource, action)
    }

    /// Tell the audit log of an operation on money that was refused, and pass its error on.
    async fn refused(
        &self,
        caller: &Principal,
        portfolio: i64,
        action: &'static str,
        error: PortfolioError,
    ) -> PortfolioError {
        let Some(reason) = error.refusal() else { return error };
        self.0.metrics.refusals.inc();
        self.0.ledger.record_refusal(caller, ("portfolio", &portfolio.to_string()), action, reason).await;
        error
    }
}
