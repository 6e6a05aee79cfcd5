//! `rl/policies`: names with immutable versions.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        AnyKey, ApiError, Json, Path, Query,
        error::{Detail, Loc},
        idempotency::{KeyedBytes, KeyedJson, Replayable},
        page::{PageQuery, Paging},
    },
    routes::{
        export::{ExportQuery, exported, file},
        words,
    },
};
use am_rl::{
    PolicyReference,
    library::{Upload, VersionRecord},
    serving::{Canary, Comparison, Shadow, Split},
};

/// Reads `name`, `name@version` or `name@alias` from a path.
pub fn reference(text: &str) -> Result<PolicyReference, ApiError> {
    text.parse()
        .map_err(|error| ApiError::field(vec!["path".into(), "policy".into()], format!("{error}"), "value_error"))
}

/// The policies, newest first
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies", tag = "performance", params(PageQuery),
    responses((status = 200, body = Vec<Object>))
)]
pub async fn list(State(app): State<App>, _: AnyKey, paging: Paging) -> Result<Response, ApiError> {
    let page = paging.page(100)?;
    let (rows, total) = app.library.list(&page).await?;
    let last = rows.last().map(|row| (row.created_at, row.name.as_str()));
    Ok(paging.answer(&page, &rows, total as u64, last))
}

/// One policy: its aliases, the version that serves, its split
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}", tag = "performance", params(("name" = String, Path)),
    responses((status = 200, body = Object), (status = 404))
)]
pub async fn get(State(app): State<App>, _: AnyKey, Path(name): Path<String>) -> Result<Response, ApiError> {
    Ok(Json(app.library.get(&name).await?).into_response())
}

/// A policy's versions, newest first
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/versions", tag = "performance",
    params(("name" = String, Path), PageQuery), responses((status = 200, body = Vec<Object>), (status = 404))
)]
pub async fn versions(
    State(app): State<App>,
    _: AnyKey,
    Path(name): Path<String>,
    paging: Paging,
) -> Result<Response, ApiError> {
    let page = paging.page(100)?;
    let (rows, total) = app.library.versions(&name, &page).await?;
    let last = rows.last().map(|row| (row.created_at, row.id.as_str()));
    Ok(paging.answer(&page, &rows, total as u64, last))
}

/// What is said of uploaded weights.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// The environment that it is for; its names of actions and states are taken where none are sent.
    environment: Option<String>,
    /// What its discrete actions are called, with commas between them.
    action_names: Option<String>,
    /// What the numbers of a state are called, with commas between them.
    state_names: Option<String>,
    /// Aliases that are to point at it, such as `production`, with commas between them.
    aliases: Option<String>,
    /// Rainbow: the least return that its atoms stand for, where the file has no `support`; -10 where nothing says.
    v_min: Option<f32>,
    /// Rainbow: the most.
    v_max: Option<f32>,
}

impl UploadQuery {
    fn upload(self) -> Result<Upload, ApiError> {
        let list = |text: Option<String>| text.as_deref().map(words);
        let support = match (self.v_min, self.v_max) {
            (Some(least), Some(most)) => Some((least, most)),
            (None, None) => None,
            _ => {
                let loc = vec!["query".into(), "v_min".into()];
                return Err(ApiError::field(loc, "v_min and v_max go together", "value_error"));
            }
        };
        Ok(Upload {
            environment: self.environment,
            action_names: list(self.action_names),
            state_names: list(self.state_names),
            aliases: list(self.aliases).unwrap_or_default(),
            support,
        })
    }
}

/// Upload weights as the next version of a policy
///
/// The body is a safetensors file in PyTorch's parameter names: `actor.*` and `critic.*` (ppo), `feature_layer.*`,
/// `value_stream.*` and `advantage_stream.*` (rainbow_dqn), `actor_mean.*`, `actor_log_std`, `qf1.*` and `qf2.*` (sac). Its
/// dimensions are read from the tensors. A pickle (`.pt`) is refused: reading one runs what is in it.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/policies/{name}/versions", tag = "performance",
    params(("name" = String, Path), UploadQuery), request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 201, body = Object), (status = 403), (status = 422))
)]
pub async fn upload(
    State(app): State<App>,
    caller: AnyKey,
    Path(name): Path<String>,
    Query(query): Query<UploadQuery>,
    request: KeyedBytes,
) -> Result<Response, ApiError> {
    let upload = query.upload()?;
    let stored = app.library.upload(&(&caller.0).into(), &name, request.bytes, upload, request.once).await;
    let done = stored.map_err(|error| in_query(error.into()))?;
    Ok((StatusCode::CREATED, Replayable(Json(done.value), done.replayed)).into_response())
}

/// What an upload says of its weights stands in the path and the query.
fn in_query(mut error: ApiError) -> ApiError {
    if let Detail::Fields(fields) = &mut error.detail {
        for field in fields.iter_mut().filter(|field| field.loc.len() > 1) {
            let part = if field.loc[1] == Loc::from("name") { "path" } else { "query" };
            field.loc[0] = part.into();
        }
    }
    error
}

/// One version, or the one where an alias points
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/versions/{version}", tag = "performance",
    params(("name" = String, Path), ("version" = String, Path, description = "A number, or an alias")),
    responses((status = 200, body = Object), (status = 404))
)]
pub async fn version(
    State(app): State<App>,
    _: AnyKey,
    Path((name, version)): Path<(String, String)>,
) -> Result<Json<VersionRecord>, ApiError> {
    Ok(Json(app.library.version(&reference(&format!("{name}@{version}"))?).await?))
}

/// A version's safetensors file
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/versions/{version}/weights", tag = "performance",
    params(("name" = String, Path), ("version" = String, Path, description = "A number, or an alias")),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 404))
)]
pub async fn weights(
    State(app): State<App>,
    _: AnyKey,
    Path((name, version)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let (record, bytes) = app.library.weights(&reference(&format!("{name}@{version}"))?).await?;
    Ok(file(&format!("{}-{}.safetensors", record.name, record.version), &record.sha256, bytes))
}

/// A version as a file for other programs
///
/// TorchScript and ONNX take `state` (rows x state, 32-bit floats) and answer `probabilities` and `value` (ppo), `q`
/// (rainbow_dqn, dqn), or `mean`, `std` and `value` (sac).
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/versions/{version}/export", tag = "performance",
    params(("name" = String, Path), ("version" = String, Path, description = "A number, or an alias"), ExportQuery),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>), (status = 404), (status = 422))
)]
pub async fn export(
    State(app): State<App>,
    _: AnyKey,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, ApiError> {
    exported(&app, &reference(&format!("{name}@{version}"))?, query.format()?, None).await
}

/// A second version beside the one that serves.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SplitRequest {
    /// Answers a share of the calls by the bare name.
    canary: Option<CanaryRequest>,
    /// Sees them all and answers none.
    shadow: Option<ShadowRequest>,
}

/// A version that answers a share of the calls.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CanaryRequest {
    version: u32,
    /// From 0 to 1.
    share: f64,
}

/// A version that follows.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ShadowRequest {
    version: u32,
}

/// Let a second version answer a share of the calls (canary), or follow them all (shadow)
///
/// Only `act` by the bare name is split; `name@version`, `name@alias` and workflow steps are not.
#[utoipa::path(
    put, path = "/api/v1/agents/performance/rl/policies/{name}/split", tag = "performance", params(("name" = String, Path)),
    request_body = SplitRequest, responses((status = 200, body = Object), (status = 403), (status = 404), (status = 422))
)]
pub async fn set_split(
    State(app): State<App>,
    caller: AnyKey,
    Path(name): Path<String>,
    request: KeyedJson<SplitRequest>,
) -> Result<Response, ApiError> {
    let split = Split {
        canary: request.body.canary.map(|CanaryRequest { version, share }| Canary { version, share }),
        shadow: request.body.shadow.map(|ShadowRequest { version }| Shadow { version }),
    };
    let done = app.library.set_split(&(&caller.0).into(), &name, split, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

/// Let one version answer all calls again
#[utoipa::path(
    delete, path = "/api/v1/agents/performance/rl/policies/{name}/split", tag = "performance", params(("name" = String, Path)),
    responses((status = 200, body = Object), (status = 403), (status = 404))
)]
pub async fn remove_split(
    State(app): State<App>,
    caller: AnyKey,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let done = app.library.set_split(&(&caller.0).into(), &name, Split::default(), None).await?;
    Ok(Json(done.value).into_response())
}

/// How the versions of a split compare, as this process has seen them since the split was set
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/comparison", tag = "performance", params(("name" = String, Path)),
    responses((status = 200, body = Object), (status = 404, description = "No such policy, or it has no split"))
)]
pub async fn comparison(
    State(app): State<App>,
    _: AnyKey,
    Path(name): Path<String>,
) -> Result<Json<Comparison>, ApiError> {
    let seen = app.policies.comparison(&name)?;
    seen.map(Json).ok_or_else(|| ApiError::not_found(format!("policy '{name}' has neither canary nor shadow")))
}
