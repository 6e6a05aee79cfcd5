//! Trends of series: a robust slope with its interval (Theil 1950, Sen 1968), and change points of means.

use serde::{Deserialize, Serialize};

/// Points that a slope is computed of at most: its time grows with their square.
pub const MAX_TREND_POINTS: usize = 500;
/// Values that change points are looked for in at most.
pub const MAX_CHANGE_VALUES: usize = 1000;
/// Values between two change points at least.
const MIN_SEGMENT: usize = 3;
/// Standard deviations of a normal distribution that hold 95 %.
const NORMAL_95: f64 = 1.959_963_984_540_054;
/// The median of the absolute differences of neighbours is this many standard deviations: 0.6745 · √2.
const DIFFERENCE_SCALE: f64 = 0.953_872_552_417_1;

/// A slope with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RobustSlope {
    /// Median of the slopes between all pairs of points of different times.
    pub slope: f64,
    /// Lower end of the interval; none: there are too few pairs.
    pub low: Option<f64>,
    /// Upper end of the interval; none as `low`.
    pub high: Option<f64>,
    /// Number of points.
    pub points: usize,
}

fn median(sorted: &[f64]) -> Option<f64> {
    let (low, high) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

/// Number of members of each group of equal values.
fn ties(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.chunk_by(|one, other| one.total_cmp(other).is_eq()).map(|group| group.len() as f64).collect()
}

/// The Theil-Sen slope of points (time, value), with Sen's interval: the slopes at the ranks (N ± 1.96 σ) / 2, where N is the
/// number of pairs and σ² = (n (n − 1) (2n + 5) − Σ t (t − 1) (2t + 5)) / 18 the variance of Kendall's statistic, t running over
/// groups of equal values. `None` where no two points have different times. Beyond [`MAX_TREND_POINTS`] the last ones count.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ranks within the number of pairs")]
pub fn robust_slope(points: &[(f64, f64)]) -> Option<RobustSlope> {
    let points = &points[points.len().saturating_sub(MAX_TREND_POINTS)..];
    let mut slopes = Vec::with_capacity(points.len() * points.len().saturating_sub(1) / 2);
    for (at, (time, value)) in points.iter().enumerate() {
        for (other_time, other) in &points[..at] {
            let slope = (value - other) / (time - other_time);
            if slope.is_finite() {
                slopes.push(slope);
            }
        }
    }
    slopes.sort_by(f64::total_cmp);
    let slope = median(&slopes)?;
    let spread = |count: f64| count * (count - 1.0) * (2.0 * count + 5.0);
    let tied: f64 = ties(points.iter().map(|(_, value)| *value)).into_iter().map(spread).sum();
    let variance = (spread(points.len() as f64) - tied) / 18.0;
    let width = NORMAL_95 * variance.max(0.0).sqrt();
    let pairs = slopes.len() as f64;
    let (low, high) = (((pairs - width) / 2.0).floor() - 1.0, f64::midpoint(pairs, width).ceil());
    let bounded = points.len() > 2 && low >= 0.0 && high < pairs;
    let at = |rank: f64| if bounded { slopes.get(rank as usize).copied() } else { None };
    Some(RobustSlope { slope, low: at(low), high: at(high), points: points.len() })
}

/// A place where the mean of a series changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangePoint {
    /// Index of the first value after the change.
    pub at: usize,
    /// Mean of the segment before.
    pub before: f64,
    /// Mean of the segment after.
    pub after: f64,
}

/// The change points of a series' mean: the segmentation that minimises the sum of squared distances to the segments' means plus
/// 3 σ² ln n for each change (optimal partitioning, Jackson et al. 2005; PELT finds the same). σ is estimated from the median of
/// the absolute differences of neighbours, so that a change itself does not raise it. A segment has three values at least.
/// Beyond [`MAX_CHANGE_VALUES`] the last ones count, and indexes refer to them.
pub fn change_points(values: &[f64]) -> Vec<ChangePoint> {
    let values = &values[values.len().saturating_sub(MAX_CHANGE_VALUES)..];
    let count = values.len();
    if count < 2 * MIN_SEGMENT {
        return Vec::new();
    }
    let mut differences: Vec<f64> = values.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
    differences.sort_by(f64::total_cmp);
    let centre = values.iter().sum::<f64>() / count as f64;
    let size = values.iter().map(|value| value.abs()).fold(0.0, f64::max);
    let sigma = (median(&differences).unwrap_or(0.0) / DIFFERENCE_SCALE).max(size * 1e-6).max(f64::MIN_POSITIVE);
    let penalty = 3.0 * sigma * sigma * (count as f64).ln();
    // Sums of the values' distances to their mean, which lose less than those of the values.
    let (mut sums, mut squares) = (vec![0.0; count + 1], vec![0.0; count + 1]);
    for (at, value) in values.iter().enumerate() {
        let moved = value - centre;
        sums[at + 1] = sums[at] + moved;
        squares[at + 1] = squares[at] + moved * moved;
    }
    let cost = |from: usize, to: usize| {
        let sum: f64 = sums[to] - sums[from];
        (squares[to] - squares[from] - sum * sum / (to - from) as f64).max(0.0)
    };
    let (mut best, mut last) = (vec![f64::INFINITY; count + 1], vec![0; count + 1]);
    best[0] = -penalty;
    for to in MIN_SEGMENT..=count {
        for from in (0..=to - MIN_SEGMENT).filter(|from| *from == 0 || *from >= MIN_SEGMENT) {
            let total = best[from] + cost(from, to) + penalty;
            if total < best[to] {
                (best[to], last[to]) = (total, from);
            }
        }
    }
    let mut bounds = vec![count];
    let mut at = count;
    while at > 0 {
        at = last[at];
        bounds.push(at);
    }
    bounds.reverse();
    let mean = |from: usize, to: usize| centre + (sums[to] - sums[from]) / (to - from) as f64;
    let change = |bounds: &[usize]| ChangePoint {
        at: bounds[1],
        before: mean(bounds[0], bounds[1]),
        after: mean(bounds[1], bounds[2]),
    };
    bounds.windows(3).map(change).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;

    #[test]
    fn an_outlier_does_not_bend_the_slope() {
        let mut points: Vec<(f64, f64)> = (0..20).map(|at| (f64::from(at), 3.0 + 0.5 * f64::from(at))).collect();
        points[7].1 = 1000.0;
        points[13].1 = -1000.0;
        let found = robust_slope(&points).unwrap();
        assert!((found.slope - 0.5).abs() < 1e-12, "{found:?}");
        assert!(found.low.unwrap() <= 0.5 && found.high.unwrap() >= 0.5);
    }

    #[test]
    fn the_interval_is_that_of_the_literature() {
        // Helsel and Hirsch, Statistical Methods in Water Resources, section 10.1.2: slopes of eight years.
        let values = [10.0, 15.0, 11.0, 17.0, 20.0, 19.0, 21.0, 24.0];
        let points: Vec<(f64, f64)> = values.iter().enumerate().map(|(at, value)| (at as f64, *value)).collect();
        let found = robust_slope(&points).unwrap();
        let mut slopes: Vec<f64> = Vec::new();
        for (at, (time, value)) in points.iter().enumerate() {
            slopes.extend(points[..at].iter().map(|(before, other)| (value - other) / (time - before)));
        }
        slopes.sort_by(f64::total_cmp);
        // 28 pairs and σ = √(8·7·21 / 18) = 8.083: ranks 6 and 22 of 1..28, one further out on each side.
        assert_eq!((found.slope, found.points), (f64::midpoint(slopes[13], slopes[14]), 8));
        assert_eq!((found.low, found.high), (Some(slopes[5]), Some(slopes[22])));
    }

    #[test]
    fn too_few_points_have_no_slope_or_no_interval() {
        assert_eq!(robust_slope(&[]), None);
        assert_eq!(robust_slope(&[(1.0, 2.0)]), None);
        assert_eq!(robust_slope(&[(1.0, 2.0), (1.0, 3.0)]), None);
        let two = robust_slope(&[(1.0, 2.0), (2.0, 5.0)]).unwrap();
        assert_eq!((two.slope, two.low, two.high), (3.0, None, None));
    }

    #[test]
    fn a_step_is_found_and_noise_is_not() {
        let (mut quiet, mut single) = (0, 0);
        for seed in 0..100 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let noise: Vec<f64> = (0..48).map(|_| rng.random_range(-0.5..0.5)).collect();
            let flat: Vec<f64> = noise.iter().map(|noise| 10.0 + noise).collect();
            quiet += usize::from(change_points(&flat).is_empty());
            let level = |at: usize| if at < 30 { 10.0 } else { 14.0 };
            let step: Vec<f64> = noise.iter().enumerate().map(|(at, noise)| level(at) + noise).collect();
            let found = change_points(&step);
            let nearest = found.iter().find(|change| change.at == 30).copied();
            let nearest = nearest.unwrap_or_else(|| panic!("seed {seed}: {found:?}"));
            assert!((nearest.after - nearest.before - 4.0).abs() < 1.0, "seed {seed}: {found:?}");
            single += usize::from(found.len() == 1);
        }
        assert!(quiet >= 90 && single >= 90, "of 100: {quiet} without a step, {single} with one");
        assert_eq!(change_points(&[1.0, 1.0, 1.0, 5.0, 5.0, 5.0]).len(), 1, "without noise");
        assert_eq!(change_points(&[1.0; 5]), []);
    }

    proptest! {
        #[test]
        fn a_slope_moves_with_its_points(values in prop::collection::vec(-1e3f64..1e3, 3..40), add in -10f64..10.0) {
            let points: Vec<(f64, f64)> = values.iter().enumerate().map(|(at, value)| (at as f64, *value)).collect();
            let tilted: Vec<(f64, f64)> = points.iter().map(|(at, value)| (*at, value + add * at)).collect();
            let (one, other) = (robust_slope(&points).unwrap(), robust_slope(&tilted).unwrap());
            prop_assert!((other.slope - one.slope - add).abs() < 1e-9);
        }

        #[test]
        fn segments_are_long_enough(values in prop::collection::vec(-1e3f64..1e3, 0..60)) {
            let mut last = 0;
            for change in change_points(&values) {
                prop_assert!(change.at >= last + MIN_SEGMENT && change.at + MIN_SEGMENT <= values.len());
                last = change.at;
            }
        }
    }
}
