//! The moments of a period's returns.

use crate::matrix::{DenseMatrix, mean};

/// Returns less their asset's mean.
pub(crate) fn centred(returns: &DenseMatrix) -> DenseMatrix {
    let means: Vec<f64> = (0..returns.columns()).map(|asset| mean(&returns.column(asset))).collect();
    returns.clone().map(|_, asset, value| value - means[asset])
}

/// The sample covariance (n - 1) of a period's returns.
pub(crate) fn sample_covariance(returns: &DenseMatrix) -> DenseMatrix {
    let centred = centred(returns);
    let scale = 1.0 / (returns.rows() - 1) as f64;
    centred.transposed_times(&centred).map(|_, _, value| value * scale)
}
