//! `rl/strategies`: the marketplace's strategies by name, each with its environment and a policy of the caller's.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    act::{EvaluateRequest, Evaluation, measured},
    runs::queued,
};
use crate::{
    app::App,
    http::{
        AnyKey, ApiError, Json, Path,
        idempotency::{KeyedJson, Replayable},
    },
    routes::kept::kept,
};
use am_db::principal::Principal;
use am_rl::runs::Request;

/// Each strategy with the environment that it is learnt in.
const STRATEGIES: [(&str, &str); 6] = [
    ("pricing", "price_optimization"),
    ("trading", "marketplace_trading"),
    ("resource", "resource_allocation"),
    ("service", "service_selection"),
    ("negotiation", "negotiation_strategy"),
    ("portfolio", "portfolio_management"),
];

/// The environment of the strategy called `name`, by either of their names.
fn environment(name: &str) -> Result<(&'static str, &'static str), ApiError> {
    let found = STRATEGIES.into_iter().find(|(strategy, environment)| *strategy == name || *environment == name);
    found.ok_or_else(|| {
        let known = STRATEGIES.map(|(strategy, _)| strategy).join(", ");
        ApiError::not_found(format!("there is no strategy '{name}': there are {known}"))
    })
}

/// The policy of a caller's strategy where none is named: each caller has one of their own.
fn policy_of(strategy: &str, caller: &Principal) -> String {
    let own = caller.name.trim_start_matches("key_").chars().take(8).collect::<String>();
    format!("{strategy}-{}", own.to_lowercase())
}

/// A strategy.
#[derive(Serialize, ToSchema)]
pub struct StrategyDocument {
    strategy: &'static str,
    environment: &'static str,
    /// The policy that is yours where you name none.
    policy: String,
}

/// The strategies that there are
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/strategies", tag = "performance",
    responses((status = 200, body = Vec<StrategyDocument>))
)]
pub async fn list(caller: AnyKey) -> Json<Vec<StrategyDocument>> {
    let caller: Principal = (&caller.0).into();
    let document =
        |(strategy, environment)| StrategyDocument { strategy, environment, policy: policy_of(strategy, &caller) };
    Json(STRATEGIES.map(document).into())
}

/// How a strategy is to be learnt; every member has a default.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct OptimizeRequest {
    /// The policy that gets a version; one of your own where it is left out.
    policy: Option<String>,
    /// ppo, a2c, rainbow_dqn, dqn or sac; ppo where nothing is said.
    algorithm: Option<String>,
    /// Environment steps; 100 000 where nothing is said.
    steps: Option<u64>,
    /// The algorithm's settings by name.
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    /// The environment's parameters by name.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
    /// Whether parameters that are not given come from the coordinator's records, where these say something of them; true
    /// where nothing is said.
    calibrate: Option<bool>,
    seed: Option<u64>,
    max_seconds: Option<f64>,
}

/// Learn a strategy: a training run in its environment
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/strategies/{strategy}/optimize", tag = "performance",
    params(("strategy" = String, Path)), request_body = OptimizeRequest,
    responses((status = 201, body = Object), (status = 403), (status = 404), (status = 422))
)]
pub async fn optimize(
    State(app): State<App>,
    caller: AnyKey,
    Path(strategy): Path<String>,
    request: KeyedJson<Option<OptimizeRequest>>,
) -> Result<Response, ApiError> {
    let (strategy, environment) = environment(&strategy)?;
    let caller: Principal = (&caller.0).into();
    let body = request.body.unwrap_or_default();
    let algorithm = body.algorithm.as_deref().unwrap_or("ppo").parse();
    let work = Request {
        policy: Some(body.policy.unwrap_or_else(|| policy_of(strategy, &caller))),
        environment: environment.to_owned(),
        parameters: body.parameters,
        calibrate: body.calibrate.unwrap_or(true),
        algorithm: algorithm
            .map_err(|why: String| ApiError::field(vec!["body".into(), "algorithm".into()], why, "value_error"))?,
        settings: body.settings,
        steps: body.steps.unwrap_or(100_000),
        seed: body.seed.unwrap_or(0),
        max_seconds: body.max_seconds,
        evaluation_episodes: 20,
        aliases: Vec::new(),
    };
    let done = queued(&app, &caller, work, request.once).await?;
    Ok((StatusCode::CREATED, Replayable(Json(done.value), done.replayed)).into_response())
}

/// What is to serve.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct DeployRequest {
    /// The policy; your own of this strategy where it is left out.
    policy: Option<String>,
    /// Its version; the newest where it is left out.
    version: Option<u32>,
}

/// Put a strategy's policy into production: the bare name answers with this version from now on
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/strategies/{strategy}/deploy", tag = "performance",
    params(("strategy" = String, Path)), request_body = DeployRequest,
    responses((status = 200, body = Object), (status = 403), (status = 404), (status = 422))
)]
pub async fn deploy(
    State(app): State<App>,
    caller: AnyKey,
    Path(strategy): Path<String>,
    request: KeyedJson<Option<DeployRequest>>,
) -> Result<Response, ApiError> {
    let (strategy, _) = environment(&strategy)?;
    let caller: Principal = (&caller.0).into();
    let body = request.body.unwrap_or_default();
    let policy = body.policy.unwrap_or_else(|| policy_of(strategy, &caller));
    let version = match body.version {
        Some(version) => version,
        None => app.library.get(&policy).await?.latest,
    };
    let done = app.library.set_alias(&caller, &policy, "production", version, request.once).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}

/// Where a strategy's policy is to be measured.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct StrategyEvaluateRequest {
    /// The policy, perhaps with `@version`; your own of this strategy where it is left out.
    policy: Option<String>,
    /// The environment's parameters by name.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
    episodes: Option<usize>,
    seed: Option<u64>,
}

/// Measure a strategy's policy in its environment
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/strategies/{strategy}/evaluate", tag = "performance",
    params(("strategy" = String, Path)), request_body = StrategyEvaluateRequest,
    responses((status = 200, body = Evaluation), (status = 404), (status = 422))
)]
pub async fn evaluate(
    State(app): State<App>,
    caller: AnyKey,
    Path(strategy): Path<String>,
    request: KeyedJson<Option<StrategyEvaluateRequest>>,
) -> Result<Response, ApiError> {
    let (strategy, environment) = environment(&strategy)?;
    let body = request.body.unwrap_or_default();
    let policy = body.policy.unwrap_or_else(|| policy_of(strategy, &(&caller.0).into()));
    let asked = EvaluateRequest {
        environment: Some(environment.to_owned()),
        parameters: body.parameters,
        episodes: body.episodes,
        seed: body.seed,
    };
    let done = kept(&app, request.once, measured(&app, &policy, asked).await?).await?;
    Ok(Replayable(Json(done.value), done.replayed).into_response())
}
