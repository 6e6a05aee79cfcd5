//! `rl/sweeps`: a policy's settings tried by trainings, as one background task.

use axum::{
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::runs::TrainingKey;
use crate::{
    app::App,
    http::{
        ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
    routes::agents::WaitQuery,
};
use am_core::ids::SweepId;
use am_performance::{
    CurveDrawing, draw_curve,
    sweeps::{SweepDocument, SweepDraft, SweepFilter, SweepReport, SweepStatus, sweep_csv},
};
use am_rl::runs::TrainingRole;

/// Start a sweep
///
/// One background task that tries settings of a policy's training: every combination of a grid, points drawn at random, or points
/// proposed by a tree-structured Parzen estimator. Each trial is a training run for each seed, with its curve, its version and its
/// exports, found by the tag `sweep:<id>`; its score is the mean over the seeds. After a crash it goes on to the same result.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/sweeps", operation_id = "rl_sweeps_create", tag = "rl_sweeps",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = SweepDraft,
    responses(
        (status = 201, body = SweepDocument, description = "The sweep, which runs in the background"),
        (status = 403, description = "The policy is another owner's"),
        (status = 429, description = "The caller has too many background tasks that have not ended (`quota_exceeded`)"),
    )
)]
pub async fn create_sweep(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    request: IdempotentJson<SweepDraft>,
) -> Result<IdempotentCreated<SweepDocument>, ApiError> {
    Ok(IdempotentCreated(app.performance.sweeps.create(&caller, request.body, request.once).await?))
}

/// Filter of sweeps.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SweepsQuery {
    /// Only sweeps in these statuses, with commas between them. Default: any.
    #[serde(default, deserialize_with = "crate::http::several")]
    #[param(value_type = Option<Vec<SweepStatus>>, style = Form, explode = false)]
    status: Vec<SweepStatus>,
    /// Whether to list everybody's sweeps, for admins. Default: the caller's own.
    #[serde(default)]
    all: bool,
}

/// List sweeps
///
/// The caller's own, the newest first, 20 on a page; for an admin with `all` everybody's.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/sweeps", operation_id = "rl_sweeps_list", tag = "rl_sweeps",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(SweepsQuery, PageQuery),
    responses(
        (status = 200, body = Vec<SweepDocument>, description = "A page of sweeps, the newest first"),
        (status = 403, description = "`all` is only for admins"),
    )
)]
pub async fn list_sweeps(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    QueryParams(query): QueryParams<SweepsQuery>,
    paging: Paginator<20>,
) -> Result<Response, ApiError> {
    if query.all && caller.role != TrainingRole::Admin {
        return Err(ApiError::forbidden("Only an admin may list everybody's sweeps"));
    }
    let filter = SweepFilter { status: query.status, all: query.all };
    let found = app.performance.sweeps.list(&caller, &filter, &paging.page).await?;
    Ok(paging.answer(found, |sweep| (sweep.created_at, &sweep.sweep_id)))
}

/// Get a sweep
///
/// With its progress and its best trial so far. Its events are those of its background task.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/sweeps/{sweep_id}", operation_id = "rl_sweeps_get", tag = "rl_sweeps",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("sweep_id" = SweepId, Path, description = "Id of the sweep: `sweep_` and 12 hexadecimal digits"), WaitQuery),
    responses(
        (status = 200, body = SweepDocument, description = "The sweep; with `wait` as it is once it has ended or the time is up"),
        (status = 404, description = "The caller has no sweep of this id"),
    )
)]
pub async fn get_sweep(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    PathParams(id): PathParams<SweepId>,
    QueryParams(wait): QueryParams<WaitQuery>,
) -> Result<JsonBody<SweepDocument>, ApiError> {
    let wait = wait.of(&app)?;
    Ok(JsonBody(app.performance.sweeps.get(&caller, &id, wait).await?))
}

/// Form of a sweep's trials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrialsFormat {
    /// The trials with their runs and intervals.
    Json,
    /// Comma-separated values with a line of names.
    Csv,
    /// A drawing of the scores over the trials' numbers.
    Svg,
}

/// Which form the trials have.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TrialsQuery {
    /// `json`, `csv` or `svg`. Default `json`.
    #[param(inline)]
    format: Option<TrialsFormat>,
}

/// Get the trials of a sweep
///
/// Each with its settings, its runs, its score and the interval over the seeds; the margin of the best one over the second, seed by
/// seed. As JSON, as CSV, or as SVG.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/sweeps/{sweep_id}/trials", operation_id = "rl_sweeps_get_trials",
    tag = "rl_sweeps", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("sweep_id" = SweepId, Path, description = "Id of the sweep: `sweep_` and 12 hexadecimal digits"),
        TrialsQuery,
    ),
    responses(
        (status = 200, content((SweepReport = "application/json"), (String = "text/csv")), description = "The trials; `image/svg+xml` with `format=svg`"),
        (status = 404, description = "The caller has no sweep of this id"),
    )
)]
pub async fn get_sweep_trials(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    PathParams(id): PathParams<SweepId>,
    QueryParams(query): QueryParams<TrialsQuery>,
) -> Result<Response, ApiError> {
    let report = app.performance.sweeps.report(&caller, &id).await?;
    let (content_type, text) = match query.format.unwrap_or(TrialsFormat::Json) {
        TrialsFormat::Json => return Ok(JsonBody(report).into_response()),
        TrialsFormat::Csv => ("text/csv; charset=utf-8", sweep_csv(&report)),
        TrialsFormat::Svg => {
            let scored = report.trials.iter().filter_map(|trial| Some((trial.trial as f64, trial.score?)));
            let points: Vec<(f64, f64)> = scored.collect();
            let title = format!("{id}: {}", report.goal);
            let curve = CurveDrawing { title: &title, axes: ("trial", report.goal.value()), points: &points };
            ("image/svg+xml", draw_curve(&curve)?)
        }
    };
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], text).into_response())
}

/// Cancel a sweep
///
/// The runs of the trial under way are cancelled with it; trials that have ended keep their figures and their versions.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/sweeps/{sweep_id}/cancel", operation_id = "rl_sweeps_cancel",
    tag = "rl_sweeps", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("sweep_id" = SweepId, Path, description = "Id of the sweep: `sweep_` and 12 hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = SweepDocument, description = "The sweep, which is to end"),
        (status = 404, description = "The caller has no sweep of this id"),
        (status = 409, description = "It has ended (`invalid_state`)"),
    )
)]
pub async fn cancel_sweep(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    PathParams(id): PathParams<SweepId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<SweepDocument>, ApiError> {
    Ok(IdempotentOk(app.performance.sweeps.cancel(&caller, &id, request.once).await?))
}
