//! Intervals: of a share (Wilson), of a mean (Student, bootstrap), of a difference of pairs (McNemar, bootstrap). All have 95 %.

mod student;

pub use student::{mean_interval, student_quantile, welch_difference};

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use serde::{Deserialize, Serialize};

/// Quantile of the normal distribution that leaves 2.5 % above it.
pub const NORMAL_QUANTILE: f64 = 1.959_963_984_540_054;
/// Samples that a bootstrap draws.
pub const BOOTSTRAP_SAMPLES: usize = 2_000;
/// Seed of every bootstrap, so that the same records give the same interval.
const BOOTSTRAP_SEED: u64 = 0x5eed_1e55;

/// An interval, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeasuredInterval {
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// Score interval of a share after Wilson (1927), without continuity correction: `share` of `trials`, which may be a fraction where
/// trials have weights. `None`: there are no trials, or a number is not finite.
pub fn wilson_interval(share: f64, trials: f64) -> Option<MeasuredInterval> {
    if !(share.is_finite() && trials.is_finite() && trials > 0.0) {
        return None;
    }
    let share = share.clamp(0.0, 1.0);
    let z2 = NORMAL_QUANTILE * NORMAL_QUANTILE;
    let divisor = 1.0 + z2 / trials;
    let centre = (share + z2 / (2.0 * trials)) / divisor;
    let spread = share * (1.0 - share) / trials + z2 / (4.0 * trials * trials);
    let half = NORMAL_QUANTILE * spread.sqrt() / divisor;
    Some(MeasuredInterval { low: (centre - half).max(0.0), high: (centre + half).min(1.0) })
}

/// Trials of equal weight that say as much as these weights do: (Σw)² / Σw² (Kish, 1965). 0 without weights.
pub fn effective_count(weights: &[f64]) -> f64 {
    let (sum, squares) =
        weights.iter().fold((0.0, 0.0), |(sum, squares), weight| (sum + weight, squares + weight * weight));
    if squares > 0.0 { sum * sum / squares } else { 0.0 }
}

/// Mean of values with weights; `None`: their sum is not positive.
pub fn weighted_mean(values: &[(f64, f64)]) -> Option<f64> {
    let (sum, weights) =
        values.iter().fold((0.0, 0.0), |(sum, all), (value, weight)| (sum + value * weight, all + weight));
    (weights > 0.0).then(|| sum / weights)
}

/// Interval of a weighted mean by the percentiles of resampled means: `values` are values with their weights. `None`: fewer than
/// two, or all are the same, of which resampling learns nothing.
pub fn bootstrap_mean(values: &[(f64, f64)]) -> Option<MeasuredInterval> {
    let first = values.first()?.0;
    if values.iter().all(|(value, _)| *value == first) {
        return None;
    }
    let mut random = SmallRng::seed_from_u64(BOOTSTRAP_SEED);
    let mut means = Vec::with_capacity(BOOTSTRAP_SAMPLES);
    for _ in 0..BOOTSTRAP_SAMPLES {
        let (mut sum, mut weights) = (0.0, 0.0);
        for _ in values {
            let (value, weight) = values[random.random_range(0..values.len())];
            sum += value * weight;
            weights += weight;
        }
        if weights > 0.0 {
            means.push(sum / weights);
        }
    }
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means.get(((means.len() as f64 - 1.0) * share).round() as usize).copied();
    Some(MeasuredInterval { low: at(0.025)?, high: at(0.975)? })
}

/// Exact test of McNemar on pairs: how likely a split at least as uneven as `gained` to `lost` is, if gains and losses were equally
/// likely (both sides). 1 where nothing differs.
pub fn mcnemar_exact(gained: u64, lost: u64) -> f64 {
    let (all, few) = (gained + lost, gained.min(lost));
    if all == 0 {
        return 1.0;
    }
    // The terms of the binomial distribution, as logarithms, since the numbers may be large.
    let mut log_term = -(all as f64) * std::f64::consts::LN_2;
    let mut tail = log_term.exp();
    for at in 1..=few {
        log_term += ((all - at + 1) as f64 / at as f64).ln();
        tail += log_term.exp();
    }
    (2.0 * tail).min(1.0)
}

#[cfg(test)]
mod tests;
