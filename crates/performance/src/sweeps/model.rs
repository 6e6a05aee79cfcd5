//! Types of sweeps, as they are asked for, stored and shown.

use std::collections::BTreeMap;

use am_core::ids::{BackgroundTaskId, PrincipalId, SweepId, TrainingRunId};
use am_db::{codec::Timestamp, owner, stored_enum};
use am_performance_math::interval::mean_interval;
use am_rl::{
    runs::{RunStatus, TrainingRole, TrainingSpec},
    training::Algorithm,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::sample_spread::sample_spread;

/// Episodes of each run's evaluation by default.
const DEFAULT_EPISODES: usize = 20;

stored_enum! {
    /// How the trials of a sweep are chosen.
    pub enum SweepMethod {
        /// Every combination of the values, the last name's values changing first.
        Grid = "grid" / "grid",
        /// Points of the space drawn at random.
        Random = "random" / "random",
        /// Points drawn where good ones were dense, by a tree-structured Parzen estimator; the first ten at random.
        Tpe = "tpe" / "tpe",
    }
}

stored_enum! {
    /// Figure of a run that a sweep maximises.
    pub enum SweepGoal {
        /// Exact expected return of the version that the run made, where the environment allows it; else the mean return of its
        /// evaluation.
        Evaluation = "evaluation" / "evaluation",
        /// Mean return of the evaluation's episodes.
        MeanReturn = "mean_return" / "mean_return",
        /// Mean of the reward curve: how much was earned while learning.
        LearningSpeed = "learning_speed" / "learning_speed",
    }
}

stored_enum! {
    /// Status of a sweep.
    pub enum SweepStatus {
        /// Its background task has not ended: it may wait, run or be paused.
        Running = "running" / "running",
        /// Its trials are done, or its budget is spent.
        Completed = "completed" / "completed",
        /// It ended by an error.
        Failed = "failed" / "failed",
        /// It was cancelled on request, with its runs.
        Cancelled = "cancelled" / "cancelled",
    }
}

stored_enum! {
    /// State of a trial.
    pub enum TrialState {
        /// Some of its runs have not ended.
        Running = "running" / "running",
        /// All of its runs have a score.
        Measured = "measured" / "measured",
        /// A run of it has no score, or could not be made.
        Failed = "failed" / "failed",
        /// The sweep was cancelled before its runs had ended.
        Cancelled = "cancelled" / "cancelled",
    }
}

/// What a setting is tried with: `values`, or a range from `low` to `high`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = SweepDimension, example = json!({"low": 0.00001, "high": 0.01, "log": true}))]
pub struct SweepDimension {
    /// Values to choose from, 1 to 50; empty: a range.
    pub values: Vec<Value>,
    /// Lower bound of a range, included.
    pub low: Option<f64>,
    /// Upper bound of a range, included.
    pub high: Option<f64>,
    /// Whether the range is searched by its logarithm, for which it lies above 0.
    pub log: bool,
    /// Whether the range has whole numbers only.
    pub integer: bool,
    /// Grid: values that a range is divided into, 2 to 50, both ends included. Other methods take none.
    pub points: Option<u32>,
}

/// Limits of a sweep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = SweepBudget)]
pub struct SweepBudget {
    /// Trials at most, 1 to 200. Default: of a grid all, of the others 12.
    pub trials: Option<u32>,
    /// Environment steps of all runs together, after which no trial is begun; each takes its seeds times `total_timesteps`. Default: no
    /// limit.
    pub steps: Option<u64>,
    /// Seconds of the sweep after which no trial is begun, above 0, waiting for places included. Default: no limit. With one, the
    /// result depends on the machine's speed.
    pub max_seconds: Option<f64>,
}

/// A sweep that is asked for.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = SweepRequest, example = json!({
    "environment": "CartPole-v1",
    "algorithm": "ppo",
    "space": {"learning_rate": {"low": 0.0001, "high": 0.01, "log": true}, "gamma": {"values": [0.95, 0.99]}},
    "method": "tpe",
    "seeds": [0, 1, 2],
    "total_timesteps": 20000,
    "budget": {"trials": 12},
}))]
pub struct SweepDraft {
    /// Name for people, 1 to 120 characters; null: none.
    #[serde(default)]
    pub name: Option<String>,
    /// Tags of the sweep and of each of its runs, which have `sweep:<id>` and `trial:<number>` besides; at most 18.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Policy that gets a version from each run. Default: one of its own, named as the sweep's id.
    #[serde(default)]
    pub policy: Option<String>,
    /// Name of the environment.
    pub environment: String,
    /// Parameters of the environment by name; those left out keep their default.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<Value>,
    /// Algorithm: `ppo`, `a2c`, `rainbow_dqn`, `dqn` or `sac`.
    #[serde(default = "default_algorithm")]
    #[schema(default = "ppo")]
    pub algorithm: Algorithm,
    /// Settings that all trials share; those left out keep their default.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub settings: Option<Value>,
    /// Settings that are tried, by name: 1 to 12.
    pub space: BTreeMap<String, SweepDimension>,
    /// How trials are chosen. Default `grid` where every setting has values or points, else `tpe`.
    #[serde(default)]
    pub method: Option<SweepMethod>,
    /// Seeds that each trial is trained with, 1 to 10 different ones. Default 0, 1, 2. With one there is no interval.
    #[serde(default)]
    pub seeds: Option<Vec<u64>>,
    /// Environment steps of each run.
    pub total_timesteps: u64,
    /// Figure to maximise, its mean over the seeds. Default `evaluation`.
    #[serde(default)]
    pub goal: Option<SweepGoal>,
    /// Episodes of each run's evaluation, 1 to 1000.
    #[serde(default = "default_episodes")]
    #[schema(default = 20)]
    pub evaluation_episodes: usize,
    /// Limits of the sweep.
    #[serde(default)]
    pub budget: SweepBudget,
    /// Seed by which trials are drawn. Default 0.
    #[serde(default)]
    pub seed: u64,
}

fn default_algorithm() -> Algorithm {
    Algorithm::Ppo
}

fn default_episodes() -> usize {
    DEFAULT_EPISODES
}

/// What a sweep is to do, whole: it does not change when defaults do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SweepPlan {
    /// Id of the sweep.
    pub(super) sweep_id: SweepId,
    /// What each run is to do but for the settings of its trial and its seed.
    pub(super) base: TrainingSpec,
    pub(super) policy: String,
    pub(super) name: Option<String>,
    pub(super) tags: Vec<String>,
    pub(super) space: BTreeMap<String, SweepDimension>,
    pub(super) method: SweepMethod,
    pub(super) seeds: Vec<u64>,
    pub(super) goal: SweepGoal,
    pub(super) budget: SweepBudget,
    /// Trials at most.
    pub(super) trials: u32,
    /// Seed by which trials are drawn.
    pub(super) seed: u64,
    /// Whose limits hold for the runs.
    pub(super) role: TrainingRole,
}

/// A training run of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SweepTrialRun)]
pub struct TrialRun {
    /// Seed of the training.
    pub seed: u64,
    /// Id of the training run; it has its curve, its events and its export.
    pub run_id: TrainingRunId,
    /// Status of the run when the sweep last looked; null: it is gone.
    pub status: Option<RunStatus>,
    /// Version that the run made, `name@version`; null: none yet.
    pub reference: Option<String>,
    /// The goal's figure; null: the run has not ended, or has none.
    pub score: Option<f64>,
}

/// A trial as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TrialRecord {
    pub(super) sweep_id: SweepId,
    pub(super) trial: i64,
    pub(super) state: TrialState,
    pub(super) settings: Map<String, Value>,
    /// Its place in the space, one number for each searched setting; empty for a grid.
    pub(super) point: Vec<f64>,
    pub(super) runs: Vec<TrialRun>,
    pub(super) score: Option<f64>,
    pub(super) reason: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) ended_at: Option<Timestamp>,
}

/// A trial of a sweep: settings, and what the runs with each seed earned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = SweepTrial)]
pub struct TrialDocument {
    /// Number of the trial, from 1.
    pub trial: i64,
    /// State of the trial.
    pub state: TrialState,
    /// The settings that are searched, by name.
    #[schema(value_type = Object)]
    pub settings: Map<String, Value>,
    /// Mean of the goal's figure over the seeds; null: `reason` says why.
    pub score: Option<f64>,
    /// Lower end of its 95 % interval over the seeds, after Student; null with one seed, and without a score.
    pub low: Option<f64>,
    /// Upper end of its 95 % interval.
    pub high: Option<f64>,
    /// The training runs, one for each seed.
    pub runs: Vec<TrialRun>,
    /// Why there is no score; null: there is one.
    pub reason: Option<String>,
    /// When the trial was begun.
    pub created_at: Timestamp,
    /// When its last run had ended; null before.
    pub ended_at: Option<Timestamp>,
}

impl TrialRecord {
    /// As it is answered.
    pub(super) fn document(self) -> TrialDocument {
        let scores: Vec<f64> = self.runs.iter().filter_map(|run| run.score).collect();
        let interval = self.score.and_then(|_| {
            let (mean, deviation, count) = sample_spread(&scores);
            mean_interval(mean, deviation, count)
        });
        let reason = match (self.score, self.reason) {
            (Some(_), _) => None,
            (None, Some(reason)) => Some(reason),
            (None, None) => Some("its runs have not ended".to_owned()),
        };
        TrialDocument {
            trial: self.trial,
            state: self.state,
            settings: self.settings,
            score: self.score,
            low: interval.map(|found| found.low),
            high: interval.map(|found| found.high),
            runs: self.runs,
            reason,
            created_at: self.created_at,
            ended_at: self.ended_at,
        }
    }
}

/// A sweep as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SweepRecord {
    pub(super) id: SweepId,
    pub(super) owner_id: PrincipalId,
    pub(super) status: SweepStatus,
    pub(super) plan: SweepPlan,
    pub(super) task_id: BackgroundTaskId,
    pub(super) ended: u64,
    pub(super) best_trial: Option<i64>,
    pub(super) ended_by: Option<String>,
    pub(super) error: Option<String>,
    pub(super) created_at: Timestamp,
    pub(super) ended_at: Option<Timestamp>,
    pub(super) updated_at: Timestamp,
}

/// A sweep: trainings of a policy with settings of a space, each with several seeds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Sweep)]
pub struct SweepDocument {
    /// Id of the sweep: `sweep_` and 12 hexadecimal digits.
    #[schema(example = "sweep_0123456789ab")]
    pub sweep_id: SweepId,
    /// Principal that asked for it.
    #[serde(serialize_with = "serialize_owner")]
    pub owner_id: PrincipalId,
    /// Name for people; null: it has none.
    pub name: Option<String>,
    /// Tags that each of its runs has too.
    pub tags: Vec<String>,
    /// Policy that gets a version from each run.
    pub policy: String,
    /// Status of the sweep.
    pub status: SweepStatus,
    /// Background task that does it: its progress, events, pause and resumption.
    pub task_id: BackgroundTaskId,
    /// Name of the environment.
    pub environment: String,
    /// Parameters of the environment by name; null: its defaults.
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<Value>,
    /// Algorithm that all trials are trained with.
    pub algorithm: Algorithm,
    /// Settings that all trials share, whole.
    #[schema(value_type = Option<Object>)]
    pub settings: Option<Value>,
    /// Settings that are tried, by name.
    pub space: BTreeMap<String, SweepDimension>,
    /// How trials are chosen.
    pub method: SweepMethod,
    /// Seeds that each trial is trained with.
    pub seeds: Vec<u64>,
    /// Environment steps of each run.
    pub total_timesteps: u64,
    /// Figure that is maximised.
    pub goal: SweepGoal,
    /// Episodes of each run's evaluation.
    pub evaluation_episodes: usize,
    /// Limits of the sweep.
    pub budget: SweepBudget,
    /// Seed by which trials are drawn.
    pub seed: u64,
    /// Trials at most.
    pub trials: u32,
    /// Trials that have ended.
    pub trials_ended: u64,
    /// `trials_ended` of `trials`, from 0 to 1; 1 once it is completed.
    pub progress: f64,
    /// The trial with the highest score so far; null: none has one. Chosen among others by these seeds, it is likely to look better
    /// here than with new ones.
    pub best: Option<TrialDocument>,
    /// Why it ended before all trials: `steps` or `max_seconds`; null: it did not.
    pub ended_by: Option<String>,
    /// Why it failed; null otherwise.
    pub error: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended; null before.
    pub ended_at: Option<Timestamp>,
    /// When it changed last.
    pub updated_at: Timestamp,
}

fn serialize_owner<S: serde::Serializer>(stored: &PrincipalId, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    owner::serialize_as_principal(stored, serializer)
}

impl SweepRecord {
    /// As it is answered, with its best trial.
    pub(super) fn document(self, best: Option<TrialRecord>) -> SweepDocument {
        let plan = self.plan;
        let progress = match self.status {
            SweepStatus::Completed => 1.0,
            _ => self.ended as f64 / f64::from(plan.trials.max(1)),
        };
        SweepDocument {
            sweep_id: self.id,
            owner_id: self.owner_id,
            name: plan.name,
            tags: plan.tags,
            policy: plan.policy,
            status: self.status,
            task_id: self.task_id,
            environment: plan.base.environment,
            parameters: plan.base.parameters,
            algorithm: plan.base.algorithm,
            settings: plan.base.settings,
            space: plan.space,
            method: plan.method,
            seeds: plan.seeds,
            total_timesteps: plan.base.steps,
            goal: plan.goal,
            evaluation_episodes: plan.base.evaluation_episodes,
            budget: plan.budget,
            seed: plan.seed,
            trials: plan.trials,
            trials_ended: self.ended,
            progress: progress.min(1.0),
            best: best.map(TrialRecord::document),
            ended_by: self.ended_by,
            error: self.error,
            created_at: self.created_at,
            ended_at: self.ended_at,
            updated_at: self.updated_at,
        }
    }
}

/// Filter of a list of sweeps.
#[derive(Clone, Debug, Default)]
pub struct SweepFilter {
    /// Only sweeps in these statuses; empty: any.
    pub status: Vec<SweepStatus>,
    /// Everybody's, not the caller's only.
    pub all: bool,
}

/// By how much the best trial is ahead of the second: the mean difference with the same seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = SweepMargin)]
pub struct SweepMargin {
    /// The best trial's number.
    pub best: i64,
    /// The second best trial's number.
    pub second: i64,
    /// Mean difference of the scores, seed by seed, 0 or more.
    pub difference: f64,
    /// Lower end of its 95 % interval, after Student; null with one seed, and where all differences are the same.
    pub low: Option<f64>,
    /// Upper end of its 95 % interval.
    pub high: Option<f64>,
    /// Whether the interval lies above 0; null: there is none.
    pub excludes_zero: Option<bool>,
}

/// The trials of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = SweepTrials)]
pub struct SweepReport {
    /// Id of the sweep.
    pub sweep_id: SweepId,
    /// Figure that is maximised.
    pub goal: SweepGoal,
    /// The trials in their order, at most 200.
    pub trials: Vec<TrialDocument>,
    /// Highest score after each trial that has ended; null before one has a score.
    pub best_scores: Vec<Option<f64>>,
    /// The best trial beside the second; null: fewer than two have a score.
    pub margin: Option<SweepMargin>,
}
