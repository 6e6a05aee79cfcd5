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
        AnyKey, ApiError, JsonBody, PathParams,
        error::{ErrorDetail, LocationSegment},
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
    },
};
use am_rl::library::{AliasMove, PolicyRecord};

/// An alias of a policy.
#[derive(Serialize, ToSchema)]
#[schema(as = PolicyAlias)]
pub struct AliasDocument {
    /// Name of the alias.
    alias: String,
    /// Version that it points at; null: it was removed.
    version: Option<u32>,
    /// Where it pointed, the newest move first; absent in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    moves: Option<Vec<AliasMove>>,
}

/// List the aliases of a policy
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/aliases", operation_id = "rl_policies_list_aliases",
    tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("name" = String, Path, description = "Name of the policy")),
    responses(
        (status = 200, body = Vec<AliasDocument>, description = "The aliases, `latest` first"),
        (status = 404, description = "There is no policy of this name"),
    )
)]
pub async fn list_aliases(
    State(app): State<App>,
    _: AnyKey,
    PathParams(name): PathParams<String>,
) -> Result<JsonBody<Vec<AliasDocument>>, ApiError> {
    let policy = app.library.get(&name).await?;
    let latest = [("latest".to_owned(), policy.latest)];
    let all = latest.into_iter().chain(policy.aliases);
    Ok(JsonBody(all.map(|(alias, version)| AliasDocument { alias, version: Some(version), moves: None }).collect()))
}

/// Get an alias and its history
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/aliases/{alias}",
    operation_id = "rl_policies_get_alias", tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("name" = String, Path, description = "Name of the policy"),
        ("alias" = String, Path, description = "Name of the alias, in lower case; `production` is what the name of the policy without `@` means"),
    ),
    responses(
        (status = 200, body = AliasDocument, description = "The alias and its history"),
        (status = 404, description = "The policy has no such alias, or there is no policy of this name"),
    )
)]
pub async fn get_alias(
    State(app): State<App>,
    _: AnyKey,
    PathParams((name, alias)): PathParams<(String, String)>,
) -> Result<JsonBody<AliasDocument>, ApiError> {
    let policy = app.library.get(&name).await?;
    let moves = app.library.moves(&name, &alias).await?;
    let version = if alias == "latest" { Some(policy.latest) } else { policy.aliases.get(&alias).copied() };
    if version.is_none() && moves.is_empty() {
        return Err(ApiError::not_found(format!("policy '{name}' has no alias '{alias}'")));
    }
    Ok(JsonBody(AliasDocument { alias, version, moves: Some(moves) }))
}

/// Where to point an alias.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SetAliasRequest {
    /// Number of the version.
    version: u32,
}

/// Point an alias at a version
#[utoipa::path(
    put, path = "/api/v1/agents/performance/rl/policies/{name}/aliases/{alias}",
    operation_id = "rl_policies_set_alias", tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("name" = String, Path, description = "Name of the policy"),
        ("alias" = String, Path, description = "Name of the alias, in lower case; `production` is what the name of the policy without `@` means"),
        IdempotencyHeader,
    ),
    request_body = SetAliasRequest,
    responses(
        (status = 200, body = PolicyRecord, description = "The policy with its aliases"),
        (status = 403, description = "The policy is another owner's"),
        (status = 404, description = "The policy has no such alias, or there is no policy of this name"),
    )
)]
pub async fn set_alias(
    State(app): State<App>,
    AnyKey(caller): AnyKey,
    PathParams((name, alias)): PathParams<(String, String)>,
    request: IdempotentJson<SetAliasRequest>,
) -> Result<IdempotentOk<PolicyRecord>, ApiError> {
    let version = request.body.version;
    let set = app.library.set_alias(&caller, &name, &alias, version, request.once).await;
    Ok(IdempotentOk(set.map_err(|error| move_error_to_path(error.into()))?))
}

/// The alias stands in the path.
fn move_error_to_path(mut error: ApiError) -> ApiError {
    if let ErrorDetail::Fields(fields) = &mut error.detail {
        let alias = LocationSegment::from("alias");
        fields
            .iter_mut()
            .filter(|field| field.loc.get(1) == Some(&alias))
            .for_each(|field| field.loc[0] = "path".into());
    }
    error
}

/// Remove an alias
#[utoipa::path(
    delete, path = "/api/v1/agents/performance/rl/policies/{name}/aliases/{alias}",
    operation_id = "rl_policies_remove_alias", tag = "rl_policies",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("name" = String, Path, description = "Name of the policy"),
        ("alias" = String, Path, description = "Name of the alias, in lower case; `production` is what the name of the policy without `@` means"),
    ),
    responses(
        (status = 200, body = PolicyRecord, description = "The policy with its aliases"),
        (status = 403, description = "The policy is another owner's"),
        (status = 404, description = "The policy has no such alias, or there is no policy of this name"),
    )
)]
pub async fn remove_alias(
    State(app): State<App>,
    AnyKey(caller): AnyKey,
    PathParams((name, alias)): PathParams<(String, String)>,
) -> Result<Response, ApiError> {
    let done = app.library.remove_alias(&caller, &name, &alias, None).await?;
    Ok(JsonBody(done.value).into_response())
}

/// Point an alias back at its version before
///
/// Again goes back one more.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/policies/{name}/aliases/{alias}/rollback",
    operation_id = "rl_policies_roll_back_alias", tag = "rl_policies",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("name" = String, Path, description = "Name of the policy"),
        ("alias" = String, Path, description = "Name of the alias, in lower case; `production` is what the name of the policy without `@` means"),
        IdempotencyHeader,
    ),
    responses(
        (status = 200, body = PolicyRecord, description = "The policy with its aliases"),
        (status = 400, description = "The alias pointed at no other version before (`invalid_state`)"),
        (status = 403, description = "The policy is another owner's"),
        (status = 404, description = "The policy has no such alias, or there is no policy of this name"),
    )
)]
pub async fn roll_back_alias(
    State(app): State<App>,
    AnyKey(caller): AnyKey,
    PathParams((name, alias)): PathParams<(String, String)>,
    request: IdempotentJson<Option<Value>>,
) -> Result<IdempotentOk<PolicyRecord>, ApiError> {
    Ok(IdempotentOk(app.library.roll_back(&caller, &name, &alias, request.once).await?))
}
