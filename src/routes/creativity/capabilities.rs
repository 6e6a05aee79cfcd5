//! `/api/v1/agents/creativity/capabilities`.

use axum::{extract::State, response::Response};

use super::creative_caller;
use crate::{
    app::App,
    http::{
        AnyCaller, ApiError, PathParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
    routes::agents::{check_agent_id, check_agent_path},
};
use am_core::ids::{AgentId, CreativeCapabilityId};
use am_creativity::{CapabilityDocument, CapabilityDraft, CreationEvaluation, EvaluationRequest};

/// Record a creative capability
///
/// What an agent can, in the words of whoever owns it. `initial_score` is kept as a claim (`claimed_score`); scores are null until
/// creations were evaluated. An agent that nobody has registered belongs to the principal that uses it first.
#[utoipa::path(
    post, path = "/api/v1/agents/creativity/capabilities", operation_id = "creativity_create_capability",
    tag = "creativity", security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = CapabilityDraft,
    responses(
        (status = 200, body = CapabilityDocument, description = "The capability"),
        (status = 404, description = "The agent is another owner's"),
        (status = 409, description = "The agent has 200 capabilities (`conflict`)"),
    )
)]
pub async fn create_creative_capability(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<CapabilityDraft>,
) -> Result<IdempotentOk<CapabilityDocument>, ApiError> {
    let mut draft = request.body;
    draft.agent_id = check_agent_id(&app, ("body", "agent_id"), &draft.agent_id)?;
    let caller = creative_caller(caller);
    Ok(IdempotentOk(app.creativity.create_capability(&caller, draft, request.once).await?))
}

/// List an agent's creative capabilities
///
/// The newest first, 50 on a page; those that the coordinator wrote too, at most 1000 in all.
#[utoipa::path(
    get, path = "/api/v1/agents/creativity/capabilities/{agent_id}", operation_id = "creativity_list_capabilities",
    tag = "creativity", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("agent_id" = String, Path, description = "Name of the agent, 1 to 128 characters"), PageQuery),
    responses(
        (status = 200, body = Vec<CapabilityDocument>, description = "A page of capabilities"),
        (status = 404, description = "The caller has no such agent"),
    )
)]
pub async fn list_creative_capabilities(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<AgentId>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let agent = check_agent_path(&app, "agent_id", &id)?;
    let found = app.creativity.list_capabilities(&creative_caller(caller), &agent, &paging.page).await?;
    Ok(paging.answer(found, |capability| (capability.created_at, capability.capability_id.as_str())))
}

/// Evaluate a creation
///
/// Measured by published measures: lexical diversity (MTLD, HD-D), fluency, flexibility, elaboration, coherence, originality against
/// the references in the corpus and in the request, novelty against the agent's earlier works. Experts' feedback weighs 0.7 where
/// there is some. The capability's scores are moving averages, in which the newest value weighs 0.2. The creation is kept, the last
/// 100 of them.
#[utoipa::path(
    post, path = "/api/v1/agents/creativity/capabilities/{capability_id}/evaluate",
    operation_id = "creativity_evaluate_creation", tag = "creativity",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("capability_id" = CreativeCapabilityId, Path, description = "Id of the capability"),
        IdempotencyHeader,
    ),
    request_body = EvaluationRequest,
    responses(
        (status = 200, body = CreationEvaluation, description = "What was measured, and the capability's averages"),
        (status = 404, description = "The caller has no such capability"),
    )
)]
pub async fn evaluate_creation(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<CreativeCapabilityId>,
    request: IdempotentJson<EvaluationRequest>,
) -> Result<IdempotentOk<CreationEvaluation>, ApiError> {
    let caller = creative_caller(caller);
    Ok(IdempotentOk(app.creativity.evaluate_creation(&caller, &id, request.body, request.once).await?))
}
