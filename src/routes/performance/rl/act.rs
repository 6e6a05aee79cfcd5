//! `rl/policies/{policy}/act` and `/evaluate`.

use std::fmt;

use axum::extract::State;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::policies::parse_reference;
use crate::{
    app::App,
    http::{
        AnyKey, ApiError, PathParams,
        error::{ErrorDetail, LocationSegment},
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
    },
    routes::recorded_response::record_response,
};
use am_core::crypto;
use am_db::idempotency::{IdempotencyKey, IdempotentResult};
use am_rl::{ActError, ActionMode, PolicyDecision, runs::EvaluationScores, serving::PolicyQuery, state_by_names};

/// A state: an array of numbers, or an object of them by the names that the policy has for them.
#[derive(Debug, ToSchema)]
#[serde(untagged)]
#[schema(as = PolicyState)]
pub enum StateInput {
    /// As the policy takes them.
    Numbers(Vec<f64>),
    /// Probability of each action, by its name.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    Named(Map<String, Value>),
}

impl<'de> Deserialize<'de> for StateInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand: an untagged enum would keep each number twice, and not name the position of one that is none.
        struct StateVisitor;
        impl<'de> Visitor<'de> for StateVisitor {
            type Value = StateInput;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of numbers, or an object of numbers by name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<StateInput, A::Error> {
                let mut numbers = Vec::with_capacity(16);
                while let Some(number) = items.next_element()? {
                    numbers.push(number);
                }
                Ok(StateInput::Numbers(numbers))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<StateInput, A::Error> {
                let mut named = Map::new();
                while let Some((name, number)) = members.next_entry()? {
                    named.insert(name, number);
                }
                Ok(StateInput::Named(named))
            }
        }
        deserializer.deserialize_any(StateVisitor)
    }
}

impl StateInput {
    fn numbers(self, names: &[String]) -> Result<Vec<f64>, String> {
        match self {
            Self::Numbers(numbers) => Ok(numbers),
            Self::Named(named) => state_by_names(&named, names),
        }
    }
}

/// How an action is chosen.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ActMode)]
pub enum ActionModeName {
    /// The most probable action; the default.
    #[default]
    Greedy,
    /// Drawn from the policy's distribution.
    Sample,
}

/// One state or several, and how to choose the action. Either `state` or `states` is required.
#[derive(Debug, Deserialize, ToSchema)]
pub struct ActRequest {
    /// One state: its numbers in the policy's order, or by name.
    #[schema(example = json!([1.2, 0.4, 0.9, 0.3, 0.5, 0.8, 0.6, 0.7, 0]))]
    state: Option<StateInput>,
    /// 1 to 4096 states.
    states: Option<Vec<StateInput>>,
    /// How the action is chosen. Default `greedy`.
    #[serde(default)]
    mode: ActionModeName,
    /// Seed of a sample; the same seed gives the same action. Null: a random one.
    seed: Option<u64>,
    /// Whether a state gives the same bits whatever other states it is computed with. Default: the server's
    /// configuration.
    deterministic: Option<bool>,
}

/// What is done in one state, or in several.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = ActAnswer)]
pub enum ActResponse {
    /// Decisions for several states.
    Many(PolicyDecisions),
    /// Decision for one state.
    One(CalledDecision),
}

/// The action for one state.
#[derive(Serialize, ToSchema)]
#[schema(as = CalledDecision)]
pub struct CalledDecision {
    /// Id of the call, for its outcome.
    call_id: String,
    /// Decision of the policy.
    #[serde(flatten)]
    decision: PolicyDecision,
}

/// The actions for several states.
#[derive(Serialize, ToSchema)]
#[schema(as = PolicyDecisions)]
pub struct PolicyDecisions {
    /// Id of the call, for its outcome.
    call_id: String,
    /// Policy and version that answered, `name@version`.
    policy: String,
    /// Number of decisions.
    count: usize,
    /// One decision for each state, in order.
    decisions: Vec<PolicyDecision>,
}

/// Choose an action for a state
///
/// Answers `policy` (with the version that answered), `action`, `action_name`, and by the policy's algorithm
/// `probabilities` (ppo), `q_values` (rainbow_dqn, dqn) or `mean` and `std` (sac), and `value`. With `states` a list
/// of these. The name without `@` is the version in production, or the newest; `name@3` and `name@alias` are that one.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/policies/{policy}/act", operation_id = "rl_policies_act",
    tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("policy" = String, Path, description = "`name`, `name@version` or `name@alias`"), IdempotencyHeader),
    request_body = ActRequest,
    responses(
        (status = 200, body = ActResponse, description = "The action for a single `state`, or one for each of `states`"),
        (status = 404, description = "There is no such policy, version or alias"),
        (status = 503, description = "The policy has too many calls waiting (`policy_overloaded`), or the service is stopping; see Retry-After"),
    )
)]
pub async fn act_with_policy(
    State(app): State<App>,
    _: AnyKey,
    PathParams(policy): PathParams<String>,
    request: IdempotentJson<ActRequest>,
) -> Result<IdempotentOk<ActResponse>, ApiError> {
    let IdempotentJson { body: request, once } = request;
    let reference = parse_reference(&policy)?;
    let single = request.state.is_some();
    let given = match (request.state, request.states) {
        (Some(state), None) => vec![state],
        (None, Some(states)) => states,
        _ => {
            return Err(ApiError::invalid_field(
                vec!["body".into(), "state".into()],
                "Give a state, or states",
                "missing",
            ));
        }
    };
    app.library.look_for(&reference).await?;
    // Names are looked up only where there are some.
    let named = given.iter().any(|state| matches!(state, StateInput::Named(_)));
    let version = if named { Some(app.policies.resolve(&reference)?) } else { None };
    let names = version.as_ref().map_or(&[][..], |version| &version.state_names);
    let mut states = Vec::with_capacity(given.len());
    for (row, state) in given.into_iter().enumerate() {
        let loc: Vec<LocationSegment> =
            if single { vec!["body".into(), "state".into()] } else { vec!["body".into(), "states".into(), row.into()] };
        states.push(state.numbers(names).map_err(|why| ApiError::invalid_field(loc, why, "value_error"))?);
    }
    let mode = match request.mode {
        ActionModeName::Greedy => ActionMode::Greedy,
        // A repetition draws what was drawn first, so its answer need not be kept.
        ActionModeName::Sample => ActionMode::Sample { seed: request.seed.or_else(|| once.as_ref().map(key_seed)) },
    };
    let ask = PolicyQuery { states, mode, exact: request.deterministic };
    let mut decisions = app.policies.act_all(&reference, ask).await.map_err(|error| act_error(error, single))?;
    let policy = decisions.first().map(|one| one.policy.clone()).unwrap_or_default();
    let called = record_response(&app, once, new_call(&app, &policy)).await?;
    let respond = |call_id: String| {
        Ok::<_, ApiError>(if single {
            ActResponse::One(CalledDecision { call_id, decision: decisions.pop().ok_or(ActError::Stopped)? })
        } else {
            ActResponse::Many(PolicyDecisions { call_id, policy, count: decisions.len(), decisions })
        })
    };
    // Only the call's id is kept under a key; the answer is computed again.
    let IdempotentResult { value, replayed } = called;
    let call_id = value.as_str().map_or_else(String::new, str::to_owned);
    Ok(IdempotentOk(IdempotentResult { value: respond(call_id)?, replayed }))
}

/// The id of a call that `reference`, a version, has answered.
fn new_call(app: &App, reference: &str) -> Value {
    match reference.rsplit_once('@').map(|(name, version)| (name, version.parse())) {
        Some((name, Ok(version))) => app.outcomes.new_call(name, version).into(),
        _ => Value::Null,
    }
}

/// The seed of a sample that is asked for under a key.
fn key_seed(once: &IdempotencyKey) -> u64 {
    let digits = crypto::sha256_hex(format!("{}\0{}\0{}", once.scope, once.key, once.fingerprint).as_bytes());
    u64::from_str_radix(&digits[..16], 16).unwrap_or_default()
}

/// A single state has no place in a list.
fn act_error(error: ActError, single: bool) -> ApiError {
    let mut error = ApiError::from(error);
    if let ErrorDetail::Fields(fields) = &mut error.detail
        && single
    {
        for field in fields.iter_mut().filter(|field| field.loc.get(1) == Some(&LocationSegment::from("states"))) {
            field.loc[1] = "state".into();
            if field.loc.len() > 2 {
                field.loc.remove(2);
            }
        }
    }
    error
}

/// Settings of an evaluation.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PolicyEvaluateRequest)]
pub struct EvaluatePolicyRequest {
    /// Name of the environment. Default: the one that the policy was trained in.
    pub environment: Option<String>,
    /// Parameters of the environment by name. Default: the environment's.
    #[schema(value_type = Option<Object>)]
    pub parameters: Option<Value>,
    /// Number of whole episodes, 1 to 1000. Default 20.
    pub episodes: Option<usize>,
    /// Seed of the episodes. Default 0.
    pub seed: Option<u64>,
}

/// The returns that a policy reached.
#[derive(Serialize, Deserialize, ToSchema)]
#[schema(as = PolicyEvaluation)]
pub struct PolicyEvaluation {
    /// Policy and version, `name@version`.
    pub policy: String,
    /// Name of the environment.
    pub environment: String,
    /// Returns of the episodes.
    #[serde(flatten)]
    pub scores: EvaluationScores,
}

/// Evaluate a policy in whole episodes
///
/// Without exploration.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/policies/{policy}/evaluate", operation_id = "rl_policies_evaluate",
    tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("policy" = String, Path, description = "`name`, `name@version` or `name@alias`"), IdempotencyHeader),
    request_body = EvaluatePolicyRequest,
    responses(
        (status = 200, body = PolicyEvaluation, description = "Returns of the episodes"),
        (status = 404, description = "There is no such policy, version or alias"),
    )
)]
pub async fn evaluate_policy(
    State(app): State<App>,
    _: AnyKey,
    PathParams(policy): PathParams<String>,
    request: IdempotentJson<EvaluatePolicyRequest>,
) -> Result<IdempotentOk<PolicyEvaluation>, ApiError> {
    Ok(IdempotentOk(record_response(&app, request.once, run_evaluation(&app, &policy, request.body).await?).await?))
}

/// Measure the policy that `policy` names.
pub async fn run_evaluation(
    app: &App,
    policy: &str,
    request: EvaluatePolicyRequest,
) -> Result<PolicyEvaluation, ApiError> {
    let EvaluatePolicyRequest { environment, parameters, episodes, seed } = request;
    let measured = app
        .training
        .evaluate(&parse_reference(policy)?, environment, parameters, episodes.unwrap_or(20), seed.unwrap_or(0))
        .await?;
    Ok(PolicyEvaluation { policy: measured.policy, environment: measured.environment, scores: measured.scores })
}
