//! `rl/policies`: names with immutable versions.

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    app::App,
    http::{
        AnyKey, ApiError, JsonBody, PathParams, QueryParams,
        error::{ErrorDetail, LocationSegment},
        idempotency::{IdempotencyHeader, IdempotentBytes, IdempotentCreated, IdempotentJson, IdempotentOk},
        openapi::BinaryFile,
        pagination::{PageQuery, Paginator},
    },
    routes::{
        export::{PolicyExportQuery, export_response, file_response},
        split_words,
    },
};
use am_retention::RetentionKind;
use am_rl::{
    PolicyReference,
    library::{PolicyRecord, VersionRecord, WeightsUpload},
    serving::{CanaryVersion, ShadowVersion, TrafficSplit},
};

/// Reads `name`, `name@version` or `name@alias` from a path.
pub fn parse_reference(text: &str) -> Result<PolicyReference, ApiError> {
    text.parse().map_err(|error| {
        ApiError::invalid_field(vec!["path".into(), "policy".into()], format!("{error}"), "value_error")
    })
}

/// List policies
///
/// Of all owners, the newest first, 100 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies", operation_id = "rl_policies_list", tag = "rl_policies",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(PageQuery),
    responses((status = 200, body = Vec<PolicyRecord>, description = "A page of policies, the newest first"))
)]
pub async fn list_policies(State(app): State<App>, _: AnyKey, paging: Paginator<100>) -> Result<Response, ApiError> {
    let found = app.library.list(&paging.page).await?;
    Ok(paging.answer(found, |policy| (policy.created_at, &policy.name)))
}

/// Get a policy
///
/// With its aliases, the version that serves, and its split.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}", operation_id = "rl_policies_get",
    tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("name" = String, Path, description = "Name of the policy")),
    responses(
        (status = 200, body = PolicyRecord, description = "The policy"),
        (status = 404, description = "There is no policy of this name"),
    )
)]
pub async fn get_policy(
    State(app): State<App>,
    _: AnyKey,
    PathParams(name): PathParams<String>,
) -> Result<Response, ApiError> {
    Ok(JsonBody(app.library.get(&name).await?).into_response())
}

/// List the versions of a policy
///
/// The newest first, 100 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/versions", operation_id = "rl_policies_list_versions",
    tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("name" = String, Path, description = "Name of the policy"), PageQuery),
    responses(
        (status = 200, body = Vec<VersionRecord>, description = "A page of versions, the newest first"),
        (status = 404, description = "There is no policy of this name"),
    )
)]
pub async fn list_policy_versions(
    State(app): State<App>,
    _: AnyKey,
    PathParams(name): PathParams<String>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let found = app.library.versions(&name, &paging.page).await?;
    Ok(paging.answer(found, |version| (version.created_at, &version.id)))
}

/// Facts about uploaded weights.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct UploadQuery {
    /// Environment that the policy is for. Its names of actions and states are used where none are given.
    environment: Option<String>,
    /// Names of the discrete actions, separated by commas.
    action_names: Option<String>,
    /// Names of a state's numbers, separated by commas.
    state_names: Option<String>,
    /// Aliases to point at the version, such as `production`, separated by commas.
    aliases: Option<String>,
    /// Rainbow: lowest return of the atoms, where the file has no `support`. Default -10.
    v_min: Option<f32>,
    /// Rainbow: highest return of the atoms, where the file has no `support`. Default 10.
    v_max: Option<f32>,
}

impl UploadQuery {
    fn upload(self) -> Result<WeightsUpload, ApiError> {
        let list = |text: Option<String>| text.as_deref().map(split_words);
        let support = match (self.v_min, self.v_max) {
            (Some(least), Some(most)) => Some((least, most)),
            (None, None) => None,
            _ => {
                let loc = vec!["query".into(), "v_min".into()];
                return Err(ApiError::invalid_field(loc, "v_min and v_max go together", "value_error"));
            }
        };
        Ok(WeightsUpload {
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
/// `value_stream.*` and `advantage_stream.*` (rainbow_dqn), `actor_mean.*`, `actor_log_std`, `qf1.*` and `qf2.*`
/// (sac). Its dimensions are read from the tensors. A pickle (`.pt`) is refused: reading one runs code that is in it.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/policies/{name}/versions",
    operation_id = "rl_policies_upload_version", tag = "rl_policies",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("name" = String, Path, description = "Name of the policy"), UploadQuery, IdempotencyHeader),
    request_body(content = BinaryFile, content_type = "application/octet-stream"),
    responses(
        (status = 201, body = VersionRecord, description = "The stored version"),
        (status = 403, description = "The policy is another owner's"),
        (status = 429, description = "The caller has too many bytes of uploaded weights (`quota_exceeded`)"),
        (status = 413, description = "The body is larger than `BODY_LIMIT_BYTES` (`body_too_large`)"),
        (status = 422, description = "A name does not fit, or the weights are refused (`weights`)"),
    )
)]
pub async fn upload_policy_version(
    State(app): State<App>,
    AnyKey(caller): AnyKey,
    PathParams(name): PathParams<String>,
    QueryParams(query): QueryParams<UploadQuery>,
    request: IdempotentBytes,
) -> Result<IdempotentCreated<VersionRecord>, ApiError> {
    let upload = query.upload()?;
    let stored = app.library.upload(&caller, &name, request.bytes, upload, request.once).await;
    Ok(IdempotentCreated(stored.map_err(|error| move_error_to_query(error.into()))?))
}

/// What an upload says of its weights stands in the path and the query.
fn move_error_to_query(mut error: ApiError) -> ApiError {
    if let ErrorDetail::Fields(fields) = &mut error.detail {
        for field in fields.iter_mut().filter(|field| field.loc.len() > 1) {
            let part = if field.loc[1] == LocationSegment::from("name") { "path" } else { "query" };
            field.loc[0] = part.into();
        }
    }
    error
}

/// Get a version of a policy
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/versions/{version}",
    operation_id = "rl_policies_get_version", tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("name" = String, Path, description = "Name of the policy"),
        ("version" = String, Path, description = "Number of the version, or an alias"),
    ),
    responses(
        (status = 200, body = VersionRecord, description = "The version"),
        (status = 404, description = "There is no such policy, version or alias"),
    )
)]
pub async fn get_policy_version(
    State(app): State<App>,
    _: AnyKey,
    PathParams((name, version)): PathParams<(String, String)>,
) -> Result<JsonBody<VersionRecord>, ApiError> {
    Ok(JsonBody(app.library.version(&parse_reference(&format!("{name}@{version}"))?).await?))
}

/// Delete a version of a policy
///
/// Its weights are deleted with the last version that has them. Its number is not used again. It is written to an archive first, from
/// which an operator can put it back.
#[utoipa::path(
    delete, path = "/api/v1/agents/performance/rl/policies/{name}/versions/{version}",
    operation_id = "rl_policies_delete_version", tag = "rl_policies",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("name" = String, Path, description = "Name of the policy"),
        ("version" = u32, Path, description = "Number of the version"),
    ),
    responses(
        (status = 200, body = PolicyRecord, description = "The policy without the version"),
        (status = 400, description = "Calls may still reach it: it serves, or an alias or the split names it (`invalid_state`)"),
        (status = 403, description = "The policy is another owner's"),
        (status = 404, description = "There is no policy of this name"),
        (status = 409, description = "It came to serve at the same moment (`in_use`)"),
    )
)]
pub async fn delete_policy_version(
    State(app): State<App>,
    AnyKey(caller): AnyKey,
    PathParams((name, version)): PathParams<(String, u32)>,
) -> Result<JsonBody<PolicyRecord>, ApiError> {
    let (id, entry) = app.library.version_deletion(&caller, &name, version).await?;
    app.retention.remove(RetentionKind::PolicyVersions, "Version", id.as_str(), entry).await?;
    app.library.refresh().await?;
    Ok(JsonBody(app.library.get(&name).await?))
}

/// Download the safetensors file of a version
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/versions/{version}/weights",
    operation_id = "rl_policies_get_weights", tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("name" = String, Path, description = "Name of the policy"),
        ("version" = String, Path, description = "Number of the version, or an alias"),
    ),
    responses(
        (status = 200, body = BinaryFile, content_type = "application/octet-stream", description = "The safetensors file", headers(("ETag" = String, description = "SHA-256 of the file, quoted"), ("Content-Disposition" = String, description = "Name of the file"))),
        (status = 404, description = "There is no such policy, version or alias"),
    )
)]
pub async fn get_policy_weights(
    State(app): State<App>,
    _: AnyKey,
    PathParams((name, version)): PathParams<(String, String)>,
) -> Result<Response, ApiError> {
    let (record, bytes) = app.library.weights(&parse_reference(&format!("{name}@{version}"))?).await?;
    Ok(file_response(&format!("{}-{}.safetensors", record.name, record.version), &record.sha256, bytes))
}

/// Export a version as a file for other programs
///
/// TorchScript and ONNX take `state` (rows x state, 32-bit floats) and answer `probabilities` and `value` (ppo), `q`
/// (rainbow_dqn, dqn), or `mean`, `std` and `value` (sac).
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/versions/{version}/export",
    operation_id = "rl_policies_export", tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("name" = String, Path, description = "Name of the policy"),
        ("version" = String, Path, description = "Number of the version, or an alias"),
        PolicyExportQuery,
    ),
    responses(
        (status = 200, body = BinaryFile, content_type = "application/octet-stream", description = "The policy as a file; `X-Export-Info` describes it", headers(("ETag" = String, description = "SHA-256 of the file, quoted"), ("Content-Disposition" = String, description = "Name of the file"), ("X-Export-Info" = String, description = "JSON about the file: policy, version, format, hash, size and origin"))),
        (status = 404, description = "There is no such policy, version or alias"),
    )
)]
pub async fn export_policy_version(
    State(app): State<App>,
    _: AnyKey,
    PathParams((name, version)): PathParams<(String, String)>,
    QueryParams(query): QueryParams<PolicyExportQuery>,
) -> Result<Response, ApiError> {
    export_response(&app, &parse_reference(&format!("{name}@{version}"))?, query.format()?, None).await
}

/// A second version beside the one that serves.
#[derive(Debug, Deserialize, ToSchema)]
pub struct SplitRequest {
    /// Version that answers a share of the calls; null: none.
    canary: Option<CanaryRequest>,
    /// Version that sees all calls and answers none; null: none.
    shadow: Option<ShadowRequest>,
}

/// A version that answers a share of the calls.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CanaryRequest {
    /// Number of the version.
    version: u32,
    /// Share of the calls, 0 to 1.
    share: f64,
}

/// A version that sees all calls and answers none.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ShadowRequest {
    /// Number of the version.
    version: u32,
}

/// Set a canary or a shadow version
///
/// A canary answers a share of the calls; a shadow sees all calls and answers none. Only `act` by the name without `@` is
/// split; `name@version`, `name@alias` and workflow steps are not.
#[utoipa::path(
    put, path = "/api/v1/agents/performance/rl/policies/{name}/split", operation_id = "rl_policies_set_split",
    tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("name" = String, Path, description = "Name of the policy"), IdempotencyHeader),
    request_body = SplitRequest,
    responses(
        (status = 200, body = PolicyRecord, description = "The policy with its split"),
        (status = 403, description = "The policy is another owner's"),
        (status = 404, description = "There is no policy of this name"),
    )
)]
pub async fn set_split(
    State(app): State<App>,
    AnyKey(caller): AnyKey,
    PathParams(name): PathParams<String>,
    request: IdempotentJson<SplitRequest>,
) -> Result<IdempotentOk<PolicyRecord>, ApiError> {
    let split = TrafficSplit {
        canary: request.body.canary.map(|CanaryRequest { version, share }| CanaryVersion { version, share }),
        shadow: request.body.shadow.map(|ShadowRequest { version }| ShadowVersion { version }),
    };
    Ok(IdempotentOk(app.library.set_split(&caller, &name, split, request.once).await?))
}

/// Remove the canary and the shadow
///
/// One version answers all calls again.
#[utoipa::path(
    delete, path = "/api/v1/agents/performance/rl/policies/{name}/split", operation_id = "rl_policies_remove_split",
    tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("name" = String, Path, description = "Name of the policy")),
    responses(
        (status = 200, body = PolicyRecord, description = "The policy without a split"),
        (status = 403, description = "The policy is another owner's"),
        (status = 404, description = "There is no policy of this name"),
    )
)]
pub async fn remove_split(
    State(app): State<App>,
    AnyKey(caller): AnyKey,
    PathParams(name): PathParams<String>,
) -> Result<Response, ApiError> {
    let done = app.library.set_split(&caller, &name, TrafficSplit::default(), None).await?;
    Ok(JsonBody(done.value).into_response())
}
