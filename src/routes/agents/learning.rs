//! `/api/v1/agents/{agent_id}/learning`: agents whose policy changes by feedback.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        idempotency::{KeyedJson, Replayable},
    },
    routes::export::{ExportQuery, exported},
};
use am_rl::{
    PolicyReference,
    learning::{Enabling, GivenFeedback, Learner, Standing},
    runs::{Point, RunStatus, TrainingRun},
    training::{Mode, OfflineSettings},
};

/// How an agent is to learn.
#[derive(Debug, Deserialize, ToSchema)]
pub struct EnableRequest {
    /// reinforcement: all layers may change; transfer: the output layers only; meta: towards weights from which each part of
    /// the feedback is soon learnt.
    #[serde(default)]
    #[schema(value_type = String, default = "reinforcement")]
    mode: Mode,
    /// Of the optimiser, above 0, at most 1; 0.001 where nothing is said.
    learning_rate: Option<f64>,
    /// Where the feedback comes from, for people.
    feedback_source: Option<String>,
    /// The policy that the agent's own begins as a copy of; the built-in one where nothing is said.
    policy: Option<String>,
}

/// An agent that learns.
#[derive(Serialize, ToSchema)]
pub struct LearnerDocument {
    /// enabled.
    status: &'static str,
    /// `agent_id`, `policy` (its own), `mode`, `learning_rate`, `feedback_source`, `owner_id`, `created_at`, `updated_at`.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    learner: Learner,
}

/// Let an agent learn: it gets a policy of its own
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/learning/enable", tag = "agents", params(("agent_id" = String, Path)),
    request_body = EnableRequest, responses((status = 200, body = LearnerDocument), (status = 403), (status = 422))
)]
pub async fn enable(
    State(app): State<App>,
    caller: Admin,
    Path(agent_id): Path<String>,
    request: KeyedJson<EnableRequest>,
) -> Result<Response, ApiError> {
    let EnableRequest { mode, learning_rate, feedback_source, policy } = request.body;
    let learning_rate = learning_rate.unwrap_or(OfflineSettings::default().learning_rate);
    let enabling = Enabling { mode, learning_rate, feedback_source, policy };
    let done = app.learning.enable(&(&caller.0).into(), &agent_id, enabling, request.once).await?;
    let document = LearnerDocument { status: "enabled", learner: done.value };
    Ok(Replayable(Json(document), done.replayed).into_response())
}

/// What an agent is to learn from.
#[derive(Debug, Deserialize, ToSchema)]
pub struct TrainRequest {
    /// Rows of `state` (an array, or an object by name), `action` (its index, its name, or its numbers) and `reward` (more is
    /// better); or an object with them as `rows`.
    #[schema(value_type = Vec<Object>, example = json!([{"state": [1.2, 0.4, 0.9, 0.3, 0.5, 0.8, 0.6, 0.7, 0], "action": "increase", "reward": 1}]))]
    feedback: Given,
    /// Passes over the feedback, 1 to 10 000; 20 where nothing is said.
    epochs: Option<u64>,
    /// The agent's where nothing is said.
    learning_rate: Option<f64>,
    /// Rows of a gradient step, 1 to 4096.
    batch: Option<usize>,
    /// How much better than expected an action must be to count e times as much.
    temperature: Option<f64>,
    seed: Option<u64>,
}

/// Rows of feedback.
#[derive(Debug)]
struct Given(Vec<GivenFeedback>);

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wrapped {
            rows: Vec<Value>,
        }
        let value = Value::deserialize(deserializer)?;
        let rows = match value {
            Value::Array(rows) => rows,
            other => Wrapped::deserialize(other).map_err(serde::de::Error::custom)?.rows,
        };
        let row = |(at, row): (usize, Value)| {
            GivenFeedback::deserialize(row).map_err(|error| serde::de::Error::custom(format!("row {at}: {error}")))
        };
        rows.into_iter().enumerate().map(row).collect::<Result<_, _>>().map(Self)
    }
}

/// Change an agent's policy by feedback
///
/// A background run, like those of `performance/rl/runs`, which shows it too; it ends with a new version of the agent's policy.
#[utoipa::path(
    post, path = "/api/v1/agents/{agent_id}/learning/train", tag = "agents", params(("agent_id" = String, Path)),
    request_body = TrainRequest,
    responses((status = 201, body = Object), (status = 400, description = "It was not enabled"), (status = 403), (status = 422))
)]
pub async fn train(
    State(app): State<App>,
    caller: Admin,
    Path(agent_id): Path<String>,
    request: KeyedJson<TrainRequest>,
) -> Result<Response, ApiError> {
    let caller = (&caller.0).into();
    let learner = app.learning.get(&caller, &agent_id).await?;
    let TrainRequest { feedback, epochs, learning_rate, batch, temperature, seed } = request.body;
    let default = OfflineSettings::default();
    let settings = OfflineSettings {
        mode: learner.mode,
        learning_rate: learning_rate.unwrap_or(learner.learning_rate),
        epochs: epochs.unwrap_or(default.epochs),
        batch: batch.unwrap_or(default.batch),
        temperature: temperature.unwrap_or(default.temperature),
        seed: seed.unwrap_or(default.seed),
        ..default
    };
    let done = app.learning.train(&caller, learner, feedback.0, settings, request.once).await?;
    Ok((StatusCode::CREATED, Replayable(Json(done.value), done.replayed)).into_response())
}

/// What to show of an agent's learning.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ProgressQuery {
    /// Measures of each pass over the feedback as well?
    metrics: Option<String>,
}

/// How an agent's learning goes.
#[derive(Serialize, ToSchema)]
pub struct ProgressDocument {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    learner: Learner,
    /// queued, running, paused, completed, failed, cancelled: the newest run's; idle where there is none.
    status: String,
    /// Of the newest run, from 0 to 1.
    progress: Option<f64>,
    /// The newest version of the agent's policy.
    version: u32,
    total_runs: i64,
    completed_runs: usize,
    /// Rows of feedback in the completed ones.
    feedback_rows: u64,
    /// The share of the feedback whose best actions the policy takes, before and after the newest run that learnt something.
    agreement_before: Option<f64>,
    agreement: Option<f64>,
    /// The newest run, its measures by pass among it.
    #[schema(value_type = Option<Object>)]
    latest_run: Option<TrainingRun>,
    /// By pass over the feedback; only with `metrics`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    metrics: Option<Vec<Point>>,
}

/// How an agent's learning goes, from its runs
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/learning/progress", tag = "agents", params(("agent_id" = String, Path), ProgressQuery),
    responses((status = 200, body = ProgressDocument), (status = 400, description = "It was not enabled"), (status = 403))
)]
pub async fn progress(
    State(app): State<App>,
    caller: Admin,
    Path(agent_id): Path<String>,
    Query(query): Query<ProgressQuery>,
) -> Result<Json<ProgressDocument>, ApiError> {
    let caller = (&caller.0).into();
    let Standing { learner, version, runs, total } = app.learning.standing(&caller, &agent_id).await?;
    let completed = || runs.iter().filter(|run| run.status == RunStatus::Completed);
    let measured = |name: &str| runs.iter().find_map(|run| run.measures.get(name).copied());
    // Clients name the metrics they want; any word but a no gives them all.
    let wanted = query.metrics.as_deref().is_some_and(|word| !matches!(word, "false" | "0" | "none"));
    let metrics = match runs.first() {
        Some(latest) if wanted => app.training.get(&caller, &latest.id).await?.curve,
        _ => None,
    };
    Ok(Json(ProgressDocument {
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

/// An agent's policy as a file, with JSON about it in `X-Export-Info`
#[utoipa::path(
    get, path = "/api/v1/agents/{agent_id}/learning/export", tag = "agents", params(("agent_id" = String, Path), ExportQuery),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 400, description = "It was not enabled"), (status = 403), (status = 422))
)]
pub async fn export(
    State(app): State<App>,
    caller: Admin,
    Path(agent_id): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    let format = query.format()?;
    let learner = app.learning.get(&(&caller.0).into(), &agent_id).await?;
    exported(&app, &PolicyReference::newest(&learner.policy), format, Some(&agent_id)).await
}
