//! `rl/runs`: training in the background.

use axum::{
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
    response::Response,
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        AnyCaller, ApiCaller, ApiError, JsonBody, KeyRole, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
        openapi::LastEventIdHeader,
        pagination::{PageQuery, Paginator},
        time_query::EndedQuery,
    },
    routes::{
        agents::{WaitQuery, deletion::deletion_entry},
        stream::{EventPage, EventsQuery, EventsRequest},
    },
};
use am_core::ids::TrainingRunId;
use am_db::idempotency::{IdempotencyKey, IdempotentResult};
use am_retention::RetentionKind;
use am_rl::{
    RlError, calibration,
    runs::{
        LabelChange, RunFilter, RunStatus, TrainingCaller, TrainingRequest, TrainingRole, TrainingRun, wanted_labels,
    },
};

/// Extractor for callers of training runs.
#[derive(Debug)]
pub struct TrainingKey(pub TrainingCaller);

impl<S: Send + Sync> FromRequestParts<S> for TrainingKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let AnyCaller(caller) = AnyCaller::from_request_parts(parts, state).await?;
        Ok(Self(training_caller(&caller)))
    }
}

/// The caller of a route that admits no agent's key, as training runs know it.
pub fn training_caller(caller: &ApiCaller) -> TrainingCaller {
    let role = match caller.role {
        KeyRole::Admin => TrainingRole::Admin,
        KeyRole::Client => TrainingRole::Client,
        KeyRole::Miner | KeyRole::Agent => TrainingRole::Miner,
    };
    TrainingCaller { principal: caller.principal.clone(), role }
}

/// Start a training run
///
/// The run is queued and trained in the background, by this process or, if it ends, by the next one, from the last
/// checkpoint. It ends with a new, evaluated version of `policy`.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/runs", operation_id = "rl_runs_create", tag = "rl_runs",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader, WaitQuery),
    request_body = TrainingRequest,
    responses(
        (status = 201, body = TrainingRun, description = "The queued run; with `wait` as it is once it has ended or the time is up"),
        (status = 403, description = "The policy is another owner's"),
        (status = 429, description = "The caller has too many runs that have not ended (`quota_exceeded`)"),
    )
)]
pub async fn create_training_run(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    QueryParams(wait): QueryParams<WaitQuery>,
    request: IdempotentJson<TrainingRequest>,
) -> Result<IdempotentCreated<TrainingRun>, ApiError> {
    let wait = wait.of(&app)?;
    let queued = queue_training_run(&app, &caller, request.body, request.once).await?;
    Ok(IdempotentCreated(app.training.observe(&caller, queued, wait).await?))
}

/// Queue the run that is asked for.
pub async fn queue_training_run(
    app: &App,
    caller: &TrainingCaller,
    mut request: TrainingRequest,
    once: Option<IdempotencyKey>,
) -> Result<IdempotentResult<TrainingRun>, ApiError> {
    if request.calibrate {
        match calibration::calibrate_environment(&app.db, &request.environment).await {
            // One without parameters takes none.
            Ok(found) if found.parameters.is_empty() => {}
            Ok(found) => request.parameters = Some(found.under(request.parameters)),
            // What is wrong with the environment is said where the run is checked.
            Err(RlError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (policy, labels) = (request.policy.clone(), request.labels());
    // Trainings of a policy begin with what an optimisation found for it, where one was applied.
    if let (None, Some(name)) = (&request.settings, &policy) {
        let algorithm = request.algorithm.to_string();
        let tuned = app.performance.optimisation.tuned_settings(name, &algorithm, &request.environment).await?;
        request.settings = tuned.map(|tuned| Value::Object(tuned.settings));
    }
    Ok(app.training.create(caller, (policy, labels), request.work(), once).await?)
}

/// Filter of training runs.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RunsQuery {
    /// Only runs of this policy.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    policy: Option<String>,
    /// Only runs in these statuses, with commas between them. Default: any.
    #[serde(default, deserialize_with = "crate::http::several")]
    #[param(value_type = Option<Vec<RunStatus>>, style = Form, explode = false)]
    status: Vec<RunStatus>,
    /// Only runs with all of these tags, with commas between them. Default: any.
    #[serde(default, deserialize_with = "crate::http::several")]
    #[param(value_type = Option<Vec<String>>, style = Form, explode = false)]
    tags: Vec<String>,
    /// Only runs whose name has all words of this text, in upper or lower case. Default: any.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    name: Option<String>,
    /// Whether to list everybody's runs, for admins. Default: the caller's own.
    #[serde(default)]
    all: bool,
}

/// List training runs
///
/// The caller's own, the newest first, 50 on a page; for an admin with `all` everybody's.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/runs", operation_id = "rl_runs_list", tag = "rl_runs",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(RunsQuery, EndedQuery, PageQuery),
    responses(
        (status = 200, body = Vec<TrainingRun>, description = "A page of training runs, the newest first"),
        (status = 403, description = "`all` is only for admins"),
    )
)]
pub async fn list_training_runs(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    QueryParams(query): QueryParams<RunsQuery>,
    QueryParams(ended): QueryParams<EndedQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    if query.all && caller.role != TrainingRole::Admin {
        return Err(ApiError::forbidden("Only an admin may list everybody's training runs"));
    }
    let filter = RunFilter {
        policy: query.policy,
        status: query.status,
        labels: wanted_labels(query.name.as_deref(), &query.tags),
        ended: ended.span(&app.clock),
        all: query.all,
    };
    let found = app.training.list(&caller.principal, &filter, &paging.page).await?;
    Ok(paging.answer(found, |run| (run.created_at, &run.id)))
}

/// Get a training run
///
/// With its progress, reward curve, losses and result.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/runs/{run_id}", operation_id = "rl_runs_get", tag = "rl_runs",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("run_id" = TrainingRunId, Path, description = "Id of the training run: `train_` and 12 hexadecimal digits"),
        WaitQuery,
    ),
    responses(
        (status = 200, body = TrainingRun, description = "The training run with its reward curve"),
        (status = 404, description = "The caller has no training run of this id"),
    )
)]
pub async fn get_training_run(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    PathParams(id): PathParams<TrainingRunId>,
    QueryParams(wait): QueryParams<WaitQuery>,
) -> Result<JsonBody<TrainingRun>, ApiError> {
    let run = app.training.get(&caller, &id).await?;
    match wait.of(&app)? {
        Some(wait) if !run.status.is_final() => Ok(JsonBody(app.training.wait(&caller, &id, wait).await?)),
        _ => Ok(JsonBody(run)),
    }
}

/// Another name or other tags of a training run. What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(example = json!({"name": "larger networks", "tags": ["team:pricing"]}))]
pub struct TrainingRunUpdate {
    /// Name for people, 1 to 120 characters; null: none any more.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    name: Option<Option<String>>,
    /// All tags, which replace the present ones.
    tags: Option<Vec<String>>,
}

/// Tell null from a member that is left out.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Rename a training run, or change its tags
///
/// Whatever its status.
#[utoipa::path(
    patch, path = "/api/v1/agents/performance/rl/runs/{run_id}", operation_id = "rl_runs_update", tag = "rl_runs",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("run_id" = TrainingRunId, Path, description = "Id of the training run: `train_` and 12 hexadecimal digits"),
        IdempotencyHeader,
    ),
    request_body = TrainingRunUpdate,
    responses(
        (status = 200, body = TrainingRun, description = "The training run"),
        (status = 404, description = "The caller has no training run of this id"),
    )
)]
pub async fn update_training_run(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    PathParams(id): PathParams<TrainingRunId>,
    request: IdempotentJson<TrainingRunUpdate>,
) -> Result<IdempotentOk<TrainingRun>, ApiError> {
    let labels = LabelChange { name: request.body.name, tags: request.body.tags };
    Ok(IdempotentOk(app.training.relabel(&caller, &id, labels, request.once).await?))
}

/// A page of a run's events.
#[derive(Serialize, ToSchema)]
pub struct RunEvents {
    /// Id of the training run.
    run_id: TrainingRunId,
    #[serde(flatten)]
    page: EventPage,
}

/// List or follow the events of a training run
///
/// `queued`, `started`, `progress` (about one a second: steps, mean return, losses), `resumed`, `paused`, `released`
/// (its process stopped), `completed`, `failed`, `cancelled`. A stream of Server-Sent Events that resumes after
/// `Last-Event-ID`, or a page with `?format=json`.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/runs/{run_id}/events", operation_id = "rl_runs_list_events",
    tag = "rl_runs", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("run_id" = TrainingRunId, Path, description = "Id of the training run: `train_` and 12 hexadecimal digits"),
        EventsQuery,
        LastEventIdHeader,
    ),
    responses(
        (status = 200, content((RunEvents = "application/json"), (String = "text/event-stream")), description = "A page of events, or a stream of Server-Sent Events that ends with the run"),
        (status = 204, description = "The stream has ended, and the client has its last event: nothing will follow"),
        (status = 404, description = "The caller has no training run of this id"),
    )
)]
pub async fn stream_training_events(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    PathParams(id): PathParams<TrainingRunId>,
    asked: EventsRequest,
) -> Result<Response, ApiError> {
    let first = app.training.events(&caller, &id, asked.after(), asked.limit()).await?;
    let follower = app.training.follow(&id, asked.after());
    asked.answer(first, |page| RunEvents { run_id: id, page }, follower).await
}

/// Pause a training run
///
/// It stops at its next step, with a checkpoint.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/runs/{run_id}/pause", operation_id = "rl_runs_pause", tag = "rl_runs",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("run_id" = TrainingRunId, Path, description = "Id of the training run: `train_` and 12 hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = TrainingRun, description = "The training run"),
        (status = 400, description = "The run is paused or has ended (`invalid_state`)"),
        (status = 404, description = "The caller has no training run of this id"),
    )
)]
pub async fn pause_training_run(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    PathParams(id): PathParams<TrainingRunId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<TrainingRun>, ApiError> {
    Ok(IdempotentOk(app.training.pause(&caller, &id, request.once).await?))
}

/// Resume a paused training run
///
/// It is queued again.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/runs/{run_id}/resume", operation_id = "rl_runs_resume",
    tag = "rl_runs", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("run_id" = TrainingRunId, Path, description = "Id of the training run: `train_` and 12 hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = TrainingRun, description = "The training run"),
        (status = 400, description = "The run is not paused (`invalid_state`)"),
        (status = 404, description = "The caller has no training run of this id"),
    )
)]
pub async fn resume_training_run(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    PathParams(id): PathParams<TrainingRunId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<TrainingRun>, ApiError> {
    Ok(IdempotentOk(app.training.resume(&caller, &id, request.once).await?))
}

/// Cancel a training run
///
/// It ends without a version.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/runs/{run_id}/cancel", operation_id = "rl_runs_cancel",
    tag = "rl_runs", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("run_id" = TrainingRunId, Path, description = "Id of the training run: `train_` and 12 hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = TrainingRun, description = "The training run"),
        (status = 400, description = "The run has ended (`invalid_state`)"),
        (status = 404, description = "The caller has no training run of this id"),
    )
)]
pub async fn cancel_training_run(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    PathParams(id): PathParams<TrainingRunId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<TrainingRun>, ApiError> {
    Ok(IdempotentOk(app.training.cancel(&caller, &id, request.once).await?))
}

/// Delete a training run
///
/// Only once it has ended, and no execution of its owner can wait for it. Its events go with it; a version that it made stays.
#[utoipa::path(
    delete, path = "/api/v1/agents/performance/rl/runs/{run_id}", operation_id = "rl_runs_delete",
    tag = "rl_runs", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("run_id" = TrainingRunId, Path, description = "Id of the training run: `train_` and 12 hexadecimal digits")),
    responses(
        (status = 204, description = "The training run is deleted"),
        (status = 404, description = "The caller has no training run of this id"),
        (status = 409, description = "The run has not ended, or an execution of its owner may wait for it (`in_use`)"),
    )
)]
pub async fn delete_training_run(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    PathParams(id): PathParams<TrainingRunId>,
) -> Result<StatusCode, ApiError> {
    app.training.get(&caller, &id).await?;
    let entry = deletion_entry(&app, &caller.principal, "training_run").training_run(&id);
    app.retention.remove(RetentionKind::TrainingRuns, "Training run", id.as_str(), entry).await?;
    Ok(StatusCode::NO_CONTENT)
}
