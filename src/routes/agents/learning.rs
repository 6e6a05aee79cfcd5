//! `/api/v1/agents/{agent_id}/learning`: agents whose policy changes by feedback.

use std::borrow::Cow;

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        openapi::BinaryFile,
    },
    routes::{
        agents::WaitQuery,
        export::{PolicyExportQuery, export_response},
    },
};
use am_core::ids::AgentId;
use am_rl::{
    PolicyReference,
    learning::{FeedbackInput, Learner, LearnerSettings, LearnerStatus},
    runs::{CurvePoint, RunStatus, TrainingCaller, TrainingRun},
    training::{LearningMode, OfflineSettings},
};

/// The name under which an agent is stored: one that is an API key is known by its principal, since no key is stored.
fn stored_agent_id(app: &App, id: &AgentId) -> AgentId {
    app.shared.keyring.shown(id).into()
}

/// Learning settings of an agent.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = LearningEnableRequest)]
pub struct EnableLearningRequest {
    /// Which layers change. `reinforcement`: all; `transfer`: the output layers only; `meta`: all, towards weights
    /// from which each part of the feedback is learnt quickly.
    #[serde(default)]
    #[schema(default = "reinforcement")]
    mode: LearningMode,
    /// Learning rate of the optimiser, above 0, at most 1. Default 0.001.
    learning_rate: Option<f64>,
    /// Where the feedback comes from, for people.
    feedback_source: Option<String>,
    /// Policy that the agent's own policy starts as a copy of. Default: the built-in policy.
    policy: Option<String>,
}

/// An agent whose learning is enabled.
#[derive(Serialize, ToSchema)]
#[schema(as = LearningEnabled)]
pub struct LearnerDocument {
    /// Always the word `enabled`.
    status: &'static str,
    /// Learning settings of the agent.
    #[serde(flatten)]
    learner: Learner,
}

/// Enable learning for an agent
///
/// The agent gets a policy of its own.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/learning/enable", operation_id = "learning_enable", tag = "learning",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        IdempotencyHeader,
    ),
    request_body = EnableLearningRequest,
    responses(
        (status = 200, body = LearnerDocument, description = "The agent's learning settings and its policy"),
        (status = 403, description = "The agent's learning is another owner's"),
    )
)]
pub async fn enable_learning(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    request: IdempotentJson<EnableLearningRequest>,
) -> Result<IdempotentOk<LearnerDocument>, ApiError> {
    let agent_id = stored_agent_id(&app, &id);
    let EnableLearningRequest { mode, learning_rate, feedback_source, policy } = request.body;
    let learning_rate = learning_rate.unwrap_or(OfflineSettings::default().learning_rate);
    let enabling = LearnerSettings { mode, learning_rate, feedback_source, policy };
    let done = app.learning.enable(&caller, &agent_id, enabling, request.once).await?;
    Ok(IdempotentOk(done.map(|learner| LearnerDocument { status: "enabled", learner })))
}

/// Feedback to learn from, and settings of the training run.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = LearningTrainRequest)]
pub struct TrainAgentRequest {
    /// Rows of feedback, or an object that holds them as `rows`.
    #[schema(example = json!([{"state": [1.2, 0.4, 0.9, 0.3, 0.5, 0.8, 0.6, 0.7, 0], "action": "increase", "reward": 1}]))]
    feedback: FeedbackRowsInput,
    /// Passes over the feedback, 1 to 10 000. Default 20.
    epochs: Option<u64>,
    /// Learning rate of the optimiser, above 0, at most 1. Default: the agent's.
    learning_rate: Option<f64>,
    /// Rows of one gradient step, 1 to 4096. Default 64.
    batch: Option<usize>,
    /// How much better than expected, in standard deviations of that, an action must be to weigh e times as much:
    /// 0.001 to 1 000 000. Default 1.
    temperature: Option<f64>,
    /// Seed of the run; the same feedback, settings and seed give the same policy. Default 0.
    seed: Option<u64>,
}

/// Rows of feedback.
#[derive(Debug)]
struct FeedbackRowsInput(Vec<FeedbackInput>);

/// Feedback: rows, or an object that holds them as `rows`.
#[derive(ToSchema)]
#[serde(untagged)]
#[schema(as = Feedback)]
#[expect(dead_code, reason = "describes what `Given` reads")]
enum FeedbackDocument {
    /// Rows of feedback in the request.
    Rows(Vec<FeedbackInput>),
    /// The rows as a member.
    Wrapped {
        /// Rows of feedback, at least one.
        rows: Vec<FeedbackInput>,
    },
}

impl PartialSchema for FeedbackRowsInput {
    fn schema() -> RefOr<Schema> {
        FeedbackDocument::schema()
    }
}

impl ToSchema for FeedbackRowsInput {
    fn name() -> Cow<'static, str> {
        FeedbackDocument::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        FeedbackDocument::schemas(schemas);
    }
}

impl<'de> Deserialize<'de> for FeedbackRowsInput {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct FeedbackEnvelope {
            rows: Vec<Value>,
        }
        let value = Value::deserialize(deserializer)?;
        let rows = match value {
            Value::Array(rows) => rows,
            other => FeedbackEnvelope::deserialize(other).map_err(serde::de::Error::custom)?.rows,
        };
        let row = |(at, row): (usize, Value)| {
            FeedbackInput::deserialize(row).map_err(|error| serde::de::Error::custom(format!("row {at}: {error}")))
        };
        rows.into_iter().enumerate().map(row).collect::<Result<_, _>>().map(Self)
    }
}

/// Train an agent's policy with feedback
///
/// Queues a training run, which `performance/rl/runs` shows too; it ends with a new version of the agent's policy.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/learning/train", operation_id = "learning_train", tag = "learning",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        IdempotencyHeader,
        WaitQuery,
    ),
    request_body = TrainAgentRequest,
    responses(
        (status = 200, body = TrainingRun, description = "The queued training run; with `wait` as it is once it has ended or the time is up"),
        (status = 400, description = "The caller has not enabled learning for the agent (`invalid_state`)"),
        (status = 429, description = "The caller has too many runs that have not ended (`quota_exceeded`)"),
    )
)]
pub async fn train_agent(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    QueryParams(wait): QueryParams<WaitQuery>,
    request: IdempotentJson<TrainAgentRequest>,
) -> Result<IdempotentOk<TrainingRun>, ApiError> {
    let wait = wait.of(&app)?;
    let agent_id = stored_agent_id(&app, &id);
    let TrainAgentRequest { feedback, epochs, learning_rate, batch, temperature, seed } = request.body;
    let default = OfflineSettings::default();
    let settings = |learner: &Learner| OfflineSettings {
        mode: learner.mode,
        learning_rate: learning_rate.unwrap_or(learner.learning_rate),
        epochs: epochs.unwrap_or(default.epochs),
        batch: batch.unwrap_or(default.batch),
        temperature: temperature.unwrap_or(default.temperature),
        seed: seed.unwrap_or(default.seed),
        ..default
    };
    let queued = app.learning.train(&caller, &agent_id, feedback.0, settings, request.once).await?;
    Ok(IdempotentOk(app.training.observe(&TrainingCaller::admin(&caller), queued, wait).await?))
}

/// Options of the progress report.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct LearningProgressQuery {
    /// Whether to add the measures of each pass: any text but `false`, `0` and `none`. Default: no.
    metrics: Option<String>,
}

/// The progress of an agent's learning.
#[derive(Serialize, ToSchema)]
#[schema(as = LearningProgress)]
pub struct LearningProgress {
    #[serde(flatten)]
    learner: Learner,
    /// Status of the newest run: queued, running, paused, completed, failed or cancelled; `idle`: there is no run.
    status: String,
    /// Progress of the newest run, 0 to 1; null: there is no run.
    progress: Option<f64>,
    /// Newest version of the agent's policy.
    version: u32,
    /// Number of all training runs.
    total_runs: i64,
    /// Number of completed runs among the newest hundred.
    completed_runs: usize,
    /// Rows of feedback in these completed runs.
    feedback_rows: u64,
    /// Share of the feedback whose best action the policy takes, before the newest completed run, 0 to 1; null: none
    /// has completed.
    agreement_before: Option<f64>,
    /// The same after that run; null: none has completed.
    agreement: Option<f64>,
    /// Newest training run; null: there is none.
    latest_run: Option<TrainingRun>,
    /// Measures by pass over the feedback; only with `metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Vec<CurvePoint>>,
}

/// Get the progress of an agent's learning
///
/// Computed from its training runs.
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/learning/progress", operation_id = "learning_get_progress",
    tag = "learning", security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        LearningProgressQuery,
    ),
    responses(
        (status = 200, body = LearningProgress, description = "The progress of the agent's learning"),
        (status = 400, description = "The caller has not enabled learning for the agent (`invalid_state`)"),
    )
)]
pub async fn get_learning_progress(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    QueryParams(query): QueryParams<LearningProgressQuery>,
) -> Result<JsonBody<LearningProgress>, ApiError> {
    let agent_id = stored_agent_id(&app, &id);
    let LearnerStatus { learner, version, runs, total } = app.learning.standing(&caller, &agent_id).await?;
    let completed = || runs.iter().filter(|run| run.status == RunStatus::Completed);
    let measured = |name: &str| runs.iter().find_map(|run| run.measures.get(name).copied());
    // Clients name the metrics they want; any word but a no gives them all.
    let wanted = query.metrics.as_deref().is_some_and(|word| !matches!(word, "false" | "0" | "none"));
    let metrics = match runs.first() {
        Some(latest) if wanted => app.training.get(&TrainingCaller::admin(&caller), &latest.id).await?.curve,
        _ => None,
    };
    Ok(JsonBody(LearningProgress {
        status: runs.first().map_or_else(|| "idle".to_owned(), |run| run.status.to_string()),
        progress: runs.first().map(|run| run.progress),
        version: version.version,
        total_runs: total,
        completed_runs: completed().count(),
        feedback_rows: completed().map(|run| run.task.feedback_rows() as u64).sum(),
        agreement_before: measured("agreement_before"),
        agreement: measured("agreement"),
        metrics,
        latest_run: runs.into_iter().next(),
        learner,
    }))
}

/// Export an agent's policy as a file
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/learning/export", operation_id = "learning_export", tag = "learning",
    security(("ApiKey" = ["admin"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        PolicyExportQuery,
    ),
    responses(
        (status = 200, body = BinaryFile, content_type = "application/octet-stream", description = "The policy as a file; `X-Export-Info` describes it", headers(("ETag" = String, description = "SHA-256 of the file, quoted"), ("Content-Disposition" = String, description = "Name of the file"), ("X-Export-Info" = String, description = "JSON about the file: policy, version, format, hash, size and origin"))),
        (status = 400, description = "The caller has not enabled learning for the agent (`invalid_state`)"),
    )
)]
pub async fn export_agent_policy(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<AgentId>,
    QueryParams(query): QueryParams<PolicyExportQuery>,
) -> Result<Response, ApiError> {
    let agent_id = stored_agent_id(&app, &id);
    let format = query.format()?;
    let learner = app.learning.get(&caller, &agent_id).await?;
    export_response(&app, &PolicyReference::newest(&learner.policy), format, Some(&agent_id)).await
}
