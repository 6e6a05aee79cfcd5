//! `rl/environments`: what policies are trained on.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    app::App,
    http::{AnyKey, ApiError, Json, Path},
};
use am_rl::{
    calibration::{self, Calibrated},
    environments::{self, Description, Environment, Parameter, Reference},
};

/// An environment.
#[derive(Serialize, ToSchema)]
pub struct EnvironmentDocument {
    /// `name`, `summary` (dynamics, reward, end), `observations` by name, their `bounds`, `actions`, `horizon` in steps.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    description: Description,
    /// What it can be made with: name, meaning, range, default.
    #[schema(value_type = Vec<Object>)]
    parameters: Vec<Parameter>,
    /// What policies can expect of an episode's return: the optimum, at random, by the next reward alone, by one action
    /// always. Computed from the dynamics with the default parameters; null where that can't be done, and in lists.
    #[schema(value_type = Option<Object>)]
    reference: Option<Reference>,
}

impl EnvironmentDocument {
    fn of(one: &dyn Environment, reference: Option<Reference>) -> Self {
        Self { description: one.description().clone(), parameters: one.parameters(), reference }
    }
}

/// The environments that there are
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/environments", tag = "performance",
    responses((status = 200, body = Vec<EnvironmentDocument>))
)]
pub async fn list(_: AnyKey) -> Json<Vec<EnvironmentDocument>> {
    Json(environments::environments().iter().map(|one| EnvironmentDocument::of(one.as_ref(), None)).collect())
}

/// One environment, with the returns that are known of it
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/environments/{environment}", tag = "performance",
    params(("environment" = String, Path)), responses((status = 200, body = EnvironmentDocument), (status = 404))
)]
pub async fn get(_: AnyKey, Path(name): Path<String>) -> Result<Json<EnvironmentDocument>, ApiError> {
    let one = environments::environment(&name, None).map_err(|error| ApiError::not_found(error.to_string()))?;
    // Up to a second of computing.
    let document = tokio::task::spawn_blocking(move || EnvironmentDocument::of(one.as_ref(), one.reference()));
    Ok(Json(document.await.map_err(ApiError::internal)?))
}

/// What the coordinator's records say of an environment's parameters
///
/// `price_optimization` alone is calibrated: its reference price and elasticities from `pricing_history`, else from
/// `agent_marketplace`, else from the receipts of completed jobs by the hour, whichever has 30 usable records first. `parameters`
/// can be given to a run as they are, and `"calibrate": true` in a run does so.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/environments/{environment}/calibration", tag = "performance",
    params(("environment" = String, Path)), responses((status = 200, body = Object), (status = 404))
)]
pub async fn calibration(
    State(app): State<App>,
    _: AnyKey,
    Path(name): Path<String>,
) -> Result<Json<Calibrated>, ApiError> {
    Ok(Json(calibration::calibrate(&app.db, &name).await?))
}
