//! `rl/policies/{policy}/act/{call_id}/outcome`: what calls earned.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::policies::parse_reference;
use crate::{
    app::App,
    http::{
        AnyKey, ApiError, JsonBody, PathParams,
        idempotency::{IdempotencyHeader, IdempotentJson, IdempotentOk},
    },
};
use am_rl::{
    outcomes::{CallOutcome, OutcomeComparison},
    serving::SplitComparison,
};

/// What a call earned.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = ActOutcomeRequest)]
pub struct ActOutcomeRequest {
    /// Reward of the call: the higher, the better. In one unit for all calls of a policy.
    reward: f64,
}

/// Report what a call earned
///
/// The rewards of the serving version and of the canary are compared in the policy's comparison. A call has one reward; it
/// is taken within 7 days.
#[utoipa::path(
    post, path = "/api/v1/agents/performance/rl/policies/{policy}/act/{call_id}/outcome",
    operation_id = "rl_policies_report_outcome", tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(
        ("policy" = String, Path, description = "The policy, as it was asked"),
        ("call_id" = String, Path, description = "Id of the call, from its answer"),
        IdempotencyHeader,
    ),
    request_body = ActOutcomeRequest,
    responses(
        (status = 200, body = CallOutcome, description = "The reward with the version that answered the call"),
        (status = 400, description = "The call has another reward, or is too old (`invalid_state`)"),
        (status = 404, description = "The policy has answered no such call"),
    )
)]
pub async fn report_act_outcome(
    State(app): State<App>,
    AnyKey(caller): AnyKey,
    PathParams((policy, call_id)): PathParams<(String, String)>,
    request: IdempotentJson<ActOutcomeRequest>,
) -> Result<IdempotentOk<CallOutcome>, ApiError> {
    let name = parse_reference(&policy)?.name;
    let done = app.outcomes.record(&caller, &name, &call_id, request.body.reward, request.once).await?;
    Ok(IdempotentOk(done))
}

/// How the versions of a split compare.
#[derive(Serialize, ToSchema)]
#[schema(as = PolicyComparison)]
pub struct PolicyComparison {
    /// As this process measured the calls.
    #[serde(flatten)]
    seen: SplitComparison,
    /// By the rewards that callers reported to any process.
    outcomes: OutcomeComparison,
}

/// Compare the versions of a split
///
/// Calls as this process measured them, and rewards as callers reported them, since either version or the split was changed.
#[utoipa::path(
    get, path = "/api/v1/agents/performance/rl/policies/{name}/comparison", operation_id = "rl_policies_compare",
    tag = "rl_policies", security(("ApiKey" = ["admin", "client", "miner"])),
    params(("name" = String, Path, description = "Name of the policy")),
    responses(
        (status = 200, body = PolicyComparison, description = "The comparison"),
        (status = 404, description = "There is no policy of this name, or it has no split"),
    )
)]
pub async fn get_split_comparison(
    State(app): State<App>,
    _: AnyKey,
    PathParams(name): PathParams<String>,
) -> Result<JsonBody<PolicyComparison>, ApiError> {
    app.library.look_for(&parse_reference(&name)?).await?;
    let Some(seen) = app.policies.comparison(&name)? else {
        return Err(ApiError::not_found(format!("policy '{name}' has neither canary nor shadow")));
    };
    Ok(JsonBody(PolicyComparison { seen, outcomes: app.outcomes.comparison(&name).await? }))
}
