//! `/api/v1/agents/performance/capabilities`: what agents can do, and what shows it.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{
        AnyCaller, ApiError, PathParams, QueryParams,
        auth::{ApiCaller, KeyRole},
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        openapi::routes,
        pagination::{PageQuery, Paginator},
    },
    routes::agents::{check_agent_id, check_agent_path},
};
use am_core::ids::{AgentId, CapabilityId};
use am_performance::{
    PerformanceCaller,
    capabilities::{
        CapabilityDocument, CapabilityDraft, CapabilityFilter, CertificationDocument, EvidenceDocument, EvidenceDraft,
    },
};

/// The routes of capabilities.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(create_capability))
        .routes(routes!(list_capabilities))
        .routes(routes!(attach_evidence, list_evidence))
}

fn performance_caller(caller: ApiCaller) -> PerformanceCaller {
    PerformanceCaller { is_admin: caller.role == KeyRole::Admin, principal: caller.principal }
}

/// Add a capability to an agent
///
/// Its level is what its maker says (`claimed`) until evidence is attached. An agent that nobody has registered belongs to the principal
/// that uses it first.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/capabilities", operation_id = "capabilities_create", tag = "capabilities",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body(content = CapabilityDraft, example = json!({
        "agent_id": "translator", "capability_name": "Translation", "capability_type": "cognitive", "domain_area": "language",
        "skill_level": 7.5, "specialization_areas": ["legal"],
    })),
    responses(
        (status = 200, body = CapabilityDocument, description = "The capability"),
        (status = 404, description = "The agent is another's"),
        (status = 409, description = "The agent has as many as it may have (`too_many_capabilities`)"),
    )
)]
pub async fn create_capability(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<CapabilityDraft>,
) -> Result<IdempotentOk<CapabilityDocument>, ApiError> {
    let mut draft = request.body;
    draft.agent_id = check_agent_id(&app, ("body", "agent_id"), &draft.agent_id)?;
    let caller = performance_caller(caller);
    Ok(IdempotentOk(app.performance.capabilities.create(&caller, draft, request.once).await?))
}

/// Filter of capabilities.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct CapabilityQuery {
    /// Only those of this type. Default: all.
    capability_type: Option<String>,
    /// Only those of this area. Default: all.
    domain_area: Option<String>,
}

/// List an agent's capabilities
///
/// The newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/capabilities/{agent_id}", operation_id = "capabilities_list",
    tag = "capabilities", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("agent_id" = String, Path, description = "Name of the agent"), CapabilityQuery, PageQuery),
    responses(
        (status = 200, body = Vec<CapabilityDocument>, description = "A page of capabilities, the newest first"),
        (status = 404, description = "The agent is another's, or nobody has used it"),
    )
)]
pub async fn list_capabilities(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(agent): PathParams<AgentId>,
    QueryParams(query): QueryParams<CapabilityQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &agent)?;
    let filter = CapabilityFilter { capability_type: query.capability_type, domain_area: query.domain_area };
    let caller = performance_caller(caller);
    let (rows, total) = app.performance.capabilities.list(&caller, &agent, &filter, &paging.page).await?;
    let last = paging.last_of(&rows).map(|row| (row.created_at, row.capability_id.as_str()));
    Ok(paging.respond_partial(&rows, Some(total.cast_unsigned()), last))
}

/// Attach evidence to a capability
///
/// An execution, an evaluation by a suite, or a rated request of the marketplace; each shows one capability. The level is computed anew:
/// ten times the lower end of Wilson's 95 % interval of the share that was reached in trials, which count half after 180 days.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/capabilities/{capability_id}/evidence",
    operation_id = "capabilities_attach_evidence", tag = "capabilities",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("capability_id" = CapabilityId, Path, description = "Id of the capability"), IdempotencyHeader),
    request_body(content = EvidenceDraft, example = json!({"kind": "evaluation", "id": "eval_0a1b2c3d4e5f"})),
    responses(
        (status = 200, body = CertificationDocument, description = "What was attached, and the capability with its new level"),
        (status = 404, description = "The caller has no such capability"),
        (status = 409, description = "It shows a capability already (`evidence_used`)"),
    )
)]
pub async fn attach_evidence(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<CapabilityId>,
    request: IdempotentJson<EvidenceDraft>,
) -> Result<IdempotentOk<CertificationDocument>, ApiError> {
    let caller = performance_caller(caller);
    Ok(IdempotentOk(app.performance.capabilities.attach(&caller, &id, request.body, request.once).await?))
}

/// List the evidence of a capability
///
/// The newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/capabilities/{capability_id}/evidence",
    operation_id = "capabilities_list_evidence", tag = "capabilities",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("capability_id" = CapabilityId, Path, description = "Id of the capability"), PageQuery),
    responses(
        (status = 200, body = Vec<EvidenceDocument>, description = "A page of evidence, the newest first"),
        (status = 404, description = "The caller has no such capability"),
    )
)]
pub async fn list_evidence(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<CapabilityId>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let caller = performance_caller(caller);
    let (rows, total) = app.performance.capabilities.list_evidence(&caller, &id, &paging.page).await?;
    let last = paging.last_of(&rows).map(|row| (row.created_at, row.id.as_str()));
    Ok(paging.respond_partial(&rows, Some(total.cast_unsigned()), last))
}
