//! Backtests with known results.

use super::{close, market};
use crate::{
    AllocationLimits, AllocationObjective, AllocationProblem, BacktestOptions, BacktestStrategy, CovarianceMethod,
    DenseMatrix, MathError, RebalanceRule, backtest, estimate_covariance, optimise,
};

fn prices(seed: u64, periods: usize, assets: usize) -> DenseMatrix {
    let returns = market(seed, periods - 1, assets);
    let mut rows = vec![vec![100.0; assets]];
    for at in 0..periods - 1 {
        rows.push(rows[at].iter().zip(returns.row(at)).map(|(price, change)| price * (1.0 + change)).collect());
    }
    DenseMatrix::from_rows(&rows).unwrap()
}

fn options(rule: RebalanceRule, fee_rate: f64) -> BacktestOptions {
    BacktestOptions {
        initial_value: 1000.0,
        fee_rate,
        slippage_rate: 0.0,
        rule,
        periods_per_year: 252.0,
        risk_free_per_period: 0.0,
    }
}

#[test]
fn weights_that_drift_hold_what_was_bought() {
    let prices = prices(3, 60, 3);
    let weights = [0.5, 0.3, 0.2];
    let found = backtest(&prices, &BacktestStrategy::Fixed(&weights), &options(RebalanceRule::Never, 0.0)).unwrap();
    let held = |row: usize| (0..3).map(|at| 1000.0 * weights[at] * prices.get(row, at) / 100.0).sum::<f64>();
    close("values", &found.values, &(0..60).map(held).collect::<Vec<_>>(), 1e-12);
    assert_eq!((found.rebalances.len(), found.total_cost), (1, 0.0));
    assert_eq!(found.returns.len(), 59);
}

#[test]
fn weights_restored_in_each_period_earn_their_mean_return() {
    let prices = prices(4, 40, 4);
    let rule = RebalanceRule::Every { periods: 1 };
    let found = backtest(&prices, &BacktestStrategy::Fixed(&[0.25; 4]), &options(rule, 0.0)).unwrap();
    let mean = |row: usize| (0..4).map(|at| prices.get(row + 1, at) / prices.get(row, at) - 1.0).sum::<f64>() / 4.0;
    close("returns", &found.returns, &(0..39).map(mean).collect::<Vec<_>>(), 1e-12);
    assert_eq!(found.rebalances.len(), 39);
}

#[test]
fn costs_come_out_of_the_value() {
    // One asset whose price stands still: the first purchase's fee is all that happens. Of 1000, x buys and x / 100 pays.
    let still = DenseMatrix::from_rows(&[vec![10.0], vec![10.0], vec![10.0]]).unwrap();
    let rule = RebalanceRule::Every { periods: 1 };
    let found = backtest(&still, &BacktestStrategy::Fixed(&[1.0]), &options(rule, 0.01)).unwrap();
    close("values", &found.values, &[1000.0, 1000.0 / 1.01, 1000.0 / 1.01], 1e-12);
    close("cost", &[found.total_cost], &[1000.0 - 1000.0 / 1.01], 1e-9);
    let market = prices(5, 100, 3);
    let run = |fee| backtest(&market, &BacktestStrategy::Fixed(&[0.4, 0.3, 0.3]), &options(rule, fee)).unwrap();
    let (free, paid) = (run(0.0), run(0.002));
    assert!(paid.values.last().unwrap() < free.values.last().unwrap());
    let costs: f64 = paid.rebalances.iter().map(|trade| trade.cost).sum();
    assert!(costs > 2.0 && (costs - paid.total_cost).abs() < 1e-9, "the purchase alone costs about 2: {costs}");
    let drift = RebalanceRule::Drift { band: 0.03 };
    let seldom = backtest(&market, &BacktestStrategy::Fixed(&[0.4, 0.3, 0.3]), &options(drift, 0.002)).unwrap();
    assert!(seldom.rebalances.len() < 20 && seldom.total_cost < paid.total_cost);
}

#[test]
fn a_walk_forward_knows_nothing_of_later_prices() {
    let choose = |returns: &DenseMatrix| {
        let covariance = estimate_covariance(returns, &CovarianceMethod::LedoitWolf, 252.0)?.matrix;
        let limits = AllocationLimits::long_only(returns.columns());
        let problem =
            AllocationProblem { covariance: &covariance, expected_returns: None, risk_free_rate: 0.0, limits: &limits };
        Ok(optimise(&problem, &AllocationObjective::MinimumVariance)?.weights)
    };
    let strategy = BacktestStrategy::WalkForward { window: 40, step: 20, choose: &choose };
    let whole = prices(6, 121, 5);
    let found = backtest(&whole, &strategy, &options(RebalanceRule::Never, 0.001)).unwrap();
    assert_eq!(found.first_period, 40);
    let periods: Vec<usize> = found.rebalances.iter().map(|trade| trade.period).collect();
    assert_eq!(periods, [40, 60, 80, 100]);
    // Other prices after period 90 change nothing before.
    let other = prices(7, 121, 5);
    let mixed: Vec<Vec<f64>> =
        (0..121).map(|row| if row <= 90 { whole.row(row).to_vec() } else { other.row(row).to_vec() }).collect();
    let mixed = DenseMatrix::from_rows(&mixed).unwrap();
    let changed = backtest(&mixed, &strategy, &options(RebalanceRule::Never, 0.001)).unwrap();
    assert_eq!(changed.values[..=50], found.values[..=50]);
    assert_eq!(changed.rebalances[..3], found.rebalances[..3]);
    assert_ne!(changed.values[51..], found.values[51..]);
}

#[test]
fn a_strategy_that_fails_names_what_failed() {
    let refuse = |_: &DenseMatrix| Err(MathError::Invalid { argument: "views", reason: "none".to_owned() });
    let strategy = BacktestStrategy::WalkForward { window: 10, step: 5, choose: &refuse };
    let error = backtest(&prices(1, 30, 2), &strategy, &options(RebalanceRule::Never, 0.0)).unwrap_err();
    assert_eq!(error.argument(), "views");
}
