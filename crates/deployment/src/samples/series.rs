//! Samples of what was measured over time: which grain answers a time range, and how points are merged. Rules without I/O.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Points of a report at most.
pub const MAX_POINTS: usize = 360;

/// A grain in which samples are kept: seconds of a sample, and seconds for which it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleGrain {
    /// Seconds of one sample.
    pub seconds: i64,
    /// Seconds after which a sample is removed.
    pub kept_seconds: i64,
}

/// The grains, the finest first. Each sample is added to all of them.
pub const GRAINS: [SampleGrain; 3] = [
    SampleGrain { seconds: 10, kept_seconds: 7_200 },
    SampleGrain { seconds: 60, kept_seconds: 86_400 },
    SampleGrain { seconds: 600, kept_seconds: 30 * 86_400 },
];

/// The finest grain that reaches back as far.
pub fn grain_for(range_seconds: i64) -> SampleGrain {
    GRAINS.into_iter().find(|grain| range_seconds <= grain.kept_seconds).unwrap_or(GRAINS[GRAINS.len() - 1])
}

/// The beginning of the sample that `at` (in seconds since 1970) falls into.
pub fn sample_start(at: i64, grain: i64) -> i64 {
    at - at.rem_euclid(grain)
}

/// The seconds of a time range such as `30m`, `1h` or `7d`: a number from 1 with a unit. `None`: it is none, or beyond thirty days.
pub fn parse_range(text: &str) -> Option<i64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: i64 = text[..digits].parse().ok()?;
    let unit = match &text[digits..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let seconds = number.checked_mul(unit)?;
    (1..=GRAINS[GRAINS.len() - 1].kept_seconds).contains(&seconds).then_some(seconds)
}

/// What was measured of a deployment in one span of time. Sums, so that two spans add up to one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = DeploymentSample)]
pub struct SampleSums {
    /// Calls that ended.
    pub requests: i64,
    /// Those of them that failed.
    pub errors: i64,
    /// Seconds of all calls together.
    pub response_seconds: f64,
    /// Seconds of the slowest call.
    pub slowest_seconds: f64,
    /// Processor seconds of all instances.
    pub cpu_seconds: f64,
    /// Mean bytes of memory of an instance, summed over looks.
    pub memory_bytes: f64,
    /// Healthy instances, summed over looks.
    pub healthy: i64,
    /// Instances, summed over looks.
    pub instances: i64,
    /// Looks at the instances.
    pub looks: i64,
}

impl SampleSums {
    /// Add what another span has.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.response_seconds += other.response_seconds;
        self.slowest_seconds = self.slowest_seconds.max(other.slowest_seconds);
        self.cpu_seconds += other.cpu_seconds;
        self.memory_bytes += other.memory_bytes;
        self.healthy += other.healthy;
        self.instances += other.instances;
        self.looks += other.looks;
    }

    /// Percent of the calls that failed; `None`: there was none.
    pub fn error_rate(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.errors as f64 * 100.0 / self.requests as f64)
    }

    /// Mean seconds of a call; `None`: there was none.
    pub fn average_response_time(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.response_seconds / self.requests as f64)
    }

    /// Mean bytes of memory of an instance; `None`: none was looked at.
    pub fn average_memory(&self) -> Option<f64> {
        (self.looks > 0).then(|| self.memory_bytes / self.looks as f64)
    }

    /// Mean percent of the instances that were healthy; `None`: none was looked at.
    pub fn healthy_share(&self) -> Option<f64> {
        (self.instances > 0).then(|| self.healthy as f64 * 100.0 / self.instances as f64)
    }
}

/// Merge neighbours until there are at most `most` points: each point then stands for so many times the grain.
pub fn thin(points: Vec<(i64, SampleSums)>, grain: i64, most: usize) -> (Vec<(i64, SampleSums)>, i64) {
    let span = match (points.first(), points.last()) {
        (Some((first, _)), Some((last, _))) => last - first + grain,
        _ => return (points, grain),
    };
    let whole = (span as f64 / (grain as f64 * most.max(1) as f64)).ceil().max(1.0) as i64;
    // Aligned to the merged span, so that a later report has the same points: one more may stand at an end.
    let mut coarse = grain * whole;
    let mut merged = merge(&points, coarse);
    while merged.len() > most.max(1) {
        coarse += grain;
        merged = merge(&points, coarse);
    }
    (merged, coarse)
}

fn merge(points: &[(i64, SampleSums)], coarse: i64) -> Vec<(i64, SampleSums)> {
    let mut merged: Vec<(i64, SampleSums)> = Vec::new();
    for (at, sums) in points {
        let start = sample_start(*at, coarse);
        match merged.last_mut() {
            Some((last, all)) if *last == start => all.add(sums),
            _ => merged.push((start, *sums)),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_are_read() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1h", 3600), ("24h", 86_400), ("30d", 2_592_000)] {
            assert_eq!(parse_range(text), Some(seconds));
        }
        for text in ["", "h", "1", "0h", "-1h", "1 h", "1w", "31d", "99999999999999999999s", "1hh"] {
            assert_eq!(parse_range(text), None, "{text}");
        }
    }

    #[test]
    fn the_finest_grain_that_reaches_back_answers() {
        assert_eq!([3600, 7200, 7201, 86_400, 86_401].map(|range| grain_for(range).seconds), [10, 10, 60, 60, 600]);
    }

    #[test]
    fn figures_are_null_where_nothing_was_measured() {
        let none = SampleSums::default();
        assert_eq!((none.error_rate(), none.average_response_time(), none.average_memory()), (None, None, None));
        let some = SampleSums { requests: 4, errors: 1, response_seconds: 2.0, ..none };
        assert_eq!((some.error_rate(), some.average_response_time()), (Some(25.0), Some(0.5)));
    }

    proptest! {
        /// Merged points are few, in order, and lose no call.
        #[test]
        fn merging_loses_nothing(gaps in proptest::collection::vec(1i64..50, 0..900), most in 1usize..400) {
            let mut at = 1_700_000_000 / 10 * 10;
            let points: Vec<(i64, SampleSums)> = gaps.iter().map(|gap| {
                at += gap * 10;
                (at, SampleSums { requests: *gap, ..SampleSums::default() })
            }).collect();
            let calls: i64 = gaps.iter().sum();
            let (merged, coarse) = thin(points, 10, most);
            prop_assert!(merged.len() <= most);
            prop_assert_eq!(merged.iter().map(|(_, sums)| sums.requests).sum::<i64>(), calls);
            prop_assert!(merged.windows(2).all(|two| two[0].0 < two[1].0 && two[1].0 % coarse == 0));
        }
    }
}
