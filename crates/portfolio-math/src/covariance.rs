//! Estimates of the covariance of a year's returns.

use crate::{
    error::{Result, at_least, bounded, finite, positive, within},
    matrix::{DenseMatrix, mean},
    moments::{centred, sample_covariance},
    returns::{check_span, exponential_weights},
    shrinkage::{self, Shrunken},
};

/// How a covariance is estimated from returns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CovarianceMethod {
    /// The sample covariance (n - 1).
    Sample,
    /// The mean product of what returns fall short of a period's `benchmark` return.
    Semi {
        /// The return of one period.
        benchmark: f64,
    },
    /// Products of deviations, weighted so that a period counts 1 - 2 / (span + 1) times as much as the next.
    Exponential {
        /// In periods, 1 or above.
        span: f64,
    },
    /// Shrunk towards equal variances without correlation, by the intensity of Ledoit and Wolf (2004a).
    LedoitWolf,
    /// Shrunk towards the mean correlation, by the intensity of Ledoit and Wolf (2004b).
    ConstantCorrelation,
    /// Shrunk towards one market factor, by the intensity of Ledoit and Wolf (2003).
    SingleFactor,
    /// Shrunk towards equal variances without correlation, by the intensity of Chen, Wiesel, Eldar and Hero (2010).
    OracleApproximating,
    /// The sample covariance, shrunk towards equal variances without correlation by a given intensity.
    Shrunk {
        /// The target's share, from 0 to 1.
        delta: f64,
    },
}

/// A covariance with the intensity that was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct CovarianceEstimate {
    /// The covariance of a year's returns.
    pub matrix: DenseMatrix,
    /// The target's share, from 0 to 1; `None` where nothing is shrunk.
    pub shrinkage: Option<f64>,
}

/// The covariance of a year's returns. Fails below two periods, beyond the limits of a call, or if an argument of the
/// method is outside its range.
pub fn estimate_covariance(
    returns: &DenseMatrix,
    method: &CovarianceMethod,
    periods_per_year: f64,
) -> Result<CovarianceEstimate> {
    at_least("returns", 2, returns.rows())?;
    at_least("returns", 1, returns.columns())?;
    bounded("returns", returns.rows(), returns.columns())?;
    positive("periods_per_year", periods_per_year)?;
    let plain = |matrix| Shrunken { matrix, intensity: None };
    let found = match *method {
        CovarianceMethod::Sample => plain(sample_covariance(returns)),
        CovarianceMethod::Semi { benchmark } => plain(semicovariance(returns, benchmark)?),
        CovarianceMethod::Exponential { span } => plain(exponential_covariance(returns, span)?),
        CovarianceMethod::LedoitWolf => shrinkage::ledoit_wolf(returns),
        CovarianceMethod::ConstantCorrelation => shrinkage::constant_correlation(returns)?,
        CovarianceMethod::SingleFactor => shrinkage::single_factor(returns)?,
        CovarianceMethod::OracleApproximating => shrinkage::oracle_approximating(returns),
        CovarianceMethod::Shrunk { delta } => {
            within("delta", delta, 0.0, 1.0)?;
            shrinkage::towards_identity(sample_covariance(returns), delta)
        }
    };
    let matrix = found.matrix.map(|_, _, value| value * periods_per_year);
    finite("returns", matrix.values())?;
    Ok(CovarianceEstimate { matrix, shrinkage: found.intensity })
}

fn semicovariance(returns: &DenseMatrix, benchmark: f64) -> Result<DenseMatrix> {
    finite("benchmark", &[benchmark])?;
    let drops = returns.clone().map(|_, _, value| (value - benchmark).min(0.0));
    let scale = 1.0 / returns.rows() as f64;
    Ok(drops.transposed_times(&drops).map(|_, _, value| value * scale))
}

fn exponential_covariance(returns: &DenseMatrix, span: f64) -> Result<DenseMatrix> {
    check_span(span)?;
    let weights = exponential_weights(returns.rows(), span);
    let centred = centred(returns);
    let weighted = centred.clone().map(|row, _, value| value * weights[row]);
    Ok(centred.transposed_times(&weighted))
}

/// The correlation of each pair of assets (Pearson); `None` where one of the two does not vary. Fails below two
/// periods.
pub fn correlation_matrix(returns: &DenseMatrix) -> Result<Vec<Vec<Option<f64>>>> {
    at_least("returns", 2, returns.rows())?;
    bounded("returns", returns.rows(), returns.columns())?;
    let covariance = sample_covariance(returns);
    let deviations: Vec<f64> = covariance.diagonal().iter().map(|variance| variance.sqrt()).collect();
    let average = |asset| mean(&returns.column(asset));
    let varies: Vec<bool> =
        deviations.iter().enumerate().map(|(at, value)| *value > 1e-15 * (1.0 + f64::abs(average(at)))).collect();
    let correlation = |row: usize, column: usize| match row == column {
        true => 1.0,
        false => (covariance.get(row, column) / (deviations[row] * deviations[column])).clamp(-1.0, 1.0),
    };
    let assets = 0..returns.columns();
    Ok(assets
        .clone()
        .map(|row| {
            let known = |column: &usize| varies[row] && varies[*column];
            assets.clone().map(|column| known(&column).then(|| correlation(row, column))).collect()
        })
        .collect())
}
