//! How many instances the measured load wants. A rule without I/O: the caller says what is under way and what time it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Load below which one instance less would still be enough, as a share of the target: the gap keeps the number from swinging.
const LOW_SHARE: f64 = 0.6;

/// How a deployment follows its load.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = DeploymentScalingPolicy)]
pub struct ScalingPolicy {
    /// Calls under way at each instance that are wanted, 0.1 to 1000. Default 4.
    pub target_in_flight: f64,
    /// Seconds that the load must be higher before instances are added, 1 to 3600. Default 10.
    pub scale_up_seconds: f64,
    /// Seconds that the load must be lower before one is taken away, 1 to 86400. Default 120.
    pub scale_down_seconds: f64,
    /// Seconds without a call after which the last instance ends too, where the deployment's `min_instances` is 0; 1 to 86400.
    /// Default 300.
    pub idle_seconds: f64,
}

impl Default for ScalingPolicy {
    fn default() -> Self {
        Self { target_in_flight: 4.0, scale_up_seconds: 10.0, scale_down_seconds: 120.0, idle_seconds: 300.0 }
    }
}

/// Since when the load wants another number.
#[derive(Clone, Debug, Default)]
pub struct ScalingWatch {
    higher_since: Option<Duration>,
    lower_since: Option<Duration>,
    idle_since: Option<Duration>,
}

impl ScalingWatch {
    /// Look at `load` calls under way at `now`, a time that passes evenly. Returns another number of instances than `present`, from
    /// `least` to `most`, with the reason, once the load has wanted it for long enough.
    pub fn observe(
        &mut self,
        policy: &ScalingPolicy,
        load: f64,
        (present, least, most): (u32, u32, u32),
        now: Duration,
    ) -> Option<(u32, String)> {
        let wanted = (load / policy.target_in_flight).ceil().clamp(0.0, f64::from(most)) as u32;
        let lasted = |since: &mut Option<Duration>, holds: bool, seconds: f64| {
            *since = holds.then(|| since.unwrap_or(now));
            since.is_some_and(|since| now.saturating_sub(since).as_secs_f64() >= seconds)
        };
        let fewer = f64::from(present.saturating_sub(1)) * policy.target_in_flight * LOW_SHARE;
        let up = lasted(&mut self.higher_since, wanted > present && present < most, policy.scale_up_seconds);
        let down = lasted(&mut self.lower_since, present > least.max(1) && load <= fewer, policy.scale_down_seconds);
        // What is left of a mean when calls have ended never becomes zero.
        let idle = lasted(&mut self.idle_since, present > 0 && least == 0 && load < 0.01, policy.idle_seconds);
        let found = if up {
            Some((wanted.max(least), "more"))
        } else if idle {
            Some((0, "no"))
        } else if down {
            Some((present - 1, "fewer"))
        } else {
            None
        };
        let (number, word) = found?;
        *self = Self::default();
        let reason = format!("{load:.1} calls under way for {present} instances want {word}: {number}");
        Some((number, reason))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_moment_of_load_changes_nothing_and_a_lasting_one_does() {
        let (policy, mut watch) = (ScalingPolicy::default(), ScalingWatch::default());
        assert_eq!(watch.observe(&policy, 20.0, (1, 1, 5), at(0.0)), None);
        assert_eq!(watch.observe(&policy, 2.0, (1, 1, 5), at(9.0)), None, "it was only a moment");
        assert_eq!(watch.observe(&policy, 20.0, (1, 1, 5), at(10.0)), None);
        assert_eq!(watch.observe(&policy, 9.0, (1, 1, 5), at(20.0)).unwrap().0, 3);
    }

    #[test]
    fn the_gap_between_up_and_down_keeps_the_number() {
        let (policy, mut watch) = (ScalingPolicy::default(), ScalingWatch::default());
        // 8 calls fill two of them; three would do with 4.8, and are kept above it.
        for second in 0..1000 {
            assert_eq!(watch.observe(&policy, 5.0, (3, 1, 5), at(f64::from(second))), None);
        }
        assert_eq!(watch.observe(&policy, 4.0, (3, 1, 5), at(1000.0)), None);
        assert_eq!(watch.observe(&policy, 4.0, (3, 1, 5), at(1120.0)).unwrap().0, 2);
    }

    #[test]
    fn the_last_one_ends_only_where_none_is_allowed() {
        let (policy, mut watch) = (ScalingPolicy::default(), ScalingWatch::default());
        for least in [1, 0] {
            watch.observe(&policy, 0.0, (1, least, 5), at(0.0));
            let found = watch.observe(&policy, 0.0, (1, least, 5), at(300.0)).map(|found| found.0);
            assert_eq!(found, (least == 0).then_some(0));
        }
    }

    proptest! {
        /// Whatever the load is: the number stays within its bounds, and changes no more often than the waits allow.
        #[test]
        fn numbers_stay_within_bounds(
            loads in proptest::collection::vec(0.0f64..100.0, 1..300),
            least in 0u32..3,
            room in 1u32..6,
        ) {
            let (policy, mut watch, most) = (ScalingPolicy::default(), ScalingWatch::default(), least + room);
            let (mut present, mut last) = (least.max(1), None::<f64>);
            for (second, load) in loads.into_iter().enumerate() {
                let now = second as f64 * 3.0;
                if let Some((number, _)) = watch.observe(&policy, load, (present, least, most), at(now)) {
                    prop_assert!(number != present && (least..=most).contains(&number), "{present} to {number}");
                    prop_assert!(last.is_none_or(|last| now - last >= policy.scale_up_seconds));
                    (present, last) = (number, Some(now));
                }
            }
        }
    }
}
