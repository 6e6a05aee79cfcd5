//! `/api/v1/agents/plans/assignments` and `/api/v1/agents/registry/{agent_id}/assignments`: sub-tasks of agents.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{
        ActingKey, ApiError, JsonBody, PathParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_core::{
    ids::{AgentId, AssignmentId, ExecutionId, WorkflowId},
    money::Money,
};
use am_db::{
    codec::{JsonText, Timestamp},
    idempotency::IdempotentResult,
};
use am_orchestration::{
    agents::{GpuTier, TaskType},
    assignments::{AgentReport, Assignment, AssignmentAttempt, AssignmentState, ReportOutcome},
};

/// A sub-task that was given to an agent, or waits for one.
#[derive(Serialize, ToSchema)]
#[schema(as = Assignment)]
pub struct AssignmentDocument {
    /// Id of the assignment: `assign_` and 16 hexadecimal digits.
    assignment_id: AssignmentId,
    /// Number of the present attempt, from 1. Reports must name it.
    attempt: i64,
    /// Agent that has the assignment or had it last; null: none had it yet.
    agent_id: Option<AgentId>,
    /// Status of the assignment.
    status: AssignmentState,
    /// Execution that the sub-task is a step of.
    execution_id: ExecutionId,
    /// Plan or workflow that the execution runs.
    workflow_id: WorkflowId,
    /// Key of the sub-task.
    sub_task: String,
    /// Type of the task; only agents with this capability get it.
    task_type: TaskType,
    /// Weakest GPU that will do; null: none is needed.
    gpu_tier: Option<GpuTier>,
    /// Only agents of this type get the assignment; null: any.
    agent_type: Option<String>,
    /// The only agent that may get the assignment; null: any.
    only_agent: Option<AgentId>,
    /// Priority: 0 is high, 1 normal, 2 low. Lower numbers are assigned first.
    priority: i64,
    /// Task for the agent: the sub-task's payload, its `input` and its `name`.
    #[schema(value_type = Object)]
    request: JsonText,
    /// Most that the sub-task may cost, in AITBC tokens; null: no limit.
    max_price: Option<Money>,
    /// Estimated duration in seconds; null: unknown.
    estimated_seconds: Option<f64>,
    /// Number of attempts that failed.
    failures: i64,
    /// Number of further attempts that are allowed after the first.
    max_retries: i64,
    /// Progress in percent, 0 to 100.
    progress: f64,
    /// Result that the agent delivered, any JSON; null: none yet.
    #[schema(value_type = Option<Object>)]
    result: JsonText,
    /// Why the assignment, or its last attempt, failed; null: it did not.
    error: Option<String>,
    /// Seconds from acceptance to result; null: not ended.
    seconds: Option<f64>,
    /// Cost in AITBC tokens; null: not ended.
    cost: Option<Money>,
    /// When the assignment expires.
    deadline: Timestamp,
    /// When the sub-task was ready to be assigned.
    placed_at: Timestamp,
    /// When the present attempt was offered to its agent; null: not offered yet.
    offered_at: Option<Timestamp>,
    /// When the agent accepted; null: not accepted yet.
    accepted_at: Option<Timestamp>,
    /// When the assignment ended; null: not ended.
    ended_at: Option<Timestamp>,
}

impl AssignmentDocument {
    /// As it stands.
    pub fn new(one: Assignment) -> Self {
        Self {
            assignment_id: one.id,
            attempt: one.attempt,
            agent_id: one.agent_id,
            status: one.state,
            execution_id: one.execution_id,
            workflow_id: one.workflow_id,
            sub_task: one.step_key,
            task_type: one.task_type,
            gpu_tier: one.gpu_tier,
            agent_type: one.agent_type,
            only_agent: one.only_agent,
            priority: one.priority,
            request: one.request,
            max_price: one.max_price,
            estimated_seconds: one.estimated_seconds,
            failures: one.failures,
            max_retries: one.max_retries,
            progress: one.progress,
            result: one.result,
            error: one.error,
            seconds: one.seconds,
            cost: one.cost,
            deadline: one.deadline,
            placed_at: one.placed_at,
            offered_at: one.offered_at,
            accepted_at: one.accepted_at,
            ended_at: one.ended_at,
        }
    }
}

/// An assignment with all attempts at it.
#[derive(Serialize, ToSchema)]
pub struct AssignmentHistory {
    #[serde(flatten)]
    assignment: AssignmentDocument,
    /// Every attempt, the oldest first.
    attempts: Vec<AssignmentAttempt>,
}

/// Get an assignment
///
/// For the owner of the execution, for the owner of the agent that has the assignment, and for a key of that agent.
#[utoipa::path(
    get, path = "/api/v1/agents/plans/assignments/{assignment_id}", operation_id = "assignments_get",
    tag = "assignments", security(("ApiKey" = ["admin", "agent"])),
    params(("assignment_id" = String, Path, description = "Id of the assignment")),
    responses(
        (status = 200, body = AssignmentHistory, description = "The assignment with every attempt at it"),
        (status = 404, description = "The caller has no assignment of this id"),
    )
)]
pub async fn get_assignment(
    State(app): State<App>,
    caller: ActingKey,
    PathParams(id): PathParams<AssignmentId>,
) -> Result<JsonBody<AssignmentHistory>, ApiError> {
    let found = app.assignments.get(&caller.unchecked(), &id).await?;
    let assignment = AssignmentDocument::new(found.assignment);
    Ok(JsonBody(AssignmentHistory { assignment, attempts: found.attempts }))
}

/// The effect of an agent's report.
#[derive(Serialize, ToSchema)]
pub struct ReportResponse {
    /// Id of the assignment.
    assignment_id: AssignmentId,
    /// Number of the attempt that the report was about.
    attempt: i64,
    /// Status of the assignment after the report.
    status: AssignmentState,
    /// Whether the same had been reported before.
    already_known: bool,
}

fn report_response(done: IdempotentResult<ReportOutcome>) -> IdempotentOk<ReportResponse> {
    IdempotentOk(done.map(|reported| {
        let ReportOutcome { assignment_id, attempt, state, known } = reported;
        ReportResponse { assignment_id, attempt, status: state, already_known: known }
    }))
}

/// An agent's acceptance of an assignment.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AcceptReport {
    /// Number of the attempt, as it came with the assignment.
    attempt: i64,
}

/// Accept an assignment
///
/// After a 409 there is nothing to do: another agent has the assignment.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/assignments/{assignment_id}/accept", operation_id = "assignments_accept",
    tag = "assignments", security(("ApiKey" = ["admin", "agent"])),
    params(("assignment_id" = String, Path, description = "Id of the assignment"), IdempotencyHeader),
    request_body = AcceptReport,
    responses(
        (status = 200, body = ReportResponse, description = "What the report changed"),
        (status = 404, description = "The caller has no assignment of this id"),
        (status = 409, description = "The attempt is over: another agent has the assignment"),
    )
)]
pub async fn accept_assignment(
    State(app): State<App>,
    owner: ActingKey,
    PathParams(id): PathParams<AssignmentId>,
    request: IdempotentJson<AcceptReport>,
) -> Result<IdempotentOk<ReportResponse>, ApiError> {
    Ok(report_response(
        app.assignments
            .report(&owner.unchecked(), &id, request.body.attempt, AgentReport::Accept, request.once)
            .await?,
    ))
}

/// The progress of an assignment.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ProgressReport {
    /// Number of the attempt, as it came with the assignment.
    attempt: i64,
    /// Percent, 0 to 100.
    progress: f64,
}

/// Report the progress of an assignment
///
/// Also accepts it.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/assignments/{assignment_id}/progress",
    operation_id = "assignments_report_progress", tag = "assignments", security(("ApiKey" = ["admin", "agent"])),
    params(("assignment_id" = String, Path, description = "Id of the assignment"), IdempotencyHeader),
    request_body = ProgressReport,
    responses(
        (status = 200, body = ReportResponse, description = "What the report changed"),
        (status = 404, description = "The caller has no assignment of this id"),
        (status = 409, description = "The attempt is over: another agent has the assignment"),
    )
)]
pub async fn report_assignment_progress(
    State(app): State<App>,
    owner: ActingKey,
    PathParams(id): PathParams<AssignmentId>,
    request: IdempotentJson<ProgressReport>,
) -> Result<IdempotentOk<ReportResponse>, ApiError> {
    let ProgressReport { attempt, progress } = request.body;
    if !(0.0..=100.0).contains(&progress) {
        let loc = vec!["body".into(), "progress".into()];
        return Err(ApiError::invalid_field(loc, "Input should be from 0 to 100", "value_error"));
    }
    Ok(report_response(
        app.assignments.report(&owner.unchecked(), &id, attempt, AgentReport::Progress(progress), request.once).await?,
    ))
}

/// The result of an assignment.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ResultReport {
    /// Number of the attempt, as it came with the assignment.
    attempt: i64,
    /// Output of the sub-task, any JSON.
    result: Value,
}

/// Deliver the result of an assignment
///
/// The same result again is answered as before.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/assignments/{assignment_id}/result", operation_id = "assignments_complete",
    tag = "assignments", security(("ApiKey" = ["admin", "agent"])),
    params(("assignment_id" = String, Path, description = "Id of the assignment"), IdempotencyHeader),
    request_body = ResultReport,
    responses(
        (status = 200, body = ReportResponse, description = "What the report changed"),
        (status = 404, description = "The caller has no assignment of this id"),
        (status = 409, description = "The attempt is over, or another result was delivered before"),
    )
)]
pub async fn report_assignment_result(
    State(app): State<App>,
    owner: ActingKey,
    PathParams(id): PathParams<AssignmentId>,
    request: IdempotentJson<ResultReport>,
) -> Result<IdempotentOk<ReportResponse>, ApiError> {
    let ResultReport { attempt, result } = request.body;
    Ok(report_response(
        app.assignments.report(&owner.unchecked(), &id, attempt, AgentReport::Complete(result), request.once).await?,
    ))
}

/// The failure of an assignment.
#[derive(Debug, Deserialize, ToSchema)]
pub struct FailReport {
    /// Number of the attempt, as it came with the assignment.
    attempt: i64,
    /// Why it failed, in words; the first 2000 characters are kept.
    error: String,
    /// Whether another agent may try. Default true.
    retryable: Option<bool>,
}

/// Report that an assignment failed
///
/// The next best agent gets it, up to three times; then the sub-task has failed.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/assignments/{assignment_id}/fail", operation_id = "assignments_fail",
    tag = "assignments", security(("ApiKey" = ["admin", "agent"])),
    params(("assignment_id" = String, Path, description = "Id of the assignment"), IdempotencyHeader),
    request_body = FailReport,
    responses(
        (status = 200, body = ReportResponse, description = "What the report changed"),
        (status = 404, description = "The caller has no assignment of this id"),
        (status = 409, description = "The attempt is over: another agent has the assignment"),
    )
)]
pub async fn report_assignment_failure(
    State(app): State<App>,
    owner: ActingKey,
    PathParams(id): PathParams<AssignmentId>,
    request: IdempotentJson<FailReport>,
) -> Result<IdempotentOk<ReportResponse>, ApiError> {
    let FailReport { attempt, error, retryable } = request.body;
    let reason = error.chars().take(2000).collect();
    let report = AgentReport::Fail { reason, retryable: retryable.unwrap_or(true) };
    Ok(report_response(app.assignments.report(&owner.unchecked(), &id, attempt, report, request.once).await?))
}

/// List the open assignments of an agent
///
/// For its owner and its own keys, the most urgent first (`order=asc`: the least urgent), 100 on a page. An agent without an endpoint
/// reads them here.
#[utoipa::path(
    get, path = "/api/v1/agents/registry/{agent_id}/assignments", operation_id = "registry_list_assignments",
    tag = "registry", security(("ApiKey" = ["admin", "agent"])),
    params(
        ("agent_id" = String, Path, description = "Name of the agent, 1 to 128 bytes; an API key is answered as its principal"),
        PageQuery,
    ),
    responses(
        (status = 200, body = Vec<AssignmentDocument>, description = "A page of the agent's open assignments, the most urgent first"),
        (status = 403, description = "The agent is another owner's"),
        (status = 404, description = "No agent is registered by this name"),
    )
)]
pub async fn list_agent_assignments(
    State(app): State<App>,
    caller: ActingKey,
    PathParams(id): PathParams<AgentId>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let caller = caller.acting_for("agent_id", &id)?;
    let found = app.assignments.of_agent(&caller, &id, &paging.page).await?;
    Ok(paging.answer_shown(found, |one| (one.placed_at, &one.id), AssignmentDocument::new))
}
