//! `/api/v1/agents/executions/{execution_id}/retry`.

use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{executions::ExecutionDocument, wait::WaitQuery};
use crate::{
    app::App,
    http::{
        AdminKey, ApiError, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
    },
};
use am_core::ids::ExecutionId;

/// Which definition a retry goes by.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = RetryDefinition)]
pub enum RetryDefinition {
    /// The definition that the execution was started with.
    #[default]
    Original,
    /// The workflow's definition of now.
    Current,
}

/// How an execution is retried.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RetryQuery {
    /// `original`: the definition that the execution was started with. `current`: the workflow's of now; completed steps
    /// keep their results if they, and all that they wait for, are the same in both. Default `original`.
    #[param(inline)]
    definition: Option<RetryDefinition>,
}

/// Retry a failed execution from the failed step
///
/// Completed steps are not run again. Time limits start again; the cost continues.
#[utoipa::path(
    post, path = "/api/v1/agents/executions/{execution_id}/retry", operation_id = "executions_retry",
    tag = "executions", security(("ApiKey" = ["admin"])),
    params(
        ("execution_id" = String, Path, description = "Id of the execution: `exec_` and hexadecimal digits"),
        RetryQuery,
        WaitQuery,
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = ExecutionDocument, description = "The execution, as it is stored or, with `wait`, as it is when the wait ends"),
        (status = 400, description = "The execution has not failed (`invalid_state`)"),
        (status = 403, description = "A security policy refuses it (`policy_violation`)"),
        (status = 404, description = "The caller has no execution of this id"),
        (status = 409, description = "The execution changed at the same moment (`changed_meanwhile`)"),
    )
)]
pub async fn retry_execution(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<ExecutionId>,
    QueryParams(query): QueryParams<RetryQuery>,
    QueryParams(wait): QueryParams<WaitQuery>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<ExecutionDocument>, ApiError> {
    let wait = wait.of(&app)?;
    let done = match query.definition.unwrap_or_default() {
        RetryDefinition::Original => app.executions.retry(&caller, &id, wait, request.once).await?,
        RetryDefinition::Current => {
            app.executions.retry_redefined(&caller, &app.workflows, &id, wait, request.once).await?
        }
    };
    Ok(IdempotentOk(done.map(ExecutionDocument::from)))
}
