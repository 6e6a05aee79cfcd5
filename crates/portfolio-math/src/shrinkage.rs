//! Shrinkage of covariances, with the intensities that the literature derives. All are of one period's returns.

use crate::{
    error::{MathError, Result, at_least},
    matrix::{DenseMatrix, dot, mean},
    moments::{centred, sample_covariance},
};

/// A covariance, and the target's share in it.
pub(crate) struct Shrunken {
    pub(crate) matrix: DenseMatrix,
    pub(crate) intensity: Option<f64>,
}

/// The covariance with n in place of n - 1, of centred returns.
fn moments(centred: &DenseMatrix) -> DenseMatrix {
    let scale = 1.0 / centred.rows() as f64;
    centred.transposed_times(centred).map(|_, _, value| value * scale)
}

fn sum_of_squares(values: &[f64]) -> f64 {
    dot(values, values)
}

/// A covariance mixed with the mean variance on the diagonal.
pub(crate) fn towards_identity(covariance: DenseMatrix, intensity: f64) -> Shrunken {
    let level = mean(&covariance.diagonal());
    let mixed = |row, column, value: f64| {
        let target = if row == column { level } else { 0.0 };
        intensity * target + (1.0 - intensity) * value
    };
    Shrunken { matrix: covariance.map(mixed), intensity: Some(intensity) }
}

/// Mixes a covariance with a target.
fn mix(covariance: DenseMatrix, target: &DenseMatrix, intensity: f64) -> Shrunken {
    let mixed = |row, column, value: f64| intensity * target.get(row, column) + (1.0 - intensity) * value;
    Shrunken { matrix: covariance.map(mixed), intensity: Some(intensity) }
}

/// The intensity from its estimate times the number of periods: an estimate outside 0 to 1 is noise. Where covariance
/// and target are the same, nothing is left to mix.
fn intensity(numerator: f64, distance: f64, periods: usize) -> f64 {
    if distance <= 0.0 { 0.0 } else { (numerator / distance / periods as f64).clamp(0.0, 1.0) }
}

/// Ledoit and Wolf, A well-conditioned estimator for large-dimensional covariance matrices, Journal of Multivariate
/// Analysis 88 (2004), as scikit-learn computes it.
pub(crate) fn ledoit_wolf(returns: &DenseMatrix) -> Shrunken {
    let centred = centred(returns);
    let covariance = moments(&centred);
    let (periods, assets) = (centred.rows() as f64, centred.columns() as f64);
    let level = mean(&covariance.diagonal());
    let squares = sum_of_squares(covariance.values());
    // The sum over all pairs of mean squared products: the pairs of one period multiply out.
    let fourth: f64 = (0..centred.rows()).map(|row| sum_of_squares(centred.row(row)).powi(2)).sum();
    let noise = (fourth / periods - squares) / (assets * periods);
    let distance = (squares - 2.0 * level * level * assets + assets * level * level) / assets;
    let intensity = if distance <= 0.0 { 0.0 } else { (noise.min(distance) / distance).max(0.0) };
    towards_identity(covariance, intensity)
}

/// Chen, Wiesel, Eldar and Hero, Shrinkage algorithms for MMSE covariance estimation, IEEE Transactions on Signal
/// Processing 58 (2010), formula 23, as scikit-learn computes it.
pub(crate) fn oracle_approximating(returns: &DenseMatrix) -> Shrunken {
    let covariance = moments(&centred(returns));
    let (periods, assets) = (returns.rows() as f64, returns.columns() as f64);
    let level = mean(&covariance.diagonal());
    let squares = sum_of_squares(covariance.values()) / (assets * assets);
    let distance = (periods + 1.0) * (squares - level * level / assets);
    let intensity = if distance <= 0.0 { 1.0 } else { ((squares + level * level) / distance).min(1.0) };
    towards_identity(covariance, intensity)
}

/// Ledoit and Wolf, Honey, I shrunk the sample covariance matrix, Journal of Portfolio Management 30 (2004): the target
/// has the sample's variances and the mean of its correlations.
pub(crate) fn constant_correlation(returns: &DenseMatrix) -> Result<Shrunken> {
    at_least("returns", 2, returns.columns())?;
    let centred = centred(returns);
    let sample = sample_covariance(returns);
    let moments = moments(&centred);
    let (periods, assets) = (centred.rows() as f64, centred.columns());
    let variances = sample.diagonal();
    let deviations: Vec<f64> = variances.iter().map(|variance| variance.sqrt()).collect();
    if let Some(at) = deviations.iter().position(|deviation| *deviation <= 0.0) {
        return Err(MathError::invalid("returns", format!("asset {at} does not vary")));
    }
    let correlation = |row, column| sample.get(row, column) / (deviations[row] * deviations[column]);
    let all: f64 = (0..assets).map(|row| (0..assets).map(|column| correlation(row, column)).sum::<f64>()).sum();
    let average = (all - assets as f64) / (assets * (assets - 1)) as f64;
    let target = DenseMatrix::filled(assets, assets, |row, column| {
        if row == column { variances[row] } else { average * deviations[row] * deviations[column] }
    });
    let squared = centred.clone().map(|_, _, value| value * value);
    let cubed = centred.clone().map(|_, _, value| value * value * value);
    let fourth = squared.transposed_times(&squared);
    let third = cubed.transposed_times(&centred);
    let (mut noise, mut shared) = (0.0, 0.0);
    for row in 0..assets {
        for column in 0..assets {
            let (sample, moment) = (sample.get(row, column), moments.get(row, column));
            let variance = fourth.get(row, column) / periods - 2.0 * moment * sample + sample * sample;
            noise += variance;
            if row == column {
                shared += variance;
            } else {
                let covaries =
                    third.get(row, column) / periods - moments.get(row, row) * sample - moment * variances[row]
                        + variances[row] * sample;
                shared += average * deviations[column] / deviations[row] * covaries;
            }
        }
    }
    let distance: f64 = sample.values().iter().zip(target.values()).map(|(a, b)| (a - b) * (a - b)).sum();
    let intensity = intensity(noise - shared, distance, centred.rows());
    Ok(mix(sample, &target, intensity))
}

/// Ledoit and Wolf, Improved estimation of the covariance matrix of stock returns with an application to portfolio
/// selection, Journal of Empirical Finance 10 (2003): the target is Sharpe's model with one factor, the mean of all
/// assets.
pub(crate) fn single_factor(returns: &DenseMatrix) -> Result<Shrunken> {
    at_least("returns", 2, returns.columns())?;
    let centred = centred(returns);
    let sample = moments(&centred);
    let (periods, assets) = (centred.rows() as f64, centred.columns());
    let market: Vec<f64> = (0..centred.rows()).map(|row| mean(centred.row(row))).collect();
    let market_variance = dot(&market, &market) / periods;
    if market_variance <= 0.0 {
        return Err(MathError::invalid("returns", "the mean of all assets does not vary"));
    }
    let loads: Vec<f64> = (0..assets).map(|asset| dot(&centred.column(asset), &market) / periods).collect();
    let target = DenseMatrix::filled(assets, assets, |row, column| {
        if row == column { sample.get(row, row) } else { loads[row] * loads[column] / market_variance }
    });
    let squared = centred.clone().map(|_, _, value| value * value);
    let with_market = centred.map(|row, _, value| value * market[row]);
    // The mean square of a sum over assets, period by period, is the sum over all pairs.
    let all_pairs: f64 = (0..squared.rows()).map(|row| squared.row(row).iter().sum::<f64>().powi(2)).sum();
    let noise = all_pairs / periods - sum_of_squares(sample.values());
    let own = sum_of_squares(squared.values()) / periods - sum_of_squares(&sample.diagonal());
    let first = squared.transposed_times(&with_market);
    let second = with_market.transposed_times(&with_market);
    let mut shared = own;
    for row in 0..assets {
        for column in (0..assets).filter(|column| *column != row) {
            let value = sample.get(row, column);
            let one = first.get(row, column) / periods - loads[row] * value;
            let both = second.get(row, column) / periods - market_variance * value;
            shared += 2.0 * one * loads[column] / market_variance
                - both * loads[row] * loads[column] / (market_variance * market_variance);
        }
    }
    let distance: f64 = sample.values().iter().zip(target.values()).map(|(a, b)| (a - b) * (a - b)).sum();
    let intensity = intensity(noise - shared, distance, squared.rows());
    Ok(mix(sample, &target, intensity))
}
