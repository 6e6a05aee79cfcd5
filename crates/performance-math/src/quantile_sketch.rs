//! A mergeable sketch of a distribution: quantiles with a bounded relative error (`DDSketch`, Masson, Rim and Lee, VLDB 2019).
//!
//! Values fall into buckets whose bounds are powers of γ = (1 + α) / (1 − α); the answer for a bucket is the value whose relative
//! distance to both bounds is α. Sketches merge by adding counts, so a window's quantile is as exact as that of one sketch of all
//! its values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Relative error of a quantile at most.
pub const RELATIVE_ACCURACY: f64 = 0.01;
/// Buckets of one sign at most; beyond, those of the smallest magnitudes are joined. 2048 buckets reach over 17 powers of ten.
const MAX_BUCKETS: usize = 2048;
/// Magnitudes below this count as zero.
const SMALLEST: f64 = 1e-12;

/// Counts of values by magnitude and sign, with exact count, sum and bounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuantileSketch {
    /// Bucket numbers and counts of values above zero.
    #[serde(rename = "p", default, skip_serializing_if = "BTreeMap::is_empty")]
    positive: BTreeMap<i32, u64>,
    /// The same of values below zero, by their magnitude.
    #[serde(rename = "n", default, skip_serializing_if = "BTreeMap::is_empty")]
    negative: BTreeMap<i32, u64>,
    /// Values that count as zero.
    #[serde(rename = "z", default, skip_serializing_if = "is_zero")]
    zeros: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn gamma() -> f64 {
    (1.0 + RELATIVE_ACCURACY) / (1.0 - RELATIVE_ACCURACY)
}

/// The number of the bucket of a magnitude.
#[expect(clippy::cast_possible_truncation, reason = "logarithms of floats are below 50 000 in size")]
fn bucket_of(magnitude: f64) -> i32 {
    (magnitude.ln() / gamma().ln()).ceil() as i32
}

/// The value that answers for a bucket.
fn value_of(bucket: i32) -> f64 {
    2.0 * gamma().powi(bucket) / (gamma() + 1.0)
}

fn limit_buckets(buckets: &mut BTreeMap<i32, u64>) {
    while buckets.len() > MAX_BUCKETS {
        let Some((_, count)) = buckets.pop_first() else { return };
        if let Some(mut next) = buckets.first_entry() {
            *next.get_mut() += count;
        }
    }
}

impl QuantileSketch {
    /// Count a value; one that is not finite is not counted.
    pub fn add(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if value.abs() < SMALLEST {
            self.zeros += 1;
            return;
        }
        let buckets = if value > 0.0 { &mut self.positive } else { &mut self.negative };
        *buckets.entry(bucket_of(value.abs())).or_default() += 1;
        limit_buckets(buckets);
    }

    /// Count all values of another sketch.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [(&mut self.positive, &other.positive), (&mut self.negative, &other.negative)] {
            for (bucket, count) in theirs {
                *mine.entry(*bucket).or_default() += count;
            }
            limit_buckets(mine);
        }
        self.zeros += other.zeros;
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.zeros + self.positive.values().sum::<u64>() + self.negative.values().sum::<u64>()
    }

    /// The value at the rank `⌊q (n − 1)⌋` of the ordered values, within [`RELATIVE_ACCURACY`] of it. `None` without values.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank is between 0 and the count"
    )]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = (share.clamp(0.0, 1.0) * (count - 1) as f64).floor() as u64;
        let below = self.negative.iter().rev().map(|(bucket, count)| (-value_of(*bucket), *count));
        let above = self.positive.iter().map(|(bucket, count)| (value_of(*bucket), *count));
        let mut seen = 0;
        for (value, count) in below.chain([(0.0, self.zeros)]).chain(above) {
            seen += count;
            if seen > rank {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(values: &[f64], share: f64) -> f64 {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[(share * (sorted.len() - 1) as f64).floor() as usize]
    }

    proptest! {
        #[test]
        fn quantiles_of_merged_windows_are_right_within_one_percent(
            windows in prop::collection::vec(prop::collection::vec(-1e6f64..1e6, 1..60), 1..6), share in 0.0f64..=1.0,
        ) {
            let mut merged = QuantileSketch::default();
            for window in &windows {
                let mut sketch = QuantileSketch::default();
                window.iter().for_each(|value| sketch.add(*value));
                let text = serde_json::to_string(&sketch).unwrap();
                merged.merge(&serde_json::from_str(&text).unwrap());
            }
            let all: Vec<f64> = windows.concat();
            prop_assert_eq!(merged.count(), all.len() as u64);
            let (wanted, found) = (exact(&all, share), merged.quantile(share).unwrap());
            prop_assert!((found - wanted).abs() <= wanted.abs() * RELATIVE_ACCURACY * 1.000_001 + 1e-12, "{found} for {wanted}");
        }
    }

    #[test]
    fn a_sketch_without_values_has_no_quantile_and_a_wide_one_stays_small() {
        assert_eq!(QuantileSketch::default().quantile(0.5), None);
        let mut sketch = QuantileSketch::default();
        for at in 0..6000 {
            sketch.add(1e-11 * 1.012f64.powi(at));
        }
        sketch.add(f64::NAN);
        assert_eq!(sketch.count(), 6000);
        assert!(sketch.positive.len() <= MAX_BUCKETS);
        let top = 1e-11 * 1.012f64.powi(5999);
        assert!((sketch.quantile(1.0).unwrap() - top).abs() <= top * RELATIVE_ACCURACY * 1.000_001);
    }
}
