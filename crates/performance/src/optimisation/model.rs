//! Optimisations, as they are asked for, worked on and answered.

use std::collections::BTreeMap;

use am_core::ids::{AgentId, BackgroundTaskId, PrincipalId, WorkflowId};
use am_db::codec::Timestamp;
use am_performance_math::interval::MeasuredInterval;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

am_db::stored_enum! {
    /// Figure that an optimisation is for.
    pub enum OptimizationMetric {
        /// Of a policy its mean return; of a workflow the share of its runs that succeed.
        Accuracy = "ACCURACY" / "accuracy",
        /// Nothing here measures it.
        Precision = "PRECISION" / "precision",
        /// Nothing here measures it.
        Recall = "RECALL" / "recall",
        /// Nothing here measures it.
        F1Score = "F1_SCORE" / "f1_score",
        /// Of a workflow the seconds of its runs for each that succeeds.
        Latency = "LATENCY" / "latency",
        /// Of a workflow its runs a second that succeed, one after the other.
        Throughput = "THROUGHPUT" / "throughput",
        /// Of a workflow the seconds that its steps work for each run that succeeds; of an allocation the mean of the used shares.
        ResourceEfficiency = "RESOURCE_EFFICIENCY" / "resource_efficiency",
        /// Of an allocation the share of its cost that is used.
        CostEfficiency = "COST_EFFICIENCY" / "cost_efficiency",
        /// Of a policy its mean return after the budget's steps of training.
        AdaptationSpeed = "ADAPTATION_SPEED" / "adaptation_speed",
        /// Of a policy its mean return in episodes that did not choose it.
        Generalization = "GENERALIZATION" / "generalization",
    }
}

am_db::stored_enum! {
    /// What an optimisation tunes.
    pub enum TunedSubject {
        /// Settings of a policy's training.
        Policy = "policy" / "policy",
        /// Retries of a workflow's steps, and how many of them run at once.
        Workflow = "workflow" / "workflow",
        /// Cores, memory and storage of an agent's allocations for a task.
        Allocation = "allocation" / "allocation",
    }
}

/// Limits of the work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = OptimizationBudget)]
pub struct OptimisationBudget {
    /// Candidates, 2 to 200. Default 12 for a policy, 60 for a workflow or an allocation.
    pub trials: Option<u32>,
    /// Policy: environment steps of a training with all of the resource, 64 to 100000. Default 8192.
    pub steps: Option<u64>,
    /// Seconds of work after which no further candidate is begun, above 0. Default: no limit. With one, the result depends on the
    /// machine's speed.
    pub max_seconds: Option<f64>,
}

/// An optimisation that is asked for.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = PerformanceOptimizationRequest, example = json!({
    "agent_id": "trader",
    "target_metric": "accuracy",
    "current_performance": {},
    "optimization_type": "policy",
    "policy": "cartpole-v1-ppo",
    "budget": {"trials": 12, "steps": 8192},
}))]
pub struct OptimisationDraft {
    /// Name of the agent. One that another principal has registered is not found.
    pub agent_id: AgentId,
    /// Figure to improve.
    pub target_metric: OptimizationMetric,
    /// Figures that the caller knows, by name. They are kept with the optimisation; its baseline is measured.
    pub current_performance: BTreeMap<String, f64>,
    /// `policy`, `workflow`, `allocation`, or `comprehensive`: whichever of them the request names and the figure fits. Default
    /// `comprehensive`.
    pub optimization_type: Option<String>,
    /// Policy to tune: a version with a record of its training, `name`, `name@version` or `name@alias`. The baseline are its settings.
    pub policy: Option<String>,
    /// Workflow to tune, one of the caller's own. The baseline are its present settings, replayed with the recorded times of its
    /// executions.
    pub workflow_id: Option<WorkflowId>,
    /// Allocation of the agent to tune. The baseline are its amounts, held against what the sandboxes of executions used of the agent's
    /// allocations for tasks like its own.
    pub allocation_id: Option<String>,
    /// Limits of the work.
    pub budget: Option<OptimisationBudget>,
    /// Seed of all random draws. Default 0.
    pub seed: Option<u64>,
}

/// Figures of several runs of the same settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = OptimizationScore)]
pub struct ScoreSummary {
    /// Mean of the figure; null: no run could be measured.
    pub mean: Option<f64>,
    /// The figure in each run.
    pub runs: Vec<f64>,
}

/// The improvement in runs that did not choose the best settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = OptimizationImprovement)]
pub struct MeasuredImprovement {
    /// Mean difference to the baseline, positive being better, in the figure's unit.
    pub mean: f64,
    /// Lower end of its 95 % interval; null: all differences are the same.
    pub low: Option<f64>,
    /// Upper end of its 95 % interval; null: all differences are the same.
    pub high: Option<f64>,
    /// Pairs of runs that were compared.
    pub runs: u64,
}

impl MeasuredImprovement {
    /// The mean with its interval.
    pub(super) fn new(mean: f64, interval: Option<MeasuredInterval>, runs: usize) -> Self {
        Self { mean, low: interval.map(|found| found.low), high: interval.map(|found| found.high), runs: runs as u64 }
    }
}

/// A candidate that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = OptimizationCandidate)]
pub struct MeasuredCandidate {
    /// Its settings that differ from the baseline's, by name; empty: the baseline itself.
    #[schema(value_type = Object)]
    pub settings: Map<String, Value>,
    /// What was spent on it: steps of training, or replayed runs.
    pub resource: u64,
    /// The figure; null: it could not be measured, as when a training diverges.
    pub score: Option<f64>,
}

/// A point of the convergence curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = OptimizationCurvePoint)]
pub struct ConvergencePoint {
    /// Measurements so far.
    pub iteration: u64,
    /// The best figure among them with this or more resource.
    pub best: Option<f64>,
    /// Resource of the measurement.
    pub resource: u64,
}

/// What came of an optimisation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OptimisationOutcome {
    /// Settings before it.
    pub baseline: Map<String, Value>,
    /// Figure before, in runs that did not choose the best.
    pub baseline_score: ScoreSummary,
    /// Best settings found, whole.
    pub best: Map<String, Value>,
    /// Their figure, in the same runs.
    pub best_score: ScoreSummary,
    /// Whether the best are the baseline's.
    pub unchanged: bool,
    /// The measured improvement.
    pub improvement: Option<MeasuredImprovement>,
    /// Relative to the baseline's figure, positive being better.
    pub performance_improvement: Option<f64>,
    /// Share of work saved.
    pub resource_savings: Option<f64>,
    /// Share of the cost saved.
    #[serde(default)]
    pub cost_savings: Option<f64>,
    /// All that were measured, in their order.
    pub candidates: Vec<MeasuredCandidate>,
    /// Whether the last third of the measurements brought nothing better.
    pub convergence_achieved: bool,
    /// Why a figure is missing, by its name.
    pub reasons: BTreeMap<String, String>,
    /// Further figures of the kind.
    pub details: Value,
}

impl OptimisationOutcome {
    /// The curve of the best figure; `lower` says whether less is better.
    pub(super) fn curve(&self, lower: bool) -> Vec<ConvergencePoint> {
        let mut best: Option<(u64, f64)> = None;
        let points = self.candidates.iter().zip(1..).map(|(candidate, iteration)| {
            if let Some(score) = candidate.score {
                let better = best.is_none_or(|(resource, found)| {
                    candidate.resource > resource
                        || (candidate.resource == resource && if lower { score < found } else { score > found })
                });
                if better {
                    best = Some((candidate.resource, score));
                }
            }
            ConvergencePoint { iteration, best: best.map(|(_, score)| score), resource: candidate.resource }
        });
        points.collect()
    }
}

/// An optimisation of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PerformanceOptimization)]
pub struct OptimisationDocument {
    /// Id of the optimisation: `opt_` and hexadecimal digits.
    pub optimization_id: String,
    /// Name of the agent.
    pub agent_id: AgentId,
    /// What was asked for: `policy`, `workflow`, `allocation` or `comprehensive`.
    pub optimization_type: String,
    /// Figure that it is for.
    pub target_metric: OptimizationMetric,
    /// `running` until its task has ended, then `completed`, `failed` or `cancelled`; the coordinator has other words too.
    pub status: String,
    /// Improvement of the figure relative to the baseline's, positive being better; null: `reasons` says why.
    pub performance_improvement: Option<f64>,
    /// Share of the work that is saved; null: `reasons` says why.
    pub resource_savings: Option<f64>,
    /// Share of the cost that is saved; null: `reasons` says why.
    pub cost_savings: Option<f64>,
    /// Mean of those of the three figures above that are known; null: none is.
    pub overall_efficiency_gain: Option<f64>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended; null before.
    pub completed_at: Option<Timestamp>,
    /// Background task that does it; null: the coordinator made it.
    pub task_id: Option<BackgroundTaskId>,
    /// What is tuned; null: the coordinator made it.
    pub tuned: Option<TunedSubject>,
    /// Name of what is tuned: a policy, or the id of a workflow or an allocation.
    pub target: Option<String>,
    /// Principal that asked for it; null: the coordinator did.
    #[schema(value_type = Option<String>)]
    pub owner_id: Option<PrincipalId>,
    /// Limits of the work.
    pub budget: Option<OptimisationBudget>,
    /// Settings before; null until it is completed.
    #[schema(value_type = Option<Object>)]
    pub baseline: Option<Map<String, Value>>,
    /// Figure before, in runs that did not choose the best settings.
    pub baseline_score: Option<ScoreSummary>,
    /// Best settings found; those of the baseline when nothing was better.
    #[schema(value_type = Option<Object>)]
    pub best: Option<Map<String, Value>>,
    /// Figure of the best settings, in the same runs.
    pub best_score: Option<ScoreSummary>,
    /// The improvement with its interval, in runs that did not choose the best settings.
    pub improvement: Option<MeasuredImprovement>,
    /// Number of measurements of candidates; null until it is completed.
    pub iterations: Option<u64>,
    /// Seconds of work; null until it has ended.
    pub duration: Option<f64>,
    /// Whether the last third of the measurements brought nothing better; null until it is completed.
    pub convergence_achieved: Option<bool>,
    /// Further figures, by what is tuned.
    #[schema(value_type = Option<Object>)]
    pub details: Option<Value>,
    /// When the best settings were applied; null: they are not.
    pub applied_at: Option<Timestamp>,
    /// Whether what was applied can be taken back.
    pub rollback_available: bool,
    /// When that was done; null: it was not.
    pub rolled_back_at: Option<Timestamp>,
    /// Why it failed; null otherwise.
    pub error: Option<String>,
    /// Why a figure is null, by its name.
    pub reasons: BTreeMap<String, String>,
}

/// The measurements of an optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = OptimizationCurve)]
pub struct ConvergenceReport {
    /// Id of the optimisation.
    pub optimization_id: String,
    /// Figure of the curve, and whether less of it is better.
    pub target_metric: OptimizationMetric,
    /// Whether less is better.
    pub lower_is_better: bool,
    /// The best figure after each measurement, among those with the most resource so far; empty until it is completed.
    pub curve: Vec<ConvergencePoint>,
    /// All that were measured, in their order.
    pub candidates: Vec<MeasuredCandidate>,
}

/// Settings that trainings of a policy begin with, once an optimisation was applied.
#[derive(Clone, Debug, PartialEq)]
pub struct TunedSettings {
    /// The settings, whole.
    pub settings: Map<String, Value>,
    /// Optimisation that found them.
    pub optimization_id: String,
}

/// An optimisation as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OptimisationRecord {
    pub id: String,
    pub optimization_id: String,
    pub agent_id: AgentId,
    pub optimization_type: String,
    pub target_metric: String,
    pub performance_improvement: f64,
    pub resource_savings: f64,
    pub cost_savings: f64,
    pub overall_efficiency_gain: f64,
    pub optimization_duration: Option<f64>,
    pub iterations_required: i64,
    pub status: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub completed_at: Option<Timestamp>,
    pub owner_id: Option<PrincipalId>,
    pub task_id: Option<BackgroundTaskId>,
    pub tuned: Option<TunedSubject>,
    pub target: Option<String>,
    pub budget: Option<OptimisationBudget>,
    pub outcome: Option<OptimisationOutcome>,
    pub error: Option<String>,
    pub replaced: Option<Value>,
    pub applied_at: Option<Timestamp>,
    pub rolled_back_at: Option<Timestamp>,
}

impl OptimisationRecord {
    /// The metric; of a word that the coordinator alone knows, accuracy's.
    pub(super) fn metric(&self) -> OptimizationMetric {
        let word = &self.target_metric;
        OptimizationMetric::from_stored(word)
            .or_else(|| OptimizationMetric::from_value(word))
            .unwrap_or(OptimizationMetric::Accuracy)
    }

    /// As it is answered.
    pub(super) fn document(self) -> OptimisationDocument {
        let metric = self.metric();
        let own = self.task_id.is_some();
        let outcome = self.outcome.unwrap_or_default();
        let is_done = own && self.status == "completed";
        let mut reasons = outcome.reasons.clone();
        let cost_savings = if own { outcome.cost_savings } else { Some(self.cost_savings) };
        let (performance_improvement, resource_savings, gain) = match own {
            false => {
                (Some(self.performance_improvement), Some(self.resource_savings), Some(self.overall_efficiency_gain))
            }
            true => {
                let (better, saved) = (outcome.performance_improvement, outcome.resource_savings);
                let known: Vec<f64> = [better, saved, cost_savings].into_iter().flatten().collect();
                let gain = (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64);
                (better, saved, gain)
            }
        };
        if own && !is_done {
            let why = match self.status.as_str() {
                "failed" | "cancelled" => "it ended without a result",
                _ => "it has not ended yet",
            };
            for name in ["performance_improvement", "resource_savings", "cost_savings", "overall_efficiency_gain"] {
                reasons.insert(name.to_owned(), why.to_owned());
            }
        }
        OptimisationDocument {
            optimization_id: self.optimization_id,
            agent_id: self.agent_id,
            optimization_type: self.optimization_type,
            target_metric: metric,
            status: self.status,
            performance_improvement,
            resource_savings,
            cost_savings,
            overall_efficiency_gain: gain,
            created_at: self.created_at,
            completed_at: self.completed_at,
            task_id: self.task_id,
            tuned: self.tuned,
            target: self.target,
            owner_id: self.owner_id,
            budget: self.budget,
            iterations: match own {
                true => is_done.then_some(outcome.candidates.len() as u64),
                false => Some(self.iterations_required.unsigned_abs()),
            },
            baseline: is_done.then_some(outcome.baseline),
            baseline_score: is_done.then_some(outcome.baseline_score),
            best: is_done.then_some(outcome.best),
            best_score: is_done.then_some(outcome.best_score),
            improvement: outcome.improvement,
            duration: self.optimization_duration,
            convergence_achieved: is_done.then_some(outcome.convergence_achieved),
            details: is_done.then_some(outcome.details),
            rollback_available: self.applied_at.is_some() && self.rolled_back_at.is_none() && self.replaced.is_some(),
            applied_at: self.applied_at,
            rolled_back_at: self.rolled_back_at,
            error: self.error,
            reasons,
        }
    }
}

impl OptimisationDocument {
    /// Its place in a list.
    pub fn list_place(&self) -> (Timestamp, &str) {
        (self.created_at, &self.optimization_id)
    }
}
