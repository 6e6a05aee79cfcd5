//! Prometheus metrics of portfolios.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

/// Metrics of this process's portfolios.
#[derive(Debug, Default)]
pub(crate) struct PortfolioMetrics {
    pub trades: Counter,
    pub refusals: Counter,
    pub snapshots: Counter,
    pub alerts: Counter,
    pub signals: Counter,
    pub prices: Counter,
    pub price_source_failures: Counter,
    pub review_failures: Counter,
    pub settlements_confirmed: Counter,
    pub settlements_refused: Counter,
    pub settlements_unknown: Counter,
    pub settlement_replacements: Counter,
    pub settlement_fillers: Counter,
    pub settlement_failures: Counter,
    pub settlements_open: Gauge,
    pub settlement_halted: Gauge,
    pub oldest_settlement: Gauge<f64, AtomicU64>,
}

impl PortfolioMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("portfolio_trades", "Trades of portfolios that were carried out", &self.trades),
            ("portfolio_refusals", "Deposits, withdrawals, trades and rebalances that were refused", &self.refusals),
            ("portfolio_snapshots", "Snapshots of portfolios that were written", &self.snapshots),
            ("portfolio_alerts", "Alerts of portfolios that were raised", &self.alerts),
            ("portfolio_signals", "Signals of strategies that were made", &self.signals),
            ("portfolio_prices", "Prices that were recorded", &self.prices),
            (
                "portfolio_price_source_failures",
                "Calls of the configured price source that failed",
                &self.price_source_failures,
            ),
            ("portfolio_review_failures", "Reviews of portfolios that ended with an error", &self.review_failures),
            (
                "portfolio_settlements_confirmed",
                "Settlements that the contract has for good",
                &self.settlements_confirmed,
            ),
            (
                "portfolio_settlements_refused",
                "Settlements that the contract refused, or whose number another transaction took",
                &self.settlements_refused,
            ),
            (
                "portfolio_settlement_unknown_answers",
                "Transactions that were sent without an answer that says that the node has them",
                &self.settlements_unknown,
            ),
            (
                "portfolio_settlement_replacements",
                "Transactions that were replaced by one that pays more",
                &self.settlement_replacements,
            ),
            (
                "portfolio_settlement_fillers",
                "Transactions that were made for a number that nobody's had",
                &self.settlement_fillers,
            ),
            (
                "portfolio_settlement_failures",
                "Rounds of the settlement's worker that ended with an error",
                &self.settlement_failures,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        let open = self.settlements_open.clone();
        registry.register("portfolio_settlements_open", "Settlements that wait or are under way", open);
        let halted = self.settlement_halted.clone();
        registry.register("portfolio_settlement_halted", "1 while nothing may be sent to what the node shows", halted);
        registry.register_with_unit(
            "portfolio_settlement_oldest",
            "Age of the oldest settlement that waits or is under way",
            Unit::Seconds,
            self.oldest_settlement.clone(),
        );
    }
}
