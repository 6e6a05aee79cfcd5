//! `/api/v1/agents/executions/{execution_id}/logs`.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{AdminKey, ApiError, JsonBody, PathParams},
};
use am_core::ids::{ExecutionId, StepId, WorkflowId};
use am_db::codec::{JsonText, Timestamp};
use am_orchestration::{executions::StepLog, model::ExecutionStatus};

/// The log of an execution by step.
#[derive(Serialize, ToSchema)]
#[schema(as = ExecutionLogs)]
pub struct ExecutionLogs {
    /// Id of the execution.
    execution_id: ExecutionId,
    /// Id of the workflow.
    workflow_id: WorkflowId,
    /// Status of the execution.
    status: ExecutionStatus,
    /// When the first step started; null: not started.
    started_at: Option<Timestamp>,
    /// When the execution ended; null: not ended.
    completed_at: Option<Timestamp>,
    /// Duration in seconds; null: not ended.
    total_execution_time: Option<f64>,
    /// Log of each step, in the order of the definition.
    step_logs: Vec<StepLogDocument>,
}

/// The log of one step.
#[derive(Serialize, ToSchema)]
#[schema(as = StepLog)]
pub struct StepLogDocument {
    /// Id of the step's row in `agent_steps`.
    step_id: StepId,
    /// Key of the step in the definition; null: unknown.
    step: Option<String>,
    /// Status of the step.
    status: ExecutionStatus,
    /// When the step started; null: not started.
    started_at: Option<Timestamp>,
    /// When the step ended; null: not ended.
    completed_at: Option<Timestamp>,
    /// Seconds of all attempts together; null: not ended.
    execution_time: Option<f64>,
    /// Why the step failed; null: it did not.
    error_message: Option<String>,
    /// Whether the step used a GPU.
    gpu_accelerated: bool,
    /// Memory used, in MB; null: not measured.
    memory_usage: Option<f64>,
    /// Number of attempts after the first.
    retry_count: i64,
    /// `verified`, `failed`, or `pending` while the proof that the step requires is made; null: not verified.
    verification_status: Option<String>,
    /// Results of the verification checks; null: none.
    #[schema(value_type = Option<Object>)]
    verification: JsonText,
    /// Input of the step, any JSON; null: none.
    #[schema(value_type = Option<Object>)]
    input: JsonText,
    /// Output of the step, any JSON; null: none.
    #[schema(value_type = Option<Object>)]
    output: JsonText,
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

/// Get the log of an execution by step
#[utoipa::path(
    get, path = "/api/v1/agents/executions/{execution_id}/logs", operation_id = "executions_get_logs",
    tag = "executions", security(("ApiKey" = ["admin"])),
    params(("execution_id" = String, Path, description = "Id of the execution: `exec_` and hexadecimal digits")),
    responses(
        (status = 200, body = ExecutionLogs, description = "The log of each step"),
        (status = 404, description = "The caller has no execution of this id"),
    )
)]
pub async fn get_execution_logs(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<ExecutionId>,
) -> Result<JsonBody<ExecutionLogs>, ApiError> {
    let (execution, steps) = app.executions.logs(&caller, &id).await?;
    Ok(JsonBody(ExecutionLogs {
        execution_id: execution.id,
        workflow_id: execution.workflow_id,
        status: execution.status,
        started_at: execution.started_at,
        completed_at: execution.completed_at,
        total_execution_time: execution.total_execution_time,
        step_logs: steps.into_iter().map(Into::into).collect(),
    }))
}
