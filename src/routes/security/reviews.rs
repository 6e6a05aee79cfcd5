//! What the security policies say of workflows beforehand.

use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

use crate::{
    app::App,
    http::{
        AdminKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::row_limit,
    },
    routes::recorded_response::record_response,
};
use am_core::ids::WorkflowId;
use am_orchestration::review::{PolicyScan, ValidationReport, WorkflowBindings};

/// Check a workflow against the security policies
///
/// `valid` is false if there are `violations`; those with `enforced: true` would be refused now. The answer also has
/// warnings, recommendations, the level that the workflow's verification requires, and the policies that apply to it.
#[utoipa::path(
    post, path = "/api/v1/agents/security/validate-workflow/{workflow_id}",
    operation_id = "security_validate_workflow", tag = "security", security(("ApiKey" = ["admin"])),
    params(
        ("workflow_id" = String, Path, description = "Id of the workflow: `agent_` and hexadecimal digits"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = ValidationReport, description = "What the policies say of the workflow"),
        (status = 404, description = "No workflow that the caller may see has this id"),
        (status = 422, description = "The stored definition has faults; `detail` names each with its path"),
    )
)]
pub async fn validate_workflow(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<WorkflowId>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<ValidationReport>, ApiError> {
    let verdict = app.reviews.validate(&caller, &id).await?;
    Ok(IdempotentOk(record_response(&app, request.once, verdict).await?))
}

/// Which page of a scan.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ScanQuery {
    /// Number of workflows and of executions to check, 1 to 500. Default 100.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// Number of workflows and of executions to skip. Default 0.
    offset: Option<u32>,
}

/// Find violations of active policies
///
/// In the workflows that the caller may see and in the caller's running executions, the newest first. `next_offset`
/// leads to the next page.
#[utoipa::path(
    get, path = "/api/v1/agents/security/scan", operation_id = "security_scan", tag = "security",
    security(("ApiKey" = ["admin"])),
    params(ScanQuery),
    responses((status = 200, body = PolicyScan, description = "A page of the scan"))
)]
pub async fn scan_workflows(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    QueryParams(query): QueryParams<ScanQuery>,
) -> Result<JsonBody<PolicyScan>, ApiError> {
    let limit = row_limit(query.limit, 100)?;
    Ok(JsonBody(app.reviews.scan(&caller, limit, query.offset.unwrap_or(0)).await?))
}

/// Explain which policies apply to a workflow
///
/// Every policy, whether it applies and why, and each of its rules: what it allows, what the workflow asks for, and
/// which steps break it.
#[utoipa::path(
    get, path = "/api/v1/agents/security/policies/binding/{workflow_id}",
    operation_id = "security_policies_list_bindings", tag = "security_policies", security(("ApiKey" = ["admin"])),
    params(("workflow_id" = String, Path, description = "Id of the workflow: `agent_` and hexadecimal digits")),
    responses(
        (status = 200, body = WorkflowBindings, description = "Each policy, whether it binds and why"),
        (status = 404, description = "No workflow that the caller may see has this id"),
        (status = 422, description = "The stored definition has faults; `detail` names each with its path"),
    )
)]
pub async fn get_workflow_bindings(
    State(app): State<App>,
    AdminKey(caller): AdminKey,
    PathParams(id): PathParams<WorkflowId>,
) -> Result<JsonBody<WorkflowBindings>, ApiError> {
    Ok(JsonBody(app.reviews.workflow_bindings(&caller, &id).await?))
}
