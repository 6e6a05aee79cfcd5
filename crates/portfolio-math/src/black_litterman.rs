//! Expected returns that mix what the market implies with views (Black and Litterman, Global portfolio optimization,
//! Financial Analysts Journal 48, 1992; He and Litterman 1999).

use crate::{
    error::{MathError, Result, at_least, finite, length, positive, within},
    matrix::{DenseMatrix, add_scaled, dot, mean, solve},
};

/// The variance of a view in which there is no confidence.
const NO_CONFIDENCE: f64 = 1e6;

/// An opinion on a portfolio of assets.
#[derive(Debug, Clone, PartialEq)]
pub struct ReturnView {
    /// Assets with their weights in the view: one of weight 1 for its return, 1 and -1 for a difference.
    pub picks: Vec<(usize, f64)>,
    /// A year's return of that portfolio.
    pub expected_return: f64,
    /// From 0 to 1 (Idzorek 2005); `None` for a variance as large as the prior's.
    pub confidence: Option<f64>,
}

/// A prior and views.
#[derive(Debug, Clone, Copy)]
pub struct BlackLittermanInput<'a> {
    /// The covariance of a year's returns.
    pub covariance: &'a DenseMatrix,
    /// Each asset's return before the views.
    pub prior: &'a [f64],
    /// The views, at least one.
    pub views: &'a [ReturnView],
    /// How uncertain the prior is, as a part of the covariance: above 0, at most 1. 0.05 is customary.
    pub tau: f64,
}

/// What is expected with the views.
#[derive(Debug, Clone, PartialEq)]
pub struct BlackLittermanPosterior {
    /// Each asset's return in a year.
    pub returns: Vec<f64>,
    /// The covariance of returns, with the uncertainty of their mean.
    pub covariance: DenseMatrix,
    /// By how much views shift each asset, in portfolio weights before division by the risk aversion.
    pub tilts: Vec<f64>,
}

/// The posterior of returns: π + τΣP'(PτΣP' + Ω)⁻¹(Q - Pπ), with covariance Σ + τΣ - τΣP'(PτΣP' + Ω)⁻¹PτΣ. Ω is
/// diagonal: a view's own variance τpΣp', or with a confidence c that times (1 - c) / c (Walters 2014, formulas 41 and
/// 44). Fails if a view picks an unknown asset or none, or if views contradict each other with full confidence.
pub fn black_litterman(input: &BlackLittermanInput<'_>) -> Result<BlackLittermanPosterior> {
    let assets = input.covariance.rows();
    input.covariance.check_covariance("covariance", assets)?;
    length("prior", assets, input.prior.len())?;
    finite("prior", input.prior)?;
    at_least("views", 1, input.views.len())?;
    if input.views.len() > assets {
        return Err(MathError::TooMany { argument: "views", most: assets, found: input.views.len() });
    }
    positive("tau", input.tau)?;
    within("tau", input.tau, 0.0, 1.0)?;
    // A row for each view: τΣp.
    let mut spreads = Vec::new();
    for view in input.views {
        check_view(view, assets)?;
        let (places, picks): (Vec<usize>, Vec<f64>) = view.picks.iter().copied().unzip();
        let spread = input.covariance.times_sparse(&places, &picks);
        spreads.push(spread.iter().map(|value| value * input.tau).collect::<Vec<f64>>());
    }
    let of_view = |view: &ReturnView, values: &[f64]| -> f64 {
        view.picks.iter().map(|(asset, pick)| pick * values[*asset]).sum()
    };
    let count = input.views.len();
    let system = DenseMatrix::filled(count, count, |row, column| {
        let own = of_view(&input.views[row], &spreads[column]);
        let doubt = match input.views[row].confidence {
            _ if row != column => 0.0,
            None => own,
            Some(0.0) => NO_CONFIDENCE,
            Some(confidence) => own * (1.0 - confidence) / confidence,
        };
        own + doubt
    });
    let solve = |right: &[f64]| {
        let contradict = || MathError::invalid("views", "contradict each other with full confidence");
        solve(&system, right).ok_or_else(contradict)
    };
    let surprises: Vec<f64> =
        input.views.iter().map(|view| view.expected_return - of_view(view, input.prior)).collect();
    let shifts = solve(&surprises)?;
    let mut returns = input.prior.to_vec();
    let mut tilts = vec![0.0; assets];
    for ((view, spread), shift) in input.views.iter().zip(&spreads).zip(&shifts) {
        add_scaled(&mut returns, *shift, spread);
        for (asset, pick) in &view.picks {
            tilts[*asset] += input.tau * shift * pick;
        }
    }
    // (PτΣP' + Ω)⁻¹PτΣ, row by row, from the inverse.
    let mut inverse = Vec::new();
    for view in 0..count {
        let unit: Vec<f64> = (0..count).map(|at| if at == view { 1.0 } else { 0.0 }).collect();
        inverse.push(solve(&unit)?);
    }
    let mut learnt = vec![vec![0.0; assets]; count];
    for (row, learnt) in learnt.iter_mut().enumerate() {
        for (view, spread) in spreads.iter().enumerate() {
            add_scaled(learnt, inverse[view][row], spread);
        }
    }
    let mut values: Vec<f64> = input.covariance.values().iter().map(|value| value * (1.0 + input.tau)).collect();
    for (asset, row) in values.chunks_mut(assets.max(1)).enumerate() {
        for (spread, learnt) in spreads.iter().zip(&learnt) {
            add_scaled(row, -spread[asset], learnt);
        }
    }
    Ok(BlackLittermanPosterior { returns, covariance: DenseMatrix::new(assets, assets, values)?, tilts })
}

fn check_view(view: &ReturnView, assets: usize) -> Result<()> {
    finite("views", &[view.expected_return])?;
    if let Some(confidence) = view.confidence {
        within("confidence", confidence, 0.0, 1.0)?;
    }
    if view.picks.iter().all(|(_, pick)| *pick == 0.0) {
        return Err(MathError::invalid("views", "a view picks no asset"));
    }
    for (asset, pick) in &view.picks {
        finite("views", &[*pick])?;
        if *asset >= assets {
            return Err(MathError::invalid("views", format!("a view picks asset {asset}, which there is not")));
        }
    }
    Ok(())
}

impl BlackLittermanPosterior {
    /// The unlimited weights that the posterior's returns imply, (δΣ)⁻¹ returns, scaled to sum 1. Fails if the
    /// covariance is singular, or the weights sum to 0.
    pub fn implied_weights(&self, risk_aversion: f64, covariance: &DenseMatrix) -> Result<Vec<f64>> {
        positive("risk_aversion", risk_aversion)?;
        covariance.check_covariance("covariance", self.returns.len())?;
        let right: Vec<f64> = self.returns.iter().map(|value| value / risk_aversion).collect();
        let weights = solve(covariance, &right).ok_or_else(|| MathError::invalid("covariance", "is singular"))?;
        to_sum_one(weights)
    }

    /// The same weights if the prior is the one that the market implies without a risk-free rate: what the market holds
    /// and the views' tilts, without solving anything (He and Litterman 1999). Fails as `market_implied_prior` does.
    pub fn market_weights(&self, market_values: &[f64], risk_aversion: f64) -> Result<Vec<f64>> {
        positive("risk_aversion", risk_aversion)?;
        length("market_values", self.tilts.len(), market_values.len())?;
        let mut weights = market_portfolio(market_values)?;
        add_scaled(&mut weights, 1.0 / risk_aversion, &self.tilts);
        to_sum_one(weights)
    }
}

fn to_sum_one(weights: Vec<f64>) -> Result<Vec<f64>> {
    let total: f64 = weights.iter().sum();
    if total.abs() < 1e-12 {
        return Err(MathError::NotSolved { reason: "the implied weights sum to 0".to_owned() });
    }
    Ok(weights.iter().map(|weight| weight / total).collect())
}

fn market_portfolio(market_values: &[f64]) -> Result<Vec<f64>> {
    finite("market_values", market_values)?;
    let total: f64 = market_values.iter().sum();
    if total <= 0.0 || market_values.iter().any(|value| *value < 0.0) {
        return Err(MathError::invalid("market_values", "are not all 0 or above with a sum above 0"));
    }
    Ok(market_values.iter().map(|value| value / total).collect())
}

/// The returns at which the market as a whole would hold what it holds: δΣw plus the risk-free rate. Fails if a market
/// value is below 0 or all are 0.
pub fn market_implied_prior(
    covariance: &DenseMatrix,
    market_values: &[f64],
    risk_aversion: f64,
    risk_free_rate: f64,
) -> Result<Vec<f64>> {
    covariance.check_covariance("covariance", market_values.len())?;
    positive("risk_aversion", risk_aversion)?;
    finite("risk_free_rate", &[risk_free_rate])?;
    let slopes = covariance.times(&market_portfolio(market_values)?);
    Ok(slopes.iter().map(|slope| risk_aversion * slope + risk_free_rate).collect())
}

/// The market's price of risk: a year's excess return by its variance. Fails below two returns or without variance.
/// `risk_free_rate` is a year's.
pub fn market_implied_risk_aversion(market_returns: &[f64], periods_per_year: f64, risk_free_rate: f64) -> Result<f64> {
    at_least("market_returns", 2, market_returns.len())?;
    finite("market_returns", market_returns)?;
    finite("risk_free_rate", &[risk_free_rate])?;
    positive("periods_per_year", periods_per_year)?;
    let average = mean(market_returns);
    let deviations: Vec<f64> = market_returns.iter().map(|value| value - average).collect();
    let variance = dot(&deviations, &deviations) / (market_returns.len() - 1) as f64 * periods_per_year;
    if variance <= 0.0 {
        return Err(MathError::invalid("market_returns", "do not vary"));
    }
    Ok((average * periods_per_year - risk_free_rate) / variance)
}
