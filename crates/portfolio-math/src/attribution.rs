//! Which asset contributed how much to a portfolio's return.

use crate::error::{MathError, Result, at_least, finite, length};

/// One span without flows: what each asset was worth at its beginning, and what it gained until its end.
#[derive(Debug, Clone, PartialEq)]
pub struct AttributionPeriod {
    /// Each asset's value at the beginning.
    pub begin_values: Vec<f64>,
    /// Each asset's gain, below 0 for a loss; costs belong to the asset that caused them.
    pub gains: Vec<f64>,
}

/// An asset's part in the result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AssetContribution {
    /// The sum of its gains.
    pub gain: f64,
    /// Its part of the portfolio's return.
    pub contribution: f64,
}

/// A portfolio's return, divided among its assets.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribution {
    /// The time-weighted return over all periods.
    pub total_return: f64,
    /// Each asset's part. Their sum, in order, is the return, to its last bit.
    pub assets: Vec<AssetContribution>,
}

/// Divides the time-weighted return among the assets. In one period an asset contributes its gain by the portfolio's
/// value at the beginning; over several, contributions are linked by logarithms (Carino, Combining attribution effects
/// over time, Journal of Performance Measurement 3, 1999): each is multiplied by ln(1 + r) / r of its period over the
/// same of all. What rounding leaves goes to the largest. Fails without periods, or if a period begins with less than 0
/// or loses all.
pub fn attribute(periods: &[AttributionPeriod]) -> Result<Attribution> {
    at_least("periods", 1, periods.len())?;
    let count = periods.first().map_or(0, |period| period.begin_values.len());
    at_least("begin_values", 1, count)?;
    let mut assets = vec![AssetContribution { gain: 0.0, contribution: 0.0 }; count];
    let mut growth = 0.0;
    for (at, period) in periods.iter().enumerate() {
        length("begin_values", count, period.begin_values.len())?;
        length("gains", count, period.gains.len())?;
        finite("begin_values", &period.begin_values)?;
        finite("gains", &period.gains)?;
        let begin: f64 = period.begin_values.iter().sum();
        let gained: f64 = period.gains.iter().sum();
        if begin <= 0.0 {
            if begin == 0.0 && period.gains.iter().all(|gain| *gain == 0.0) {
                continue;
            }
            return Err(MathError::invalid("begin_values", format!("period {at} begins with a value of {begin}")));
        }
        let period_return = gained / begin;
        if period_return <= -1.0 {
            return Err(MathError::invalid("gains", format!("period {at} loses all")));
        }
        growth += period_return.ln_1p();
        let link = smoothing(period_return);
        for (asset, gain) in assets.iter_mut().zip(&period.gains) {
            asset.gain += gain;
            asset.contribution += link * gain / begin;
        }
    }
    let linked = f64::exp_m1(growth);
    let whole = smoothing(linked);
    for asset in &mut assets {
        asset.contribution /= whole;
    }
    settle(&mut assets, linked);
    // The nearest sum may be a bit beside the linked return; the sum counts.
    let total_return = assets.iter().map(|asset| asset.contribution).sum();
    Ok(Attribution { total_return, assets })
}

/// ln(1 + r) / r, which is 1 at 0.
fn smoothing(value: f64) -> f64 {
    if value == 0.0 { 1.0 } else { value.ln_1p() / value }
}

/// Gives what rounding left to the largest contribution.
fn settle(assets: &mut [AssetContribution], total: f64) {
    let size = |asset: &AssetContribution| asset.contribution.abs();
    let Some(largest) = (0..assets.len()).max_by(|a, b| size(&assets[*a]).total_cmp(&size(&assets[*b]))) else {
        return;
    };
    assets[largest].contribution += total - assets.iter().map(|asset| asset.contribution).sum::<f64>();
}
