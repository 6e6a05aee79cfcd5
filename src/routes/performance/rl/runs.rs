//! `rl/runs`: training in the background.

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
        AnyKey, ApiError, Json, Path, Query,
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
    routes::{
        agents::WaitQuery,
        stream::{Asked, EventsQuery, Page},
    },
};
use am_db::{
    once::{Done, Once},
    principal::Principal,
};
use am_rl::{
    Error, calibration,
    runs::{Request, RunFilter, RunStatus, TrainingRun},
};

/// Train a policy
///
/// A run is queued and trained in the background, by this process or, should it end, by the next one, from the last
/// checkpoint. It ends with a new version of `policy`, evaluated.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/runs", tag = "performance", request_body = Request,
    responses((status = 201, body = Object), (status = 403), (status = 422))
)]
pub async fn create(State(app): State<App>, caller: AnyKey, request: KeyedJson<Request>) -> Result<Response, ApiError> {
    let done = queued(&app, &(&caller.0).into(), request.body, request.once).await?;
    Ok((StatusCode::CREATED, Replayable(Json(done.value), done.replayed)).into_response())
}

/// Queue the run that is asked for.
pub async fn queued(
    app: &App,
    caller: &Principal,
    mut request: Request,
    once: Option<Once>,
) -> Result<Done<TrainingRun>, ApiError> {
    if request.calibrate {
        match calibration::calibrate(&app.db, &request.environment).await {
            // One without parameters takes none.
            Ok(found) if found.parameters.is_empty() => {}
            Ok(found) => request.parameters = Some(found.under(request.parameters)),
            // What is wrong with the environment is said where the run is checked.
            Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let policy = request.policy.clone();
    Ok(app.training.create(caller, policy, request.work(), once).await?)
}

/// Which runs.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RunsQuery {
    /// Of this policy.
    policy: Option<String>,
    /// In this state.
    status: Option<RunStatus>,
}

/// Your training runs, newest first
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/runs", tag = "performance", params(RunsQuery, PageQuery),
    responses((status = 200, body = Vec<Object>))
)]
pub async fn list(
    State(app): State<App>,
    caller: AnyKey,
    Query(query): Query<RunsQuery>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let page = paging.page(50)?;
    let filter = RunFilter { policy: query.policy, status: query.status };
    let (rows, total) = app.training.list(&(&caller.0).into(), &filter, &page).await?;
    let last = rows.last().map(|row| (row.created_at, row.id.as_str()));
    Ok(paging.answer(&page, &rows, total as u64, last))
}

/// A training run: how far it is, its reward curve and losses, what came of it
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/runs/{run_id}", tag = "performance", params(("run_id" = String, Path), WaitQuery),
    responses((status = 200, body = Object), (status = 403), (status = 404))
)]
pub async fn get(
    State(app): State<App>,
    caller: AnyKey,
    Path(id): Path<String>,
    Query(wait): Query<WaitQuery>,
) -> Result<Json<TrainingRun>, ApiError> {
    let caller = (&caller.0).into();
    let run = app.training.get(&caller, &id).await?;
    match wait.of(&app)? {
        Some(wait) if !run.status.is_final() => Ok(Json(app.training.wait(&caller, &id, wait).await?)),
        _ => Ok(Json(run)),
    }
}

/// A page of a run's events.
#[derive(Serialize, ToSchema)]
pub struct RunEvents {
    run_id: String,
    #[serde(flatten)]
    page: Page,
}

/// The events of a training run
///
/// `queued`, `started`, `progress` (about one a second: steps, mean return, losses), `resumed`, `paused`, `released` (its process stopped), `completed`, `failed`,
/// `cancelled`. A stream of Server-Sent Events that begins again after `Last-Event-ID`, or a page with `?format=json`.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/runs/{run_id}/events", tag = "performance", params(("run_id" = String, Path), EventsQuery),
    responses((status = 200, description = "`text/event-stream`, or a page", body = RunEvents), (status = 403), (status = 404))
)]
pub async fn events(
    State(app): State<App>,
    caller: AnyKey,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, ApiError> {
    let first = app.training.events(&(&caller.0).into(), &id, asked.after(), asked.limit()).await?;
    let follower = app.training.follow(&id, asked.after());
    Ok(asked.answer(first, |page| RunEvents { run_id: id, page }, follower))
}

fn changed(done: Done<TrainingRun>) -> Response {
    Replayable(Json(done.value), done.replayed).into_response()
}

/// Stop a run at its next step, with a checkpoint
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/runs/{run_id}/pause", tag = "performance", params(("run_id" = String, Path)),
    responses((status = 200, body = Object), (status = 400), (status = 403), (status = 404))
)]
pub async fn pause(
    State(app): State<App>,
    caller: AnyKey,
    Path(id): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    Ok(changed(app.training.pause(&(&caller.0).into(), &id, request.once).await?))
}

/// Queue a paused run again
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/runs/{run_id}/resume", tag = "performance", params(("run_id" = String, Path)),
    responses((status = 200, body = Object), (status = 400), (status = 403), (status = 404))
)]
pub async fn resume(
    State(app): State<App>,
    caller: AnyKey,
    Path(id): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    Ok(changed(app.training.resume(&(&caller.0).into(), &id, request.once).await?))
}

/// End a run without a version
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/runs/{run_id}/cancel", tag = "performance", params(("run_id" = String, Path)),
    responses((status = 200, body = Object), (status = 400), (status = 403), (status = 404))
)]
pub async fn cancel(
    State(app): State<App>,
    caller: AnyKey,
    Path(id): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    Ok(changed(app.training.cancel(&(&caller.0).into(), &id, request.once).await?))
}
