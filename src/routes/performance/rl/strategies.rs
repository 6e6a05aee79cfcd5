//! `rl/strategies`: the marketplace's strategies by name, each with its environment and a policy of the caller's.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    act::{EvaluatePolicyRequest, PolicyEvaluation, run_evaluation},
    runs::{TrainingKey, queue_training_run},
};
use crate::{
    app::App,
    http::{
        AnyKey, ApiError, JsonBody, PathParams, QueryParams,
        idempotency::{IdempotencyHeader, IdempotentCreated, IdempotentJson, IdempotentOk},
    },
    routes::{agents::WaitQuery, recorded_response::record_response},
};
use am_db::principal::Principal;
use am_rl::{
    library::PolicyRecord,
    runs::{TrainingRequest, TrainingRun},
};

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
fn strategy_environment(name: &str) -> Result<(&'static str, &'static str), ApiError> {
    let found = STRATEGIES.into_iter().find(|(strategy, environment)| *strategy == name || *environment == name);
    found.ok_or_else(|| {
        let known = STRATEGIES.map(|(strategy, _)| strategy).join(", ");
        ApiError::not_found(format!("there is no strategy '{name}': there are {known}"))
    })
}

/// The policy of a caller's strategy where none is named: each caller has one of their own.
fn strategy_policy(strategy: &str, caller: &Principal) -> String {
    let own = caller.name.trim_start_matches("key_").chars().take(8).collect::<String>();
    format!("{strategy}-{}", own.to_lowercase())
}

/// A strategy of the marketplace.
#[derive(Serialize, ToSchema)]
#[schema(as = Strategy)]
pub struct StrategyDocument {
    /// Name of the strategy.
    strategy: &'static str,
    /// Environment that it is learnt in.
    environment: &'static str,
    /// Policy that is used where the caller names none; each caller has its own.
    policy: String,
}

/// List strategies
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/strategies", operation_id = "rl_strategies_list",
    tag = "rl_strategies", security(("ApiKey" = ["admin", "client", "miner"])),
    responses((status = 200, body = Vec<StrategyDocument>, description = "The strategies"))
)]
pub async fn list_strategies(AnyKey(caller): AnyKey) -> JsonBody<Vec<StrategyDocument>> {
    let document = |(strategy, environment)| StrategyDocument {
        strategy,
        environment,
        policy: strategy_policy(strategy, &caller),
    };
    JsonBody(STRATEGIES.map(document).into())
}

/// Settings of learning a strategy. Every member is optional.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = StrategyOptimizeRequest)]
pub struct OptimizeStrategyRequest {
    /// Policy that gets a version. Default: the caller's own for this strategy.
    policy: Option<String>,
    /// `ppo` (default), `a2c`, `rainbow_dqn`, `dqn` or `sac`.
    algorithm: Option<String>,
    /// Environment steps, 1 to 100 000 000. Default 100 000.
    steps: Option<u64>,
    /// Settings of the algorithm by name. Default: the algorithm's.
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
    /// Parameters of the environment by name. Default: the environment's.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
    /// Whether parameters that are not given are estimated from the coordinator's records, where these suffice.
    /// Default true.
    calibrate: Option<bool>,
    /// Seed of the run. Default 0.
    seed: Option<u64>,
    /// Seconds after which the run ends with what it has; null: no limit.
    max_seconds: Option<f64>,
}

/// Start a training run of a strategy
///
/// In the strategy's environment.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/strategies/{strategy}/optimize",
    operation_id = "rl_strategies_optimize", tag = "rl_strategies",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("strategy" = String, Path, description = "Name of the strategy, or of its environment"),
        IdempotencyHeader,
        WaitQuery,
    ),
    request_body = Option<OptimizeStrategyRequest>,
    responses(
        (status = 201, body = TrainingRun, description = "The queued training run"),
        (status = 403, description = "The policy is another owner's"),
        (status = 404, description = "There is no strategy of this name"),
        (status = 429, description = "The caller has too many runs that have not ended (`quota_exceeded`)"),
    )
)]
pub async fn optimize_strategy(
    State(app): State<App>,
    TrainingKey(caller): TrainingKey,
    PathParams(strategy): PathParams<String>,
    QueryParams(wait): QueryParams<WaitQuery>,
    request: IdempotentJson<Option<OptimizeStrategyRequest>>,
) -> Result<IdempotentCreated<TrainingRun>, ApiError> {
    let wait = wait.of(&app)?;
    let (strategy, environment) = strategy_environment(&strategy)?;
    let body = request.body.unwrap_or_default();
    let algorithm = body.algorithm.as_deref().unwrap_or("ppo").parse();
    let work = TrainingRequest {
        policy: Some(body.policy.unwrap_or_else(|| strategy_policy(strategy, &caller.principal))),
        name: None,
        tags: Vec::new(),
        environment: environment.to_owned(),
        parameters: body.parameters,
        calibrate: body.calibrate.unwrap_or(true),
        algorithm: algorithm.map_err(|why: String| {
            ApiError::invalid_field(vec!["body".into(), "algorithm".into()], why, "value_error")
        })?,
        settings: body.settings,
        steps: body.steps.unwrap_or(100_000),
        seed: body.seed.unwrap_or(0),
        max_seconds: body.max_seconds,
        evaluation_episodes: 20,
        aliases: Vec::new(),
        evaluations: 0,
        promote_if: None,
    };
    let queued = queue_training_run(&app, &caller, work, request.once).await?;
    Ok(IdempotentCreated(app.training.observe(&caller, queued, wait).await?))
}

/// The version to put into production.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = StrategyDeployRequest)]
pub struct DeployStrategyRequest {
    /// Name of the policy. Default: the caller's own for this strategy.
    policy: Option<String>,
    /// Number of the version. Default: the newest.
    version: Option<u32>,
}

/// Put a version of a strategy's policy into production
///
/// The name of the policy without `@` then means this version.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/strategies/{strategy}/deploy", operation_id = "rl_strategies_deploy",
    tag = "rl_strategies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("strategy" = String, Path, description = "Name of the strategy, or of its environment"), IdempotencyHeader),
    request_body = Option<DeployStrategyRequest>,
    responses(
        (status = 200, body = PolicyRecord, description = "The policy with its aliases"),
        (status = 403, description = "The policy is another owner's"),
        (status = 404, description = "There is no such strategy, or no such policy"),
    )
)]
pub async fn deploy_strategy(
    State(app): State<App>,
    AnyKey(caller): AnyKey,
    PathParams(strategy): PathParams<String>,
    request: IdempotentJson<Option<DeployStrategyRequest>>,
) -> Result<IdempotentOk<PolicyRecord>, ApiError> {
    let (strategy, _) = strategy_environment(&strategy)?;
    let body = request.body.unwrap_or_default();
    let policy = body.policy.unwrap_or_else(|| strategy_policy(strategy, &caller));
    let version = match body.version {
        Some(version) => version,
        None => app.library.get(&policy).await?.latest,
    };
    Ok(IdempotentOk(app.library.set_alias(&caller, &policy, "production", version, request.once).await?))
}

/// Settings of a strategy's evaluation.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct StrategyEvaluateRequest {
    /// Policy, perhaps with `@version`. Default: the caller's own for this strategy.
    policy: Option<String>,
    /// Parameters of the environment by name. Default: the environment's.
    #[schema(value_type = Option<Object>)]
    parameters: Option<Value>,
    /// Number of whole episodes, 1 to 1000. Default 20.
    episodes: Option<usize>,
    /// Seed of the episodes. Default 0.
    seed: Option<u64>,
}

/// Evaluate a strategy's policy
///
/// In the strategy's environment, without exploration.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/strategies/{strategy}/evaluate",
    operation_id = "rl_strategies_evaluate", tag = "rl_strategies",
    security(("ApiKey" = ["admin", "client", "miner"])),
    params(("strategy" = String, Path, description = "Name of the strategy, or of its environment"), IdempotencyHeader),
    request_body = Option<StrategyEvaluateRequest>,
    responses(
        (status = 200, body = PolicyEvaluation, description = "Returns of the episodes"),
        (status = 404, description = "There is no such strategy, or no such policy"),
    )
)]
pub async fn evaluate_strategy(
    State(app): State<App>,
    AnyKey(caller): AnyKey,
    PathParams(strategy): PathParams<String>,
    request: IdempotentJson<Option<StrategyEvaluateRequest>>,
) -> Result<IdempotentOk<PolicyEvaluation>, ApiError> {
    let (strategy, environment) = strategy_environment(&strategy)?;
    let body = request.body.unwrap_or_default();
    let policy = body.policy.unwrap_or_else(|| strategy_policy(strategy, &caller));
    let asked = EvaluatePolicyRequest {
        environment: Some(environment.to_owned()),
        parameters: body.parameters,
        episodes: body.episodes,
        seed: body.seed,
    };
    Ok(IdempotentOk(record_response(&app, request.once, run_evaluation(&app, &policy, asked).await?).await?))
}
