//! `/api/v1/agents/creativity/capabilities/{capability_id}/enhance` and `enhancements`.

use axum::{extract::State, response::Response};

use super::creative_caller;
use crate::{
    app::App,
    http::{
        AnyCaller, ApiError, JsonBody, PathParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_core::ids::{BackgroundTaskId, CreativeCapabilityId};
use am_creativity::{EnhancementDocument, EnhancementRequest};

/// Enhance a capability
///
/// Runs the algorithm's cycles on the works of the agent's own in the corpus, as a background task: `task_url` has its progress and
/// events, and where it is paused and cancelled. The gain is the measured one on a part of the corpus that did not choose, 0 where
/// there is none.
#[utoipa::path(
    post, path = "/api/v1/agents/creativity/capabilities/{capability_id}/enhance", operation_id = "creativity_enhance",
    tag = "creativity", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("capability_id" = CreativeCapabilityId, Path, description = "Id of the capability"),
        IdempotencyHeader,
    ),
    request_body = EnhancementRequest,
    responses(
        (status = 200, body = EnhancementDocument, description = "The enhancement, which has not begun yet"),
        (status = 404, description = "The caller has no such capability"),
        (status = 409, description = "The corpus is empty or too small for the algorithm (`conflict`)"),
        (status = 429, description = "The caller has too many tasks that have not ended (`quota_exceeded`)"),
    )
)]
pub async fn enhance_creativity(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<CreativeCapabilityId>,
    request: IdempotentJson<EnhancementRequest>,
) -> Result<IdempotentOk<EnhancementDocument>, ApiError> {
    let caller = creative_caller(caller);
    Ok(IdempotentOk(app.creativity.enhance_capability(&caller, &id, request.body, request.once).await?))
}

/// List a capability's enhancements
///
/// The newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/creativity/capabilities/{capability_id}/enhancements",
    operation_id = "creativity_list_enhancements", tag = "creativity",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("capability_id" = CreativeCapabilityId, Path, description = "Id of the capability"), PageQuery),
    responses(
        (status = 200, body = Vec<EnhancementDocument>, description = "A page of enhancements"),
        (status = 404, description = "The caller has no such capability"),
    )
)]
pub async fn list_enhancements(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<CreativeCapabilityId>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let found = app.creativity.list_enhancements(&creative_caller(caller), &id, &paging.page).await?;
    Ok(paging.answer(found, |enhancement| (enhancement.created_at, enhancement.task_id.as_str())))
}

/// Get an enhancement
#[utoipa::path(
    get, path = "/api/v1/agents/creativity/capabilities/{capability_id}/enhancements/{task_id}",
    operation_id = "creativity_get_enhancement", tag = "creativity",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("capability_id" = CreativeCapabilityId, Path, description = "Id of the capability"),
        ("task_id" = BackgroundTaskId, Path, description = "Id of the enhancement's task"),
    ),
    responses(
        (status = 200, body = EnhancementDocument, description = "The enhancement"),
        (status = 404, description = "The caller has no such capability, or it no such enhancement"),
    )
)]
pub async fn get_enhancement(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams((id, task)): PathParams<(CreativeCapabilityId, BackgroundTaskId)>,
) -> Result<JsonBody<EnhancementDocument>, ApiError> {
    Ok(JsonBody(app.creativity.enhancement(&creative_caller(caller), &id, &task).await?))
}
