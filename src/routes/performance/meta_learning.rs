//! `/api/v1/agents/performance/meta-learning`: models that are trained to learn from a few examples.

use axum::{extract::State, response::Response};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    app::App,
    http::{
        AnyCaller, ApiError, JsonBody, PathParams, QueryParams,
        auth::{ApiCaller, KeyRole},
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
        openapi::{BinaryFile, routes},
        pagination::{PageQuery, Paginator},
    },
    routes::export::file_response,
};
use am_performance::{
    PerformanceCaller,
    meta::{
        AdaptationReport, AdaptationRequest, LearningStrategy, MetaModelDocument, MetaModelDraft, MetaModelFilter,
        MetaModelStatus, is_alias,
    },
};

/// Steps of an adaptation.
pub(in crate::routes) const ADAPTATION_STEPS: std::ops::RangeInclusive<u32> = 1..=50;
/// Steps of an adaptation where none are named.
const DEFAULT_STEPS: u32 = 10;

/// The routes of meta-learning.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(create_meta_model, list_meta_models))
        .routes(routes!(get_meta_model))
        .routes(routes!(adapt_meta_model))
        .routes(routes!(list_meta_versions))
        .routes(routes!(set_meta_alias, remove_meta_alias))
        .routes(routes!(export_meta_model))
}

fn performance_caller(caller: ApiCaller) -> PerformanceCaller {
    PerformanceCaller { is_admin: caller.role == KeyRole::Admin, principal: caller.principal }
}

/// Train a model
///
/// Queues the training and answers at once with the status `training`; `GET .../tasks/{task_id}` follows, pauses and cancels it.
/// Figures are null until it has ended, then measured on tasks that it was not trained with.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/meta-learning/models", operation_id = "meta_learning_create_model",
    tag = "meta_learning", security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body = MetaModelDraft,
    responses(
        (status = 200, body = MetaModelDocument, description = "The model, whose training waits or has begun"),
        (status = 422, description = "A strategy, algorithm, family, setting or task that is not served, with its place"),
        (status = 429, description = "The caller has too many background tasks that have not ended (`quota_exceeded`)"),
    )
)]
pub async fn create_meta_model(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<MetaModelDraft>,
) -> Result<IdempotentOk<MetaModelDocument>, ApiError> {
    let caller = performance_caller(caller);
    Ok(IdempotentOk(app.performance.meta.create_model(&caller, request.body, request.once).await?))
}

/// Which models are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MetaModelQuery {
    /// Only models of this status: `training`, `ready`, `failed` or `cancelled`.
    #[param(value_type = Option<String>)]
    status: Option<MetaModelStatus>,
    /// Only models of this strategy.
    #[param(value_type = Option<String>)]
    meta_strategy: Option<LearningStrategy>,
}

/// A page of models.
fn model_page(paging: &Paginator<50>, (rows, total): (Vec<MetaModelDocument>, Option<i64>)) -> Response {
    let last = paging.last_of(&rows).map(|model| (model.created_at, model.model_id.as_str()));
    paging.respond_partial(&rows, total.map(i64::cast_unsigned), last)
}

/// List models
///
/// The caller's own, for an admin all that were made here; the newest first, 50 on a page. An admin's list is not counted.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/meta-learning/models", operation_id = "meta_learning_list_models",
    tag = "meta_learning", security(("ApiKey" = ["admin", "client", "miner"])),
    params(MetaModelQuery, PageQuery),
    responses((status = 200, body = Vec<MetaModelDocument>, description = "A page of models, the newest first"))
)]
pub async fn list_meta_models(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    QueryParams(query): QueryParams<MetaModelQuery>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let MetaModelQuery { status, meta_strategy } = query;
    let filter = MetaModelFilter { status, meta_strategy, name: None };
    let found = app.performance.meta.list_models(&performance_caller(caller), &filter, &paging.page).await?;
    Ok(model_page(&paging, found))
}

/// Get a model
///
/// By its id, or as `name@version` or `name@alias` of the caller's own.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/meta-learning/models/{model_id}", operation_id = "meta_learning_get_model",
    tag = "meta_learning", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("model_id" = String, Path, description = "Id of the model, `name@version` or `name@alias`")),
    responses(
        (status = 200, body = MetaModelDocument, description = "The model"),
        (status = 404, description = "The caller has no such model"),
    )
)]
pub async fn get_meta_model(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<String>,
) -> Result<JsonBody<MetaModelDocument>, ApiError> {
    Ok(JsonBody(app.performance.meta.model(&performance_caller(caller), &id).await?))
}

/// How far a model is adapted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AdaptationQuery {
    /// Number of gradient steps, 1 to 50. Default 10. Prototypes take none.
    #[param(minimum = 1, maximum = 50, default = 10)]
    adaptation_steps: Option<u32>,
}

/// Adapt a model to a task
///
/// Takes the steps on the support examples, and answers the loss and the score on the query examples before, after, and after each
/// step. The model stays as it is; with `save_as` the result is kept as a model of its own.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/meta-learning/models/{model_id}/adapt",
    operation_id = "meta_learning_adapt_model", tag = "meta_learning",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("model_id" = String, Path, description = "Id of the model, `name@version` or `name@alias`"),
        AdaptationQuery,
        IdempotencyHeader,
    ),
    request_body = AdaptationRequest,
    responses(
        (status = 200, body = AdaptationReport, description = "What the adaptation reached"),
        (status = 404, description = "The caller has no such model"),
        (status = 409, description = "The model is not ready (`not_ready`), or the steps diverged (`diverged`)"),
        (status = 422, description = "The examples have another shape than the model's, with their place"),
    )
)]
pub async fn adapt_meta_model(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<String>,
    QueryParams(query): QueryParams<AdaptationQuery>,
    request: IdempotentJson<AdaptationRequest>,
) -> Result<IdempotentOk<AdaptationReport>, ApiError> {
    let steps = query.adaptation_steps.unwrap_or(DEFAULT_STEPS);
    if !ADAPTATION_STEPS.contains(&steps) {
        let loc = vec!["query".into(), "adaptation_steps".into()];
        return Err(ApiError::invalid_field(loc, "must be from 1 to 50", "value_error"));
    }
    let caller = performance_caller(caller);
    Ok(IdempotentOk(app.performance.meta.adapt(&caller, &id, u64::from(steps), request.body, request.once).await?))
}

/// List the versions of a model's name
///
/// The newest first, 50 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/meta-learning/models/{model_id}/versions",
    operation_id = "meta_learning_list_versions", tag = "meta_learning",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("model_id" = String, Path, description = "Id of one of the versions, `name@version` or `name@alias`"), PageQuery),
    responses(
        (status = 200, body = Vec<MetaModelDocument>, description = "A page of versions, the newest first"),
        (status = 404, description = "The caller has no such model"),
    )
)]
pub async fn list_meta_versions(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<String>,
    paging: Paginator<50>,
) -> Result<Response, ApiError> {
    let found = app.performance.meta.versions(&performance_caller(caller), &id, &paging.page).await?;
    Ok(model_page(&paging, found))
}

/// Let an alias stand for a model
///
/// `name@alias` stands for this version then, and no longer for another. Only for a model that is ready.
#[utoipa::path(
    put, path = "/api/v1/agents/performance/meta-learning/models/{model_id}/aliases/{alias}",
    operation_id = "meta_learning_set_alias", tag = "meta_learning",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("model_id" = String, Path, description = "Id of the model, `name@version` or `name@alias`"),
        ("alias" = String, Path, description = "The alias, such as `production`"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = MetaModelDocument, description = "The model with its aliases"),
        (status = 404, description = "The caller has no such model"),
        (status = 409, description = "The model is not ready (`not_ready`)"),
        (status = 422, description = "It is no name of an alias"),
    )
)]
pub async fn set_meta_alias(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams((id, alias)): PathParams<(String, String)>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<MetaModelDocument>, ApiError> {
    if !is_alias(&alias) {
        let text = "has 1 to 50 letters, digits, '-', '_' or '.', and begins with a letter";
        return Err(ApiError::invalid_field(vec!["path".into(), "alias".into()], text, "value_error"));
    }
    let caller = performance_caller(caller);
    Ok(IdempotentOk(app.performance.meta.set_alias(&caller, &id, &alias, request.once).await?))
}

/// Remove an alias
#[utoipa::path(
    delete, path = "/api/v1/agents/performance/meta-learning/models/{model_id}/aliases/{alias}",
    operation_id = "meta_learning_remove_alias", tag = "meta_learning",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("model_id" = String, Path, description = "Id of the model, `name@version` or `name@alias`"),
        ("alias" = String, Path, description = "The alias"),
    ),
    responses(
        (status = 200, body = MetaModelDocument, description = "The model without the alias"),
        (status = 404, description = "The caller has no such model, or the alias does not stand for it"),
    )
)]
pub async fn remove_meta_alias(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams((id, alias)): PathParams<(String, String)>,
) -> Result<JsonBody<MetaModelDocument>, ApiError> {
    Ok(JsonBody(app.performance.meta.remove_alias(&performance_caller(caller), &id, &alias).await?))
}

/// Download a model's safetensors file
///
/// With PyTorch's names of parameters: `network.0.weight`, `network.0.bias`, `network.2.weight`, ...; ReLU stands between layers. Step
/// sizes that `meta_sgd` learnt are `step_sizes.0.weight` and so on.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/meta-learning/models/{model_id}/export",
    operation_id = "meta_learning_export_model", tag = "meta_learning",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("model_id" = String, Path, description = "Id of the model, `name@version` or `name@alias`")),
    responses(
        (status = 200, body = BinaryFile, content_type = "application/octet-stream", description = "The safetensors file", headers(("ETag" = String, description = "SHA-256 of the file, quoted"), ("Content-Disposition" = String, description = "Name of the file"))),
        (status = 404, description = "The caller has no such model"),
        (status = 409, description = "The model is not ready (`not_ready`)"),
    )
)]
pub async fn export_meta_model(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(id): PathParams<String>,
) -> Result<Response, ApiError> {
    let (model, file) = app.performance.meta.file(&performance_caller(caller), &id).await?;
    let sha256 = model.sha256.as_deref().unwrap_or_default();
    Ok(file_response(&format!("{}.safetensors", model.model_id), sha256, file))
}
