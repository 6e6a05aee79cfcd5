//! `/api/v1/agents/plans/assignments`: what agents tell of what they were given.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{
        Admin, ApiError, Json, Path,
        idempotency::{KeyedJson, Replayable},
    },
};
use am_db::codec::{Doc, Timestamp};
use am_orchestration::{
    assignments::{Assignment, Attempt, Report, Reported, State as Stands},
    registry::{GpuTier, TaskType},
};

/// A sub-task that an agent was given.
#[derive(Serialize, ToSchema)]
pub struct AssignmentDocument {
    assignment_id: String,
    /// The number of the attempt, which reports must name.
    attempt: i64,
    agent_id: Option<String>,
    status: Stands,
    execution_id: String,
    /// The plan or workflow that the execution is a run of.
    workflow_id: String,
    sub_task: String,
    task_type: TaskType,
    gpu_tier: Option<GpuTier>,
    agent_type: Option<String>,
    /// 0 goes first.
    priority: i64,
    /// What is to be done: the sub-task's payload, its `input` and its `name`.
    #[schema(value_type = Object)]
    request: Doc,
    max_price: Option<f64>,
    estimated_seconds: Option<f64>,
    /// Attempts that failed.
    failures: i64,
    /// Those that may, but for the first.
    max_retries: i64,
    /// Percent.
    progress: f64,
    #[schema(value_type = Option<Object>)]
    result: Doc,
    error: Option<String>,
    /// From acceptance to result.
    seconds: Option<f64>,
    cost: Option<f64>,
    #[schema(value_type = String)]
    deadline: Timestamp,
    #[schema(value_type = String)]
    placed_at: Timestamp,
    #[schema(value_type = Option<String>)]
    offered_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    accepted_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
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
    #[schema(value_type = AssignmentDocument)]
    assignment: AssignmentDocument,
    /// The oldest first.
    #[schema(value_type = Vec<Object>)]
    attempts: Vec<Attempt>,
}

/// One assignment
///
/// For whoever asked for it, and for the owner of the agent that has it.
#[utoipa::path(
    get, path = "/api/v1/agents/plans/assignments/{assignment_id}", tag = "agents", params(("assignment_id" = String, Path)),
    responses((status = 200, body = AssignmentHistory), (status = 403), (status = 404))
)]
pub async fn get(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
) -> Result<Json<AssignmentHistory>, ApiError> {
    let found = app.assignments.get(&(&caller.0).into(), &id).await?;
    let assignment = AssignmentDocument::new(found.assignment);
    Ok(Json(AssignmentHistory { assignment, attempts: found.attempts }))
}

/// What a report came to.
#[derive(Serialize, ToSchema)]
pub struct ReportAnswer {
    assignment_id: String,
    attempt: i64,
    /// Where the assignment stands now.
    status: Stands,
    /// Had the same been reported before?
    already_known: bool,
}

fn answer(done: am_db::once::Done<Reported>) -> Response {
    let Reported { assignment_id, attempt, state, known } = done.value;
    let body = ReportAnswer { assignment_id, attempt, status: state, already_known: known };
    Replayable(Json(body), done.replayed).into_response()
}

/// Which attempt is accepted.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AcceptReport {
    /// The number that came with the assignment.
    attempt: i64,
}

/// Accept an assignment
///
/// 409 when the attempt is over, because another agent has it: nothing is to be done then.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/assignments/{assignment_id}/accept", tag = "agents", params(("assignment_id" = String, Path)),
    request_body = AcceptReport, responses((status = 200, body = ReportAnswer), (status = 403), (status = 404), (status = 409))
)]
pub async fn accept(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<AcceptReport>,
) -> Result<Response, ApiError> {
    let owner = (&caller.0).into();
    Ok(answer(app.assignments.report(&owner, &id, request.body.attempt, Report::Accept, request.once).await?))
}

/// How far an agent is.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ProgressReport {
    /// The number that came with the assignment.
    attempt: i64,
    /// Percent, 0 to 100.
    progress: f64,
}

/// Say how far an assignment is
///
/// Accepts it too.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/assignments/{assignment_id}/progress", tag = "agents", params(("assignment_id" = String, Path)),
    request_body = ProgressReport, responses((status = 200, body = ReportAnswer), (status = 403), (status = 404), (status = 409), (status = 422))
)]
pub async fn progress(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<ProgressReport>,
) -> Result<Response, ApiError> {
    let ProgressReport { attempt, progress } = request.body;
    if !(0.0..=100.0).contains(&progress) {
        let loc = vec!["body".into(), "progress".into()];
        return Err(ApiError::field(loc, "Input should be from 0 to 100", "value_error"));
    }
    let owner = (&caller.0).into();
    Ok(answer(app.assignments.report(&owner, &id, attempt, Report::Progress(progress), request.once).await?))
}

/// What an agent delivers.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ResultReport {
    /// The number that came with the assignment.
    attempt: i64,
    /// The sub-task's output.
    #[schema(value_type = Object)]
    result: Value,
}

/// Deliver an assignment's result
///
/// The same again is answered the same; another result, or one of an attempt that is over, is refused with 409.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/assignments/{assignment_id}/result", tag = "agents", params(("assignment_id" = String, Path)),
    request_body = ResultReport, responses((status = 200, body = ReportAnswer), (status = 403), (status = 404), (status = 409))
)]
pub async fn result(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<ResultReport>,
) -> Result<Response, ApiError> {
    let (owner, ResultReport { attempt, result }) = ((&caller.0).into(), request.body);
    Ok(answer(app.assignments.report(&owner, &id, attempt, Report::Complete(result), request.once).await?))
}

/// Why an agent can't.
#[derive(Debug, Deserialize, ToSchema)]
pub struct FailReport {
    /// The number that came with the assignment.
    attempt: i64,
    /// In words.
    error: String,
    /// May another agent try? Default true.
    retryable: Option<bool>,
}

/// Say that an assignment failed
///
/// The next best agent gets it, up to three times; then the sub-task has failed.
#[utoipa::path(
    post, path = "/api/v1/agents/plans/assignments/{assignment_id}/fail", tag = "agents", params(("assignment_id" = String, Path)),
    request_body = FailReport, responses((status = 200, body = ReportAnswer), (status = 403), (status = 404), (status = 409))
)]
pub async fn fail(
    State(app): State<App>,
    caller: Admin,
    Path(id): Path<String>,
    request: KeyedJson<FailReport>,
) -> Result<Response, ApiError> {
    let (owner, FailReport { attempt, error, retryable }) = ((&caller.0).into(), request.body);
    let report = Report::Fail(error.chars().take(2000).collect(), retryable.unwrap_or(true));
    Ok(answer(app.assignments.report(&owner, &id, attempt, report, request.once).await?))
}
