//! `/api/v1/agents/creativity/ideation` and `synthesis`.

use axum::extract::State;

use super::creative_caller;
use crate::{
    app::App,
    http::{
        AnyCaller, ApiError,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
    },
    routes::agents::check_agent_id,
};
use am_creativity::{IdeationAnswer, IdeationRequest, SynthesisAnswer, SynthesisRequest};

/// Generate ideas
///
/// By a technique whose prompts are filled in on the parsed problem, or by the configured language model; deduplicated, and ranked by
/// figures that are computed from the texts. The same request and seed give the same ideas, unless a language model writes them.
#[utoipa::path(
    post, path = "/api/v1/agents/creativity/ideation/generate", operation_id = "creativity_generate_ideas",
    tag = "creativity", security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = IdeationRequest,
    responses(
        (status = 200, body = IdeationAnswer, description = "The ideas, best first"),
        (status = 409, description = "A language model is asked for, and none is configured (`conflict`)"),
        (status = 503, description = "The language model gave no usable ideas (`unavailable`)"),
    )
)]
pub async fn generate_ideas(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<IdeationRequest>,
) -> Result<IdempotentOk<IdeationAnswer>, ApiError> {
    Ok(IdempotentOk(app.creativity.generate_ideas(&creative_caller(caller), request.body, request.once).await?))
}

/// Bring domains together
///
/// Names the structure that the domains share, and what follows from it for the goal.
#[utoipa::path(
    post, path = "/api/v1/agents/creativity/synthesis/cross-domain", operation_id = "creativity_synthesise",
    tag = "creativity", security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = SynthesisRequest,
    responses(
        (status = 200, body = SynthesisAnswer, description = "The shared structure, and what follows from it"),
        (status = 404, description = "The agent is another owner's"),
    )
)]
pub async fn synthesise_domains(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<SynthesisRequest>,
) -> Result<IdempotentOk<SynthesisAnswer>, ApiError> {
    let mut body = request.body;
    body.agent_id = check_agent_id(&app, ("body", "agent_id"), &body.agent_id)?;
    let caller = creative_caller(caller);
    Ok(IdempotentOk(app.creativity.synthesise_domains(&caller, body, request.once).await?))
}
