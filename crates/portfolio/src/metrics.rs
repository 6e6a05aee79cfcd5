//! Prometheus metrics of portfolios.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Metrics of this process's portfolios.
#[derive(Debug, Default)]
pub(crate) struct PortfolioMetrics {
    pub trades: Counter,
    pub refusals: Counter,
    pub snapshots: Counter,
    pub alerts: Counter,
    pub prices: Counter,
    pub price_source_failures: Counter,
    pub review_failures: Counter,
}

impl PortfolioMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("portfolio_trades", "Trades of portfolios that were carried out", &self.trades),
            ("portfolio_refusals", "Deposits, withdrawals, trades and rebalances that were refused", &self.refusals),
            ("portfolio_snapshots", "Snapshots of portfolios that were written", &self.snapshots),
            ("portfolio_alerts", "Alerts of portfolios that were raised", &self.alerts),
            ("portfolio_prices", "Prices that were recorded", &self.prices),
            (
                "portfolio_price_source_failures",
                "Calls of the configured price source that failed",
                &self.price_source_failures,
            ),
            ("portfolio_review_failures", "Reviews of portfolios that ended with an error", &self.review_failures),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}
