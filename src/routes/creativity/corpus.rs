//! `/api/v1/agents/creativity/capabilities/{capability_id}/corpus`.

use axum::{extract::State, http::StatusCode, response::Response};

use super::creative_caller;
use crate::{
    app::App,
    http::{
        AnyCaller, ApiError, PathParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        pagination::{PageQuery, Paginator},
    },
};
use am_core::ids::{CreativeCapabilityId, CreativeWorkId};
use am_creativity::{CorpusBatch, CorpusReport, WorkDocument};

/// Add texts to a corpus
///
/// Works of the agent's own, which enhancement works on and novelty is measured against, and works of others (`reference`), which
/// originality is measured against. At most 200 texts of 256 KiB together. A text that is there already is counted as known.
#[utoipa::path(
    post, path = "/api/v1/agents/creativity/capabilities/{capability_id}/corpus", operation_id = "creativity_add_corpus",
    tag = "creativity", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("capability_id" = CreativeCapabilityId, Path, description = "Id of the capability"),
        IdempotencyHeader,
    ),
    request_body = CorpusBatch,
    responses(
        (status = 200, body = CorpusReport, description = "What became of the texts"),
        (status = 404, description = "The caller has no such capability"),
    )
)]
pub async fn add_corpus_texts(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<CreativeCapabilityId>,
    request: IdempotentJson<CorpusBatch>,
) -> Result<IdempotentOk<CorpusReport>, ApiError> {
    Ok(IdempotentOk(app.creativity.add_corpus(&creative_caller(caller), &id, request.body, request.once).await?))
}

/// List the texts of a corpus
///
/// And the creations that were evaluated; the newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/creativity/capabilities/{capability_id}/corpus", operation_id = "creativity_list_corpus",
    tag = "creativity", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("capability_id" = CreativeCapabilityId, Path, description = "Id of the capability"), PageQuery),
    responses(
        (status = 200, body = Vec<WorkDocument>, description = "A page of texts"),
        (status = 404, description = "The caller has no such capability"),
    )
)]
pub async fn list_corpus_texts(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<CreativeCapabilityId>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let rows = app.creativity.list_corpus(&creative_caller(caller), &id, &paging.page).await?;
    let next = paging.last_of(&rows).map(|last| (last.created_at, last.id.as_str()));
    Ok(paging.respond_partial(&rows, None, next))
}

/// Remove a text from a corpus
///
/// A creation that was evaluated stays: averages stand on it.
#[utoipa::path(
    delete, path = "/api/v1/agents/creativity/capabilities/{capability_id}/corpus/{work_id}",
    operation_id = "creativity_remove_corpus", tag = "creativity",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("capability_id" = CreativeCapabilityId, Path, description = "Id of the capability"),
        ("work_id" = CreativeWorkId, Path, description = "Id of the text"),
    ),
    responses(
        (status = 204, description = "It is removed"),
        (status = 404, description = "The caller has no such capability, or its corpus no such text"),
    )
)]
pub async fn remove_corpus_text(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams((id, work_id)): PathParams<(CreativeCapabilityId, CreativeWorkId)>,
) -> Result<StatusCode, ApiError> {
    app.creativity.remove_corpus_text(&creative_caller(caller), &id, &work_id).await?;
    Ok(StatusCode::NO_CONTENT)
}
