//! Deterministic actions done again outside of a run: they have no effect, and their result is compared.

use std::sync::Arc;

use serde_json::Value;

use super::{action_executor::policy_state, jq_action};
use crate::jq::JqPool;
use am_rl::{PolicyReference, PolicyServer};

/// The output of a program.
///
/// # Errors
/// Why there is none.
pub(crate) async fn repeat_program(pool: &JqPool, program: Arc<str>, input: &Value) -> Result<Value, String> {
    jq_action::evaluate(pool, program, input).await.map_err(|failure| failure.message)
}

/// The output of a check that passes.
///
/// # Errors
/// Why it does not.
pub(crate) async fn repeat_check(
    pool: &JqPool,
    schema: Option<Arc<str>>,
    assert: Option<Arc<str>>,
    input: &Value,
) -> Result<Value, String> {
    jq_action::check_input(pool, schema, assert, input).await.map_err(|failure| failure.message)
}

/// The state that a policy step's input has.
///
/// # Errors
/// Why it has none.
pub(crate) fn asked_state(
    policies: &PolicyServer,
    reference: &PolicyReference,
    input: &Value,
) -> Result<Vec<f64>, String> {
    policy_state(policies, reference, input).map_err(|failure| failure.message)
}

/// The decision of a policy, which is the greedy one in exact mode.
///
/// # Errors
/// Why there is none.
pub(crate) async fn repeat_policy(
    policies: &PolicyServer,
    reference: &PolicyReference,
    input: &Value,
) -> Result<Value, String> {
    let state = asked_state(policies, reference, input)?;
    let decision = policies.act(reference, state).await.map_err(|error| error.to_string())?;
    serde_json::to_value(decision).map_err(|error| error.to_string())
}
