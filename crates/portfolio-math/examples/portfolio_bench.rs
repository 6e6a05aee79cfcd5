//! Times the optimisers on returns from a file, for `scripts/bench-portfolio.sh`: a row for each period, values separated
//! by commas. Prints a line of JSON for each optimiser, with the least of the times, in seconds.

use std::{
    env,
    error::Error,
    fs,
    io::{self, Write},
    time::Instant,
};

use am_portfolio_math::{
    Allocation, AllocationLimits, AllocationObjective, AllocationProblem, BlackLittermanInput, CovarianceMethod,
    CvarProblem, DenseMatrix, LinkageMethod, ReturnView, black_litterman, estimate_covariance,
    hierarchical_risk_parity, market_implied_prior, mean_historical_return, minimise_cvar, optimise,
};

/// Calls of each optimiser; the fastest counts, as for its peer.
const CALLS: usize = 3;

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).ok_or("the file of returns is missing")?;
    let rows = fs::read_to_string(path)?;
    let rows: Result<Vec<Vec<f64>>, _> = rows.lines().map(|row| row.split(',').map(str::parse).collect()).collect();
    let returns = DenseMatrix::from_rows(&rows?)?;
    let assets = returns.columns();
    let covariance = estimate_covariance(&returns, &CovarianceMethod::LedoitWolf, 252.0)?.matrix;
    let expected = mean_historical_return(&returns, 252.0, true)?;
    timed("ledoit_wolf", || {
        estimate_covariance(&returns, &CovarianceMethod::LedoitWolf, 252.0).map(|found| found.matrix.column(0))
    })?;
    for (limit, target_return, limits) in [
        ("", 0.2, AllocationLimits::long_only(assets)),
        (" at most 0.02 each", 0.12, AllocationLimits::between(assets, 0.0, 0.02)),
    ] {
        let problem = AllocationProblem {
            covariance: &covariance,
            expected_returns: Some(&expected),
            risk_free_rate: 0.02,
            limits: &limits,
        };
        for (name, objective) in [
            ("minimum_variance", AllocationObjective::MinimumVariance),
            ("maximum_sharpe", AllocationObjective::MaximumSharpe),
            ("quadratic_utility", AllocationObjective::QuadraticUtility { risk_aversion: 2.0 }),
            ("efficient_return", AllocationObjective::EfficientReturn { target_return }),
            ("efficient_risk", AllocationObjective::EfficientRisk { target_volatility: 0.15 }),
        ] {
            timed(&format!("{name}{limit}"), || optimise(&problem, &objective).map(weights))?;
        }
        let scenarios = CvarProblem {
            scenarios: &returns,
            expected_returns: Some(&expected),
            confidence: 0.95,
            target_return: None,
            limits: &limits,
        };
        timed(&format!("minimum_cvar{limit}"), || minimise_cvar(&scenarios).map(|found| found.weights))?;
    }
    timed("hierarchical_risk_parity", || {
        hierarchical_risk_parity(&returns, LinkageMethod::Single, 252.0).map(weights)
    })?;
    let values = vec![1.0; assets];
    timed("black_litterman", || {
        let prior = market_implied_prior(&covariance, &values, 1.0, 0.0)?;
        let view = |asset, expected_return| ReturnView { picks: vec![(asset, 1.0)], expected_return, confidence: None };
        let views = [view(1, 0.1), view(100.min(assets - 1), 0.2)];
        let input = BlackLittermanInput { covariance: &covariance, prior: &prior, views: &views, tau: 0.05 };
        black_litterman(&input)?.market_weights(&values, 1.0)
    })?;
    Ok(())
}

fn weights(found: Allocation) -> Vec<f64> {
    found.weights
}

/// Times a call, and prints its name, seconds and weights.
fn timed(name: &str, call: impl Fn() -> am_portfolio_math::Result<Vec<f64>>) -> Result<(), Box<dyn Error>> {
    let mut best = f64::INFINITY;
    let mut weights = Vec::new();
    for _ in 0..CALLS {
        let began = Instant::now();
        weights = call()?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    writeln!(io::stdout(), "{}", serde_json::json!({"name": name, "seconds": best, "weights": weights}))?;
    Ok(())
}
