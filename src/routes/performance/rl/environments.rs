//! `rl/environments`: what policies are trained on, built in or sent as tables.

use axum::{extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{
        AnyCaller, AnyKey, ApiError, JsonBody, PathParams,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson},
        pagination::{PageQuery, Paginator},
    },
};
use am_core::ids::PrincipalId;
use am_db::{idempotency::IdempotentResult, owner};
use am_rl::{
    calibration::{self, EnvironmentCalibration},
    environments::{
        self, Environment, EnvironmentDescription, EnvironmentParameter, EnvironmentSolution, ReferenceReturns,
        TabularDefinition,
    },
    own_environments::{EnvironmentDraft, ListedEnvironment, OwnEnvironment, OwnEnvironmentVersion},
};

/// An environment that policies are trained in.
#[derive(Serialize, ToSchema)]
#[schema(as = Environment)]
pub struct EnvironmentDocument {
    /// `name`, `summary` (dynamics, reward, end), `observations` by name, their `bounds`, `actions`, `horizon` in steps.
    #[serde(flatten)]
    description: EnvironmentDescription,
    /// Parameters that it can be created with; none where it was sent as tables.
    parameters: Vec<EnvironmentParameter>,
    /// Expected returns of simple policies and of the best one, computed from the dynamics with the default
    /// parameters; null: they can't be computed, or in lists where it is built in.
    reference: Option<ReferenceReturns>,
    /// Where it comes from: `builtin` or `tables`.
    kind: EnvironmentKind,
    /// Principal that sent it; null: it is built in.
    #[serde(serialize_with = "serialize_owner")]
    owner_id: Option<PrincipalId>,
    /// Number of its newest version; null: it is built in.
    latest: Option<u32>,
    /// The version that is described, with its hash and what its best policies reach; null: it is built in.
    version: Option<EnvironmentVersionFacts>,
}

/// Where an environment comes from.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EnvironmentKind {
    /// It is built in.
    Builtin,
    /// It was sent as tables.
    Tables,
}

/// A version of an environment that was sent as tables.
#[derive(Serialize, ToSchema)]
#[schema(as = EnvironmentVersionFacts)]
pub struct EnvironmentVersionFacts {
    /// Reference to the version, `name@version`, as runs name it.
    id: String,
    /// Version number, from 1.
    version: u32,
    /// SHA-256 of the tables without their description, 64 hex digits.
    sha256: String,
    /// Number of states.
    states: u64,
    /// Number of rows of the table of transitions.
    transitions: u64,
    /// Discount of the next step's reward.
    discount: f64,
    /// What the best policies reach.
    solution: EnvironmentSolution,
    /// Time when the version was stored.
    created_at: am_db::codec::Timestamp,
}

/// Null for nobody, else the principal as clients see it.
fn serialize_owner<S: serde::Serializer>(owner: &Option<PrincipalId>, to: S) -> Result<S::Ok, S::Error> {
    match owner {
        Some(owner) => owner::serialize_as_principal(owner, to),
        None => to.serialize_none(),
    }
}

impl EnvironmentDocument {
    fn built_in(one: &dyn Environment, reference: Option<ReferenceReturns>) -> Self {
        Self {
            description: one.description().clone(),
            parameters: one.parameters(),
            reference,
            kind: EnvironmentKind::Builtin,
            owner_id: None,
            latest: None,
            version: None,
        }
    }
}

impl From<OwnEnvironment> for EnvironmentDocument {
    fn from(own: OwnEnvironment) -> Self {
        let OwnEnvironment { name, owner_id, latest, version, .. } = own;
        let OwnEnvironmentVersion {
            id,
            version,
            sha256,
            states,
            transitions,
            discount,
            mut description,
            solution,
            created_at,
        } = version;
        description.name = name;
        let reference = Some(solution.returns.clone());
        Self {
            description,
            parameters: Vec::new(),
            reference,
            kind: EnvironmentKind::Tables,
            owner_id: Some(owner_id),
            latest: Some(latest),
            version: Some(EnvironmentVersionFacts {
                id,
                version,
                sha256,
                states,
                transitions,
                discount,
                solution,
                created_at,
            }),
        }
    }
}

impl From<ListedEnvironment> for EnvironmentDocument {
    fn from(listed: ListedEnvironment) -> Self {
        match listed {
            ListedEnvironment::BuiltIn(one, _) => Self::built_in(one.as_ref(), None),
            ListedEnvironment::Own(own) => (*own).into(),
        }
    }
}

/// List environments
///
/// Those that were sent as tables, of all owners, the newest first; then those that are built in. 100 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/environments", operation_id = "rl_environments_list",
    tag = "rl_environments", security(("ApiKey" = ["admin", "client", "miner"])),
    params(PageQuery),
    responses((status = 200, body = Vec<EnvironmentDocument>, description = "A page of environments"))
)]
pub async fn list_environments(
    State(app): State<App>,
    _: AnyKey,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let found = app.training.environments().list(&paging.page).await?;
    let place = |listed: &ListedEnvironment| {
        let (at, name) = listed.place();
        (at, name.to_owned())
    };
    let last = paging.last_of(&found.0).map(place);
    let next = last.as_ref().map(|(at, name)| (*at, name.as_str()));
    let rows: Vec<EnvironmentDocument> = found.0.into_iter().map(Into::into).collect();
    Ok(paging.respond_partial(&rows, Some(found.1.cast_unsigned()), next))
}

/// Send an environment as tables
///
/// A finite environment: its states, actions, transitions with probabilities and rewards, and where episodes begin and
/// end. It is checked, solved for the best return, and stored as the next version of `name`, which every key may train
/// in with each algorithm. Equal tables make no new version.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/environments", operation_id = "rl_environments_create",
    tag = "rl_environments", security(("ApiKey" = ["admin", "client", "miner"])),
    params(IdempotencyHeader),
    request_body(content = EnvironmentDraft, example = json!({"name": "corridor", "tables": {
        "states": ["a", "b", "goal"], "actions": ["left", "right"],
        "transitions": [
            {"state": "a", "action": "left", "next": "a"},
            {"state": "a", "action": "right", "next": "b", "probability": 0.75},
            {"state": "a", "action": "right", "next": "a", "probability": 0.25},
            {"state": "b", "action": "left", "next": "a"},
            {"state": "b", "action": "right", "next": "goal", "reward": 1},
        ],
        "start": {"a": 1}, "terminal": ["goal"], "discount": 0.95, "horizon": 20,
    }})),
    responses(
        (status = 201, body = EnvironmentDocument, description = "The environment with its newest version"),
        (status = 403, description = "The name is another owner's environment's"),
        (status = 429, description = "The caller has too many environments, or this one too many versions (`quota_exceeded`)"),
    )
)]
pub async fn publish_environment(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    request: IdempotentJson<EnvironmentDraft>,
) -> Result<IdempotentCreated<EnvironmentDocument>, ApiError> {
    let done = app.training.environments().publish(&caller.principal, request.body, request.once).await?;
    let IdempotentResult { value, replayed } = done;
    Ok(IdempotentCreated(IdempotentResult { value: value.into(), replayed }))
}

/// Get an environment with its reference returns
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/environments/{environment}", operation_id = "rl_environments_get",
    tag = "rl_environments", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("environment" = String, Path, description = "Name of the environment, or `name@version` of one that was sent as tables")),
    responses(
        (status = 200, body = EnvironmentDocument, description = "The environment with its reference returns"),
        (status = 404, description = "There is no environment of this name"),
    )
)]
pub async fn get_environment(
    State(app): State<App>,
    _: AnyKey,
    PathParams(name): PathParams<String>,
) -> Result<JsonBody<EnvironmentDocument>, ApiError> {
    if !environments::is_built_in(&name) {
        return Ok(JsonBody(app.training.environments().get(&name).await?.into()));
    }
    let one = environments::make_environment(&name, None).map_err(|error| ApiError::not_found(error.to_string()))?;
    // Up to a second of computing.
    let document = tokio::task::spawn_blocking(move || EnvironmentDocument::built_in(one.as_ref(), one.reference()));
    Ok(JsonBody(document.await.map_err(ApiError::internal)?))
}

/// The tables of an environment, as they were sent.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = EnvironmentDefinition)]
pub struct EnvironmentDefinition {
    /// Name of the environment.
    name: String,
    /// Number of the version, from 1.
    version: u32,
    /// SHA-256 of the tables without their description, 64 hex digits.
    sha256: String,
    /// The tables. Sent again under another name, they make the same environment.
    tables: TabularDefinition,
}

/// Get the tables of an environment
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/environments/{environment}/tables",
    operation_id = "rl_environments_get_tables", tag = "rl_environments",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("environment" = String, Path, description = "`name` or `name@version` of an environment that was sent as tables")),
    responses(
        (status = 200, body = EnvironmentDefinition, description = "The tables"),
        (status = 404, description = "No environment of this name was sent as tables"),
    )
)]
pub async fn get_environment_tables(
    State(app): State<App>,
    _: AnyKey,
    PathParams(name): PathParams<String>,
) -> Result<JsonBody<EnvironmentDefinition>, ApiError> {
    let (own, tables) = app.training.environments().tables(&name).await?;
    let OwnEnvironmentVersion { version, sha256, .. } = own.version;
    Ok(JsonBody(EnvironmentDefinition { name: own.name, version, sha256, tables }))
}

/// List the versions of an environment
///
/// The newest first, 100 on a page.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/environments/{environment}/versions",
    operation_id = "rl_environments_list_versions", tag = "rl_environments",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("environment" = String, Path, description = "Name of an environment that was sent as tables"), PageQuery),
    responses(
        (status = 200, body = Vec<OwnEnvironmentVersion>, description = "A page of versions, the newest first"),
        (status = 404, description = "No environment of this name was sent as tables"),
    )
)]
pub async fn list_environment_versions(
    State(app): State<App>,
    _: AnyKey,
    PathParams(name): PathParams<String>,
    paging: Paginator<100>,
) -> Result<Response, ApiError> {
    let found = app.training.environments().versions(&name, &paging.page).await?;
    Ok(paging.answer(found, |version| (version.created_at, &version.id)))
}

/// Delete an environment
///
/// With all its versions, by its owner.
#[utoipa::path(
    delete, path = "/api/v1/agents/performance/rl/environments/{environment}",
    operation_id = "rl_environments_delete", tag = "rl_environments",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("environment" = String, Path, description = "Name of an environment that was sent as tables")),
    responses(
        (status = 204, description = "The environment is deleted"),
        (status = 403, description = "It is another owner's"),
        (status = 404, description = "No environment of this name was sent as tables"),
        (status = 409, description = "A version of a policy was made in it, or a run that has not ended trains in it (`in_use`)"),
    )
)]
pub async fn delete_environment(
    State(app): State<App>,
    AnyCaller(caller): AnyCaller,
    PathParams(name): PathParams<String>,
) -> Result<StatusCode, ApiError> {
    app.training.environments().delete(&caller.principal, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Estimate the parameters of an environment
///
/// From the coordinator's records. Only `price_optimization` is calibrated: its reference price and elasticities from
/// `pricing_history`, else from `agent_marketplace`, else from the receipts of completed jobs by the hour, whichever
/// has 30 usable records first. A run takes `parameters` as they are, and `"calibrate": true` in a run does the same.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/environments/{environment}/calibration",
    operation_id = "rl_environments_get_calibration", tag = "rl_environments",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("environment" = String, Path, description = "Name of the environment")),
    responses(
        (status = 200, body = EnvironmentCalibration, description = "The parameters and what they were estimated from"),
        (status = 404, description = "There is no environment of this name"),
    )
)]
pub async fn get_environment_calibration(
    State(app): State<App>,
    _: AnyKey,
    PathParams(name): PathParams<String>,
) -> Result<JsonBody<EnvironmentCalibration>, ApiError> {
    Ok(JsonBody(calibration::calibrate_environment(&app.db, &name).await?))
}
