//! `performance/tasks`: long work that goes on after its request was answered.

use axum::{
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{
        AnyCaller, ApiError, JsonBody, KeyRole, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        openapi::{LastEventIdHeader, routes},
        pagination::{PageQuery, Paginator},
    },
    routes::{
        agents::WaitQuery,
        stream::{EventPage, EventsQuery, EventsRequest},
    },
};
use am_background::{BackgroundWork, WorkCaller, WorkFilter, WorkStatus};
use am_core::ids::BackgroundTaskId;

/// The routes of background tasks.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(list_background_tasks))
        .routes(routes!(get_background_task))
        .routes(routes!(stream_background_events))
        .routes(routes!(pause_background_task))
        .routes(routes!(resume_background_task))
        .routes(routes!(cancel_background_task))
}

/// Extractor for callers of background tasks.
#[derive(Debug)]
pub(super) struct WorkKey(pub(super) WorkCaller);

impl<S: Send + Sync> FromRequestParts<S> for WorkKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let AnyCaller(caller) = AnyCaller::from_request_parts(parts, state).await?;
        let is_admin = caller.role == KeyRole::Admin;
        Ok(Self(WorkCaller { principal: caller.principal, is_admin }))
    }
}

/// Filter of background tasks.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct TasksQuery {
    /// Only tasks of this kind: `optimisation`, `meta_training`, `enhancement`, `sweep`, `comparison`, `evaluation`.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    kind: Option<String>,
    /// Only tasks about this, such as an agent's or a model's id.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    subject: Option<String>,
    /// Only tasks in these statuses, with commas between them. Default: any.
    #[serde(default, deserialize_with = "crate::http::several")]
    #[param(value_type = Option<Vec<WorkStatus>>, style = Form, explode = false)]
    status: Vec<WorkStatus>,
    /// Whether to list everybody's tasks, for admins. Default: the caller's own.
    #[serde(default)]
    all: bool,
}

/// List background tasks
///
/// The caller's own, the newest first, 50 on a page; for an admin with `all` everybody's.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/tasks", operation_id = "background_tasks_list", tag = "background_tasks",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(TasksQuery, PageQuery),
    responses(
        (status = 200, body = Vec<BackgroundWork>, description = "A page of background tasks, the newest first"),
        (status = 403, description = "`all` is only for admins"),
    )
)]
async fn list_background_tasks(
    State(app): State<App>,
    WorkKey(caller): WorkKey,
    QueryParams(query): QueryParams<TasksQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    if query.all && !caller.is_admin {
        return Err(ApiError::forbidden("Only an admin may list everybody's background tasks"));
    }
    let filter = WorkFilter { kind: query.kind, subject: query.subject, status: query.status, all: query.all };
    let found = app.tasks.list(&caller, &filter, &paging.page).await?;
    Ok(paging.answer(found, |task| (task.created_at, &task.id)))
}

/// Get a background task
///
/// With its progress, latest figures and result.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/tasks/{task_id}", operation_id = "background_tasks_get",
    tag = "background_tasks", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("task_id" = BackgroundTaskId, Path, description = "Id of the task: `task_` and 12 hexadecimal digits"),
        WaitQuery,
    ),
    responses(
        (status = 200, body = BackgroundWork, description = "The task; with `wait` as it is once it has ended or the time is up"),
        (status = 404, description = "The caller has no background task of this id"),
    )
)]
async fn get_background_task(
    State(app): State<App>,
    WorkKey(caller): WorkKey,
    PathParams(id): PathParams<BackgroundTaskId>,
    QueryParams(wait): QueryParams<WaitQuery>,
) -> Result<JsonBody<BackgroundWork>, ApiError> {
    let task = app.tasks.get(&caller, &id).await?;
    match wait.of(&app)? {
        Some(wait) if !task.status.is_final() => Ok(JsonBody(app.tasks.wait(&id, wait).await?)),
        _ => Ok(JsonBody(task)),
    }
}

/// A page of a task's events.
#[derive(Serialize, ToSchema)]
struct BackgroundEvents {
    /// Id of the task.
    task_id: BackgroundTaskId,
    #[serde(flatten)]
    page: EventPage,
}

/// List or follow the events of a background task
///
/// `queued`, `started`, `progress` (about one a second), `resumed`, `restarted` (from the beginning, and why), `released` (its
/// process let it go), `paused`, `completed`, `failed`, `cancelled`, and those of its kind (`case_started` and `case_ended` of an
/// evaluation). A stream of Server-Sent Events that
/// resumes after `Last-Event-ID`, or a page with `?format=json`. What was done after the last checkpoint of a process that died is
/// told again.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/tasks/{task_id}/events", operation_id = "background_tasks_list_events",
    tag = "background_tasks", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("task_id" = BackgroundTaskId, Path, description = "Id of the task: `task_` and 12 hexadecimal digits"),
        EventsQuery,
        LastEventIdHeader,
    ),
    responses(
        (status = 200, content((BackgroundEvents = "application/json"), (String = "text/event-stream")), description = "A page of events, or a stream of Server-Sent Events that ends with the task"),
        (status = 204, description = "The stream has ended, and the client has its last event: nothing will follow"),
        (status = 404, description = "The caller has no background task of this id"),
    )
)]
async fn stream_background_events(
    State(app): State<App>,
    WorkKey(caller): WorkKey,
    PathParams(id): PathParams<BackgroundTaskId>,
    asked: EventsRequest,
) -> Result<Response, ApiError> {
    let first = app.tasks.events(&caller, &id, asked.after(), asked.limit()).await?;
    let follower = app.tasks.follow(&id, asked.after());
    asked.answer(first, |page| BackgroundEvents { task_id: id, page }, follower).await
}

/// Pause a background task
///
/// It stops at its next step, with a checkpoint.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/tasks/{task_id}/pause", operation_id = "background_tasks_pause",
    tag = "background_tasks", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("task_id" = BackgroundTaskId, Path, description = "Id of the task: `task_` and 12 hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = BackgroundWork, description = "The task"),
        (status = 400, description = "The task is paused or has ended (`invalid_state`)"),
        (status = 404, description = "The caller has no background task of this id"),
    )
)]
async fn pause_background_task(
    State(app): State<App>,
    WorkKey(caller): WorkKey,
    PathParams(id): PathParams<BackgroundTaskId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<BackgroundWork>, ApiError> {
    Ok(IdempotentOk(app.tasks.pause(&caller, &id, request.once).await?))
}

/// Resume a paused background task
///
/// It is queued again, and goes on from where it was.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/tasks/{task_id}/resume", operation_id = "background_tasks_resume",
    tag = "background_tasks", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("task_id" = BackgroundTaskId, Path, description = "Id of the task: `task_` and 12 hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = BackgroundWork, description = "The task"),
        (status = 400, description = "The task is not paused (`invalid_state`)"),
        (status = 404, description = "The caller has no background task of this id"),
    )
)]
async fn resume_background_task(
    State(app): State<App>,
    WorkKey(caller): WorkKey,
    PathParams(id): PathParams<BackgroundTaskId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<BackgroundWork>, ApiError> {
    Ok(IdempotentOk(app.tasks.resume(&caller, &id, request.once).await?))
}

/// Cancel a background task
///
/// It ends without a result.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/tasks/{task_id}/cancel", operation_id = "background_tasks_cancel",
    tag = "background_tasks", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("task_id" = BackgroundTaskId, Path, description = "Id of the task: `task_` and 12 hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = BackgroundWork, description = "The task"),
        (status = 400, description = "The task has ended (`invalid_state`)"),
        (status = 404, description = "The caller has no background task of this id"),
    )
)]
async fn cancel_background_task(
    State(app): State<App>,
    WorkKey(caller): WorkKey,
    PathParams(id): PathParams<BackgroundTaskId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<BackgroundWork>, ApiError> {
    Ok(IdempotentOk(app.tasks.cancel(&caller, &id, request.once).await?))
}
