//! Steps that are evaluated by jq workers.

use std::sync::Arc;

use serde_json::{
    Value, json,
    value::{RawValue, to_raw_value},
};

use super::invocation::ActionFailure;
use crate::jq;
use am_core::{blocking::in_place, json_number::read_json};

/// Evaluate a program on the step's input.
pub async fn evaluate(pool: &jq::JqPool, program: Arc<str>, input: &Value) -> Result<Value, ActionFailure> {
    let evaluated = pool.eval(program, raw_json(input)?).await.map_err(jq_failure)?;
    let output = evaluated.output.get();
    in_place(output.len(), || read_json(output.as_bytes()))
        .map_err(|error| ActionFailure::permanent(format!("the program's output: {error}")))
}

/// Check the step's input by a schema and an assertion.
pub async fn check_input(
    pool: &jq::JqPool,
    schema: Option<Arc<str>>,
    assert: Option<Arc<str>>,
    input: &Value,
) -> Result<Value, ActionFailure> {
    if let Some(schema) = schema {
        // Evaluated in a worker process: a short schema can take exponential time.
        let verdict = pool.validate(schema, raw_json(input)?).await.map_err(jq_failure)?;
        if !verdict.violations.is_empty() {
            let list: Vec<String> = verdict.violations.iter().map(ToString::to_string).collect();
            return Err(ActionFailure::permanent(format!("the input does not fit the schema: {}", list.join("; "))));
        }
    }
    if let Some(assert) = assert {
        let answer = evaluate(pool, assert.clone(), input).await?;
        if answer != Value::Bool(true) {
            return Err(ActionFailure::permanent(format!("the assertion {assert:?} answered {answer}, not true")));
        }
    }
    Ok(json!({"valid": true, "checked": input}))
}

fn raw_json(value: &Value) -> Result<Arc<RawValue>, ActionFailure> {
    to_raw_value(value).map(Into::into).map_err(|error| ActionFailure::permanent(error.to_string()))
}

/// A failed program fails again; a missing worker may be available later.
fn jq_failure(error: jq::JqError) -> ActionFailure {
    match error {
        jq::JqError::NoWorker(_) | jq::JqError::PoolClosed => ActionFailure::transient(error.to_string()),
        _ => ActionFailure::permanent(error.to_string()),
    }
}
