//! Returns from prices, and estimates of a year's return from past returns.

use crate::{
    error::{MathError, Result, at_least, bounded, finite, length, positive},
    matrix::{DenseMatrix, dot, mean},
};

/// The simple return from each price to the next. Fails below two prices, and if a price is not above 0.
pub fn simple_returns(prices: &[f64]) -> Result<Vec<f64>> {
    at_least("prices", 2, prices.len())?;
    finite("prices", prices)?;
    if let Some(at) = prices.iter().position(|price| *price <= 0.0) {
        return Err(MathError::invalid("prices", format!("the price at {at} is not above 0")));
    }
    Ok(prices.windows(2).map(|pair| pair[1] / pair[0] - 1.0).collect())
}

/// The simple returns of each asset: a row less than there are prices. Fails as `simple_returns` does.
pub fn asset_returns(prices: &DenseMatrix) -> Result<DenseMatrix> {
    at_least("prices", 2, prices.rows())?;
    bounded("prices", prices.rows(), prices.columns())?;
    if let Some(at) = prices.values().iter().position(|price| *price <= 0.0) {
        return Err(MathError::invalid("prices", format!("the price at {at} is not above 0")));
    }
    Ok(DenseMatrix::filled(prices.rows() - 1, prices.columns(), |row, column| {
        prices.get(row + 1, column) / prices.get(row, column) - 1.0
    }))
}

/// The returns of a portfolio that is brought back to `weights` in each period.
pub fn portfolio_returns(returns: &DenseMatrix, weights: &[f64]) -> Result<Vec<f64>> {
    length("weights", returns.columns(), weights.len())?;
    finite("weights", weights)?;
    Ok(returns.times(weights))
}

/// Fails if a return is a total loss or worse, which compounding can't continue from.
pub(crate) fn above_total_loss(returns: &[f64]) -> Result<()> {
    match returns.iter().position(|value| *value <= -1.0) {
        Some(at) => Err(MathError::invalid("returns", format!("the return at {at} is -1 or below"))),
        None => Ok(()),
    }
}

/// A year's return of each asset. With compounding (1 + r1)(1 + r2)... to the power of periods a year by periods,
/// less 1; without, the arithmetic mean times the periods of a year.
pub fn mean_historical_return(returns: &DenseMatrix, periods_per_year: f64, compounding: bool) -> Result<Vec<f64>> {
    at_least("returns", 1, returns.rows())?;
    positive("periods_per_year", periods_per_year)?;
    (0..returns.columns()).map(|asset| yearly_mean(&returns.column(asset), periods_per_year, compounding)).collect()
}

fn yearly_mean(returns: &[f64], periods_per_year: f64, compounding: bool) -> Result<f64> {
    if !compounding {
        return Ok(mean(returns) * periods_per_year);
    }
    above_total_loss(returns)?;
    let growth: f64 = returns.iter().map(|value| 1.0 + value).product();
    Ok(growth.powf(periods_per_year / returns.len() as f64) - 1.0)
}

/// Weights that fall by 1 - 2 / (span + 1) with each period of age and sum to 1, oldest first: those of an
/// exponentially weighted mean.
pub(crate) fn exponential_weights(periods: usize, span: f64) -> Vec<f64> {
    let decay = 1.0 - 2.0 / (span + 1.0);
    let mut weights = vec![1.0; periods];
    for at in (0..periods.saturating_sub(1)).rev() {
        weights[at] = weights[at + 1] * decay;
    }
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// A year's return of each asset from the exponentially weighted mean of its returns. `span` is in periods, 1 or above:
/// a period's weight is 1 - 2 / (span + 1) times the next one's.
pub fn ema_historical_return(
    returns: &DenseMatrix,
    span: f64,
    periods_per_year: f64,
    compounding: bool,
) -> Result<Vec<f64>> {
    at_least("returns", 1, returns.rows())?;
    positive("periods_per_year", periods_per_year)?;
    check_span(span)?;
    let weights = exponential_weights(returns.rows(), span);
    let yearly = |asset| {
        let average = dot(&returns.column(asset), &weights);
        if compounding { (1.0 + average).powf(periods_per_year) - 1.0 } else { average * periods_per_year }
    };
    Ok((0..returns.columns()).map(yearly).collect())
}

pub(crate) fn check_span(span: f64) -> Result<()> {
    if span.is_finite() && span >= 1.0 { Ok(()) } else { Err(MathError::invalid("span", format!("{span} is below 1"))) }
}

/// A year's return of each asset by the capital asset pricing model (Sharpe 1964): the risk-free rate plus beta times
/// the market's excess. Without `market`, the mean of the assets is the market. `risk_free_rate` is a year's.
pub fn capm_return(
    returns: &DenseMatrix,
    market: Option<&[f64]>,
    risk_free_rate: f64,
    periods_per_year: f64,
    compounding: bool,
) -> Result<Vec<f64>> {
    at_least("returns", 2, returns.rows())?;
    positive("periods_per_year", periods_per_year)?;
    finite("risk_free_rate", &[risk_free_rate])?;
    let market = match market {
        Some(market) => {
            length("market", returns.rows(), market.len())?;
            finite("market", market)?;
            market.to_vec()
        }
        None => (0..returns.rows()).map(|row| mean(returns.row(row))).collect(),
    };
    let average = mean(&market);
    let deviations: Vec<f64> = market.iter().map(|value| value - average).collect();
    let variance = dot(&deviations, &deviations);
    if variance <= 0.0 {
        return Err(MathError::invalid("market", "has no variance"));
    }
    let excess = yearly_mean(&market, periods_per_year, compounding)? - risk_free_rate;
    let beta = |asset| dot(&returns.column(asset), &deviations) / variance;
    Ok((0..returns.columns()).map(|asset| risk_free_rate + beta(asset) * excess).collect())
}
