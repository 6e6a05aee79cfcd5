//! A second version beside the one that serves: it gets a share of the calls (canary), or all of them without answering
//! (shadow), and is compared with the first.

use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::{
    decide::value_of,
    network::{Evaluation, Form},
};

/// Which calls by a policy's bare name go elsewhere as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Answers its share of the calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// Sees all states, and is not asked for an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,
}

/// A version that answers a share of the calls.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Canary {
    /// Which.
    pub version: u32,
    /// From 0 to 1.
    pub share: f64,
}

/// A version that sees what the serving one sees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Shadow {
    /// Which.
    pub version: u32,
}

impl Split {
    /// Whether there is any.
    pub fn is_none(&self) -> bool {
        self.canary.is_none() && self.shadow.is_none()
    }
}

/// What one of two versions did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Its number.
    pub version: u32,
    /// Calls that it answered or, as the shadow, followed.
    pub calls: u64,
    /// States in them.
    pub states: u64,
    /// Calls that failed.
    pub failed: u64,
    /// The mean of its values; none: it had no state.
    pub mean_value: Option<f64>,
    /// The mean time of a call from acceptance to answer, in microseconds.
    pub mean_microseconds: Option<f64>,
    #[serde(skip)]
    values: f64,
    #[serde(skip)]
    seconds: f64,
}

impl Side {
    fn add(&mut self, evaluations: &[Evaluation], seconds: f64) {
        self.calls += 1;
        self.states += evaluations.len() as u64;
        self.seconds += seconds;
        self.values += evaluations.iter().map(|one| f64::from(value_of(one))).sum::<f64>();
    }

    fn shown(&self) -> Self {
        let mean = |sum: f64, count: u64| (count > 0).then(|| sum / count as f64);
        Self {
            mean_value: mean(self.values, self.states),
            mean_microseconds: mean(self.seconds * 1e6, self.calls),
            ..self.clone()
        }
    }
}

/// Two versions beside each other, since the split was set or the process began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The version that serves.
    pub serving: Side,
    /// The canary, where there is one.
    pub canary: Option<Side>,
    /// The shadow, where there is one.
    pub shadow: Option<Side>,
    /// Of the states that shadow and serving version both saw, the share in which the best action is the same; none:
    /// there was no such state.
    pub agreement: Option<f64>,
    /// The mean absolute difference of their values.
    pub mean_value_difference: Option<f64>,
}

#[derive(Debug, Default)]
struct Counts {
    serving: Side,
    canary: Side,
    shadow: Side,
    compared: u64,
    agreed: u64,
    differences: f64,
    /// What the canary is owed: rises by its share with each call.
    owed: f64,
}

/// The counts of one split. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Mutex<Counts>>);

/// Which side answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// The version that serves.
    Serving,
    /// The canary.
    Canary,
}

impl Tally {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who answers the next call: of any n calls in a row the canary gets its share, rounded.
    pub fn next(&self, share: f64) -> Answering {
        let mut counts = self.counts();
        counts.owed += share;
        if counts.owed < 1.0 - 1e-9 {
            return Answering::Serving;
        }
        counts.owed -= 1.0;
        Answering::Canary
    }

    /// A call was answered.
    pub fn answered(&self, by: Answering, version: u32, evaluations: &[Evaluation], seconds: f64) {
        let mut counts = self.counts();
        let side = if by == Answering::Canary { &mut counts.canary } else { &mut counts.serving };
        side.version = version;
        side.add(evaluations, seconds);
    }

    /// A call failed.
    pub fn failed(&self, by: Answering) {
        let mut counts = self.counts();
        let side = if by == Answering::Canary { &mut counts.canary } else { &mut counts.serving };
        side.failed += 1;
    }

    /// The shadow followed a call, or failed to.
    pub fn followed(&self, form: &Form, serving: &[Evaluation], shadow: Option<(&[Evaluation], f64)>) {
        let mut counts = self.counts();
        let Some((shadow, seconds)) = shadow else {
            counts.shadow.failed += 1;
            return;
        };
        counts.shadow.add(shadow, seconds);
        for (one, other) in serving.iter().zip(shadow) {
            counts.compared += 1;
            counts.agreed += u64::from(form.greedy(one) == form.greedy(other));
            counts.differences += f64::from((value_of(one) - value_of(other)).abs());
        }
    }

    /// What was counted, for this split.
    pub fn comparison(&self, split: &Split, serving: u32) -> Comparison {
        let counts = self.counts();
        let mean = |sum: f64| (counts.compared > 0).then(|| sum / counts.compared as f64);
        let side = |side: &Side, version: u32| Side { version, ..side.shown() };
        Comparison {
            serving: side(&counts.serving, serving),
            canary: split.canary.map(|canary| side(&counts.canary, canary.version)),
            shadow: split.shadow.map(|shadow| side(&counts.shadow, shadow.version)),
            agreement: mean(counts.agreed as f64),
            mean_value_difference: mean(counts.differences),
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
            let tally = Tally::default();
            let share = f64::from(thousandths) / 1000.0;
            let got = (0..calls).filter(|_| tally.next(share) == Answering::Canary).count();
            prop_assert!((got as f64 - share * f64::from(calls)).abs() <= 1.0);
        }
    }

    #[test]
    fn two_versions_are_compared() {
        let tally = Tally::default();
        let says =
            |first: f32, value: f32| Evaluation::Probabilities { probabilities: vec![first, 1.0 - first], value };
        let form = crate::network::Network::from_safetensors(crate::builtin::BYTES).unwrap().form().clone();
        let split = Split { canary: None, shadow: Some(Shadow { version: 2 }) };
        assert_eq!(tally.comparison(&split, 1).agreement, None, "nothing was seen yet");
        let serving = [says(0.7, 1.0), says(0.2, 3.0)];
        tally.answered(Answering::Serving, 1, &serving, 1e-3);
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
