//! Weights from daily returns, without I/O. All of it is computed by am-portfolio-math.

use std::collections::BTreeMap;

use am_portfolio_math::{
    Allocation, AllocationLimits, AllocationObjective, AllocationProblem, BlackLittermanInput, CovarianceMethod,
    CvarProblem, DenseMatrix, LinkageMethod, MathError, ReturnView, SectorLimit, TurnoverLimit, black_litterman,
    efficient_frontier, estimate_covariance, hierarchical_risk_parity, market_implied_prior, mean_historical_return,
    minimise_cvar, optimise,
};

use super::{
    policy::PolicyAsker,
    requests::{AllocationMethod, AllocationRequest, FrontierPoint},
};
use crate::reports::PERIODS_PER_YEAR;

/// Share of days that are not counted among the worst, by default.
const DEFAULT_CONFIDENCE: f64 = 0.95;
/// Uncertainty of the prior of Black and Litterman, as in He and Litterman (1999).
const PRIOR_UNCERTAINTY: f64 = 0.05;
/// Risk aversion behind the prior, as in He and Litterman (1999).
const RISK_AVERSION: f64 = 2.5;

/// Weights with all that was found on the way.
#[derive(Clone, Debug)]
pub(super) struct FoundWeights {
    pub weights: Vec<f64>,
    pub expected_return: Option<f64>,
    pub volatility: Option<f64>,
    pub sharpe_ratio: Option<f64>,
    pub cvar: Option<f64>,
    pub value_at_risk: Option<f64>,
    pub shrinkage: Option<f64>,
    pub status: &'static str,
    pub iterations: u32,
    pub gap: Option<f64>,
    pub frontier: Vec<FrontierPoint>,
}

impl FoundWeights {
    fn of(found: Allocation, shrinkage: Option<f64>) -> Self {
        Self {
            weights: found.weights,
            expected_return: found.expected_return,
            volatility: Some(found.volatility),
            sharpe_ratio: found.sharpe_ratio,
            cvar: None,
            value_at_risk: None,
            shrinkage,
            status: found.status.as_str(),
            iterations: found.iterations,
            gap: Some(found.gap),
            frontier: Vec::new(),
        }
    }
}

fn limits_of(request: &AllocationRequest) -> AllocationLimits {
    let place: BTreeMap<&String, usize> = request.tokens.iter().enumerate().map(|(at, token)| (token, at)).collect();
    let (lower, upper) = (request.min_weight.unwrap_or(0.0), request.max_weight.unwrap_or(1.0));
    let mut limits = AllocationLimits::between(request.tokens.len(), lower, upper);
    for sector in request.sectors.iter().flatten() {
        limits.sectors.push(SectorLimit {
            name: sector.name.clone(),
            assets: sector.tokens.iter().filter_map(|token| place.get(token).copied()).collect(),
            least: sector.min.unwrap_or(0.0),
            most: sector.max.unwrap_or(1.0),
        });
    }
    if let (Some(current), Some(most)) = (&request.current_weights, request.max_turnover) {
        let current = request.tokens.iter().map(|token| current.get(token).copied().unwrap_or(0.0)).collect();
        limits.turnover = Some(TurnoverLimit { current, most });
    }
    limits
}

/// What weights promise by the mean returns and the covariance of the past.
fn promised(
    (weights, steps): (Vec<f64>, u32),
    mean: &[f64],
    covariance: &DenseMatrix,
    risk_free_rate: f64,
) -> FoundWeights {
    let expected: f64 = weights.iter().zip(mean).map(|(weight, mean)| weight * mean).sum();
    let row = |at: usize| covariance.row(at).iter().zip(&weights).map(|(value, weight)| value * weight).sum::<f64>();
    let variance: f64 = weights.iter().enumerate().map(|(at, weight)| weight * row(at)).sum();
    let volatility = variance.max(0.0).sqrt();
    FoundWeights {
        expected_return: Some(expected),
        volatility: Some(volatility),
        sharpe_ratio: (volatility > 0.0).then(|| (expected - risk_free_rate) / volatility),
        cvar: None,
        value_at_risk: None,
        shrinkage: None,
        status: "walked",
        iterations: steps,
        gap: None,
        frontier: Vec::new(),
        weights,
    }
}

/// The weights that `request` asks for, from daily returns: a row for each day, a column for each token.
pub(super) fn find_weights(
    request: &AllocationRequest,
    asker: Option<&PolicyAsker>,
    returns: &DenseMatrix,
) -> Result<FoundWeights, MathError> {
    let limits = limits_of(request);
    let risk_free_rate = request.risk_free_rate.unwrap_or(0.0);
    let estimate = estimate_covariance(returns, &CovarianceMethod::LedoitWolf, PERIODS_PER_YEAR)?;
    let mean = mean_historical_return(returns, PERIODS_PER_YEAR, true)?;
    let problem = AllocationProblem {
        covariance: &estimate.matrix,
        expected_returns: Some(&mean),
        risk_free_rate,
        limits: &limits,
    };
    let solved = |objective: &AllocationObjective| {
        optimise(&problem, objective).map(|found| FoundWeights::of(found, estimate.shrinkage))
    };
    let mut found = match request.method {
        AllocationMethod::MinimumVariance => solved(&AllocationObjective::MinimumVariance)?,
        AllocationMethod::MaximumSharpe => solved(&AllocationObjective::MaximumSharpe)?,
        AllocationMethod::RiskParity => solved(&AllocationObjective::RiskParity { budgets: None })?,
        AllocationMethod::HierarchicalRiskParity => {
            FoundWeights::of(hierarchical_risk_parity(returns, LinkageMethod::Single, PERIODS_PER_YEAR)?, None)
        }
        AllocationMethod::MinimumCvar => {
            let confidence = request.confidence.unwrap_or(DEFAULT_CONFIDENCE);
            let problem = CvarProblem {
                scenarios: returns,
                expected_returns: Some(&mean),
                confidence,
                target_return: None,
                limits: &limits,
            };
            let found = minimise_cvar(&problem)?;
            FoundWeights {
                weights: found.weights,
                expected_return: found.expected_return,
                volatility: None,
                sharpe_ratio: None,
                cvar: Some(found.cvar),
                value_at_risk: Some(found.value_at_risk),
                shrinkage: None,
                status: found.status.as_str(),
                iterations: found.iterations,
                gap: Some(found.gap),
                frontier: Vec::new(),
            }
        }
        AllocationMethod::BlackLitterman => {
            let values = request.tokens.iter().map(|token| {
                request.market_values.as_ref().map_or(1.0, |values| values.get(token).copied().unwrap_or(0.0))
            });
            let values: Vec<f64> = values.collect();
            let prior = market_implied_prior(&estimate.matrix, &values, RISK_AVERSION, risk_free_rate)?;
            let views = views_of(request);
            let input = BlackLittermanInput {
                covariance: &estimate.matrix,
                prior: &prior,
                views: &views,
                tau: PRIOR_UNCERTAINTY,
            };
            let posterior = black_litterman(&input)?;
            let problem = AllocationProblem {
                covariance: &posterior.covariance,
                expected_returns: Some(&posterior.returns),
                risk_free_rate,
                limits: &limits,
            };
            FoundWeights::of(optimise(&problem, &AllocationObjective::MaximumSharpe)?, estimate.shrinkage)
        }
        AllocationMethod::Policy => {
            let missing = || MathError::Invalid { argument: "policy", reason: "name a policy".to_owned() };
            let walked = asker.ok_or_else(missing)?.weights(returns)?;
            let found = promised(walked, &mean, &estimate.matrix, risk_free_rate);
            FoundWeights { shrinkage: estimate.shrinkage, ..found }
        }
    };
    if let Some(points) = request.frontier_points {
        let point = |allocation: Allocation| FrontierPoint {
            expected_return: allocation.expected_return,
            volatility: allocation.volatility,
            weights: request.tokens.iter().cloned().zip(allocation.weights).collect(),
        };
        found.frontier = efficient_frontier(&problem, points)?.into_iter().map(point).collect();
    }
    Ok(found)
}

fn views_of(request: &AllocationRequest) -> Vec<ReturnView> {
    let place = |wanted: &String| request.tokens.iter().position(|token| token == wanted);
    let view = |view: &super::requests::ReturnViewRequest| ReturnView {
        picks: view.tokens.iter().filter_map(|(token, factor)| Some((place(token)?, *factor))).collect(),
        expected_return: view.expected_return,
        confidence: view.confidence,
    };
    request.views.iter().flatten().map(view).collect()
}
