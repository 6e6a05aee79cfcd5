//! `rl/policies/{name}/aliases`: names that point at a version, and can be moved and rolled back.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{
        AnyKey, ApiError, Json, Path,
        error::{Detail, Loc},
        idempotency::{KeyedJson, Replayable},
    },
};
use am_rl::library::AliasMove;

/// An alias.
#[derive(Serialize, ToSchema)]
pub struct AliasDocument {
    alias: String,
    /// Where it points; null: it was taken away.
    version: Option<u32>,
    /// Where it has pointed, the last move first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    moves: Option<Vec<AliasMove>>,
}

/// A policy's aliases
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/aliases", tag = "performance", params(("name" = String, Path)),
    responses((status = 200, body = Vec<AliasDocument>), (status = 404))
)]
pub async fn list(
    State(app): State<App>,
    _: AnyKey,
    Path(name): Path<String>,
) -> Result<Json<Vec<AliasDocument>>, ApiError> {
    let policy = app.library.get(&name).await?;
    let latest = [("latest".to_owned(), policy.latest)];
    let all = latest.into_iter().chain(policy.aliases);
    Ok(Json(all.map(|(alias, version)| AliasDocument { alias, version: Some(version), moves: None }).collect()))
}

/// An alias and where it has pointed
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/aliases/{alias}", tag = "performance",
    params(("name" = String, Path), ("alias" = String, Path)), responses((status = 200, body = AliasDocument), (status = 404))
)]
pub async fn get(
    State(app): State<App>,
    _: AnyKey,
    Path((name, alias)): Path<(String, String)>,
) -> Result<Json<AliasDocument>, ApiError> {
    let policy = app.library.get(&name).await?;
    let moves = app.library.moves(&name, &alias).await?;
    let version = if alias == "latest" { Some(policy.latest) } else { policy.aliases.get(&alias).copied() };
    if version.is_none() && moves.is_empty() {
        return Err(ApiError::not_found(format!("policy '{name}' has no alias '{alias}'")));
    }
    Ok(Json(AliasDocument { alias, version, moves: Some(moves) }))
}

/// Where an alias is to point.
#[derive(Debug, Deserialize, ToSchema)]
pub struct AliasRequest {
    /// A version's number.
    version: u32,
}

/// Point an alias at a version: promote it
#[utoipa::path(
    put, path = "/api/v1/agents/performance/rl/policies/{name}/aliases/{alias}", tag = "performance",
    params(("name" = String, Path), ("alias" = String, Path, description = "`production` is what the bare name means")),
    request_body = AliasRequest, responses((status = 200, body = Object), (status = 403), (status = 404), (status = 422))
)]
pub async fn set(
    State(app): State<App>,
    caller: AnyKey,
    Path((name, alias)): Path<(String, String)>,
    request: KeyedJson<AliasRequest>,
) -> Result<Response, ApiError> {
    let version = request.body.version;
    let set = app.library.set_alias(&(&caller.0).into(), &name, &alias, version, request.once).await;
    let done = set.map_err(|error| in_path(error.into()))?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

/// The alias stands in the path.
fn in_path(mut error: ApiError) -> ApiError {
    if let Detail::Fields(fields) = &mut error.detail {
        let alias = Loc::from("alias");
        fields
            .iter_mut()
            .filter(|field| field.loc.get(1) == Some(&alias))
            .for_each(|field| field.loc[0] = "path".into());
    }
    error
}

/// Take an alias away
#[utoipa::path(
    delete, path = "/api/v1/agents/performance/rl/policies/{name}/aliases/{alias}", tag = "performance",
    params(("name" = String, Path), ("alias" = String, Path)), responses((status = 200, body = Object), (status = 403), (status = 404))
)]
pub async fn remove(
    State(app): State<App>,
    caller: AnyKey,
    Path((name, alias)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let done = app.library.remove_alias(&(&caller.0).into(), &name, &alias, None).await?;
    Ok(Json(done.value).into_response())
}

/// Point an alias back at where it pointed before
///
/// Again goes one further back. Fails with 400 when there is nothing before.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/policies/{name}/aliases/{alias}/rollback", tag = "performance",
    params(("name" = String, Path), ("alias" = String, Path)),
    responses((status = 200, body = Object), (status = 400), (status = 403), (status = 404))
)]
pub async fn roll_back(
    State(app): State<App>,
    caller: AnyKey,
    Path((name, alias)): Path<(String, String)>,
    request: KeyedJson<Option<Value>>,
) -> Result<Response, ApiError> {
    let done = app.library.roll_back(&(&caller.0).into(), &name, &alias, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}
