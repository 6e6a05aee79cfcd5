//! How a strategy would have done over recorded prices.

use crate::{
    error::{MathError, Result, at_least, bounded, finite, length, positive, within},
    matrix::DenseMatrix,
    returns::asset_returns,
    risk::{RiskFigures, RiskOptions, measure_risk},
};

/// Rounds of fixing what trades cost; each is closer by the cost rate.
const COST_ROUNDS: usize = 60;

/// When a portfolio is brought back to its weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RebalanceRule {
    /// Weights drift with prices.
    Never,
    /// After this many periods, above 0.
    Every {
        /// The number of periods.
        periods: usize,
    },
    /// When a weight is this far from its target: 0.05 is five percentage points.
    Drift {
        /// From 0 to 1.
        band: f64,
    },
}

/// How weights are chosen.
#[derive(Clone, Copy)]
pub enum BacktestStrategy<'a> {
    /// The same from the first period.
    Fixed(&'a [f64]),
    /// From the returns of the periods before, again and again.
    WalkForward {
        /// Returns that weights are chosen from, 2 or more.
        window: usize,
        /// Periods between choices, above 0.
        step: usize,
        /// Answers weights for a matrix of the window's returns.
        choose: &'a dyn Fn(&DenseMatrix) -> Result<Vec<f64>>,
    },
}

/// What a backtest assumes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BacktestOptions {
    /// Money at the beginning, above 0.
    pub initial_value: f64,
    /// Fee as a part of the traded value, from 0, below 0.5.
    pub fee_rate: f64,
    /// What a trade loses by moving the price, as a part of the traded value, from 0, below 0.5.
    pub slippage_rate: f64,
    /// When the portfolio is brought back to its weights.
    pub rule: RebalanceRule,
    /// Periods of the prices in a year.
    pub periods_per_year: f64,
    /// The risk-free return of one period.
    pub risk_free_per_period: f64,
}

/// One time that a portfolio was traded.
#[derive(Debug, Clone, PartialEq)]
pub struct BacktestRebalance {
    /// The row of prices at which it was traded.
    pub period: usize,
    /// The weights that it was brought to.
    pub weights: Vec<f64>,
    /// The traded value as a part of the portfolio's value before.
    pub turnover: f64,
    /// Fees and slippage, in money.
    pub cost: f64,
}

/// What a strategy came to.
#[derive(Debug, Clone, PartialEq)]
pub struct BacktestReport {
    /// The row of prices at which the first purchase was made.
    pub first_period: usize,
    /// The portfolio's value: before the first purchase, then after each period and its trades.
    pub values: Vec<f64>,
    /// The return of each period after the first purchase.
    pub returns: Vec<f64>,
    /// All times that it was traded, the first purchase among them.
    pub rebalances: Vec<BacktestRebalance>,
    /// Fees and slippage of all trades, in money.
    pub total_cost: f64,
    /// The sum of all turnovers.
    pub total_turnover: f64,
    /// Risk and return.
    pub figures: RiskFigures,
}

/// Runs a strategy over prices: a row for each period, a column for each asset. What is decided at a period uses prices
/// up to it and is traded at its prices, so nothing is known in advance. Costs are paid from the portfolio in the period
/// of the trade; the first purchase's lower the first return. Weights may sum to less than 1; the rest is cash without
/// interest. Fails if there are too few periods, an argument is outside its range, or a choice of weights fails.
pub fn backtest(
    prices: &DenseMatrix,
    strategy: &BacktestStrategy<'_>,
    options: &BacktestOptions,
) -> Result<BacktestReport> {
    let returns = asset_returns(prices)?;
    bounded("prices", prices.rows(), prices.columns())?;
    check(options)?;
    let first_period = match strategy {
        BacktestStrategy::Fixed(_) => 0,
        BacktestStrategy::WalkForward { window, step, .. } => {
            if *window < 2 {
                return Err(MathError::invalid("window", format!("{window} is below 2")));
            }
            if *step < 1 {
                return Err(MathError::invalid("step", format!("{step} is below 1")));
            }
            at_least("prices", window + 2, prices.rows())?;
            *window
        }
    };
    let rate = options.fee_rate + options.slippage_rate;
    let mut book = TestBook { values: vec![0.0; prices.columns()], cash: options.initial_value };
    let mut target = choose(strategy, &returns, first_period)?;
    let mut rebalances = vec![book.trade(first_period, &target, rate)];
    let mut values = vec![options.initial_value];
    let mut last_trade = first_period;
    for period in first_period + 1..prices.rows() {
        for (value, change) in book.values.iter_mut().zip(returns.row(period - 1)) {
            *value *= 1.0 + change;
        }
        // The last row's trades could not earn anything back.
        let is_last = period + 1 == prices.rows();
        let chosen = match strategy {
            BacktestStrategy::WalkForward { step, .. } if (period - first_period).is_multiple_of(*step) && !is_last => {
                target = choose(strategy, &returns, period)?;
                true
            }
            _ => false,
        };
        if !is_last && (chosen || book.is_due(options.rule, period - last_trade, &target)) {
            rebalances.push(book.trade(period, &target, rate));
            last_trade = period;
        }
        values.push(book.total());
    }
    let returns: Vec<f64> = values.windows(2).map(|pair| pair[1] / pair[0] - 1.0).collect();
    let risk = RiskOptions {
        periods_per_year: options.periods_per_year,
        risk_free_per_period: options.risk_free_per_period,
        benchmark: None,
    };
    Ok(BacktestReport {
        first_period,
        figures: measure_risk(&returns, &risk)?,
        total_cost: rebalances.iter().map(|trade| trade.cost).sum(),
        total_turnover: rebalances.iter().map(|trade| trade.turnover).sum(),
        values,
        returns,
        rebalances,
    })
}

fn check(options: &BacktestOptions) -> Result<()> {
    positive("initial_value", options.initial_value)?;
    within("fee_rate", options.fee_rate, 0.0, 0.499_999)?;
    within("slippage_rate", options.slippage_rate, 0.0, 0.499_999)?;
    match options.rule {
        RebalanceRule::Every { periods: 0 } => Err(MathError::invalid("periods", "0 is below 1")),
        RebalanceRule::Drift { band } => within("band", band, 0.0, 1.0),
        RebalanceRule::Every { .. } | RebalanceRule::Never => Ok(()),
    }
}

/// The weights that a strategy chooses at a row of prices.
fn choose(strategy: &BacktestStrategy<'_>, returns: &DenseMatrix, period: usize) -> Result<Vec<f64>> {
    let weights = match strategy {
        BacktestStrategy::Fixed(weights) => weights.to_vec(),
        BacktestStrategy::WalkForward { window, choose, .. } => choose(&returns.rows_between(period - window, period))?,
    };
    length("weights", returns.columns(), weights.len())?;
    finite("weights", &weights)?;
    let sum: f64 = weights.iter().sum();
    if sum > 1.0 + 1e-6 || weights.iter().any(|weight| *weight < 0.0) {
        return Err(MathError::invalid(
            "weights",
            format!("are not all 0 or above with a sum of 1 at most, but {sum}"),
        ));
    }
    Ok(weights)
}

/// The money in each asset, and the rest.
struct TestBook {
    values: Vec<f64>,
    cash: f64,
}

impl TestBook {
    fn total(&self) -> f64 {
        self.values.iter().sum::<f64>() + self.cash
    }

    fn is_due(&self, rule: RebalanceRule, periods: usize, target: &[f64]) -> bool {
        match rule {
            RebalanceRule::Never => false,
            RebalanceRule::Every { periods: every } => periods >= every,
            RebalanceRule::Drift { band } => {
                let total = self.total();
                self.values.iter().zip(target).any(|(value, weight)| (value / total - weight).abs() > band)
            }
        }
    }

    /// Brings the portfolio to its weights of what is left after costs.
    fn trade(&mut self, period: usize, target: &[f64], rate: f64) -> BacktestRebalance {
        let total = self.total();
        let traded = |left: f64| -> f64 {
            self.values.iter().zip(target).map(|(value, weight)| (weight * left - value).abs()).sum()
        };
        let mut left = total;
        for _ in 0..COST_ROUNDS {
            left = total - rate * traded(left);
        }
        let turnover = if total > 0.0 { traded(left) / total } else { 0.0 };
        for (value, weight) in self.values.iter_mut().zip(target) {
            *value = weight * left;
        }
        // Weights that sum to 1 but for rounding leave no debt.
        self.cash = (left - self.values.iter().sum::<f64>()).max(0.0);
        BacktestRebalance { period, weights: target.to_vec(), turnover, cost: total - left }
    }
}
