//! Comparison of a second version with the serving one: it answers a share of the calls (canary), or receives all of
//! them without answering (shadow).

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::network::{NetworkOutput, PolicySpec};

/// Split of the calls that name a policy without a version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = PolicySplit)]
pub struct TrafficSplit {
    /// Version that answers a share of the calls; null: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryVersion>,
    /// Version that receives all states without answering; null: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowVersion>,
}

/// A version that answers a share of the calls.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = CanarySplit)]
pub struct CanaryVersion {
    /// Number of the version.
    pub version: u32,
    /// Share of the calls, from 0 to 1.
    pub share: f64,
}

/// A version that receives the states of the serving one without answering.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ShadowSplit)]
pub struct ShadowVersion {
    /// Number of the version.
    pub version: u32,
}

impl TrafficSplit {
    /// Return whether neither canary nor shadow is set.
    pub fn is_none(&self) -> bool {
        self.canary.is_none() && self.shadow.is_none()
    }
}

/// Statistics of one of the compared versions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = ComparisonSide)]
pub struct VersionStats {
    /// Number of the version.
    pub version: u32,
    /// Number of calls that it answered or, as the shadow, received.
    pub calls: u64,
    /// Number of states in these calls.
    pub states: u64,
    /// Number of failed calls.
    pub failed: u64,
    /// Mean of what its critic expects in these states; null without states. That is no result: critics of different versions
    /// may have different scales.
    pub critic_estimate: Option<f64>,
    /// Same as `critic_estimate`, under its former name.
    pub mean_value: Option<f64>,
    /// Mean time from acceptance of a call to its answer, in microseconds.
    pub mean_microseconds: Option<f64>,
    #[serde(skip)]
    values: f64,
    #[serde(skip)]
    seconds: f64,
}

impl VersionStats {
    fn add(&mut self, evaluations: &[NetworkOutput], seconds: f64) {
        self.calls += 1;
        self.states += evaluations.len() as u64;
        self.seconds += seconds;
        self.values += evaluations.iter().map(|one| f64::from(one.state_value())).sum::<f64>();
    }

    fn shown(&self) -> Self {
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        let estimate = mean(self.values, self.states);
        Self {
            critic_estimate: estimate,
            mean_value: estimate,
            mean_microseconds: mean(self.seconds * 1e6, self.calls),
            ..self.clone()
        }
    }
}

/// Statistics of the compared versions since either of them or the split was changed, or since the process started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = SplitComparison)]
pub struct SplitComparison {
    /// Version that answers the calls without a version.
    pub serving: VersionStats,
    /// Canary, if there is one.
    pub canary: Option<VersionStats>,
    /// Shadow, if there is one.
    pub shadow: Option<VersionStats>,
    /// Share of the states seen by shadow and serving version for which both have the same greedy action; null without
    /// such states.
    pub agreement: Option<f64>,
    /// Mean absolute difference of their value estimates.
    pub mean_value_difference: Option<f64>,
    /// What the figures do not say.
    pub warnings: Vec<String>,
}

/// What is to be known of estimates of several critics.
const ESTIMATE_WARNING: &str = "critic_estimate and mean_value_difference are expectations of each version's own critic, \
                                whose scales may differ: compare versions by outcomes";

#[derive(Debug, Default)]
struct SplitCounts {
    serving: VersionStats,
    canary: VersionStats,
    shadow: VersionStats,
    compared: u64,
    agreed: u64,
    differences: f64,
    /// Credit of the canary: grows by its share with each call.
    owed: f64,
}

/// Statistics of one split. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct SplitStats(Arc<Mutex<SplitCounts>>);

/// Version that answered a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredBy {
    /// The serving version.
    Serving,
    /// The canary version.
    Canary,
}

impl SplitStats {
    fn counts(&self) -> parking_lot::MutexGuard<'_, SplitCounts> {
        self.0.lock()
    }

    /// Choose the version for the next call: of any n consecutive calls the canary gets its share, rounded.
    pub fn next(&self, share: f64) -> AnsweredBy {
        let mut counts = self.counts();
        counts.owed += share;
        if counts.owed < 1.0 - 1e-9 {
            return AnsweredBy::Serving;
        }
        counts.owed -= 1.0;
        AnsweredBy::Canary
    }

    /// Record an answered call.
    pub fn answered(&self, by: AnsweredBy, version: u32, evaluations: &[NetworkOutput], seconds: f64) {
        let mut counts = self.counts();
        let side = if by == AnsweredBy::Canary { &mut counts.canary } else { &mut counts.serving };
        side.version = version;
        side.add(evaluations, seconds);
    }

    /// Record a failed call.
    pub fn failed(&self, by: AnsweredBy) {
        let mut counts = self.counts();
        let side = if by == AnsweredBy::Canary { &mut counts.canary } else { &mut counts.serving };
        side.failed += 1;
    }

    /// Record a call that the shadow received; `None` if it failed there.
    pub fn followed(&self, form: &PolicySpec, serving: &[NetworkOutput], shadow: Option<(&[NetworkOutput], f64)>) {
        let mut counts = self.counts();
        let Some((shadow, seconds)) = shadow else {
            counts.shadow.failed += 1;
            return;
        };
        counts.shadow.add(shadow, seconds);
        for (one, other) in serving.iter().zip(shadow) {
            counts.compared += 1;
            counts.agreed += u64::from(form.greedy(one) == form.greedy(other));
            counts.differences += f64::from((one.state_value() - other.state_value()).abs());
        }
    }

    /// Return the statistics for this split.
    pub fn comparison(&self, split: &TrafficSplit, serving: u32) -> SplitComparison {
        let counts = self.counts();
        let mean = |sum: f64| (counts.compared > 0).then(|| sum / counts.compared as f64);
        let side = |side: &VersionStats, version: u32| VersionStats { version, ..side.shown() };
        SplitComparison {
            serving: side(&counts.serving, serving),
            canary: split.canary.map(|canary| side(&counts.canary, canary.version)),
            shadow: split.shadow.map(|shadow| side(&counts.shadow, shadow.version)),
            agreement: mean(counts.agreed as f64),
            mean_value_difference: mean(counts.differences),
            warnings: vec![ESTIMATE_WARNING.to_owned()],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_canary_gets_its_share(thousandths in 0u32..=1000, calls in 1u32..2000) {
            let tally = SplitStats::default();
            let share = f64::from(thousandths) / 1000.0;
            let got = (0..calls).filter(|_| tally.next(share) == AnsweredBy::Canary).count();
            prop_assert!((got as f64 - share * f64::from(calls)).abs() <= 1.0);
        }
    }

    #[test]
    fn two_versions_are_compared() {
        let tally = SplitStats::default();
        let says =
            |first: f32, value: f32| NetworkOutput::Probabilities { probabilities: vec![first, 1.0 - first], value };
        let form =
            crate::network::PolicyNetwork::from_safetensors(crate::builtin::BUILTIN_BYTES).unwrap().form().clone();
        let split = TrafficSplit { canary: None, shadow: Some(ShadowVersion { version: 2 }) };
        assert_eq!(tally.comparison(&split, 1).agreement, None, "nothing was seen yet");
        let serving = [says(0.7, 1.0), says(0.2, 3.0)];
        tally.answered(AnsweredBy::Serving, 1, &serving, 1e-3);
        tally.followed(&form, &serving, Some((&[says(0.6, 0.5), says(0.9, 3.0)], 3e-3)));
        tally.followed(&form, &serving, None);
        let seen = tally.comparison(&split, 1);
        assert_eq!((seen.agreement, seen.mean_value_difference), (Some(0.5), Some(0.25)));
        assert_eq!((seen.serving.states, seen.serving.mean_value), (2, Some(2.0)));
        let shadow = seen.shadow.unwrap();
        assert_eq!((shadow.version, shadow.calls, shadow.failed, shadow.mean_microseconds), (2, 1, 1, Some(3000.0)));
        assert_eq!(seen.canary, None);
    }
}
