//! `/api/v1/agents/executions/retry`, `/cancel` and `/operations`: many executions at once.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::retry::RetryDefinition;
use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_core::ids::BulkOperationId;
use am_orchestration::bulk::{BulkAction, BulkAnswer, BulkFilter, BulkOperation, BulkRequest};

/// Which executions are retried. Members that are not named here are refused.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BulkRetry {
    /// Which of the caller's failed executions; `{}` for all.
    filter: BulkFilter,
    /// Whether they are only counted. Default false.
    dry_run: Option<bool>,
    /// `original`: the definition that each was started with. `current`: its workflow's of now. Default `original`.
    definition: Option<RetryDefinition>,
}

/// Which executions are cancelled. Members that are not named here are refused.
#[derive(Debug, Deserialize, ToSchema)]
pub struct BulkCancel {
    /// Which of the caller's executions that have not ended; `{}` for all.
    filter: BulkFilter,
    /// Whether they are only counted. Default false.
    dry_run: Option<bool>,
}

/// Retry many failed executions
///
/// Those of the caller's that the filter matches now, at most 10 000, one by one in the background. With `dry_run` they are only
/// counted.
#[utoipa::path(
    post, path = "/api/v1/agents/executions/retry", operation_id = "executions_retry_many", tag = "executions",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = BulkRetry,
    responses(
        (status = 200, body = BulkAnswer, description = "The executions that match, and the operation that was begun"),
        (status = 409, description = "Ten operations of the caller have not ended (`conflict`)"),
    )
)]
pub async fn retry_executions(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    request: IdempotentJson<BulkRetry>,
) -> Result<IdempotentOk<BulkAnswer>, ApiError> {
    let BulkRetry { filter, dry_run, definition } = request.body;
    let redefines = definition == Some(RetryDefinition::Current);
    let asked = BulkRequest { action: BulkAction::Retry, filter, redefines, dry_run: dry_run.unwrap_or(false) };
    Ok(IdempotentOk(app.bulk.begin(&caller, asked, request.once).await?))
}

/// Cancel many executions
///
/// Those of the caller's that the filter matches now, at most 10 000, one by one in the background. With `dry_run` they are only
/// counted.
#[utoipa::path(
    post, path = "/api/v1/agents/executions/cancel", operation_id = "executions_cancel_many", tag = "executions",
    security(("ApiKey" = ["admin"])),
    params(IdempotencyHeader),
    request_body = BulkCancel,
    responses(
        (status = 200, body = BulkAnswer, description = "The executions that match, and the operation that was begun"),
        (status = 409, description = "Ten operations of the caller have not ended (`conflict`)"),
    )
)]
pub async fn cancel_executions(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    request: IdempotentJson<BulkCancel>,
) -> Result<IdempotentOk<BulkAnswer>, ApiError> {
    let BulkCancel { filter, dry_run } = request.body;
    let asked = BulkRequest { action: BulkAction::Cancel, filter, redefines: false, dry_run: dry_run.unwrap_or(false) };
    Ok(IdempotentOk(app.bulk.begin(&caller, asked, request.once).await?))
}

/// List operations on many executions
///
/// The caller's own, the newest first, 50 on a page. They are kept for 30 days after their end.
#[utoipa::path(
    get, path = "/api/v1/agents/executions/operations", operation_id = "executions_list_operations", tag = "executions",
    security(("ApiKey" = ["admin"])),
    params(PageQuery),
    responses((status = 200, body = Vec<BulkOperation>, description = "A page of operations, the newest first"))
)]
pub async fn list_operations(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let found = app.bulk.list(&caller, &paging.page).await?;
    Ok(paging.answer(found, |operation| (operation.created_at, &operation.id)))
}

/// Get an operation on many executions
///
/// With its progress, and the first hundred executions that it did not change.
#[utoipa::path(
    get, path = "/api/v1/agents/executions/operations/{operation_id}", operation_id = "executions_get_operation",
    tag = "executions", security(("ApiKey" = ["admin"])),
    params(("operation_id" = String, Path, description = "Id of the operation: `bulk_` and hexadecimal digits")),
    responses(
        (status = 200, body = BulkOperation, description = "The operation"),
        (status = 404, description = "The caller has no operation of this id"),
    )
)]
pub async fn get_operation(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<BulkOperationId>,
) -> Result<JsonBody<BulkOperation>, ApiError> {
    Ok(JsonBody(app.bulk.get(&caller, &id).await?))
}

/// Cancel an operation on many executions
///
/// No further execution is changed; what was done stays. An operation that has ended is answered as it is.
#[utoipa::path(
    post, path = "/api/v1/agents/executions/operations/{operation_id}/cancel",
    operation_id = "executions_cancel_operation", tag = "executions", security(("ApiKey" = ["admin"])),
    params(
        ("operation_id" = String, Path, description = "Id of the operation: `bulk_` and hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = BulkOperation, description = "The operation, which has ended"),
        (status = 404, description = "The caller has no operation of this id"),
    )
)]
pub async fn cancel_operation(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<BulkOperationId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<BulkOperation>, ApiError> {
    Ok(IdempotentOk(app.bulk.cancel(&caller, &id, request.once).await?))
}
