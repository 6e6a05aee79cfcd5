//! Types of training runs, as stored and shown.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    labels::RunLabels,
    limits::TrainingLimits,
    promotion::{PromotionDecision, PromotionGate},
    record::{CurvePoint, EvaluationPoint},
};
use crate::{
    environments::{BRIDGE_ENVIRONMENT, EnvironmentSource},
    own_environments::is_own_reference,
    training::{Algorithm, OfflineSettings, TrainingPlan},
};
use am_core::ids::{AgentId, PrincipalId, TrainingRunId};
use am_db::{codec::Timestamp, owner, page::TimeSpan, stored_enum};

/// Prefix of a run's id.
const RUN_ID_PREFIX: &str = "train_";

stored_enum! {
    /// Status of a training run.
    pub enum RunStatus {
        /// Waiting for a process to train it.
        Queued = "queued" / "queued",
        /// Being trained. If its process died, another one resumes it.
        Running = "running" / "running",
        /// Paused until resumed.
        Paused = "paused" / "paused",
        /// Ended with a version of its policy.
        Completed = "completed" / "completed",
        /// Ended by an error, without a version.
        Failed = "failed" / "failed",
        /// Cancelled on request.
        Cancelled = "cancelled" / "cancelled",
    }
}

impl RunStatus {
    /// Return whether the status is final.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

stored_enum! {
    /// Control request for a running run.
    pub enum ControlRequest {
        /// Stop at the next step, to be resumed later.
        Pause = "pause" / "pause",
        /// Stop and end without a version.
        Cancel = "cancel" / "cancel",
    }
}

/// Work of a training run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum TrainingTask {
    /// Training in an environment.
    Train(TrainingSpec),
    /// Learning from feedback.
    Learn(FeedbackTask),
}

/// A [`TrainingTask`] as OpenAPI shows it: the members of either kind. Generators take no alternatives among an object's members.
#[derive(utoipa::ToSchema)]
#[schema(as = TrainingTask)]
#[expect(dead_code, reason = "describes what `Task` writes")]
struct TaskDocument {
    /// Whether the run trains in an environment or learns from feedback.
    kind: TrainingTaskKind,
    /// Kind `train`: the environment's name.
    environment: Option<String>,
    /// Kind `train`: the environment's parameters by name; null: the defaults.
    parameters: Option<Value>,
    /// Kind `train`: the algorithm.
    algorithm: Option<Algorithm>,
    /// The settings by name; null: the algorithm's defaults.
    settings: Option<Value>,
    /// Kind `train`: environment steps.
    steps: Option<u64>,
    /// Kind `train`: seed of environments, networks and exploration.
    seed: Option<u64>,
    /// Kind `train`: seconds after which the run ends with what it has; null: no limit.
    max_seconds: Option<f64>,
    /// Kind `train`: episodes of the evaluation at the end.
    evaluation_episodes: Option<u64>,
    /// Kind `train`: aliases that are to point at the new version.
    aliases: Option<Vec<String>>,
    /// Kind `train`: evaluations during the run, of which the best weights become the version.
    evaluations: Option<u32>,
    /// Kind `train`: condition under which the aliases are set; null: none.
    promote_if: Option<PromotionGate>,
    /// Kind `train`: SHA-256 of an environment that was sent as tables.
    environment_sha256: Option<String>,
    /// Kind `train`: highest expected return over an episode of an environment that was sent as tables, which the run's
    /// returns are measured by.
    optimal_return: Option<f64>,
    /// Kind `learn`: the agent whose feedback it is.
    agent_id: Option<AgentId>,
    /// Kind `learn`: the version that is changed, `name@version`.
    from: Option<String>,
    /// Kind `learn`: rows of feedback.
    rows: Option<u64>,
    /// Kind `learn`: SHA-256 of the feedback as it is stored, in hexadecimal digits.
    feedback_sha256: Option<String>,
}

/// The kinds of training runs.
#[derive(utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes the tag of `Task`")]
enum TrainingTaskKind {
    /// Trains in an environment.
    Train,
    /// Learns from feedback.
    Learn,
}

impl TrainingTask {
    /// Total number of steps: environment steps, or passes over the feedback.
    pub fn steps(&self) -> u64 {
        match self {
            Self::Train(work) => work.steps,
            Self::Learn(lesson) => lesson.settings.epochs,
        }
    }

    /// The environment as it is stored with the run; `None`: it is built in, or there is none.
    pub(super) fn own_environment(&self) -> Option<&str> {
        match self {
            Self::Train(work) => work.own_environment(),
            Self::Learn(_) => None,
        }
    }

    /// Number of rows of feedback.
    pub fn feedback_rows(&self) -> usize {
        match self {
            Self::Train(_) => 0,
            Self::Learn(lesson) => lesson.rows,
        }
    }

    /// Time limit in seconds, after which the run ends with its present result.
    pub fn max_seconds(&self) -> Option<f64> {
        match self {
            Self::Train(work) => work.max_seconds,
            Self::Learn(_) => None,
        }
    }
}

/// Learning from feedback. The feedback itself is stored beside the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedbackTask {
    /// Id of the agent.
    pub agent_id: AgentId,
    /// Version to start from, `name@version`.
    pub from: String,
    /// Settings of the training.
    pub settings: OfflineSettings,
    /// Number of rows of feedback.
    pub rows: usize,
    /// SHA-256 of the stored feedback.
    pub feedback_sha256: String,
}

/// Training in an environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingSpec {
    /// Name of the environment.
    pub environment: String,
    /// Parameters of the environment; null: all defaults.
    pub parameters: Option<Value>,
    /// Name of the algorithm.
    pub algorithm: Algorithm,
    /// Settings of the algorithm, complete once validated.
    pub settings: Option<Value>,
    /// Number of environment steps.
    pub steps: u64,
    /// Seed of environments, networks and exploration.
    pub seed: u64,
    /// Time limit in seconds, after which the run ends with its present result; null: none. Time before a checkpoint
    /// counts.
    pub max_seconds: Option<f64>,
    /// Episodes of the final evaluation, 1 to 1000.
    pub evaluation_episodes: usize,
    /// Aliases to set to the new version.
    pub aliases: Vec<String>,
    /// Evaluations during the run, evenly spaced; the best evaluated weights become the version. 0: none, and the last weights
    /// do.
    #[serde(default)]
    pub evaluations: u32,
    /// Condition under which the aliases are set; null: none.
    #[serde(default)]
    pub promote_if: Option<PromotionGate>,
    /// SHA-256 of an environment that was sent as tables; null: it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_sha256: Option<String>,
    /// Highest expected return over an episode of an environment that was sent as tables; null: it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimal_return: Option<f64>,
}

/// Request for a training run. Members not listed here are ignored.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[schema(as = TrainingRequest)]
pub struct TrainingRequest {
    /// Policy that gets a new version; default `<environment>-<algorithm>`.
    #[serde(default)]
    pub policy: Option<String>,
    /// Name of the run, for people: 1 to 120 characters; null: none.
    #[serde(default)]
    #[schema(example = "larger networks")]
    pub name: Option<String>,
    /// Tags by which the run is found, at most 20: 1 to 64 letters, digits, `.`, `_`, `-`, `:` or `=` each.
    #[serde(default)]
    #[schema(example = json!(["team:pricing"]))]
    pub tags: Vec<String>,
    /// Name of the environment: a built-in one, `name` or `name@version` of one that was sent as tables, or `bridge`.
    pub environment: String,
    /// Parameters of the environment by name; those left out keep their default. Of `bridge`: the `environment`'s name, the number of
    /// `observations`, the `actions` and the `horizon`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<Value>,
    /// Whether to estimate parameters that are not given from the coordinator's records, where possible.
    #[serde(default)]
    pub calibrate: bool,
    /// Algorithm: `ppo`, `a2c`, `rainbow_dqn`, `dqn` or `sac`.
    #[serde(default = "default_algorithm")]
    #[schema(default = "ppo")]
    pub algorithm: Algorithm,
    /// Settings of the algorithm by name; those left out keep their default.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub settings: Option<Value>,
    /// Number of environment steps, 1 to 100 000 000.
    pub steps: u64,
    /// Seed. Equal seeds give equal policies on processors of the same kind.
    #[serde(default)]
    pub seed: u64,
    /// Time limit in seconds, after which the run ends with its present result; null: none.
    #[serde(default)]
    pub max_seconds: Option<f64>,
    /// Episodes of the final evaluation, 1 to 1000.
    #[serde(default = "default_evaluation_episodes")]
    #[schema(default = 20)]
    pub evaluation_episodes: usize,
    /// Aliases to set to the new version, such as `production`.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Evaluations during the run, evenly spaced, 0 to 100. The best evaluated weights become the version; with 0 the last
    /// ones do. Each takes `evaluation_episodes` episodes of the run's time.
    #[serde(default)]
    pub evaluations: u32,
    /// `better`: an alias that points to a version is set only if the new version is better in the same episodes, beyond
    /// chance: the 95 % interval of the difference lies above 0. Needs 10 or more evaluation episodes. Default: no condition.
    #[serde(default)]
    pub promote_if: Option<PromotionGate>,
}

fn default_algorithm() -> Algorithm {
    Algorithm::Ppo
}

fn default_evaluation_episodes() -> usize {
    20
}

impl TrainingRequest {
    /// The name and the tags of the run.
    pub fn labels(&self) -> RunLabels {
        RunLabels { name: self.name.clone(), tags: self.tags.clone() }
    }

    /// Convert to the work of a run; [`super::validate_spec`] validates it.
    pub fn work(self) -> TrainingSpec {
        let Self { environment, parameters, algorithm, settings, steps, seed, .. } = self;
        let Self { max_seconds, evaluation_episodes, aliases, evaluations, promote_if, .. } = self;
        TrainingSpec {
            environment,
            parameters,
            algorithm,
            settings,
            steps,
            seed,
            max_seconds,
            evaluation_episodes,
            aliases,
            evaluations,
            promote_if,
            environment_sha256: None,
            optimal_return: None,
        }
    }
}

impl TrainingSpec {
    /// Return the plan that its trainer is created from, with the environment from `source`.
    pub fn plan(&self, source: EnvironmentSource) -> TrainingPlan {
        TrainingPlan {
            environment: self.environment.clone(),
            parameters: self.parameters.clone(),
            algorithm: self.algorithm,
            settings: self.settings.clone(),
            steps: self.steps,
            seed: self.seed,
            source,
        }
    }

    /// The environment as it is stored with the run; `None`: it is built in.
    pub(super) fn own_environment(&self) -> Option<&str> {
        let own = self.environment == BRIDGE_ENVIRONMENT || is_own_reference(&self.environment);
        own.then_some(self.environment.as_str())
    }
}

/// A training run to be stored.
#[derive(Clone, Debug)]
pub struct NewTrainingRun {
    /// Id: `train_` and 12 hex digits.
    pub id: TrainingRunId,
    /// Principal that owns the run.
    pub owner_id: PrincipalId,
    /// Policy that gets a new version.
    pub policy: String,
    /// Name and tags of the run.
    pub labels: RunLabels,
    /// Work of the run.
    pub task: TrainingTask,
    /// Feedback as JSON; `None` for training in an environment.
    pub feedback: Option<String>,
    /// Limits of who asks for it.
    pub limits: TrainingLimits,
}

/// A run that is queued or running, as the queue sees it.
#[derive(Clone, Debug)]
pub struct OpenRun {
    /// Id of the run.
    pub id: TrainingRunId,
    /// Principal that owns the run.
    pub owner_id: PrincipalId,
    /// Status of the run.
    pub status: RunStatus,
    /// Time of the request.
    pub created_at: Timestamp,
    /// Time when a run of this owner last began or went on; `None`: none did.
    pub served_at: Option<Timestamp>,
    /// Whether it needs a bridge, which is connected to one process.
    pub needs_bridge: bool,
}

/// Build a run's id from random hex digits.
pub fn run_id(digits: &str) -> TrainingRunId {
    format!("{RUN_ID_PREFIX}{digits}").into()
}

/// Check that a text has the form of a run's id.
pub fn is_run_id(text: &str) -> bool {
    text.starts_with(RUN_ID_PREFIX)
}

/// A checkpoint from which a run can resume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = RunCheckpoint)]
pub struct CheckpointRef {
    /// Name of the file in the training directory.
    pub file: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Steps done at the checkpoint.
    pub steps: u64,
}

/// A training run.
#[derive(Clone, Debug, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TrainingRun {
    /// Id: `train_` and 12 hex digits.
    pub id: TrainingRunId,
    /// Same as `id`.
    pub run_id: TrainingRunId,
    /// Principal that owns the run.
    #[serde(serialize_with = "owner::serialize_as_principal")]
    pub owner_id: PrincipalId,
    /// Policy that gets a new version.
    pub policy: String,
    /// Name of the run, for people; null: it has none.
    #[serde(default)]
    pub name: Option<String>,
    /// Tags by which the run is found.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Work of the run.
    #[serde(flatten)]
    #[schema(value_type = TaskDocument)]
    pub task: TrainingTask,
    /// Status of the run.
    pub status: RunStatus,
    /// Control request that has not taken effect yet; null: none.
    pub wish: Option<ControlRequest>,
    /// Steps done, of `steps`: environment steps, or passes over the feedback.
    pub steps_done: u64,
    /// Progress from 0 to 1.
    pub progress: f64,
    /// Seconds of training, in all processes that worked on it.
    pub seconds: f64,
    /// Steps per second of training; null before the first step.
    pub steps_per_second: Option<f64>,
    /// Seconds of training left at the speed so far; 0 for a run that has ended; null: `eta_reason` says why.
    #[serde(default)]
    pub eta_seconds: Option<f64>,
    /// Why `eta_seconds` is null; null: it is not.
    #[serde(default)]
    pub eta_reason: Option<String>,
    /// Number of episodes ended.
    pub episodes: u64,
    /// Gradient steps done as of the newest point: changes of the policy's weights. A run that ends without one makes no
    /// version.
    #[serde(default)]
    pub gradient_steps: u64,
    /// Mean return of the newest episodes, including exploration; null before an episode ended.
    pub mean_return: Option<f64>,
    /// Losses and similar figures by name, as of the newest point.
    pub measures: BTreeMap<String, f64>,
    /// What is likely to be wrong with the training, in words; empty: nothing.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Reward curve; left out in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curve: Option<Vec<CurvePoint>>,
    /// Evaluations during the run, oldest first.
    #[serde(default)]
    pub evaluated: Vec<EvaluationPoint>,
    /// What `promote_if` decided on each alias; null: nothing yet, or there is no condition.
    #[serde(default)]
    pub promotion: Option<Vec<PromotionDecision>>,
    /// Latest checkpoint; null: there is none.
    pub checkpoint: Option<CheckpointRef>,
    /// How often the run began anew, because its last checkpoint could not be used or there was none yet.
    #[serde(default)]
    pub restarts: u64,
    /// Why it last did; null: never.
    #[serde(default)]
    pub restart_reason: Option<String>,
    /// Number of the version that the run made; null before its end.
    pub version: Option<u32>,
    /// Reference of that version, `name@version`.
    pub reference: Option<String>,
    /// Evaluation of that version.
    pub scores: Option<Value>,
    /// Cause of the end of a completed run: `steps` or `max_seconds`.
    pub ended_by: Option<String>,
    /// Error message of a failed run, or why a queued one waits for its bridge; null: neither.
    pub error: Option<String>,
    /// Time of the request.
    pub created_at: Timestamp,
    /// Time when training began; null while queued.
    pub started_at: Option<Timestamp>,
    /// Time of the end; null before it.
    pub ended_at: Option<Timestamp>,
    /// Time of the last save.
    pub updated_at: Timestamp,
}

/// Filter for listing training runs.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// Restricts the list to runs for this policy.
    pub policy: Option<String>,
    /// Restricts the list to these statuses; empty: any.
    pub status: Vec<RunStatus>,
    /// Restricts the list to runs with all of these labels, as [`super::wanted_labels`] makes them; empty: any.
    pub labels: BTreeSet<String>,
    /// Restricts the list to runs that ended in this time.
    pub ended: TimeSpan,
    /// Whether the list has everybody's runs; only an admin may ask for them.
    pub all: bool,
}
