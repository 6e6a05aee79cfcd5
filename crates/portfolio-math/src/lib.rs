//! The mathematics of portfolios: risk, covariances, optimisers, returns, rebalancing and backtests, as pure functions
//! on slices. Nothing here knows a database, a clock or money; docs/ECONOMY.md has all formulas with their sources.
//!
//! Series are ordered oldest first. Returns are simple ones: 0.01 is one percent. A figure that is not defined is
//! `None`, never a NaN. What can't be computed is a [`MathError`] that names the argument.

mod allocation;
mod attribution;
mod backtest;
mod black_litterman;
mod conic;
mod covariance;
mod cvar;
mod error;
mod frontier;
mod hierarchy;
mod matrix;
mod mean_variance;
mod moments;
mod money_weighted;
mod normal;
mod rating;
mod rebalance;
mod returns;
mod risk;
mod risk_parity;
mod seed;
mod shrinkage;
mod stress;

pub use allocation::{
    Allocation, AllocationLimits, AllocationObjective, AllocationProblem, SectorLimit, SolveStatus, TurnoverLimit,
};
pub use attribution::{AssetContribution, Attribution, AttributionPeriod, attribute};
pub use backtest::{BacktestOptions, BacktestRebalance, BacktestReport, BacktestStrategy, RebalanceRule, backtest};
pub use black_litterman::{
    BlackLittermanInput, BlackLittermanPosterior, ReturnView, black_litterman, market_implied_prior,
    market_implied_risk_aversion,
};
pub use covariance::{CovarianceEstimate, CovarianceMethod, correlation_matrix, estimate_covariance};
pub use cvar::{CvarAllocation, CvarProblem, minimise_cvar};
pub use error::{MathError, Result};
pub use frontier::{efficient_frontier, optimise};
pub use hierarchy::{LinkageMethod, hierarchical_risk_parity};
pub use matrix::DenseMatrix;
pub use money_weighted::{CashFlow, MoneyWeightedReturn, ValuationPoint, money_weighted_return, time_weighted_return};
pub use rating::{RiskLevel, RiskRating, rate_risk};
pub use rebalance::{PlannedTrade, RebalancePlan, RebalanceRequest, plan_rebalance};
pub use returns::{
    asset_returns, capm_return, ema_historical_return, mean_historical_return, portfolio_returns, simple_returns,
};
pub use risk::{
    Drawdown, RiskFigures, RiskOptions, alpha_beta, annual_return, annual_volatility, calmar_ratio, gaussian_var,
    historical_cvar, historical_var, max_drawdown, measure_risk, sharpe_ratio, sortino_ratio,
};
pub use stress::{StressOutcome, StressScenario, stress_test};

/// Assets at most in one call: the time of the slowest optimiser grows with their third power.
pub const MAX_ASSETS: usize = 500;
/// Periods at most in one call: forty years of trading days.
pub const MAX_PERIODS: usize = 10_000;

#[cfg(test)]
mod tests;
