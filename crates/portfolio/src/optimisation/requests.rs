//! What optimisers and backtests are asked, what they answer, and the rules of both.

use std::collections::{BTreeMap, BTreeSet};

use am_core::validation::{FieldPath, Violation, Violations};
use am_db::codec::Timestamp;
use am_portfolio_math::MAX_ASSETS;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::{SYMBOL_RULE, is_cash, is_symbol};

/// Prices (tokens times days) of one computation.
pub(super) const MAX_PRICES: usize = 500_000;
/// Views of one request.
const MAX_VIEWS: usize = 100;
/// Sectors of one request.
const MAX_SECTORS: usize = 100;
/// Points of a frontier.
const FRONTIER_RANGE: std::ops::RangeInclusive<usize> = 2..=50;

/// How weights are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AllocationMethod {
    /// Least variance (Markowitz 1952).
    MinimumVariance,
    /// Highest expected return above the risk-free one for its volatility (Sharpe 1966).
    MaximumSharpe,
    /// The same share of the risk for each token (Maillard, Roncalli, Teiletche 2010).
    RiskParity,
    /// Shares by a tree of similar tokens (Lopez de Prado 2016).
    HierarchicalRiskParity,
    /// Least mean loss of the worst days (Rockafellar, Uryasev 2000).
    MinimumCvar,
    /// Highest Sharpe ratio by returns of the market and views (Black, Litterman 1992).
    BlackLitterman,
    /// As a learned policy of the environment portfolio_management acts on the recorded days.
    Policy,
}

/// Bounds of the weights of some tokens together.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = PortfolioSectorBound)]
pub struct SectorBound {
    /// Name of the sector.
    pub name: String,
    /// Symbols of its tokens.
    pub tokens: Vec<String>,
    /// Least sum of their weights, 0 to 1. Default 0.
    pub min: Option<f64>,
    /// Greatest sum of their weights, 0 to 1. Default 1.
    pub max: Option<f64>,
}

/// A view on returns.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = PortfolioReturnView)]
pub struct ReturnViewRequest {
    /// Factor of each token: `{"ETH": 1}` for its own return, `{"ETH": 1, "BTC": -1}` for the difference.
    pub tokens: BTreeMap<String, f64>,
    /// Expected return in a year, 0.01 is one percent.
    pub expected_return: f64,
    /// Confidence in it, above 0 to 1. Default: as uncertain as the prior.
    pub confidence: Option<f64>,
}

/// Weights to be found.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = PortfolioOptimizationRequest)]
pub struct AllocationRequest {
    /// Symbols of the tokens, 2 to 500, other than AIT.
    pub tokens: Vec<String>,
    /// How weights are chosen.
    pub method: AllocationMethod,
    /// The policy, for the method `policy`: `name`, `name@version` or `name@alias`. Default: none, with another method.
    pub policy: Option<String>,
    /// First moment of the prices. Default: a year before `to`.
    pub from: Option<Timestamp>,
    /// Last moment of the prices. Default: now.
    pub to: Option<Timestamp>,
    /// Yearly return without risk, 0.01 is one percent. Default 0.
    pub risk_free_rate: Option<f64>,
    /// Least weight of each token, -1 to 1. Default 0.
    pub min_weight: Option<f64>,
    /// Greatest weight of each token, 0 to 1. Default 1.
    pub max_weight: Option<f64>,
    /// Bounds of sums of weights. Default: none.
    pub sectors: Option<Vec<SectorBound>>,
    /// Present weights, for `max_turnover`; a token that is not named has 0. Default: none.
    pub current_weights: Option<BTreeMap<String, f64>>,
    /// Greatest sum of all weights' absolute changes, 0 to 2. Default: any.
    pub max_turnover: Option<f64>,
    /// Share of days that are not counted among the worst, for `minimum_cvar`, 0.5 to 0.999. Default 0.95.
    pub confidence: Option<f64>,
    /// Worth of all of each token, for `black_litterman`. Default: all the same.
    pub market_values: Option<BTreeMap<String, f64>>,
    /// Views, for `black_litterman`, which needs one at least. Default: none.
    pub views: Option<Vec<ReturnViewRequest>>,
    /// Points of the efficient frontier, 2 to 50. Default: no frontier.
    pub frontier_points: Option<usize>,
}

/// A point of the efficient frontier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioFrontierPoint)]
pub struct FrontierPoint {
    /// Expected return in a year.
    pub expected_return: Option<f64>,
    /// Volatility in a year.
    pub volatility: f64,
    /// Weight of each token.
    pub weights: BTreeMap<String, f64>,
}

/// Weights that were found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioOptimization)]
pub struct AllocationResult {
    /// How weights were chosen.
    pub method: AllocationMethod,
    /// Version of the policy that acted, `name@version`; null: another method.
    pub policy: Option<String>,
    /// Weight of each token; they sum to 1.
    pub weights: BTreeMap<String, f64>,
    /// Expected return in a year by these weights: mean historical, or `black_litterman`'s; null: the method has none.
    pub expected_return: Option<f64>,
    /// Volatility in a year; null: the method has none.
    pub volatility: Option<f64>,
    /// Expected return above the risk-free one over the volatility; null: see those.
    pub sharpe_ratio: Option<f64>,
    /// Mean loss of the worst days, above 0; null: the method has none.
    pub cvar: Option<f64>,
    /// Loss that the worst days exceed; null: the method has none.
    pub value_at_risk: Option<f64>,
    /// First day of the prices.
    pub measured_from: String,
    /// Last day of the prices.
    pub measured_to: String,
    /// Number of daily returns.
    pub observations: usize,
    /// Shrinkage of the covariance (Ledoit, Wolf 2004), 0 to 1; null: the method has none.
    pub shrinkage: Option<f64>,
    /// Why the optimiser stopped.
    pub status: String,
    /// Steps of the method.
    pub iterations: u32,
    /// How far the answer is from the optimum at most, relative; null: the method `policy` has no optimum.
    pub gap: Option<f64>,
    /// The efficient frontier, by rising volatility; empty: none was asked for.
    pub frontier: Vec<FrontierPoint>,
}

/// A backtest to make.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = PortfolioBacktestRequest)]
pub struct BacktestRequest {
    /// Symbols of the tokens, 1 to 500, other than AIT.
    pub tokens: Vec<String>,
    /// Weight of each token, which sum to 1. Default: `method` chooses them.
    pub weights: Option<BTreeMap<String, f64>>,
    /// How weights are chosen from the days before, again and again. Default: `weights` stay.
    pub method: Option<AllocationMethod>,
    /// The policy, for the method `policy`: `name`, `name@version` or `name@alias`. Default: none, with another method.
    pub policy: Option<String>,
    /// Daily returns that `method` chooses from, 20 to 2000. Default 90.
    pub window: Option<usize>,
    /// Days between two choices of `method`, 1 to 2000. Default 30.
    pub step: Option<usize>,
    /// First moment of the prices. Default: a year before `to`.
    pub from: Option<Timestamp>,
    /// Last moment of the prices. Default: now.
    pub to: Option<Timestamp>,
    /// AIT at the begin, above 0. Default 10000.
    pub initial_value: Option<f64>,
    /// Days between two rebalances to fixed weights, 1 to 3650. Default: never.
    pub rebalance_days: Option<usize>,
    /// Points that a weight may drift before a rebalance, above 0 to 100; not together with `rebalance_days`. Default: any.
    pub drift_points: Option<f64>,
    /// Yearly return without risk, 0.01 is one percent. Default 0.
    pub risk_free_rate: Option<f64>,
}

/// A choice of weights within a backtest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioBacktestChange)]
pub struct BacktestChange {
    /// Day of the change.
    pub day: String,
    /// Weight of each token.
    pub weights: BTreeMap<String, f64>,
    /// Traded value over the whole.
    pub turnover: f64,
    /// Fees and slippage in AIT.
    pub cost: f64,
}

/// What a backtest found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PortfolioBacktest)]
pub struct BacktestResult {
    /// Days, the first is that of the first value.
    pub days: Vec<String>,
    /// Value in AIT on each day.
    pub values: Vec<f64>,
    /// Changes of the weights.
    pub rebalances: Vec<BacktestChange>,
    /// Fees and slippage in AIT.
    pub total_cost: f64,
    /// Sum of all turnovers.
    pub total_turnover: f64,
    /// Compound return of a year.
    pub annual_return: f64,
    /// Volatility in a year; null: it is not defined.
    pub volatility: Option<f64>,
    /// Deepest fall from a peak before it, at most 0.
    pub max_drawdown: f64,
    /// Sharpe ratio of the daily returns in a year; null: it is not defined.
    pub sharpe_ratio: Option<f64>,
    /// Sortino ratio of the daily returns in a year; null: it is not defined.
    pub sortino_ratio: Option<f64>,
    /// Yearly return over the deepest fall; null: it is not defined.
    pub calmar_ratio: Option<f64>,
}

fn check_tokens(violations: &mut Violations, tokens: &[String], least: usize) {
    let count = (least..=MAX_ASSETS).contains(&tokens.len());
    violations.require(count, "tokens", format!("has {least} to {MAX_ASSETS} tokens"));
    let mut seen = BTreeSet::new();
    for (at, token) in tokens.iter().take(MAX_ASSETS).enumerate() {
        let place = || FieldPath::from([at]).within(["tokens"]);
        violations.require(is_symbol(token), place(), SYMBOL_RULE);
        violations.require(!is_cash(token), place(), "values are counted in AIT: it has no risk");
        violations.require(seen.insert(token), place(), "stands there before");
    }
}

fn check_known(violations: &mut Violations, known: &BTreeSet<&String>, names: &BTreeMap<String, f64>, member: &str) {
    for (token, value) in names.iter().take(MAX_ASSETS + 1) {
        let place = || FieldPath::from([token]).within([member]);
        violations.require(known.contains(token), place(), "is not among `tokens`");
        violations.require(value.is_finite() && value.abs() <= 1e15, place(), "must be a number up to 1e15");
    }
}

fn check_policy(violations: &mut Violations, policy: Option<&str>, method: Option<AllocationMethod>) {
    let is_needed = method == Some(AllocationMethod::Policy);
    violations.require(policy.is_some() == is_needed, "policy", "goes with the method `policy`, which needs it");
}

impl AllocationRequest {
    /// The request for weights of these tokens by a method, without bounds.
    pub(super) fn by_method(tokens: &[String], method: AllocationMethod) -> Self {
        Self {
            tokens: tokens.to_vec(),
            method,
            policy: None,
            from: None,
            to: None,
            risk_free_rate: None,
            min_weight: None,
            max_weight: None,
            sectors: None,
            current_weights: None,
            max_turnover: None,
            confidence: None,
            market_values: None,
            views: None,
            frontier_points: None,
        }
    }

    /// All that is wrong with it.
    pub(super) fn check(&self) -> Result<(), Vec<Violation>> {
        let mut violations = Violations::default();
        check_tokens(&mut violations, &self.tokens, 2);
        let known: BTreeSet<&String> = self.tokens.iter().collect();
        violations.require_within(self.risk_free_rate, &(-0.5..=10.0), "risk_free_rate");
        violations.require_within(self.min_weight, &(-1.0..=1.0), "min_weight");
        violations.require_within(self.max_weight, &(0.0..=1.0), "max_weight");
        violations.require_within(self.max_turnover, &(0.0..=2.0), "max_turnover");
        violations.require_within(self.confidence, &(0.5..=0.999), "confidence");
        violations.require_within(self.frontier_points, &FRONTIER_RANGE, "frontier_points");
        let together = self.max_turnover.is_some() == self.current_weights.is_some();
        violations.require(together, "max_turnover", "needs `current_weights`, and they need it");
        for (names, member) in [(&self.current_weights, "current_weights"), (&self.market_values, "market_values")] {
            check_known(&mut violations, &known, names.as_ref().unwrap_or(&BTreeMap::new()), member);
        }
        let positive = self.market_values.iter().flatten().all(|(_, value)| *value >= 0.0);
        violations.require(positive, "market_values", "must not be below 0");
        check_policy(&mut violations, self.policy.as_deref(), Some(self.method));
        if self.method == AllocationMethod::Policy {
            for (member, is_given) in [
                ("min_weight", self.min_weight.is_some()),
                ("max_weight", self.max_weight.is_some()),
                ("max_turnover", self.max_turnover.is_some()),
                ("sectors", self.sectors.is_some()),
            ] {
                violations.require(!is_given, member, "a policy keeps no bounds");
            }
        }
        let sectors = self.sectors.as_deref().unwrap_or_default();
        violations.require(sectors.len() <= MAX_SECTORS, "sectors", format!("at most {MAX_SECTORS}"));
        for (at, sector) in sectors.iter().take(MAX_SECTORS).enumerate() {
            let place = |member: &str| FieldPath::from([member]).within([at]).within(["sectors"]);
            violations.require(
                sector.tokens.iter().all(|token| known.contains(token)),
                place("tokens"),
                "names a token that is not among `tokens`",
            );
            violations.require_within(sector.min, &(0.0..=1.0), place("min"));
            violations.require_within(sector.max, &(0.0..=1.0), place("max"));
        }
        let views = self.views.as_deref().unwrap_or_default();
        violations.require(views.len() <= MAX_VIEWS, "views", format!("at most {MAX_VIEWS}"));
        let needs = self.method == AllocationMethod::BlackLitterman;
        violations.require(!needs || !views.is_empty(), "views", "the method needs one at least");
        for (at, view) in views.iter().take(MAX_VIEWS).enumerate() {
            let place = |member: &str| FieldPath::from([member]).within([at]).within(["views"]);
            let picks = !view.tokens.is_empty() && view.tokens.keys().all(|token| known.contains(token));
            violations.require(picks, place("tokens"), "names one or more of `tokens`");
            violations.require_within(Some(view.expected_return), &(-1.0..=100.0), place("expected_return"));
            let sound = view.confidence.is_none_or(|confidence| confidence > 0.0 && confidence <= 1.0);
            violations.require(sound, place("confidence"), "must be above 0 and at most 1");
        }
        violations.finish()
    }
}

impl BacktestRequest {
    /// All that is wrong with it.
    pub(super) fn check(&self) -> Result<(), Vec<Violation>> {
        let mut violations = Violations::default();
        check_tokens(&mut violations, &self.tokens, 1);
        let known: BTreeSet<&String> = self.tokens.iter().collect();
        match (&self.weights, self.method) {
            (Some(weights), None) => {
                check_known(&mut violations, &known, weights, "weights");
                let sum: f64 = weights.values().sum();
                violations.require((sum - 1.0).abs() < 1e-6, "weights", "must sum to 1");
                violations.require(weights.values().all(|weight| *weight >= 0.0), "weights", "must not be below 0");
            }
            (None, Some(AllocationMethod::BlackLitterman)) => {
                violations.add("method", "views are no rule: choose another method");
            }
            (None, Some(_)) => {
                violations.require(self.tokens.len() > 1, "tokens", "a method needs two tokens at least")
            }
            _ => violations.add("method", "give `weights` or `method`, not both"),
        }
        check_policy(&mut violations, self.policy.as_deref(), self.method);
        violations.require_within(self.window, &(20..=2000), "window");
        violations.require_within(self.step, &(1..=2000), "step");
        violations.require_within(self.rebalance_days, &(1..=3650), "rebalance_days");
        violations.require_within(self.risk_free_rate, &(-0.5..=10.0), "risk_free_rate");
        let sound = self.initial_value.is_none_or(|value| value > 0.0 && value <= 1e12);
        violations.require(sound, "initial_value", "must be above 0 and at most 1e12");
        let sound = self.drift_points.is_none_or(|points| points > 0.0 && points <= 100.0);
        violations.require(sound, "drift_points", "must be above 0 and at most 100");
        let one = self.rebalance_days.is_none() || self.drift_points.is_none();
        violations.require(one, "drift_points", "not together with `rebalance_days`");
        violations.finish()
    }
}
