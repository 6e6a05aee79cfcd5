//! Training runs as they are stored and shown.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::training::{Algorithm, OfflineSettings, Plan};
use am_db::{codec::Timestamp, owner, stored_enum};

/// What the id of a run begins with.
const PREFIX: &str = "train_";
/// Points of a whole reward curve.
const POINTS: u64 = 200;

stored_enum! {
    /// How a training run stands.
    pub enum RunStatus {
        /// Waits for a process that trains it.
        Queued = "queued" / "queued",
        /// A process trains it, or the next one will that finds its process dead.
        Running = "running" / "running",
        /// Waits until it is resumed.
        Paused = "paused" / "paused",
        /// Has ended with a version of its policy.
        Completed = "completed" / "completed",
        /// Has ended without one.
        Failed = "failed" / "failed",
        /// Was ended on request.
        Cancelled = "cancelled" / "cancelled",
    }
}

impl RunStatus {
    /// Whether nothing changes any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

stored_enum! {
    /// What was asked of a run that a process is driving.
    pub enum Wish {
        /// Stop at the next step, to go on later.
        Pause = "pause" / "pause",
        /// Stop for good.
        Cancel = "cancel" / "cancel",
    }
}

/// What a run is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Task {
    /// Train in an environment.
    Train(Work),
    /// Learn from feedback.
    Learn(Lesson),
}

impl Task {
    /// Steps of the whole run: environment steps, or passes over the feedback.
    pub fn steps(&self) -> u64 {
        match self {
            Self::Train(work) => work.steps,
            Self::Learn(lesson) => lesson.settings.epochs,
        }
    }

    /// Rows of feedback that it learns from.
    pub fn feedback_rows(&self) -> usize {
        match self {
            Self::Train(_) => 0,
            Self::Learn(lesson) => lesson.rows,
        }
    }

    /// Seconds after which the run ends with what it has.
    pub fn max_seconds(&self) -> Option<f64> {
        match self {
            Self::Train(work) => work.max_seconds,
            Self::Learn(_) => None,
        }
    }
}

/// Learning from feedback, which is stored beside the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lesson {
    /// Whose feedback it is.
    pub agent_id: String,
    /// The version that is changed, `name@version`.
    pub from: String,
    /// How.
    pub settings: OfflineSettings,
    /// How many rows of feedback there are.
    pub rows: usize,
    /// SHA-256 of the feedback as it is stored.
    pub feedback_sha256: String,
}

/// Training in an environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// The environment's name.
    pub environment: String,
    /// Its parameters; none: the defaults.
    pub parameters: Option<Value>,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Its settings, whole.
    pub settings: Option<Value>,
    /// Environment steps.
    pub steps: u64,
    /// Of environments, networks and exploration.
    pub seed: u64,
    /// Seconds after which it ends with what it has; none: no limit. Time before a checkpoint counts.
    pub max_seconds: Option<f64>,
    /// Episodes of the evaluation at its end, 1 to 1000.
    pub evaluation_episodes: usize,
    /// Aliases that are to point at the new version.
    pub aliases: Vec<String>,
}

/// A run as it is asked for. Members that are not named here are ignored.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = TrainingRequest)]
pub struct Request {
    /// The policy that gets a version; `<environment>-<algorithm>` where it is left out.
    #[serde(default)]
    pub policy: Option<String>,
    /// The environment's name.
    pub environment: String,
    /// Its parameters by name; the others have their defaults.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<Value>,
    /// Take the parameters that are not given from the coordinator's records, where these say something of them.
    #[serde(default)]
    pub calibrate: bool,
    /// ppo, a2c, rainbow_dqn, dqn or sac.
    #[serde(default = "ppo")]
    #[schema(value_type = String, default = "ppo")]
    pub algorithm: Algorithm,
    /// Its settings by name; the others have their defaults.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub settings: Option<Value>,
    /// Environment steps, 1 to 100 000 000.
    pub steps: u64,
    /// The same seed makes the same policy, on the same kind of processor.
    #[serde(default)]
    pub seed: u64,
    /// Seconds after which the run ends with what it has.
    #[serde(default)]
    pub max_seconds: Option<f64>,
    /// Episodes of the evaluation at its end, 1 to 1000.
    #[serde(default = "twenty")]
    #[schema(default = 20)]
    pub evaluation_episodes: usize,
    /// Aliases that are to point at the new version, such as `production`.
    #[serde(default)]
    pub aliases: Vec<String>,
}

fn ppo() -> Algorithm {
    Algorithm::Ppo
}

fn twenty() -> usize {
    20
}

impl Request {
    /// What the run is to do; see [`super::checked`].
    pub fn work(self) -> Work {
        let Self { environment, parameters, algorithm, settings, steps, seed, .. } = self;
        let Self { max_seconds, evaluation_episodes, aliases, .. } = self;
        Work { environment, parameters, algorithm, settings, steps, seed, max_seconds, evaluation_episodes, aliases }
    }
}

impl Work {
    /// What its trainer is made of.
    pub fn plan(&self) -> Plan {
        Plan {
            environment: self.environment.clone(),
            parameters: self.parameters.clone(),
            algorithm: self.algorithm,
            settings: self.settings.clone(),
            steps: self.steps,
            seed: self.seed,
        }
    }
}

/// A run to be stored.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// `train_` and 12 hex digits.
    pub id: String,
    /// Whose it is.
    pub owner_id: String,
    /// The policy that gets a version.
    pub policy: String,
    /// What it is to do.
    pub task: Task,
    /// The feedback that it learns from, as JSON.
    pub feedback: Option<String>,
}

/// A run's id from random hex digits.
pub fn run_id(digits: &str) -> String {
    format!("{PREFIX}{digits}")
}

/// Whether a text has the form of a run's id.
pub fn is_run_id(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// One point of a reward curve: what there was since the point before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Environment steps done by then.
    pub steps: u64,
    /// Episodes ended by then.
    pub episodes: u64,
    /// The mean return of the episodes that ended, exploration included; none: none ended.
    pub mean_return: Option<f64>,
    /// The mean length of these, in steps.
    pub mean_length: Option<f64>,
    /// Losses and the like, means over the updates.
    pub measures: BTreeMap<String, f64>,
}

/// What a run has recorded. Part of its checkpoints, so that a run that goes on records on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The reward curve.
    pub points: Vec<Point>,
    /// Episodes ended.
    pub episodes: u64,
    since: Since,
}

/// What has come since the last point.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Since {
    count: u64,
    returns: f64,
    lengths: f64,
    measures: BTreeMap<String, (f64, u32)>,
}

impl Record {
    /// Take in what one advance did, after which `steps` of `total` are done. True: that made a point.
    pub fn add(&mut self, progress: &crate::training::Progress, steps: u64, total: u64) -> bool {
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
        // By whole parts of the run and not by time: a run that goes on elsewhere makes the same points.
        let part = |steps: u64| steps.saturating_mul(POINTS) / total.max(1);
        if part(steps) == part(last) && steps < total {
            return false;
        }
        let since = std::mem::take(since);
        let mean = |sum: f64| (since.count > 0).then(|| sum / since.count as f64);
        self.points.push(Point {
            steps,
            episodes: self.episodes,
            mean_return: mean(since.returns),
            mean_length: mean(since.lengths),
            measures: since.measures.into_iter().map(|(name, (sum, count))| (name, sum / f64::from(count))).collect(),
        });
        true
    }

    /// The last point at which an episode had ended.
    pub fn mean_return(&self) -> Option<f64> {
        self.points.iter().rev().find_map(|point| point.mean_return)
    }
}

/// Where a run can go on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The file's name below the training directory.
    pub file: String,
    /// Its hash.
    pub sha256: String,
    /// Steps done then.
    pub steps: u64,
}

/// A training run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainingRun {
    /// `train_` and 12 hex digits.
    pub id: String,
    /// The same.
    pub run_id: String,
    /// Whose it is.
    #[serde(serialize_with = "owner::shown")]
    pub owner_id: String,
    /// The policy that gets a version.
    pub policy: String,
    /// What it is to do.
    #[serde(flatten)]
    pub task: Task,
    /// How it stands.
    pub status: RunStatus,
    /// What was asked of it and is not done yet.
    pub wish: Option<Wish>,
    /// Of these steps (environment steps, or passes over the feedback) so many are done.
    pub steps_done: u64,
    /// From 0 to 1.
    pub progress: f64,
    /// Seconds of training, over all processes that did it.
    pub seconds: f64,
    /// Steps a second of these.
    pub steps_per_second: Option<f64>,
    /// Episodes ended.
    pub episodes: u64,
    /// The mean return of the newest episodes, exploration included.
    pub mean_return: Option<f64>,
    /// Losses and the like, as of the newest point.
    pub measures: BTreeMap<String, f64>,
    /// The reward curve; not in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curve: Option<Vec<Point>>,
    /// Where it can go on from.
    pub checkpoint: Option<Kept>,
    /// The version that came of it.
    pub version: Option<u32>,
    /// `name@version` of that.
    pub reference: Option<String>,
    /// What that version reached.
    pub scores: Option<Value>,
    /// steps or max_seconds, of a completed run.
    pub ended_by: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When it was saved last.
    pub updated_at: Timestamp,
}

/// Which runs of a caller's.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Of this policy.
    pub policy: Option<String>,
    /// In this state.
    pub status: Option<RunStatus>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{environments::Ended, training::Progress};

    #[test]
    fn a_curve_has_its_points_where_the_run_is() {
        let ended = |total: f64| Ended { index: 0, total, length: 10, terminated: true };
        let advance = |totals: &[f64], loss: f64| Progress {
            ended: totals.iter().map(|total| ended(*total)).collect(),
            measures: vec![("loss", loss)],
        };
        let mut record = Record::default();
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
        let mut other: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(other, record);
        assert!(other.add(&advance(&[9.0], 1.0), 1000, 1000));
        assert_eq!(other.points[2].mean_return, Some(8.0));
        assert_eq!(other.episodes, 4);
    }
}
