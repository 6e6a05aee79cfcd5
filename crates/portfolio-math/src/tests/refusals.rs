//! Bad input is refused with the argument's name.

use super::{market, problem};
use crate::{
    AllocationLimits, AllocationObjective, AttributionPeriod, BacktestOptions, BacktestStrategy, BlackLittermanInput,
    CashFlow, CovarianceMethod, CvarProblem, DenseMatrix, LinkageMethod, MAX_ASSETS, RebalanceRequest, RebalanceRule,
    ReturnView, RiskOptions, SectorLimit, StressScenario, TurnoverLimit, ValuationPoint, attribute, backtest,
    black_litterman, correlation_matrix, efficient_frontier, estimate_covariance, hierarchical_risk_parity,
    measure_risk, minimise_cvar, money_weighted_return, optimise, plan_rebalance, simple_returns, stress_test,
    time_weighted_return,
};

#[track_caller]
fn refused<T: std::fmt::Debug>(result: crate::Result<T>, argument: &str, words: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.argument(), argument, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn series_are_checked() {
    refused(measure_risk(&[], &RiskOptions::default()), "returns", "at least 1");
    refused(measure_risk(&[0.1, f64::NAN], &RiskOptions::default()), "returns", "not finite, at 1");
    refused(measure_risk(&[0.1, -1.0], &RiskOptions::default()), "returns", "-1 or below");
    let short = RiskOptions { benchmark: Some(&[0.1]), ..RiskOptions::default() };
    refused(measure_risk(&[0.1, 0.2], &short), "benchmark", "needs 2");
    let years = RiskOptions { periods_per_year: 0.0, ..RiskOptions::default() };
    refused(measure_risk(&[0.1, 0.2], &years), "periods_per_year", "above 0");
    refused(measure_risk(&vec![0.0; 10_001], &RiskOptions::default()), "returns", "10000 values at most");
    refused(simple_returns(&[1.0]), "prices", "at least 2");
    refused(simple_returns(&[1.0, 0.0]), "prices", "not above 0");
    refused(crate::historical_var(&[0.1], 1.0), "confidence", "between 0 and 1");
    refused(DenseMatrix::new(2, 2, vec![1.0; 3]), "matrix", "needs 4");
    refused(DenseMatrix::from_rows(&[vec![1.0], vec![f64::INFINITY]]), "matrix", "at 1");
}

#[test]
fn figures_without_variation_are_missing() {
    let found =
        measure_risk(&[0.01; 20], &RiskOptions { benchmark: Some(&[0.002; 20]), ..Default::default() }).unwrap();
    assert_eq!((found.sharpe_ratio, found.sortino_ratio, found.calmar_ratio), (None, None, None));
    assert_eq!((found.alpha, found.beta), (None, None));
    assert_eq!(found.max_drawdown.recovery, None);
    let still = DenseMatrix::from_columns(&[vec![0.01; 5], vec![0.01, 0.02, 0.0, 0.01, 0.03]]).unwrap();
    assert_eq!(correlation_matrix(&still).unwrap(), [[None, None], [None, Some(1.0)]]);
    refused(hierarchical_risk_parity(&still, LinkageMethod::Single, 252.0), "returns", "does not vary");
}

#[test]
fn estimates_are_checked() {
    let returns = market(1, 30, 3);
    let estimate = |method| estimate_covariance(&returns, &method, 252.0);
    refused(estimate(CovarianceMethod::Exponential { span: 0.5 }), "span", "below 1");
    refused(estimate(CovarianceMethod::Shrunk { delta: 1.5 }), "delta", "from 0 to 1");
    let one = DenseMatrix::from_rows(&[vec![0.1, 0.2]]).unwrap();
    refused(estimate_covariance(&one, &CovarianceMethod::Sample, 252.0), "returns", "at least 2");
    let wide = DenseMatrix::filled(3, MAX_ASSETS + 1, |row, column| (row * column) as f64);
    refused(estimate_covariance(&wide, &CovarianceMethod::Sample, 252.0), "returns", "500 values at most");
}

#[test]
fn limits_that_nothing_satisfies_are_named() {
    let returns = market(2, 60, 4);
    let covariance = estimate_covariance(&returns, &CovarianceMethod::Sample, 252.0).unwrap().matrix;
    let expected = [0.05, 0.1, 0.02, 0.08];
    let search = |limits: &AllocationLimits, objective: AllocationObjective| {
        optimise(&problem(&covariance, &expected, limits), &objective)
    };
    let least = AllocationObjective::MinimumVariance;
    refused(search(&AllocationLimits::between(4, 0.0, 0.2), least.clone()), "upper", "sum to 0.8");
    refused(search(&AllocationLimits::between(4, 0.3, 0.5), least.clone()), "lower", "sum to 1.2");
    refused(search(&AllocationLimits::between(4, 0.3, 0.2), least.clone()), "lower", "asset 0");
    let with =
        |sector: SectorLimit| AllocationLimits { sectors: vec![sector], ..AllocationLimits::between(4, 0.0, 0.4) };
    let sector =
        |assets: &[usize], least, most| SectorLimit { name: "metals".to_owned(), assets: assets.to_vec(), least, most };
    refused(search(&with(sector(&[0], 0.5, 0.6)), least.clone()), "sectors", "metals");
    refused(search(&with(sector(&[0, 7], 0.0, 0.6)), least.clone()), "sectors", "no asset 7");
    refused(search(&with(sector(&[1, 1], 0.0, 0.6)), least.clone()), "sectors", "twice");
    refused(search(&with(sector(&[0, 1], 0.5, 0.4)), least.clone()), "sectors", "least above its most");
    // Each limit can be satisfied, all together can't.
    let turnover = TurnoverLimit { current: vec![1.0, 0.0, 0.0, 0.0], most: 0.2 };
    let both = AllocationLimits { turnover: Some(turnover), ..AllocationLimits::between(4, 0.0, 0.5) };
    refused(search(&both, least), "limits", "together");
    let open = AllocationLimits::long_only(4);
    refused(search(&open, AllocationObjective::EfficientReturn { target_return: 0.2 }), "target_return", "allow, 0.1");
    let calm = AllocationObjective::EfficientRisk { target_volatility: 0.001 };
    refused(search(&open, calm), "target_volatility", "least volatility");
    refused(search(&open, AllocationObjective::QuadraticUtility { risk_aversion: 0.0 }), "risk_aversion", "above 0");
    let low = crate::AllocationProblem { risk_free_rate: 0.3, ..problem(&covariance, &expected, &open) };
    refused(optimise(&low, &AllocationObjective::MaximumSharpe), "risk_free_rate", "above it");
    let none = crate::AllocationProblem { expected_returns: None, ..problem(&covariance, &expected, &open) };
    refused(optimise(&none, &AllocationObjective::MaximumSharpe), "expected_returns", "needs them");
    refused(efficient_frontier(&problem(&covariance, &expected, &open), 1), "points", "from 2");
    let budgets = AllocationObjective::RiskParity { budgets: Some(vec![1.0, 0.0, 1.0, 1.0]) };
    refused(search(&open, budgets), "budgets", "asset 1");
    let skewed = covariance.clone().map(|row, column, value| if (row, column) == (0, 1) { value + 1.0 } else { value });
    refused(
        optimise(&problem(&skewed, &expected, &open), &AllocationObjective::MinimumVariance),
        "covariance",
        "symmetric",
    );
    let scenarios = CvarProblem {
        scenarios: &returns,
        expected_returns: Some(&expected),
        confidence: 0.95,
        target_return: Some(0.5),
        limits: &open,
    };
    refused(minimise_cvar(&scenarios), "target_return", "reach 0.5");
    refused(minimise_cvar(&CvarProblem { confidence: 1.0, ..scenarios }), "confidence", "between");
}

#[test]
fn views_and_flows_are_checked() {
    let covariance = DenseMatrix::from_rows(&[vec![0.04, 0.01], vec![0.01, 0.09]]).unwrap();
    let posterior = |picks: Vec<(usize, f64)>, confidence: Option<f64>, tau: f64| {
        let view = ReturnView { picks, expected_return: 0.1, confidence };
        let views = [view.clone(), ReturnView { expected_return: 0.2, ..view }];
        black_litterman(&BlackLittermanInput { covariance: &covariance, prior: &[0.05, 0.06], views: &views, tau })
    };
    refused(posterior(vec![(2, 1.0)], None, 0.05), "views", "asset 2");
    refused(posterior(vec![(0, 0.0)], None, 0.05), "views", "no asset");
    refused(posterior(vec![(0, 1.0)], Some(1.5), 0.05), "confidence", "from 0 to 1");
    refused(posterior(vec![(0, 1.0)], Some(1.0), 0.05), "views", "contradict");
    refused(posterior(vec![(0, 1.0)], None, 0.0), "tau", "above 0");
    let flow = |years, amount| CashFlow { years, amount };
    refused(money_weighted_return(&[flow(0.0, -1.0)]), "flows", "at least 2");
    refused(money_weighted_return(&[flow(0.0, -1.0), flow(1.0, -1.0)]), "flows", "one direction");
    refused(money_weighted_return(&[flow(1.0, -1.0), flow(1.0, 2.0)]), "flows", "one moment");
    let point = |value_before_flow, flow| ValuationPoint { value_before_flow, flow };
    refused(time_weighted_return(&[point(0.0, 0.0), point(5.0, 0.0)]), "points", "begins with 0");
    let period = AttributionPeriod { begin_values: vec![10.0], gains: vec![-10.0] };
    refused(attribute(&[period]), "gains", "loses all");
    let scenario = StressScenario { name: "crash".to_owned(), shocks: vec![-2.0] };
    refused(stress_test(&[1.0], &[scenario]), "shocks", "below -1");
}

#[test]
fn trades_and_backtests_are_checked() {
    let request = RebalanceRequest {
        holdings: &[1.0, 2.0],
        prices: &[10.0, 20.0],
        targets: &[0.5, 0.5],
        cash: 0.0,
        lot_sizes: None,
        fee_rate: 0.001,
        slippage_rate: 0.0,
        minimum_trade: 0.0,
        minimum_drift: 0.0,
        turnover_limit: None,
    };
    refused(plan_rebalance(&RebalanceRequest { prices: &[10.0, 0.0], ..request }), "prices", "too low");
    refused(plan_rebalance(&RebalanceRequest { targets: &[0.9, 0.5], ..request }), "targets", "above 1");
    refused(plan_rebalance(&RebalanceRequest { holdings: &[-1.0, 0.0], ..request }), "holdings", "too low");
    refused(plan_rebalance(&RebalanceRequest { holdings: &[0.0, 0.0], ..request }), "holdings", "worth nothing");
    refused(plan_rebalance(&RebalanceRequest { fee_rate: 0.7, ..request }), "fee_rate", "0.7");
    let prices = DenseMatrix::from_rows(&[vec![1.0], vec![1.1], vec![1.2]]).unwrap();
    let options = BacktestOptions {
        initial_value: 100.0,
        fee_rate: 0.0,
        slippage_rate: 0.0,
        rule: RebalanceRule::Never,
        periods_per_year: 252.0,
        risk_free_per_period: 0.0,
    };
    let choose = |_: &DenseMatrix| Ok(vec![1.0]);
    let walk = |window, step| BacktestStrategy::WalkForward { window, step, choose: &choose };
    refused(backtest(&prices, &walk(2, 1), &options), "prices", "at least 4");
    refused(backtest(&prices, &walk(1, 1), &options), "window", "below 2");
    refused(backtest(&prices, &walk(2, 0), &options), "step", "below 1");
    refused(backtest(&prices, &BacktestStrategy::Fixed(&[1.5]), &options), "weights", "1.5");
    let never = BacktestOptions { rule: RebalanceRule::Every { periods: 0 }, ..options };
    refused(backtest(&prices, &BacktestStrategy::Fixed(&[1.0]), &never), "periods", "below 1");
}
