//! Figures of a training run: its reward curve, episodes and gradient steps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Share of clipped mass above which a run carries a warning.
const MAX_CLIPPED_MASS: f64 = 0.2;
/// Number of points of a complete reward curve.
const CURVE_POINTS: u64 = 200;

/// A point of a reward curve. It covers the time since the point before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = CurvePoint)]
pub struct CurvePoint {
    /// Environment steps done so far.
    pub steps: u64,
    /// Episodes ended so far.
    pub episodes: u64,
    /// Mean return of the episodes that ended, including exploration; null: none ended.
    pub mean_return: Option<f64>,
    /// Mean length of these episodes, in steps.
    pub mean_length: Option<f64>,
    /// Losses and similar figures by name, means over the updates.
    pub measures: BTreeMap<String, f64>,
}

/// An evaluation during a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = EvaluationPoint)]
pub struct EvaluationPoint {
    /// Environment steps done.
    pub steps: u64,
    /// Mean return of the episodes.
    pub mean: f64,
    /// Exact expected return; null where the environment's model does not allow it.
    pub expected_return: Option<f64>,
}

impl EvaluationPoint {
    /// Return the number by which weights are compared.
    pub(super) fn score(&self) -> f64 {
        self.expected_return.unwrap_or(self.mean)
    }
}

/// Figures recorded during a run. Part of its checkpoints, so that a resumed run continues them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// Points of the reward curve.
    pub points: Vec<CurvePoint>,
    /// Number of episodes ended.
    pub episodes: u64,
    /// Number of gradient steps done; 0 in records made before it was counted.
    #[serde(default)]
    pub gradient_steps: u64,
    /// Evaluations during the run.
    #[serde(default)]
    pub evaluations: Vec<EvaluationPoint>,
    since: PointAccumulator,
}

/// Sums since the last point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct PointAccumulator {
    count: u64,
    returns: f64,
    lengths: f64,
    measures: BTreeMap<String, (f64, u32)>,
}

impl TrainingRecord {
    /// Add the result of one advance, after which `steps` of `total` are done. Returns whether a point was made.
    pub fn add(&mut self, progress: &crate::training::TrainingProgress, steps: u64, total: u64) -> bool {
        self.gradient_steps += progress.updates;
        let since = &mut self.since;
        for ended in &progress.ended {
            self.episodes += 1;
            since.count += 1;
            since.returns += ended.total;
            since.lengths += f64::from(ended.length);
        }
        for (name, value) in progress.measures.iter().filter(|(_, value)| value.is_finite()) {
            let (sum, count) = since.measures.entry((*name).to_owned()).or_default();
            *sum += value;
            *count += 1;
        }
        let last = self.points.last().map_or(0, |point| point.steps);
        // Points are made at fixed fractions of the run, not by time, so that a resumed run makes the same points.
        let part = |steps: u64| steps.saturating_mul(CURVE_POINTS) / total.max(1);
        if part(steps) == part(last) && steps < total {
            return false;
        }
        let since = std::mem::take(since);
        let mean = |sum: f64| (since.count > 0).then(|| sum / since.count as f64);
        self.points.push(CurvePoint {
            steps,
            episodes: self.episodes,
            mean_return: mean(since.returns),
            mean_length: mean(since.lengths),
            measures: since.measures.into_iter().map(|(name, (sum, count))| (name, sum / f64::from(count))).collect(),
        });
        true
    }

    /// Return whether one of `count` evaluations, evenly spaced over `total` steps, is due.
    pub fn is_evaluation_due(&self, count: u32, steps: u64, total: u64) -> bool {
        let part = |steps: u64| steps.saturating_mul(u64::from(count)) / total.max(1);
        part(steps) > part(self.evaluations.last().map_or(0, |last| last.steps))
    }

    /// Return whether the weights were changed. A record made before gradient steps were counted has its updates' figures.
    pub fn has_learned(&self) -> bool {
        self.gradient_steps > 0 || self.points.iter().any(|point| !point.measures.is_empty())
    }

    /// Return what the newest figures say is likely to be wrong.
    pub fn warnings(&self) -> Vec<String> {
        let measured = self.points.iter().rev().find_map(|point| point.measures.get("clipped_mass"));
        let clipped = measured.copied().filter(|mass| *mass > MAX_CLIPPED_MASS);
        let warning = |mass: f64| {
            format!(
                "{:.0} % of the returns that are learned lie beyond v_min and v_max and are cut off there: widen them, or \
                 lower reward_scale",
                100.0 * mass
            )
        };
        clipped.map(warning).into_iter().collect()
    }

    /// Return the mean return at the last point at which an episode had ended.
    pub fn mean_return(&self) -> Option<f64> {
        self.points.iter().rev().find_map(|point| point.mean_return)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{environments::FinishedEpisode, training::TrainingProgress};

    #[test]
    fn a_curve_has_its_points_where_the_run_is() {
        let ended = |total: f64| FinishedEpisode { index: 0, total, length: 10, terminated: true };
        let advance = |totals: &[f64], loss: f64| TrainingProgress {
            ended: totals.iter().map(|total| ended(*total)).collect(),
            updates: 2,
            measures: vec![("loss", loss)],
        };
        let mut record = TrainingRecord::default();
        assert!(!record.add(&advance(&[1.0, 3.0], 4.0), 3, 1000), "a point is 5 steps");
        assert!(record.add(&advance(&[], 2.0), 5, 1000));
        assert!(record.add(&advance(&[], f64::NAN), 11, 1000));
        let first = &record.points[0];
        assert_eq!((first.steps, first.episodes, first.mean_return), (5, 2, Some(2.0)));
        assert_eq!((first.mean_length, first.measures["loss"]), (Some(10.0), 3.0));
        assert_eq!((record.points[1].mean_return, record.points[1].measures.len()), (None, 0));
        assert_eq!(record.mean_return(), Some(2.0));
        // What was not in a point yet is kept with the rest.
        assert!(!record.add(&advance(&[7.0], 1.0), 12, 1000));
        let text = serde_json::to_string(&record).unwrap();
        let mut other: TrainingRecord = serde_json::from_str(&text).unwrap();
        assert_eq!(other, record);
        assert!(other.add(&advance(&[9.0], 1.0), 1000, 1000));
        assert_eq!(other.points[2].mean_return, Some(8.0));
        assert_eq!((other.episodes, other.gradient_steps), (4, 10));
    }
}
