//! `/api/v1/agents/executions/{execution_id}/logs`.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{Admin, ApiError, Json, Path},
};
use am_db::codec::{Doc, Timestamp};
use am_orchestration::{executions::StepLog, model::Status};

/// What happened in an execution, step by step.
#[derive(Serialize, ToSchema)]
pub struct Logs {
    execution_id: String,
    workflow_id: String,
    status: Status,
    #[schema(value_type = Option<String>)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    completed_at: Option<Timestamp>,
    /// Seconds.
    total_execution_time: Option<f64>,
    step_logs: Vec<StepLogDocument>,
}

/// One step of it.
#[derive(Serialize, ToSchema)]
pub struct StepLogDocument {
    /// The row in `agent_steps`.
    step_id: String,
    /// Its key in the definition, where that is known.
    step: Option<String>,
    status: Status,
    #[schema(value_type = Option<String>)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>)]
    completed_at: Option<Timestamp>,
    /// Seconds of all its attempts.
    execution_time: Option<f64>,
    error_message: Option<String>,
    gpu_accelerated: bool,
    /// MB, where it was measured.
    memory_usage: Option<f64>,
    retry_count: i64,
    /// verified or failed.
    verification_status: Option<String>,
    #[schema(value_type = Option<Object>)]
    verification: Doc,
    #[schema(value_type = Option<Object>)]
    input: Doc,
    #[schema(value_type = Option<Object>)]
    output: Doc,
}

impl From<StepLog> for StepLogDocument {
    fn from(log: StepLog) -> Self {
        Self {
            step_id: log.step_id,
            step: log.key,
            status: log.status,
            started_at: log.started_at,
            completed_at: log.completed_at,
            execution_time: log.execution_time,
            error_message: log.error_message,
            gpu_accelerated: log.gpu_accelerated,
            memory_usage: log.memory_usage,
            retry_count: log.retry_count,
            verification_status: log.verification_status,
            verification: log.proof,
            input: log.input,
            output: log.output,
        }
    }
}

/// The steps of an execution, with what went in and came out
#[utoipa::path(
    get, path = "/api/v1/agents/executions/{execution_id}/logs", tag = "agents", params(("execution_id" = String, Path)),
    responses((status = 200, body = Logs), (status = 403), (status = 404))
)]
pub async fn logs(State(app): State<App>, caller: Admin, Path(id): Path<String>) -> Result<Json<Logs>, ApiError> {
    let (execution, steps) = app.executions.logs(&(&caller.0).into(), &id).await?;
    Ok(Json(Logs {
        execution_id: execution.id,
        workflow_id: execution.workflow_id,
        status: execution.status,
        started_at: execution.started_at,
        completed_at: execution.completed_at,
        total_execution_time: execution.total_execution_time,
        step_logs: steps.into_iter().map(Into::into).collect(),
    }))
}
