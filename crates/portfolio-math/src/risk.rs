//! Risk from a series of returns. The definitions are those of the Python library empyrical, which tests recompute
//! with NumPy; a figure that it answers as NaN is `None` here.

use crate::{
    error::{MathError, Result, at_least, bounded, finite, length, positive},
    matrix::{dot, mean},
    normal::normal_quantile,
    returns::above_total_loss,
};

/// How a series is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RiskOptions<'a> {
    /// Periods of the series in a year, above 0: 252 for trading days.
    pub periods_per_year: f64,
    /// The risk-free return of one period.
    pub risk_free_per_period: f64,
    /// Returns of a benchmark in the same periods; without them alpha and beta are not defined.
    pub benchmark: Option<&'a [f64]>,
}

impl Default for RiskOptions<'_> {
    fn default() -> Self {
        Self { periods_per_year: 252.0, risk_free_per_period: 0.0, benchmark: None }
    }
}

/// The deepest fall of a portfolio's value below an earlier one. Places are indices into the values: 0 is before the
/// first return, i is after the i-th.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Drawdown {
    /// The fall as a fraction of the highest value before it: 0 or below.
    pub depth: f64,
    /// Where the highest value before the fall was reached first.
    pub peak: usize,
    /// Where the value was lowest; the peak's place if it never fell.
    pub trough: usize,
    /// Where the value reached the peak's again; `None` if it has not, or never fell.
    pub recovery: Option<usize>,
}

/// What a series of returns says about risk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RiskFigures {
    /// Number of returns.
    pub observations: usize,
    /// Compound return of a year.
    pub annual_return: f64,
    /// Standard deviation of returns (n - 1), times the root of a year's periods; `None` below two returns.
    pub volatility: Option<f64>,
    /// The deepest fall.
    pub max_drawdown: Drawdown,
    /// Mean excess return by its standard deviation, a year's; `None` without variation.
    pub sharpe_ratio: Option<f64>,
    /// Mean excess return by the downside deviation, a year's; `None` without losses.
    pub sortino_ratio: Option<f64>,
    /// A year's return by the deepest fall; `None` if there was no fall.
    pub calmar_ratio: Option<f64>,
    /// Sensitivity to the benchmark; `None` without one, or if it does not vary.
    pub beta: Option<f64>,
    /// A year's excess over what beta explains; `None` where beta is.
    pub alpha: Option<f64>,
    /// The return of a period that 5 % of periods fell short of: a loss is below 0.
    pub var_95: f64,
    /// The return of a period that 1 % of periods fell short of.
    pub var_99: f64,
    /// The same as `var_95` for a normal variable of the same mean and deviation; `None` below two returns.
    pub gaussian_var_95: Option<f64>,
    /// The same as `var_99` for a normal variable of the same mean and deviation; `None` below two returns.
    pub gaussian_var_99: Option<f64>,
    /// Mean of the worst 5 % of returns.
    pub cvar_95: f64,
    /// Mean of the worst 1 % of returns.
    pub cvar_99: f64,
}

/// All figures of a series. Fails without returns, if one is not finite or is -1 or below, if `periods_per_year` is not
/// above 0, or if the benchmark has another length.
pub fn measure_risk(returns: &[f64], options: &RiskOptions<'_>) -> Result<RiskFigures> {
    check(returns)?;
    let per_year = options.periods_per_year;
    let risk_free = options.risk_free_per_period;
    let relative =
        options.benchmark.map(|benchmark| alpha_beta(returns, benchmark, risk_free, per_year)).transpose()?;
    let (alpha, beta) = relative.flatten().unzip();
    Ok(RiskFigures {
        observations: returns.len(),
        annual_return: annual_return(returns, per_year)?,
        volatility: annual_volatility(returns, per_year)?,
        max_drawdown: max_drawdown(returns)?,
        sharpe_ratio: sharpe_ratio(returns, risk_free, per_year)?,
        sortino_ratio: sortino_ratio(returns, risk_free, per_year)?,
        calmar_ratio: calmar_ratio(returns, per_year)?,
        beta,
        alpha,
        var_95: historical_var(returns, 0.95)?,
        var_99: historical_var(returns, 0.99)?,
        gaussian_var_95: gaussian_var(returns, 0.95)?,
        gaussian_var_99: gaussian_var(returns, 0.99)?,
        cvar_95: historical_cvar(returns, 0.95)?,
        cvar_99: historical_cvar(returns, 0.99)?,
    })
}

fn check(returns: &[f64]) -> Result<()> {
    at_least("returns", 1, returns.len())?;
    bounded("returns", returns.len(), 1)?;
    finite("returns", returns)?;
    above_total_loss(returns)
}

fn check_year(periods_per_year: f64) -> Result<()> {
    positive("periods_per_year", periods_per_year)
}

/// The standard deviation with n - 1; `None` below two values.
fn deviation(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let average = mean(values);
    let squares: f64 = values.iter().map(|value| (value - average) * (value - average)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// A deviation that is rounding error only counts as none: the mean's own rounding is as large.
fn varies(deviation: f64, average: f64) -> bool {
    deviation > 1e-15 * (1.0 + average.abs())
}

/// The compound return of a year: growth over all periods to the power of a year's periods by their number, less 1.
pub fn annual_return(returns: &[f64], periods_per_year: f64) -> Result<f64> {
    check(returns)?;
    check_year(periods_per_year)?;
    let growth: f64 = returns.iter().map(|value| 1.0 + value).product();
    Ok(growth.powf(periods_per_year / returns.len() as f64) - 1.0)
}

/// The standard deviation of returns (n - 1) times the root of a year's periods; `None` below two returns.
pub fn annual_volatility(returns: &[f64], periods_per_year: f64) -> Result<Option<f64>> {
    check(returns)?;
    check_year(periods_per_year)?;
    Ok(deviation(returns).map(|deviation| deviation * periods_per_year.sqrt()))
}

/// The deepest fall below an earlier value, with its places. The value before the first return counts.
pub fn max_drawdown(returns: &[f64]) -> Result<Drawdown> {
    check(returns)?;
    let mut values = vec![1.0];
    for value in returns {
        values.push(values[values.len() - 1] * (1.0 + value));
    }
    let mut highest = 0;
    let mut deepest = Drawdown { depth: 0.0, peak: 0, trough: 0, recovery: None };
    for (at, value) in values.iter().enumerate() {
        if *value > values[highest] {
            highest = at;
        }
        let depth = (value - values[highest]) / values[highest];
        if depth < deepest.depth {
            deepest = Drawdown { depth, peak: highest, trough: at, recovery: None };
        }
    }
    if deepest.depth < 0.0 {
        let since = values[deepest.trough..].iter().position(|value| *value >= values[deepest.peak]);
        deepest.recovery = since.map(|since| deepest.trough + since);
    }
    Ok(deepest)
}

/// Mean excess return by its standard deviation (n - 1), times the root of a year's periods (Sharpe 1994); `None`
/// without variation. `risk_free` is a period's.
pub fn sharpe_ratio(returns: &[f64], risk_free: f64, periods_per_year: f64) -> Result<Option<f64>> {
    let excess = excess(returns, risk_free, periods_per_year)?;
    let average = mean(&excess);
    let ratio = |deviation| average / deviation * periods_per_year.sqrt();
    Ok(deviation(&excess).filter(|deviation| varies(*deviation, average)).map(ratio))
}

fn excess(returns: &[f64], risk_free: f64, periods_per_year: f64) -> Result<Vec<f64>> {
    check(returns)?;
    check_year(periods_per_year)?;
    finite("risk_free", &[risk_free])?;
    Ok(returns.iter().map(|value| value - risk_free).collect())
}

/// A year's mean excess return by the downside deviation: the root of the mean square of excess returns below 0, over
/// all periods (Sortino and Price 1994); `None` without a period below `risk_free`, which is a period's.
pub fn sortino_ratio(returns: &[f64], risk_free: f64, periods_per_year: f64) -> Result<Option<f64>> {
    let excess = excess(returns, risk_free, periods_per_year)?;
    let squares: f64 = excess.iter().map(|value| value.min(0.0).powi(2)).sum();
    let downside = (squares / excess.len() as f64).sqrt() * periods_per_year.sqrt();
    Ok((downside > 0.0).then(|| mean(&excess) * periods_per_year / downside))
}

/// A year's return by the deepest fall (Young 1991); `None` if there was no fall.
pub fn calmar_ratio(returns: &[f64], periods_per_year: f64) -> Result<Option<f64>> {
    let depth = max_drawdown(returns)?.depth;
    let yearly = annual_return(returns, periods_per_year)?;
    Ok((depth < 0.0).then(|| yearly / depth.abs()))
}

/// Alpha and beta against a benchmark (Jensen 1968): beta is the covariance of excess returns by the benchmark's
/// variance; alpha the mean of what beta leaves over, compounded over a year. `None` if the benchmark does not vary, or
/// there are fewer than two periods. `risk_free` is a period's.
pub fn alpha_beta(
    returns: &[f64],
    benchmark: &[f64],
    risk_free: f64,
    periods_per_year: f64,
) -> Result<Option<(f64, f64)>> {
    let own = excess(returns, risk_free, periods_per_year)?;
    length("benchmark", returns.len(), benchmark.len())?;
    finite("benchmark", benchmark)?;
    let other: Vec<f64> = benchmark.iter().map(|value| value - risk_free).collect();
    let average = mean(&other);
    if !deviation(&other).is_some_and(|deviation| varies(deviation, average)) {
        return Ok(None);
    }
    let residual: Vec<f64> = other.iter().map(|value| value - average).collect();
    let beta = dot(&residual, &own) / dot(&residual, &residual);
    let left_over = mean(&own) - beta * average;
    if left_over <= -1.0 {
        return Err(MathError::invalid("benchmark", "alpha is a total loss in each period"));
    }
    Ok(Some(((1.0 + left_over).powf(periods_per_year) - 1.0, beta)))
}

fn check_confidence(confidence: f64) -> Result<()> {
    if confidence > 0.0 && confidence < 1.0 {
        Ok(())
    } else {
        Err(MathError::invalid("confidence", format!("{confidence} is not between 0 and 1")))
    }
}

/// The share of periods beyond a confidence, without the rounding of 1 - 0.95.
fn tail_share(confidence: f64) -> f64 {
    ((1.0 - confidence) * 1e12).round() / 1e12
}

/// The historical value at risk: the quantile of returns at 1 - confidence, between two returns by linear
/// interpolation (Hyndman and Fan 1996, type 7). A return: a loss is below 0.
pub fn historical_var(returns: &[f64], confidence: f64) -> Result<f64> {
    check(returns)?;
    check_confidence(confidence)?;
    let mut sorted = returns.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() - 1) as f64 * tail_share(confidence);
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    Ok(sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64))
}

/// The Gaussian value at risk: mean plus standard deviation (n - 1) times the normal quantile at 1 - confidence; `None`
/// below two returns. A return: a loss is below 0.
pub fn gaussian_var(returns: &[f64], confidence: f64) -> Result<Option<f64>> {
    check(returns)?;
    check_confidence(confidence)?;
    let quantile = normal_quantile(tail_share(confidence));
    Ok(deviation(returns).map(|deviation| mean(returns) + deviation * quantile))
}

/// The historical conditional value at risk: the mean of the worst returns, of which there are
/// floor((n - 1) × (1 - confidence)) + 1.
pub fn historical_cvar(returns: &[f64], confidence: f64) -> Result<f64> {
    check(returns)?;
    check_confidence(confidence)?;
    let mut sorted = returns.to_vec();
    sorted.sort_by(f64::total_cmp);
    let worst = ((sorted.len() - 1) as f64 * tail_share(confidence)).floor() as usize + 1;
    Ok(mean(&sorted[..worst]))
}
