//! The overall score, trends between two reports, and where a score stands: the contract's formulas.

use std::collections::BTreeMap;

use super::model::ProfileMetrics;

/// Weights of metrics in the overall score.
const WEIGHTS: [(&str, f64); 5] =
    [("accuracy", 0.3), ("latency", -0.2), ("throughput", 0.2), ("efficiency", 0.15), ("cost_efficiency", 0.15)];
/// Weight of every other metric.
const OTHER_WEIGHT: f64 = 0.1;
/// Buckets for one step of the hyperbolic arcsine of a score: about four for a point at 60.
const BUCKETS_PER_STEP: f64 = 256.0;

/// The weighted mean of metrics over the sum of their weights; 0 where that sum is not positive. `None` without metrics.
pub(super) fn overall_score(metrics: &ProfileMetrics) -> Option<f64> {
    let weight =
        |name: &str| WEIGHTS.iter().find(|(known, _)| *known == name).map_or(OTHER_WEIGHT, |(_, weight)| *weight);
    let (sum, weights) = metrics
        .iter()
        .fold((0.0, 0.0), |(sum, weights), (name, value)| (sum + weight(name) * value, weights + weight(name)));
    let score = if weights > 1e-12 { sum / weights } else { 0.0 };
    // Sums of huge metrics have no float.
    (!metrics.is_empty()).then(|| score.clamp(f64::MIN, f64::MAX))
}

/// For each metric that both reports have: its change relative to the absolute value before. One that was 0 has none.
pub(super) fn trends(before: &ProfileMetrics, after: &ProfileMetrics) -> ProfileMetrics {
    let change = |(name, now): (&String, &f64)| {
        let then = before.get(name).filter(|then| **then != 0.0)?;
        let change = (now - then) / then.abs();
        change.is_finite().then(|| (name.clone(), change))
    };
    after.iter().filter_map(change).collect::<BTreeMap<_, _>>()
}

/// The number of a score's bucket; a larger score has no smaller one.
#[expect(clippy::cast_possible_truncation, reason = "the arcsine of a float is below 711")]
pub(super) fn score_bucket(score: f64) -> i64 {
    (score.asinh() * BUCKETS_PER_STEP).floor() as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metrics(pairs: &[(&str, f64)]) -> ProfileMetrics {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn the_score_is_the_contracts() {
        assert_eq!(overall_score(&metrics(&[])), None);
        assert_eq!(overall_score(&metrics(&[("accuracy", 90.0)])), Some(90.0));
        assert_eq!(overall_score(&metrics(&[("latency", 90.0)])), Some(0.0), "its weight is not positive");
        let all = metrics(&[
            ("accuracy", 90.0),
            ("latency", 50.0),
            ("throughput", 80.0),
            ("efficiency", 70.0),
            ("cost_efficiency", 60.0),
            ("recall", 40.0),
        ]);
        let wanted = (27.0 - 10.0 + 16.0 + 10.5 + 9.0 + 4.0) / 0.7;
        assert!((overall_score(&all).unwrap() - wanted).abs() < 1e-9);
        assert!(overall_score(&metrics(&[("a", f64::MAX), ("accuracy", f64::MAX)])).unwrap().is_finite());
    }

    #[test]
    fn a_trend_is_relative_to_what_was() {
        let (before, after) =
            (metrics(&[("a", -2.0), ("b", 0.0), ("c", 1.0)]), metrics(&[("a", -1.0), ("b", 5.0), ("d", 1.0)]));
        assert_eq!(trends(&before, &after), metrics(&[("a", 0.5)]));
    }

    proptest! {
        #[test]
        fn buckets_are_in_the_order_of_scores(one in -1e9f64..1e9, other in -1e9f64..1e9) {
            let (low, high) = if one < other { (one, other) } else { (other, one) };
            prop_assert!(score_bucket(low) <= score_bucket(high));
        }
    }
}
