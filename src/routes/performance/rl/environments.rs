//! `rl/environments`: what policies are trained on.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{AnyKey, ApiError, JsonBody, PathParams},
};
use am_rl::{
    calibration::{self, EnvironmentCalibration},
    environments::{self, Environment, EnvironmentDescription, EnvironmentParameter, ReferenceReturns},
};

/// An environment that policies are trained in.
#[derive(Serialize, ToSchema)]
#[schema(as = Environment)]
pub struct EnvironmentDocument {
    /// `name`, `summary` (dynamics, reward, end), `observations` by name, their `bounds`, `actions`, `horizon` in steps.
    #[serde(flatten)]
    description: EnvironmentDescription,
    /// Parameters that it can be created with.
    parameters: Vec<EnvironmentParameter>,
    /// Expected returns of simple policies and of the best one, computed from the dynamics with the default
    /// parameters; null: they can't be computed, or in lists.
    reference: Option<ReferenceReturns>,
}

impl EnvironmentDocument {
    fn from_environment(one: &dyn Environment, reference: Option<ReferenceReturns>) -> Self {
        Self { description: one.description().clone(), parameters: one.parameters(), reference }
    }
}

/// List environments
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/environments", operation_id = "rl_environments_list",
    tag = "rl_environments", security(("ApiKey" = ["admin", "client", "miner"])),
    responses((status = 200, body = Vec<EnvironmentDocument>, description = "The environments"))
)]
pub async fn list_environments(_: AnyKey) -> JsonBody<Vec<EnvironmentDocument>> {
    JsonBody(
        environments::list_environments()
            .iter()
            .map(|one| EnvironmentDocument::from_environment(one.as_ref(), None))
            .collect(),
    )
}

/// Get an environment with its reference returns
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/environments/{environment}", operation_id = "rl_environments_get",
    tag = "rl_environments", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("environment" = String, Path, description = "Name of the environment")),
    responses(
        (status = 200, body = EnvironmentDocument, description = "The environment with its reference returns"),
        (status = 404, description = "There is no environment of this name"),
    )
)]
pub async fn get_environment(
    _: AnyKey,
    PathParams(name): PathParams<String>,
) -> Result<JsonBody<EnvironmentDocument>, ApiError> {
    let one = environments::make_environment(&name, None).map_err(|error| ApiError::not_found(error.to_string()))?;
    // Up to a second of computing.
    let document =
        tokio::task::spawn_blocking(move || EnvironmentDocument::from_environment(one.as_ref(), one.reference()));
    Ok(JsonBody(document.await.map_err(ApiError::internal)?))
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
