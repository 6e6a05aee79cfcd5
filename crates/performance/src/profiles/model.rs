//! Profiles as clients see them, and what is asked of them.

use std::collections::BTreeMap;

use am_core::ids::{AgentId, PrincipalId};
use am_db::{codec::Timestamp, page::PageRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::measured::MeasuredWork;

/// Values of metrics by their names.
pub(crate) type ProfileMetrics = BTreeMap<String, f64>;

fn default_type() -> String {
    "hermes".to_owned()
}

/// A profile to create.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = PerformanceProfileRequest)]
#[schema(example = json!({"agent_id": "translator-7", "agent_type": "hermes", "initial_metrics": {"accuracy": 91.5, "throughput": 74.0}}))]
pub struct ProfileDraft {
    /// Name of the agent, 1 to 128 characters.
    pub agent_id: AgentId,
    /// Its type, 1 to 100 characters: profiles are ranked among those of one type. Default `hermes`.
    #[serde(default = "default_type")]
    pub agent_type: String,
    /// Metrics that are known from the start, at most 100. Default: none.
    #[serde(default)]
    pub initial_metrics: BTreeMap<String, f64>,
}

/// Metrics to report.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(example = json!({"metrics": {"accuracy": 93.0, "latency": 12.5}, "task_context": {"task": "translate"}}))]
pub struct MetricsReport {
    /// Values by name, 1 to 100 of them. A name has 1 to 64 letters, digits and `_ . -`, and does not begin with `measured_`; the
    /// coordinator's are `accuracy`, `precision`, `recall`, `f1_score`, `latency`, `throughput`, `resource_efficiency`,
    /// `cost_efficiency`, `adaptation_speed` and `generalization`.
    pub metrics: BTreeMap<String, f64>,
    /// What the agent did, kept with the report; at most 4096 bytes as JSON. Default: nothing.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub task_context: Option<Map<String, Value>>,
}

/// The profile of an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = PerformanceProfile)]
pub struct ProfileDocument {
    /// Id of the profile: `perf_` and hexadecimal digits.
    pub profile_id: String,
    /// Name of the agent.
    pub agent_id: AgentId,
    /// Type of the agent.
    pub agent_type: String,
    /// Principal that the profile belongs to; null: the coordinator made it, and nobody has registered the agent.
    #[schema(value_type = Option<String>)]
    pub owner_id: Option<PrincipalId>,
    /// Weighted mean of the reported metrics: accuracy 0.3, latency −0.2, throughput 0.2, efficiency 0.15, cost_efficiency 0.15, any
    /// other 0.1, over the sum of the weights; 0 where that is not positive. Null: none was reported.
    pub overall_score: Option<f64>,
    /// The last reported value of each metric.
    pub performance_metrics: BTreeMap<String, f64>,
    /// Learning strategies, as the coordinator's row has them.
    pub learning_strategies: Vec<String>,
    /// Areas of specialization, as the coordinator's row has them.
    pub specialization_areas: Vec<String>,
    /// Levels of expertise by area, as the coordinator's row has them.
    pub expertise_levels: BTreeMap<String, f64>,
    /// `allocation`: smoothed share of allocated resources that was used, 0 to 1; and what the coordinator's row has beside.
    pub resource_efficiency: BTreeMap<String, f64>,
    /// AIT for a task: measured, else as reported; null: neither.
    pub cost_per_task: Option<f64>,
    /// Tasks an hour, those of the last six hours weighing most: measured, else as reported; null: neither.
    pub throughput: Option<f64>,
    /// Smoothed seconds of a task: measured, else as reported; null: neither.
    pub average_latency: Option<f64>,
    /// When metrics were reported or work was measured last; null: never.
    pub last_assessed: Option<Timestamp>,
    /// When the profile was made.
    pub created_at: Timestamp,
    /// When it changed last.
    pub updated_at: Timestamp,
    /// Change of each metric between the last two reports, relative to the absolute value before.
    pub improvement_trends: BTreeMap<String, f64>,
    /// Place among the profiles of its type by overall score, 1 for the best; equal scores have one place. Null: it has no score.
    pub ranking_position: Option<i64>,
    /// Percent of the profiles of its type that it is not worse than, 0 to 100; null: it has no score.
    pub percentile_rank: Option<f64>,
    /// Number of profiles of its type that have a score.
    pub ranked_profiles: i64,
    /// Number of reports of metrics.
    pub reports: i64,
    /// What this service measured of its work; null: nothing yet.
    pub measured: Option<MeasuredWork>,
    /// Why figures are null, by their names.
    pub reasons: BTreeMap<String, String>,
}

/// What a report of metrics came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricsReceipt {
    /// True: the report was taken in.
    pub success: bool,
    /// Id of the profile.
    pub profile_id: String,
    /// Name of the agent.
    pub agent_id: AgentId,
    /// Overall score with the new values; null: the profile has no metrics.
    pub overall_score: Option<f64>,
    /// The last reported value of each metric.
    pub performance_metrics: BTreeMap<String, f64>,
    /// Change of each metric from the report before, relative to the absolute value before.
    pub improvement_trends: BTreeMap<String, f64>,
    /// When the report was taken in.
    pub updated_at: Timestamp,
}

/// A row of the ranking.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct RankedProfile {
    /// Name of the agent.
    pub agent_id: AgentId,
    /// Id of the profile.
    pub profile_id: String,
    /// Type of the agent.
    pub agent_type: String,
    /// Its overall score.
    pub overall_score: f64,
    /// Number of reports of metrics.
    pub reports: i64,
    /// When the profile was made.
    pub created_at: Timestamp,
}

/// Which profiles are listed.
#[derive(Clone, Debug)]
pub struct ProfileFilter {
    /// Only those of this type.
    pub agent_type: Option<String>,
    /// The page; its place is an agent's name.
    pub page: PageRequest,
}

/// An entry of the history that the coordinator's row keeps.
#[derive(Clone, Debug, Serialize)]
pub(super) struct HistoryEntry<'a, C> {
    pub timestamp: String,
    pub metrics: &'a ProfileMetrics,
    pub overall_score: f64,
    pub context: &'a C,
}

/// A profile as it is stored: the coordinator's row, and this service's beside it.
#[derive(Clone, Debug)]
pub(super) struct ProfileRecord {
    pub id: String,
    pub profile_id: String,
    pub agent_id: AgentId,
    pub agent_type: String,
    pub overall_score: f64,
    pub performance_metrics: Value,
    pub learning_strategies: Value,
    pub resource_efficiency: Value,
    pub cost_per_task: f64,
    pub throughput: f64,
    pub average_latency: f64,
    pub specialization_areas: Value,
    pub expertise_levels: Value,
    /// JSON of the last reports, oldest first, as the row has it.
    pub performance_history: Option<String>,
    pub improvement_trends: Value,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub last_assessed: Option<Timestamp>,
    pub owner_id: Option<String>,
    pub reports: Option<i64>,
    pub measured: Option<MeasuredWork>,
    /// The stored owner of the agent: who registered it, else who used it first.
    pub agent_owner: Option<String>,
}

/// The members of a JSON object that are finite numbers.
pub(super) fn numbers(value: &Value) -> ProfileMetrics {
    let members = value.as_object().into_iter().flatten();
    members
        .filter_map(|(name, value)| Some((name.clone(), value.as_f64().filter(|value| value.is_finite())?)))
        .collect()
}

/// The items of a JSON list that are texts.
pub(super) fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
