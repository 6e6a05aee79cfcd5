//! Against NumPy, scikit-learn and PyPortfolioOpt: `benches/portfolio/fixtures.py` writes the fixtures.

use serde_json::Value;

use super::{close, matrix, numbers, problem};
use crate::{
    AllocationLimits, AllocationObjective, AllocationProblem, BlackLittermanInput, CovarianceMethod, CvarProblem,
    DenseMatrix, LinkageMethod, ReturnView, RiskOptions, SectorLimit, TurnoverLimit, asset_returns, black_litterman,
    capm_return, correlation_matrix, ema_historical_return, estimate_covariance, hierarchical_risk_parity,
    market_implied_prior, market_implied_risk_aversion, mean_historical_return, measure_risk, minimise_cvar, optimise,
};

fn risk() -> Value {
    serde_json::from_str(include_str!("fixtures/risk.json")).unwrap()
}

fn pypfopt() -> Value {
    serde_json::from_str(include_str!("fixtures/pypfopt.json")).unwrap()
}

#[test]
fn risk_figures_are_those_of_empyrical() {
    let fixture = risk();
    for series in fixture["series"].as_array().unwrap() {
        let (returns, benchmark) = (numbers(&series["returns"]), numbers(&series["benchmark"]));
        let options = RiskOptions {
            periods_per_year: series["periods_per_year"].as_f64().unwrap(),
            risk_free_per_period: series["risk_free"].as_f64().unwrap(),
            benchmark: Some(&benchmark),
        };
        let found = measure_risk(&returns, &options).unwrap();
        let wanted = &series["figures"];
        let drawdown = found.max_drawdown;
        for (name, found) in [
            ("annual_return", Some(found.annual_return)),
            ("volatility", found.volatility),
            ("depth", Some(drawdown.depth)),
            ("sharpe_ratio", found.sharpe_ratio),
            ("sortino_ratio", found.sortino_ratio),
            ("calmar_ratio", found.calmar_ratio),
            ("beta", found.beta),
            ("alpha", found.alpha),
            ("var_95", Some(found.var_95)),
            ("var_99", Some(found.var_99)),
            ("gaussian_var_95", found.gaussian_var_95),
            ("gaussian_var_99", found.gaussian_var_99),
            ("cvar_95", Some(found.cvar_95)),
            ("cvar_99", Some(found.cvar_99)),
        ] {
            let wanted = wanted[name].as_f64();
            assert_eq!(found.is_some(), wanted.is_some(), "{name} of {} returns: {found:?}", returns.len());
            if let (Some(found), Some(wanted)) = (found, wanted) {
                close(name, &[found], &[wanted], 1e-9);
            }
        }
        let places = [drawdown.peak, drawdown.trough, drawdown.recovery.unwrap_or(usize::MAX)];
        let wanted =
            ["peak", "trough", "recovery"].map(|name| wanted[name].as_u64().map_or(usize::MAX, |at| at as usize));
        assert_eq!(places, wanted, "{} returns", returns.len());
    }
}

#[test]
fn covariances_are_those_of_numpy_and_scikit_learn() {
    for case in risk()["covariances"].as_array().unwrap() {
        let returns = matrix(&case["returns"]);
        let estimate = |method| estimate_covariance(&returns, &method, 1.0).unwrap();
        for (name, method) in [
            ("sample", CovarianceMethod::Sample),
            ("ledoit_wolf", CovarianceMethod::LedoitWolf),
            ("oracle", CovarianceMethod::OracleApproximating),
        ] {
            let found = estimate(method);
            let wanted = matrix(&case[name]);
            // Variances are about 1e-4: compare relative to them.
            let scale = wanted.get(0, 0);
            let scaled = |matrix: &DenseMatrix| matrix.values().iter().map(|value| value / scale).collect::<Vec<_>>();
            close(name, &scaled(&found.matrix), &scaled(&wanted), 1e-10);
            if let Some(shrinkage) = case[format!("{name}_shrinkage")].as_f64() {
                close(name, &[found.shrinkage.unwrap()], &[shrinkage], 1e-10);
            }
        }
        let correlation: Vec<f64> = correlation_matrix(&returns).unwrap().concat().into_iter().flatten().collect();
        close("correlation", &correlation, matrix(&case["correlation"]).values(), 1e-10);
    }
}

#[test]
fn models_of_return_and_covariance_are_those_of_pypfopt() {
    let fixture = pypfopt();
    let returns = asset_returns(&matrix(&fixture["prices"])).unwrap();
    let wanted = &fixture["returns"];
    let year = 252.0;
    close("mean", &mean_historical_return(&returns, year, true).unwrap(), &numbers(&wanted["mean"]), 1e-9);
    let arithmetic = mean_historical_return(&returns, year, false).unwrap();
    close("arithmetic", &arithmetic, &numbers(&wanted["arithmetic"]), 1e-9);
    close("ema", &ema_historical_return(&returns, 200.0, year, true).unwrap(), &numbers(&wanted["ema"]), 1e-9);
    close("capm", &capm_return(&returns, None, 0.02, year, true).unwrap(), &numbers(&wanted["capm"]), 1e-9);
    for (name, method) in [
        ("sample", CovarianceMethod::Sample),
        ("semi", CovarianceMethod::Semi { benchmark: 0.0001 }),
        ("exponential", CovarianceMethod::Exponential { span: 120.0 }),
        ("ledoit_wolf", CovarianceMethod::LedoitWolf),
        ("constant_correlation", CovarianceMethod::ConstantCorrelation),
        ("single_factor", CovarianceMethod::SingleFactor),
        ("oracle_approximating", CovarianceMethod::OracleApproximating),
        ("shrunk", CovarianceMethod::Shrunk { delta: 0.3 }),
    ] {
        let found = estimate_covariance(&returns, &method, year).unwrap();
        close(name, found.matrix.values(), matrix(&fixture["covariances"][name]).values(), 1e-10);
        if let Some(shrinkage) = fixture["shrinkages"][name].as_f64() {
            close(name, &[found.shrinkage.unwrap()], &[shrinkage], 1e-9);
        }
    }
    // The first price of the market's index is the growth of its first period.
    let market: Vec<f64> =
        (1..returns.rows()).map(|row| returns.row(row).iter().sum::<f64>() / returns.columns() as f64).collect();
    let aversion = market_implied_risk_aversion(&market, year, 0.02).unwrap();
    close("risk aversion", &[aversion], &[fixture["market_risk_aversion"].as_f64().unwrap()], 1e-9);
}

fn limits(fixture: &Value, kind: &str, assets: usize) -> AllocationLimits {
    match kind {
        "short" => AllocationLimits::between(assets, -1.0, 1.0),
        "bounded" => AllocationLimits::between(assets, 0.01, 0.13),
        "sectors" => {
            let sector = |value: &Value| SectorLimit {
                name: value["name"].as_str().unwrap().to_owned(),
                assets: numbers(&value["assets"]).iter().map(|at| *at as usize).collect(),
                least: value["least"].as_f64().unwrap(),
                most: value["most"].as_f64().unwrap(),
            };
            let sectors = fixture["optimisers"]["sectors"].as_array().unwrap().iter().map(sector).collect();
            AllocationLimits { sectors, ..AllocationLimits::long_only(assets) }
        }
        "turnover" => {
            let most = fixture["optimisers"]["turnover"].as_f64().unwrap();
            let turnover = TurnoverLimit { current: vec![1.0 / assets as f64; assets], most };
            AllocationLimits { turnover: Some(turnover), ..AllocationLimits::long_only(assets) }
        }
        _ => AllocationLimits::long_only(assets),
    }
}

#[test]
fn optimisers_find_the_weights_that_pypfopt_finds() {
    let fixture = pypfopt();
    let (covariance, returns) = (matrix(&fixture["covariance"]), numbers(&fixture["expected_returns"]));
    let answers = fixture["optimisers"]["answers"].as_object().unwrap();
    assert_eq!(answers.len(), 24);
    for (name, answer) in answers {
        let (kind, objective) = name.split_once('/').unwrap();
        let limits = limits(&fixture, kind, returns.len());
        let objective = match objective {
            "minimum_variance" => AllocationObjective::MinimumVariance,
            "maximum_sharpe" => AllocationObjective::MaximumSharpe,
            "quadratic_utility" => AllocationObjective::QuadraticUtility { risk_aversion: 2.0 },
            "efficient_return" => AllocationObjective::EfficientReturn { target_return: 0.2 },
            _ => AllocationObjective::EfficientRisk { target_volatility: 0.19 },
        };
        let found = optimise(&problem(&covariance, &returns, &limits), &objective).unwrap();
        close(name, &found.weights, &numbers(&answer["weights"]), 1e-4);
        let figures = [found.expected_return.unwrap(), found.volatility, found.sharpe_ratio.unwrap()];
        close(name, &figures, &numbers(&answer["performance"]), 1e-6);
    }
}

/// Expected return, volatility and Sharpe ratio that PyPortfolioOpt's own tests assert for its example.
#[test]
fn optimisers_find_the_figures_that_pypfopt_publishes() {
    let fixture = pypfopt();
    let (covariance, returns) = (matrix(&fixture["covariance"]), numbers(&fixture["expected_returns"]));
    for (kind, objective, figures) in [
        (
            "long_only",
            AllocationObjective::MinimumVariance,
            [0.150_568_213_994_825_78, 0.159_150_845_141_186_94, 0.820_405_407_706_099_6],
        ),
        (
            "short",
            AllocationObjective::MinimumVariance,
            [0.151_631_931_987_554_4, 0.155_591_536_726_966_9, 0.846_009_588_674_112_9],
        ),
        (
            "long_only",
            AllocationObjective::MaximumSharpe,
            [0.304_776_867_281_991_4, 0.221_655_669_224_029_32, 1.284_771_412_700_321_6],
        ),
        (
            "long_only",
            AllocationObjective::QuadraticUtility { risk_aversion: 2.0 },
            [0.367_773_271_175_150_4, 0.292_134_219_777_827_9, 1.190_457_151_646_379_3],
        ),
    ] {
        let limits = limits(&fixture, kind, returns.len());
        let found = optimise(&problem(&covariance, &returns, &limits), &objective).unwrap();
        let found = [found.expected_return.unwrap(), found.volatility, found.sharpe_ratio.unwrap()];
        // To the accuracy of the published figures' own solver.
        close(&format!("{kind}, {objective:?}"), &found, &figures, 2e-5);
    }
}

#[test]
fn conditional_value_at_risk_is_that_of_pypfopt() {
    let fixture = pypfopt();
    let scenarios = asset_returns(&matrix(&fixture["prices"])).unwrap();
    let returns = numbers(&fixture["expected_returns"]);
    for answer in fixture["cvar"].as_array().unwrap() {
        let bounds = numbers(&answer["bounds"]);
        let limits = AllocationLimits::between(returns.len(), bounds[0], bounds[1]);
        let problem = CvarProblem {
            scenarios: &scenarios,
            expected_returns: Some(&returns),
            confidence: answer["confidence"].as_f64().unwrap(),
            target_return: answer["target"].as_f64(),
            limits: &limits,
        };
        let found = minimise_cvar(&problem).unwrap();
        let name = format!("{} {bounds:?}", problem.confidence);
        close(&name, &found.weights, &numbers(&answer["weights"]), 1e-4);
        close(&name, &[found.expected_return.unwrap(), found.cvar], &numbers(&answer["performance"]), 1e-6);
    }
}

#[test]
fn hierarchical_weights_are_those_of_pypfopt() {
    let fixture = pypfopt();
    let returns = asset_returns(&matrix(&fixture["prices"])).unwrap();
    for (name, linkage) in
        [("single", LinkageMethod::Single), ("complete", LinkageMethod::Complete), ("average", LinkageMethod::Average)]
    {
        let found = hierarchical_risk_parity(&returns, linkage, 252.0).unwrap();
        let wanted = &fixture["hrp"][name];
        close(name, &found.weights, &numbers(&wanted["weights"]), 1e-10);
        let figures = [found.expected_return.unwrap(), found.volatility, found.sharpe_ratio.unwrap()];
        close(name, &figures, &numbers(&wanted["performance"]), 1e-9);
    }
}

#[test]
fn posterior_returns_are_those_of_pypfopt() {
    let fixture = pypfopt();
    let covariance = matrix(&fixture["covariance"]);
    let wanted = &fixture["black_litterman"];
    let (values, aversion) = (numbers(&wanted["market_values"]), wanted["risk_aversion"].as_f64().unwrap());
    let with_rate = market_implied_prior(&covariance, &values, aversion, 0.02).unwrap();
    close("prior", &with_rate, &numbers(&wanted["prior_with_rate"]), 1e-12);
    let prior = market_implied_prior(&covariance, &values, aversion, 0.0).unwrap();
    for answer in wanted["answers"].as_array().unwrap() {
        let view = |view: &Value| ReturnView {
            picks: view["picks"]
                .as_array()
                .unwrap()
                .iter()
                .map(numbers)
                .map(|pick| (pick[0] as usize, pick[1]))
                .collect(),
            expected_return: view["return"].as_f64().unwrap(),
            confidence: view["confidence"].as_f64(),
        };
        let views: Vec<ReturnView> = answer["views"].as_array().unwrap().iter().map(view).collect();
        let input = BlackLittermanInput {
            covariance: &covariance,
            prior: &prior,
            views: &views,
            tau: wanted["tau"].as_f64().unwrap(),
        };
        let posterior = black_litterman(&input).unwrap();
        close("prior", &prior, &numbers(&answer["prior"]), 1e-12);
        close("returns", &posterior.returns, &numbers(&answer["returns"]), 1e-10);
        close("covariance", posterior.covariance.values(), matrix(&answer["covariance"]).values(), 1e-10);
        let weights = numbers(&answer["weights"]);
        close("weights", &posterior.implied_weights(aversion, &covariance).unwrap(), &weights, 1e-8);
        close("closed form", &posterior.market_weights(&values, aversion).unwrap(), &weights, 1e-8);
        let limits = AllocationLimits::long_only(values.len());
        let problem = AllocationProblem {
            covariance: &posterior.covariance,
            expected_returns: Some(&posterior.returns),
            risk_free_rate: 0.0,
            limits: &limits,
        };
        assert!(optimise(&problem, &AllocationObjective::MaximumSharpe).unwrap().sharpe_ratio.unwrap() > 0.0);
    }
}
