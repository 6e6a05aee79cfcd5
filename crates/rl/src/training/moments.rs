//! Running mean and variance of observations, for normalising them.

use serde::{Deserialize, Serialize};

/// Added to a variance before its root is taken.
const VARIANCE_EPSILON: f64 = 1e-8;
/// Limit of normalised numbers: they are clamped to within this of 0.
pub(super) const MAX_NORMALISED: f32 = 10.0;

/// Mean and variance of each number over all rows seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RunningMoments {
    count: f64,
    mean: Vec<f64>,
    /// Sums of squared differences from the mean.
    squares: Vec<f64>,
}

impl RunningMoments {
    pub(super) fn new(width: usize) -> Self {
        Self { count: 0.0, mean: vec![0.0; width], squares: vec![0.0; width] }
    }

    /// Add concatenated rows (Welford 1962).
    pub(super) fn add(&mut self, rows: &[f32]) {
        for row in rows.chunks(self.mean.len()) {
            self.count += 1.0;
            for ((number, mean), squares) in row.iter().zip(&mut self.mean).zip(&mut self.squares) {
                let difference = f64::from(*number) - *mean;
                *mean += difference / self.count;
                *squares += difference * (f64::from(*number) - *mean);
            }
        }
    }

    pub(super) fn mean(&self) -> Vec<f32> {
        self.mean.iter().map(|mean| *mean as f32).collect()
    }

    /// Root of variance plus [`VARIANCE_EPSILON`]; 1 before the first row.
    pub(super) fn deviation(&self) -> Vec<f32> {
        let root = |squares: &f64| {
            if self.count > 0.0 { (squares / self.count + VARIANCE_EPSILON).sqrt() as f32 } else { 1.0 }
        };
        self.squares.iter().map(root).collect()
    }

    /// Normalise to mean 0 and variance 1, clamped to within [`MAX_NORMALISED`] of 0.
    pub(super) fn normalise(&self, rows: &mut [f32]) {
        let (mean, deviation) = (self.mean(), self.deviation());
        for row in rows.chunks_mut(mean.len()) {
            for ((number, mean), deviation) in row.iter_mut().zip(&mean).zip(&deviation) {
                *number = ((*number - mean) / deviation).clamp(-MAX_NORMALISED, MAX_NORMALISED);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_all_rows() {
        let mut moments = RunningMoments::new(2);
        assert_eq!((moments.mean(), moments.deviation()), (vec![0.0, 0.0], vec![1.0, 1.0]));
        moments.add(&[1.0, 10.0, 3.0, 10.0]);
        moments.add(&[5.0, 10.0]);
        assert_eq!(moments.mean(), [3.0, 10.0]);
        // (4 + 0 + 4) / 3, and nothing but the epsilon.
        let deviation = moments.deviation();
        assert!((deviation[0] - (8f32 / 3.0).sqrt()).abs() < 1e-6 && (deviation[1] - 1e-4).abs() < 1e-9);
        let mut rows = [1.0, 10.0, 3.0, 11.0];
        moments.normalise(&mut rows);
        assert!((rows[0] + 2.0 / (8f32 / 3.0).sqrt()).abs() < 1e-6);
        assert_eq!(rows[1..], [0.0, 0.0, MAX_NORMALISED]);
    }
}
