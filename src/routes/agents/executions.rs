//! `/api/v1/agents/executions`, and what is run of a workflow.

use std::time::Duration;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path, Query,
        context::Context,
        idempotency::{KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
};
use am_db::{
    codec::{Doc, Timestamp},
    once::Done,
    principal::Principal,
};
use am_orchestration::{
    executions::{Estimate, Execution, Filter, Request},
    model::{Status, VerificationLevel},
};

/// How a workflow is to be run. Fields that are not named here are ignored.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct ExecuteRequest {
    /// `$.inputs` of the steps' mappings.
    #[schema(value_type = Object)]
    inputs: Option<Map<String, Value>>,
    /// Default the workflow's.
    verification_level: Option<VerificationLevel>,
    /// Seconds; default the workflow's; 0: no limit.
    max_execution_time: Option<i64>,
    /// Cost; default the workflow's; 0: no limit.
    max_cost_budget: Option<f64>,
}

/// How long to wait for the end.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// Seconds to wait for the end of the run, at most the server's request timeout; the answer comes when it has ended or the time is up.
    #[param(minimum = 0)]
    wait: Option<f64>,
}

impl WaitQuery {
    /// The wait, kept below the request timeout, so that the answer still gets out.
    pub fn of(&self, app: &App) -> Result<Option<Duration>, ApiError> {
        let Some(seconds) = self.wait else { return Ok(None) };
        let wait = Duration::try_from_secs_f64(seconds).map_err(|_| {
            ApiError::field(
                vec!["query".into(), "wait".into()],
                "Input should be a number of seconds from 0",
                "value_error",
            )
        })?;
        let longest = app.shared.config.request_timeout;
        Ok(Some(wait.min(longest.saturating_sub((longest / 10).min(Duration::from_secs(2))))))
    }
}

/// An execution. One shape for all routes: what starts one, its status, its place in a list.
#[derive(Serialize, ToSchema)]
pub struct ExecutionDocument {
    /// The same as `execution_id`.
    id: String,
    execution_id: String,
    workflow_id: String,
    status: Status,
    /// Begin nothing until it is resumed?
    paused: bool,
    /// Percent, 0 to 100.
    progress: f64,
    /// Steps done.
    current_step: i64,
    total_steps: i64,
    completed_steps: i64,
    /// By step key: status, attempts, cost, times, error, job.
    #[schema(value_type = Object)]
    step_states: Doc,
    /// `step_results` by step key, once it has ended well.
    #[schema(value_type = Option<Object>)]
    final_result: Doc,
    error_message: Option<String>,
    failed_step: Option<String>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    completed_at: Option<Timestamp>,
    /// Seconds.
    total_execution_time: Option<f64>,
    total_cost: f64,
    /// Cost so far.
    current_cost: f64,
    /// From the workflow's own past runs, where there are any; 30 s a step where not.
    #[schema(value_type = Option<String>)]
    estimated_completion: Option<Timestamp>,
    /// Likewise.
    estimated_total_cost: Option<f64>,
    /// Verification of each step, by name of the checks.
    #[schema(value_type = Option<Object>)]
    verification_proof: Doc,
}

impl ExecutionDocument {
    fn new(execution: Execution, estimate: Option<Estimate>) -> Self {
        let started = execution.started_at.unwrap_or(execution.created_at);
        let after = |estimate: Estimate| {
            Timestamp(started.0 + chrono::Duration::milliseconds((estimate.seconds * 1000.0) as i64))
        };
        let ended = execution.status.is_final();
        Self {
            progress: execution.progress(),
            estimated_completion: if ended { execution.completed_at } else { estimate.map(after) },
            estimated_total_cost: if ended {
                Some(execution.total_cost)
            } else {
                estimate.map(|estimate| estimate.cost)
            },
            current_cost: execution.total_cost,
            execution_id: execution.id.clone(),
            id: execution.id,
            workflow_id: execution.workflow_id,
            status: execution.status,
            paused: execution.paused,
            current_step: execution.current_step,
            total_steps: execution.total_steps,
            completed_steps: execution.completed_steps,
            step_states: execution.step_states,
            final_result: execution.final_result,
            error_message: execution.error_message,
            failed_step: execution.failed_step,
            created_at: execution.created_at,
            started_at: execution.started_at,
            completed_at: execution.completed_at,
            total_execution_time: execution.total_execution_time,
            total_cost: execution.total_cost,
            verification_proof: execution.verification_proof,
        }
    }
}

/// With an estimate where the run has not ended.
async fn document(app: &App, execution: Execution) -> Result<Json<ExecutionDocument>, ApiError> {
    let estimate = if execution.status.is_final() {
        None
    } else {
        Some(app.executions.estimate(&execution.workflow_id, execution.total_steps).await?)
    };
    Ok(Json(ExecutionDocument::new(execution, estimate)))
}

/// What was started, waited for if that was asked. An answer given before is given again as it was, unless the client
/// waits: then it wants the end.
pub async fn started(
    app: &App,
    caller: &Principal,
    done: Done<Execution>,
    wait: Option<Duration>,
) -> Result<Response, ApiError> {
    let execution = match wait {
        Some(wait) if !done.value.status.is_final() => app.executions.wait(caller, &done.value.id, wait).await?,
        _ => done.value,
    };
    Ok(Replayable(document(app, execution).await?, done.replayed).into_response())
}

/// Run a workflow
///
/// Answers 200 with the execution's `id` once it is durably recorded; with `?wait=SECONDS`, when it has ended or the
/// time is up. With an `Idempotency-Key` it is run once.
#[utoipa::path(
    post, path = "/api/v1/agents/workflows/{workflow_id}/execute", tag = "agents",
    params(("workflow_id" = String, Path), WaitQuery), request_body = ExecuteRequest,
    responses((status = 200, body = ExecutionDocument), (status = 403), (status = 404), (status = 422))
)]
pub async fn execute(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    Query(wait): Query<WaitQuery>,
    context: Context,
    request: KeyedJson<Option<ExecuteRequest>>,
) -> Result<Response, ApiError> {
    let caller: Principal = (&caller.0).into();
    let wait = wait.of(&app)?;
    if let Some(done) = app.executions.started(request.once.as_ref()).await? {
        return started(&app, &caller, done, wait).await;
    }
    let workflow = app.workflows.get(&caller, &id).await?;
    let body = request.body.unwrap_or_default();
    let asked = Request {
        inputs: body.inputs.unwrap_or_default(),
        level: body.verification_level,
        max_execution_time: body.max_execution_time,
        max_cost_budget: body.max_cost_budget,
        trace_id: Some(context.trace_id().to_owned()),
    };
    let done = app.executions.start(&caller, &app.workflows, &workflow, asked, request.once).await?;
    started(&app, &caller, done, wait).await
}

/// One execution
#[utoipa::path(
    get, path = "/api/v1/agents/executions/{execution_id}", tag = "agents", params(("execution_id" = String, Path), WaitQuery),
    responses((status = 200, body = ExecutionDocument), (status = 403), (status = 404))
)]
pub async fn get(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    Query(wait): Query<WaitQuery>,
) -> Result<Json<ExecutionDocument>, ApiError> {
    let caller = (&caller.0).into();
    let execution = match wait.of(&app)? {
        Some(wait) => app.executions.wait(&caller, &id, wait).await?,
        None => app.executions.get(&caller, &id).await?,
    };
    document(&app, execution).await
}

/// The status of an execution
#[utoipa::path(
    get, path = "/api/v1/agents/executions/{execution_id}/status", tag = "agents", params(("execution_id" = String, Path), WaitQuery),
    responses((status = 200, body = ExecutionDocument), (status = 403), (status = 404))
)]
pub async fn status(
    state: State<App>,
    caller: Admin,
    id: Path<String>,
    wait: Query<WaitQuery>,
) -> Result<Json<ExecutionDocument>, ApiError> {
    get(state, caller, id, wait).await
}

/// Which executions to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Only this workflow's.
    workflow_id: Option<String>,
    /// Only in this state.
    status: Option<Status>,
}

/// List executions
///
/// The caller's own, newest first, 50 a page. `X-Total-Count` counts them, `Link` leads to the next page.
#[utoipa::path(
    get, path = "/api/v1/agents/executions", tag = "agents", params(ListQuery, PageQuery),
    responses((status = 200, body = Vec<ExecutionDocument>))
)]
pub async fn list(
    State(app): State<App>,
    caller: Admin,
    Query(query): Query<ListQuery>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let filter = Filter { workflow_id: query.workflow_id, status: query.status, page: paging.page(50)? };
    let (rows, total) = app.executions.list(&(&caller.0).into(), &filter).await?;
    let last = rows.last().map(|row| (row.created_at, row.id.clone()));
    let rows: Vec<ExecutionDocument> = rows.into_iter().map(|row| ExecutionDocument::new(row, None)).collect();
    let last = last.as_ref().map(|(created_at, id)| (*created_at, id.as_str()));
    Ok(paging.answer(&filter.page, &rows, total as u64, last))
}

/// List a workflow's executions
#[utoipa::path(
    get, path = "/api/v1/agents/workflows/{workflow_id}/executions", tag = "agents",
    params(("workflow_id" = String, Path), ("status" = Option<Status>, Query), PageQuery),
    responses((status = 200, body = Vec<ExecutionDocument>), (status = 403), (status = 404))
)]
pub async fn of_workflow(
    state: State<App>,
    caller: Admin,
    Path(id): Path<String>,
    Query(query): Query<ListQuery>,
    paging: Paging,
) -> Result<Response, ApiError> {
    state.workflows.get(&(&caller.0).into(), &id).await?;
    list(state, caller, Query(ListQuery { workflow_id: Some(id), ..query }), paging).await
}

/// What was asked of an execution, done.
#[derive(Serialize, ToSchema)]
pub struct Changed {
    /// In words.
    message: &'static str,
    execution_id: String,
    status: Status,
}

fn changed(message: &'static str, done: Done<Execution>) -> Response {
    let Done { value, replayed } = done;
    Replayable(Json(Changed { message, execution_id: value.id, status: value.status }), replayed).into_response()
}

/// Cancel an execution
///
/// Steps under way are stopped, jobs that no miner has taken are taken back. 400 when it has ended.
#[utoipa::path(
    post, path = "/api/v1/agents/executions/{execution_id}/cancel", tag = "agents", params(("execution_id" = String, Path)),
    responses((status = 200, body = Changed), (status = 400), (status = 403), (status = 404))
)]
pub async fn cancel(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    let done = app.executions.cancel(&(&caller.0).into(), &id, request.once).await?;
    Ok(changed("Execution cancelled successfully", done))
}

/// Which execution to cancel.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CancelQuery {
    /// The execution; not needed where the path holds an execution's id.
    execution_id: Option<String>,
}

/// Cancel an execution of a workflow
///
/// The id in the path may itself be an execution's.
#[utoipa::path(
    post, path = "/api/v1/agents/workflows/{workflow_id}/cancel", tag = "agents",
    params(("workflow_id" = String, Path), CancelQuery),
    responses((status = 200, body = Changed), (status = 400), (status = 403), (status = 404), (status = 422))
)]
pub async fn cancel_of_workflow(
    state: State<App>,
    caller: Admin,
    Path(id): Path<String>,
    Query(query): Query<CancelQuery>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    let target = match query.execution_id {
        Some(execution) => {
            let found = state.executions.get(&(&caller.0).into(), &execution).await?;
            if found.workflow_id != id && found.id != id {
                return Err(ApiError::not_found("Execution not found"));
            }
            execution
        }
        None if id.starts_with("exec_") => id,
        None => {
            return Err(ApiError::field(vec!["query".into(), "execution_id".into()], "Field required", "missing"));
        }
    };
    cancel(state, caller, Path(target), request).await
}

/// Pause an execution
///
/// Steps under way end; no other begins until it is resumed.
#[utoipa::path(
    post, path = "/api/v1/agents/executions/{execution_id}/pause", tag = "agents", params(("execution_id" = String, Path)),
    responses((status = 200, body = Changed), (status = 400), (status = 403), (status = 404))
)]
pub async fn pause(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    Ok(changed("Execution paused", app.executions.pause(&(&caller.0).into(), &id, request.once).await?))
}

/// Resume a paused execution
#[utoipa::path(
    post, path = "/api/v1/agents/executions/{execution_id}/resume", tag = "agents", params(("execution_id" = String, Path)),
    responses((status = 200, body = Changed), (status = 400), (status = 403), (status = 404))
)]
pub async fn resume(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    Ok(changed("Execution resumed", app.executions.resume(&(&caller.0).into(), &id, request.once).await?))
}

/// Run a failed execution on from the step that failed
///
/// Steps that ended well are not run again; time limits begin anew, cost goes on.
#[utoipa::path(
    post, path = "/api/v1/agents/executions/{execution_id}/retry", tag = "agents", params(("execution_id" = String, Path), WaitQuery),
    responses((status = 200, body = ExecutionDocument), (status = 400), (status = 403), (status = 404))
)]
pub async fn retry(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    Query(wait): Query<WaitQuery>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    let caller: Principal = (&caller.0).into();
    let wait = wait.of(&app)?;
    let done = app.executions.retry(&caller, &id, request.once).await?;
    started(&app, &caller, done, wait).await
}
