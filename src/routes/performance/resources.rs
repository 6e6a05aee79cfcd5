//! `/api/v1/agents/performance/resources`, `allocations` and `capacity`: what agents may use, of which hosts.

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{
        AdminKey, AnyCaller, AnyKey, ApiError, JsonBody, PathParams, QueryParams,
        auth::{ApiCaller, KeyRole},
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        openapi::routes,
        pagination::{PageQuery, Paginator},
    },
    routes::{
        agents::{check_agent_id, check_agent_path},
        recorded_response::record_response,
    },
};
use am_core::ids::AgentId;
use am_performance::{
    PerformanceCaller,
    resources::{
        AllocationCompletion, AllocationDocument, AllocationDraft, AllocationStart, CapacityReport, HostDocument,
        HostDraft, PlanReport, PlanRequest, is_host_name,
    },
};

/// The routes of resources.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(allocate_resources))
        .routes(routes!(plan_resources))
        .routes(routes!(list_allocations))
        .routes(routes!(get_allocation))
        .routes(routes!(start_allocation))
        .routes(routes!(complete_allocation))
        .routes(routes!(release_allocation))
        .routes(routes!(get_capacity))
        .routes(routes!(list_hosts))
        .routes(routes!(get_host, put_host, delete_host))
}

fn performance_caller(caller: ApiCaller) -> PerformanceCaller {
    PerformanceCaller { is_admin: caller.role == KeyRole::Admin, principal: caller.principal }
}

/// Allocate resources to an agent
///
/// The configuration for the task and the target. Where hosts are configured it is admitted against what they have free, and taken
/// until it is completed, released or expires; where none is, it is advice only (`admission`: `not configured`). An agent that nobody
/// has registered belongs to the principal that uses it first.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/resources/allocate", operation_id = "resources_allocate", tag = "resources",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = AllocationDraft,
    responses(
        (status = 200, body = AllocationDocument, description = "The allocation"),
        (status = 404, description = "The agent is another's"),
        (status = 409, description = "No host has room: the detail says what each lacks (`capacity_exhausted`)"),
    )
)]
pub async fn allocate_resources(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<AllocationDraft>,
) -> Result<IdempotentOk<AllocationDocument>, ApiError> {
    let mut draft = request.body;
    draft.agent_id = check_agent_id(&app, ("body", "agent_id"), &draft.agent_id)?;
    let caller = performance_caller(caller);
    Ok(IdempotentOk(app.performance.resources.allocate(&caller, draft, request.once).await?))
}

/// Plan many allocations at once
///
/// On the configured hosts with what they have free now, or on hosts of the request. Nothing is reserved. The plan places as many
/// demands as can be on as few hosts as can be, as evenly as can be, and says how far it is above the lower bound; it takes some
/// seconds for a thousand demands.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/resources/plan", operation_id = "resources_plan", tag = "resources",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = PlanRequest,
    responses(
        (status = 200, body = PlanReport, description = "The plan"),
        (status = 409, description = "There is no open host to plan with (`no_hosts`)"),
    )
)]
pub async fn plan_resources(
    State(app): State<App>,
    _: AnyKey,
    request: IdempotentJson<PlanRequest>,
) -> Result<IdempotentOk<PlanReport>, ApiError> {
    let plan = app.performance.resources.plan(request.body).await?;
    Ok(IdempotentOk(record_response(&app, request.once, plan).await?))
}

/// Filter of allocations.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AllocationQuery {
    /// Only those in this state: `allocated`, `active`, `completed`, `released` or `expired`, or a word of the coordinator's. Default:
    /// all.
    status: Option<String>,
}

/// List an agent's allocations
///
/// The newest first, 20 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/resources/{agent_id}", operation_id = "resources_list_allocations",
    tag = "resources", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("agent_id" = String, Path, description = "Name of the agent"), AllocationQuery, PageQuery),
    responses(
        (status = 200, body = Vec<AllocationDocument>, description = "A page of allocations, the newest first"),
        (status = 404, description = "The agent is another's, or nobody has used it"),
    )
)]
pub async fn list_allocations(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(agent_id): PathParams<AgentId>,
    QueryParams(query): QueryParams<AllocationQuery>,
    paging: Paginator<20>,
) -> Result<Response, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &agent_id)?;
    let (caller, status) = (performance_caller(caller), query.status.as_deref());
    let found = app.performance.resources.list_allocations(&caller, &agent, status, &paging.page).await?;
    Ok(paging.answer(found, AllocationDocument::list_place))
}

/// Get an allocation
///
/// With what of it was used, from what the sandbox of its execution measured: until it ends, so far.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/allocations/{allocation_id}", operation_id = "resources_get_allocation",
    tag = "resources", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("allocation_id" = String, Path, description = "Id of the allocation")),
    responses(
        (status = 200, body = AllocationDocument, description = "The allocation"),
        (status = 404, description = "There is no such allocation, or its agent is another's"),
    )
)]
pub async fn get_allocation(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<String>,
) -> Result<JsonBody<AllocationDocument>, ApiError> {
    Ok(JsonBody(app.performance.resources.allocation(&performance_caller(caller), &id).await?))
}

/// Start the use of an allocation
///
/// The execution that uses it may be named, so that its utilisation is measured.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/allocations/{allocation_id}/start", operation_id = "resources_start_allocation",
    tag = "resources", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("allocation_id" = String, Path, description = "Id of the allocation"), IdempotencyHeader),
    request_body = Option<AllocationStart>,
    responses(
        (status = 200, body = AllocationDocument, description = "The allocation, which is active"),
        (status = 404, description = "There is no such allocation, or its agent is another's"),
        (status = 409, description = "Its state forbids it (`invalid_state`), or its time has run out (`allocation_expired`)"),
    )
)]
pub async fn start_allocation(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<String>,
    request: IdempotentJson<Option<AllocationStart>>,
) -> Result<IdempotentOk<AllocationDocument>, ApiError> {
    let (caller, start) = (performance_caller(caller), request.body.unwrap_or_default());
    Ok(IdempotentOk(app.performance.resources.start(&caller, &id, start, request.once).await?))
}

/// Complete the use of an allocation
///
/// What was measured of it is kept. Its capacity is free at once, unless it is to be kept until the allocation is released or expires.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/allocations/{allocation_id}/complete",
    operation_id = "resources_complete_allocation", tag = "resources",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("allocation_id" = String, Path, description = "Id of the allocation"), IdempotencyHeader),
    request_body = Option<AllocationCompletion>,
    responses(
        (status = 200, body = AllocationDocument, description = "The allocation, which is completed"),
        (status = 404, description = "There is no such allocation, or its agent is another's"),
        (status = 409, description = "Its state forbids it (`invalid_state`), or its time has run out (`allocation_expired`)"),
    )
)]
pub async fn complete_allocation(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<String>,
    request: IdempotentJson<Option<AllocationCompletion>>,
) -> Result<IdempotentOk<AllocationDocument>, ApiError> {
    let (caller, end) = (performance_caller(caller), request.body.unwrap_or_default());
    Ok(IdempotentOk(app.performance.resources.complete(&caller, &id, end, request.once).await?))
}

/// Release an allocation
///
/// It takes no capacity any more, whether it was used or not.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/allocations/{allocation_id}/release",
    operation_id = "resources_release_allocation", tag = "resources",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("allocation_id" = String, Path, description = "Id of the allocation"), IdempotencyHeader),
    responses(
        (status = 200, body = AllocationDocument, description = "The allocation, which is released"),
        (status = 404, description = "There is no such allocation, or its agent is another's"),
        (status = 409, description = "It has ended (`invalid_state`), or its time has run out (`allocation_expired`)"),
    )
)]
pub async fn release_allocation(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<String>,
    request: IdempotentJson<Option<serde_json::Value>>,
) -> Result<IdempotentOk<AllocationDocument>, ApiError> {
    let caller = performance_caller(caller);
    Ok(IdempotentOk(app.performance.resources.release(&caller, &id, request.once).await?))
}

/// Get the capacity of all hosts
#[utoipa::path(
    get, path = "/api/v1/agents/performance/capacity", operation_id = "resources_get_capacity", tag = "resources",
    security(("ApiKey" = ["admin", "client", "miner"])),
    responses((status = 200, body = CapacityReport, description = "What the hosts have, and what of it is allocated"))
)]
pub async fn get_capacity(State(app): State<App>, _: AnyKey) -> Result<JsonBody<CapacityReport>, ApiError> {
    Ok(JsonBody(app.performance.resources.capacity().await?))
}

/// List hosts
///
/// All of them, at most 1000, by their names.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/capacity/hosts", operation_id = "resources_list_hosts", tag = "resources",
    security(("ApiKey" = ["admin"])),
    responses((status = 200, body = Vec<HostDocument>, description = "The hosts, with what is allocated of them"))
)]
pub async fn list_hosts(State(app): State<App>, _: AdminKey) -> Result<JsonBody<Vec<HostDocument>>, ApiError> {
    Ok(JsonBody(app.performance.resources.hosts().await?))
}

/// Get a host
#[utoipa::path(
    get, path = "/api/v1/agents/performance/capacity/hosts/{host_id}", operation_id = "resources_get_host",
    tag = "resources", security(("ApiKey" = ["admin"])),
    params(("host_id" = String, Path, description = "Name of the host")),
    responses(
        (status = 200, body = HostDocument, description = "The host, with what is allocated of it"),
        (status = 404, description = "There is no such host"),
    )
)]
pub async fn get_host(
    State(app): State<App>,
    _: AdminKey,
    PathParams(id): PathParams<String>,
) -> Result<JsonBody<HostDocument>, ApiError> {
    Ok(JsonBody(app.performance.resources.host(&id).await?))
}

/// Configure a host
///
/// Makes it, or changes what it has. A capacity below what is allocated of the host is refused, and the member named. A closed host
/// keeps its allocations and takes no more.
#[utoipa::path(
    put, path = "/api/v1/agents/performance/capacity/hosts/{host_id}", operation_id = "resources_put_host",
    tag = "resources", security(("ApiKey" = ["admin"])),
    params(("host_id" = String, Path, description = "Name of the host, 1 to 64 letters, digits, dots, hyphens and underscores")),
    request_body = HostDraft,
    responses(
        (status = 200, body = HostDocument, description = "The host as it is now"),
        (status = 409, description = "There are too many hosts (`too_many_hosts`)"),
    )
)]
pub async fn put_host(
    State(app): State<App>,
    AdminKey(principal): AdminKey,
    PathParams(id): PathParams<String>,
    JsonBody(draft): JsonBody<HostDraft>,
) -> Result<JsonBody<HostDocument>, ApiError> {
    if !is_host_name(&id) {
        let text = "Has 1 to 64 letters, digits, dots, hyphens and underscores";
        return Err(ApiError::invalid_field(vec!["path".into(), "host_id".into()], text, "value_error"));
    }
    let caller = PerformanceCaller { principal, is_admin: true };
    Ok(JsonBody(app.performance.resources.put_host(&caller, &id, draft).await?))
}

/// Remove a host
///
/// One of which nothing is allocated.
#[utoipa::path(
    delete, path = "/api/v1/agents/performance/capacity/hosts/{host_id}", operation_id = "resources_delete_host",
    tag = "resources", security(("ApiKey" = ["admin"])),
    params(("host_id" = String, Path, description = "Name of the host")),
    responses(
        (status = 204, description = "The host is not there any more"),
        (status = 404, description = "There is no such host"),
        (status = 409, description = "Allocations take capacity of it (`host_in_use`)"),
    )
)]
pub async fn delete_host(
    State(app): State<App>,
    AdminKey(principal): AdminKey,
    PathParams(id): PathParams<String>,
) -> Result<StatusCode, ApiError> {
    let caller = PerformanceCaller { principal, is_admin: true };
    app.performance.resources.delete_host(&caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
