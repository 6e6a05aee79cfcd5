//! `/api/v1/agents/executions`, and what is run of a workflow.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::WaitQuery;
use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        context::RequestContextExtractor,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::{ListedDocument, PageQuery, Paginator},
        time_query::EndedQuery,
    },
};
use am_core::{
    ids::{ExecutionId, WorkflowId},
    money::Money,
};
use am_db::{
    codec::{JsonText, Timestamp},
    idempotency::IdempotentResult,
    page::PageRequest,
};
use am_orchestration::{
    executions::{ExecutionEstimate, ExecutionFilter, ExecutionRequest, Observed, WaitingFor},
    model::{ExecutionStatus, VerificationLevel},
    run::Execution,
};

/// Settings of one execution. Put your data under `inputs`; the other members override the workflow's limits for it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct ExecuteRequest {
    /// Accepted as clients of the coordinator send it, and ignored: the path names the workflow.
    #[schema(value_type = Option<String>)]
    workflow_id: Option<Value>,
    /// Inputs of the execution, which steps read as `$.inputs`. Also taken as `input_parameters`. Default: none.
    #[serde(alias = "input_parameters")]
    #[schema(value_type = Option<Object>)]
    inputs: Option<Map<String, Value>>,
    /// Verification level. Default: the workflow's.
    verification_level: Option<VerificationLevel>,
    /// Time limit in seconds; 0: none. Default: the workflow's.
    max_execution_time: Option<i64>,
    /// Cost limit in AITBC tokens; 0: none. Default: the workflow's.
    max_cost_budget: Option<Money>,
}

/// An execution of a workflow, a network's task or a plan.
#[derive(Serialize, ToSchema)]
#[schema(as = Execution)]
pub struct ExecutionDocument {
    /// Id of the execution; the same as `execution_id`.
    id: ExecutionId,
    /// Id of the execution: `exec_` and hexadecimal digits.
    execution_id: ExecutionId,
    /// Id of the workflow, network workflow or plan that is run.
    workflow_id: WorkflowId,
    /// Status of the execution.
    status: ExecutionStatus,
    /// Whether no further step starts until the execution is resumed.
    paused: bool,
    /// Completed steps in percent, 0 to 100.
    progress: f64,
    /// Number of completed steps; the same as `completed_steps`.
    current_step: i64,
    /// Number of all steps.
    total_steps: i64,
    /// Number of completed steps.
    completed_steps: i64,
    /// By step key: status, attempts, cost, times, error and job of the step.
    #[schema(value_type = Object)]
    step_states: JsonText,
    /// Results of the steps by key, as `step_results`; null: not completed.
    #[schema(value_type = Option<Object>)]
    final_result: JsonText,
    /// Why the execution failed; null: it did not.
    error_message: Option<String>,
    /// Key of the step that failed; null: none.
    failed_step: Option<String>,
    /// When the execution was created.
    created_at: Timestamp,
    /// When the first step started; null: not started.
    started_at: Option<Timestamp>,
    /// When the execution ended, completed or not; null: not ended.
    completed_at: Option<Timestamp>,
    /// Duration in seconds; null: not ended.
    total_execution_time: Option<f64>,
    /// Inputs of the execution; null in lists, and where the coordinator ran it.
    #[schema(value_type = Option<Object>)]
    inputs: JsonText,
    /// Cost so far in AITBC tokens, rounded to eight decimals.
    total_cost: Money,
    /// Cost so far in AITBC tokens; the same as `total_cost`.
    current_cost: Money,
    /// Estimated end, from past executions of the workflow, or 30 s for each step where there are none; null in
    /// lists, and while a job of the execution waits for a miner.
    estimated_completion: Option<Timestamp>,
    /// Estimated cost in AITBC tokens, from past executions; null in lists, and while no miner announces what a job of the
    /// execution requires.
    estimated_total_cost: Option<Money>,
    /// What keeps the execution, while none of its steps is at work; null: nothing, or it has ended; null in lists. Steps that
    /// wait have the same member in `step_states`.
    waiting_for: Option<WaitingFor>,
    /// Results of the verification checks by step; null: none.
    #[schema(value_type = Option<Object>)]
    verification_proof: JsonText,
}

impl From<Observed> for ExecutionDocument {
    fn from(observed: Observed) -> Self {
        let Observed { execution, inputs, estimate, waits } = observed;
        let started = execution.started_at.unwrap_or(execution.created_at);
        let after = |estimate: ExecutionEstimate| {
            Timestamp(started.0 + chrono::Duration::milliseconds((estimate.seconds * 1000.0) as i64))
        };
        let ended = execution.status.is_final();
        Self {
            progress: execution.progress(),
            estimated_completion: if ended {
                execution.completed_at
            } else {
                estimate.filter(|_| !waits.hides_end()).map(after)
            },
            inputs,
            estimated_total_cost: if ended {
                Some(execution.total_cost)
            } else {
                estimate.filter(|_| !waits.lacks_miner()).map(|estimate| estimate.cost)
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
            step_states: waits.add_to_states(execution.step_states),
            waiting_for: waits.execution,
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

/// Execute a workflow
///
/// Answers 200 with the execution's `id` once it is durably stored; with `?wait=SECONDS`, when it has ended or the
/// time is up.
#[utoipa::path(
    post, path = "/api/v1/agents/workflows/{workflow_id}/execute", operation_id = "workflows_execute",
    tag = "workflows", security(("ApiKey" = ["admin"])),
    params(
        ("workflow_id" = String, Path, description = "Id of the workflow: `agent_` and hexadecimal digits"),
        WaitQuery,
        IdempotencyHeader,
    ),
    request_body = Option<ExecuteRequest>,
    responses(
        (status = 200, body = ExecutionDocument, description = "The execution, as it is stored or, with `wait`, as it is when the wait ends"),
        (status = 403, description = "A security policy refuses it (`policy_violation`)"),
        (status = 404, description = "No workflow that the caller may see has this id"),
    )
)]
pub async fn execute_workflow(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<WorkflowId>,
    QueryParams(wait): QueryParams<WaitQuery>,
    context: RequestContextExtractor,
    request: IdempotentJson<Option<ExecuteRequest>>,
) -> Result<IdempotentOk<ExecutionDocument>, ApiError> {
    let wait = wait.of(&app)?;
    let body = request.body.unwrap_or_default();
    let asked = ExecutionRequest {
        inputs: body.inputs.unwrap_or_default(),
        level: body.verification_level,
        max_execution_time: body.max_execution_time,
        max_cost_budget: body.max_cost_budget,
        trace_id: Some(context.trace_id()),
        wait,
    };
    let done = app.executions.execute(&caller, &app.workflows, &id, asked, request.once).await?;
    Ok(IdempotentOk(done.map(ExecutionDocument::from)))
}

/// Get an execution
#[utoipa::path(
    get, path = "/api/v1/agents/executions/{execution_id}", operation_id = "executions_get", tag = "executions",
    security(("ApiKey" = ["admin"])),
    params(
        ("execution_id" = String, Path, description = "Id of the execution: `exec_` and hexadecimal digits"),
        WaitQuery,
    ),
    responses(
        (status = 200, body = ExecutionDocument, description = "The execution"),
        (status = 404, description = "The caller has no execution of this id"),
    )
)]
pub async fn get_execution(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<ExecutionId>,
    QueryParams(wait): QueryParams<WaitQuery>,
) -> Result<JsonBody<ExecutionDocument>, ApiError> {
    Ok(JsonBody(app.executions.observe(&caller, &id, wait.of(&app)?).await?.into()))
}

/// Get the status of an execution
///
/// The same document as the execution's own.
#[utoipa::path(
    get, path = "/api/v1/agents/executions/{execution_id}/status", operation_id = "executions_get_status",
    tag = "executions", security(("ApiKey" = ["admin"])),
    params(
        ("execution_id" = String, Path, description = "Id of the execution: `exec_` and hexadecimal digits"),
        WaitQuery,
    ),
    responses(
        (status = 200, body = ExecutionDocument, description = "The execution"),
        (status = 404, description = "The caller has no execution of this id"),
    )
)]
pub async fn get_execution_status(
    state: State<App>,
    caller: AdminKey,
    id: PathParams<ExecutionId>,
    wait: QueryParams<WaitQuery>,
) -> Result<JsonBody<ExecutionDocument>, ApiError> {
    get_execution(state, caller, id, wait).await
}

/// An execution of a list.
type ListedExecution = ListedDocument<ExecutionDocument>;

/// Filter of executions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExecutionsQuery {
    /// Only executions of this workflow.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    workflow_id: Option<WorkflowId>,
    /// Only executions in these statuses, with commas between them. Default: any.
    #[serde(default, deserialize_with = "crate::http::several")]
    #[param(value_type = Option<Vec<ExecutionStatus>>, style = Form, explode = false)]
    status: Vec<ExecutionStatus>,
}

/// List executions
///
/// The caller's own, the newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/executions", operation_id = "executions_list", tag = "executions",
    security(("ApiKey" = ["admin"])),
    params(ExecutionsQuery, EndedQuery, PageQuery),
    responses((status = 200, body = Vec<ListedExecution>, description = "A page of executions, the newest first"))
)]
pub async fn list_executions(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    QueryParams(query): QueryParams<ExecutionsQuery>,
    QueryParams(ended): QueryParams<EndedQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let filter = ExecutionFilter {
        workflow_id: query.workflow_id,
        status: query.status,
        ended: ended.span(&app.clock),
        page: paging.page.clone(),
    };
    let found = app.executions.list(&caller, &filter).await?;
    let shown = |row| ExecutionDocument::from(Observed::listed(row));
    Ok(paging.answer_list(found, |row| (row.created_at, &row.id), shown))
}

/// List the executions of a workflow
///
/// The caller's own, the newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/workflows/{workflow_id}/executions", operation_id = "workflows_list_executions",
    tag = "workflows", security(("ApiKey" = ["admin"])),
    params(
        ("workflow_id" = String, Path, description = "Id of the workflow: `agent_` and hexadecimal digits"),
        ("status" = Option<Vec<ExecutionStatus>>, Query, style = Form, explode = false, description = "Only executions in these statuses, with commas between them. Default: any"),
        EndedQuery, PageQuery,
    ),
    responses(
        (status = 200, body = Vec<ListedExecution>, description = "A page of executions, the newest first"),
        (status = 404, description = "No workflow that the caller may see has this id"),
    )
)]
pub async fn list_workflow_executions(
    state: State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<WorkflowId>,
    QueryParams(query): QueryParams<ExecutionsQuery>,
    ended: QueryParams<EndedQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    state.workflows.get(&caller, &id).await?;
    let query = QueryParams(ExecutionsQuery { workflow_id: Some(id), ..query });
    list_executions(state, AdminKey(caller), query, ended, paging).await
}

/// Get the status of a workflow's newest execution
///
/// Of the caller's own executions of the workflow. The id in the path may itself be an execution's.
#[utoipa::path(
    get, path = "/api/v1/agents/workflows/{workflow_id}/status", operation_id = "workflows_get_status",
    tag = "workflows", security(("ApiKey" = ["admin"])),
    params(
        ("workflow_id" = String, Path, description = "Id of the workflow: `agent_` and hexadecimal digits"),
        WaitQuery,
    ),
    responses(
        (status = 200, body = ExecutionDocument, description = "The newest execution"),
        (status = 404, description = "No workflow that the caller may see has this id, or the caller has not executed it"),
    )
)]
pub async fn get_workflow_status(
    state: State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<WorkflowId>,
    wait: QueryParams<WaitQuery>,
) -> Result<JsonBody<ExecutionDocument>, ApiError> {
    let newest = if id.starts_with("exec_") {
        id.into_string().into()
    } else {
        state.workflows.get(&caller, &id).await?;
        let page = PageRequest { limit: 1, ..PageRequest::default() };
        let filter = ExecutionFilter { workflow_id: Some(id), page, ..ExecutionFilter::default() };
        let mut found = state.executions.list(&caller, &filter).await?;
        found.rows.pop().ok_or_else(|| ApiError::not_found("The workflow has no execution of the caller's"))?.row.id
    };
    get_execution(state, AdminKey(caller), PathParams(newest), wait).await
}

/// The result of cancelling, pausing or resuming an execution.
#[derive(Serialize, ToSchema)]
#[schema(as = ExecutionChange)]
pub struct ExecutionChanged {
    /// What was done, in words.
    message: &'static str,
    /// Id of the execution.
    execution_id: ExecutionId,
    /// Status of the execution afterwards.
    status: ExecutionStatus,
}

fn change_response(message: &'static str, done: IdempotentResult<Execution>) -> IdempotentOk<ExecutionChanged> {
    IdempotentOk(done.map(|execution| ExecutionChanged {
        message,
        execution_id: execution.id,
        status: execution.status,
    }))
}

/// Cancel an execution
///
/// Running steps are stopped, and jobs that no miner has taken are cancelled.
#[utoipa::path(
    post, path = "/api/v1/agents/executions/{execution_id}/cancel", operation_id = "executions_cancel",
    tag = "executions", security(("ApiKey" = ["admin"])),
    params(
        ("execution_id" = String, Path, description = "Id of the execution: `exec_` and hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = ExecutionChanged, description = "The execution's new status"),
        (status = 400, description = "The execution has ended (`invalid_state`)"),
        (status = 404, description = "The caller has no execution of this id"),
        (status = 409, description = "The execution changed at the same moment (`changed_meanwhile`)"),
    )
)]
pub async fn cancel_execution(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<ExecutionId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<ExecutionChanged>, ApiError> {
    let done = app.executions.cancel(&caller, &id, request.once).await?;
    Ok(change_response("Execution cancelled successfully", done))
}

/// The execution to cancel.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CancelQuery {
    /// Id of the execution. Required unless the path holds an execution's id.
    #[serde(default, deserialize_with = "crate::http::empty_as_none")]
    execution_id: Option<ExecutionId>,
}

/// Cancel an execution of a workflow
///
/// The id in the path may itself be an execution's.
#[utoipa::path(
    post, path = "/api/v1/agents/workflows/{workflow_id}/cancel", operation_id = "workflows_cancel_execution",
    tag = "workflows", security(("ApiKey" = ["admin"])),
    params(
        ("workflow_id" = String, Path, description = "Id of the workflow: `agent_` and hexadecimal digits"),
        CancelQuery,
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = ExecutionChanged, description = "The execution's new status"),
        (status = 400, description = "The execution has ended (`invalid_state`)"),
        (status = 404, description = "There is no such execution of this workflow"),
        (status = 409, description = "The execution changed at the same moment (`changed_meanwhile`)"),
    )
)]
pub async fn cancel_workflow_execution(
    state: State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<WorkflowId>,
    QueryParams(query): QueryParams<CancelQuery>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<ExecutionChanged>, ApiError> {
    let target = match query.execution_id {
        Some(execution) => {
            let found = state.executions.get(&caller, &execution).await?;
            if found.workflow_id != id && *found.id != *id {
                return Err(ApiError::not_found("Execution not found"));
            }
            execution
        }
        None if id.starts_with("exec_") => id.into_string().into(),
        None => {
            return Err(ApiError::invalid_field(
                vec!["query".into(), "execution_id".into()],
                "Field required",
                "missing",
            ));
        }
    };
    cancel_execution(state, AdminKey(caller), PathParams(target), request).await
}

/// Pause an execution
///
/// Running steps end; no other step starts until the execution is resumed.
#[utoipa::path(
    post, path = "/api/v1/agents/executions/{execution_id}/pause", operation_id = "executions_pause",
    tag = "executions", security(("ApiKey" = ["admin"])),
    params(
        ("execution_id" = String, Path, description = "Id of the execution: `exec_` and hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = ExecutionChanged, description = "The execution's new status"),
        (status = 400, description = "The execution has ended or is paused (`invalid_state`)"),
        (status = 404, description = "The caller has no execution of this id"),
        (status = 409, description = "The execution changed at the same moment (`changed_meanwhile`)"),
    )
)]
pub async fn pause_execution(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<ExecutionId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<ExecutionChanged>, ApiError> {
    Ok(change_response("Execution paused", app.executions.pause(&caller, &id, request.once).await?))
}

/// Resume a paused execution
#[utoipa::path(
    post, path = "/api/v1/agents/executions/{execution_id}/resume", operation_id = "executions_resume",
    tag = "executions", security(("ApiKey" = ["admin"])),
    params(
        ("execution_id" = String, Path, description = "Id of the execution: `exec_` and hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = ExecutionChanged, description = "The execution's new status"),
        (status = 400, description = "The execution is not paused (`invalid_state`)"),
        (status = 404, description = "The caller has no execution of this id"),
        (status = 409, description = "The execution changed at the same moment (`changed_meanwhile`)"),
    )
)]
pub async fn resume_execution(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<ExecutionId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<ExecutionChanged>, ApiError> {
    Ok(change_response("Execution resumed", app.executions.resume(&caller, &id, request.once).await?))
}
