//! The bounds that the OpenAPI document states are those that are checked. The macros that state them take literals only.

use std::ops::RangeInclusive;

use serde_json::Value;

use super::openapi::{operations, whole};
use crate::{
    http::{idempotency::MAX_KEY_LEN, pagination::MAX_PAGE_ROWS},
    routes::{
        performance::{analytics::MAX_SUMMARY_OFFSET, meta_learning::ADAPTATION_STEPS, profiles::SERIES_POINTS},
        stream::EVENT_ROWS,
    },
};
use am_audit::RISK_SCORES;
use am_communication::messages::MAX_TTL;
use am_deployment::INSTANCE_COUNTS;
use am_orchestration::workflows;
use am_security::policies::policy_change;

/// Lowest and highest value or length that a schema states; `None`: it states none.
type StatedBounds = (Option<f64>, Option<f64>);

fn stated(schema: &Value) -> StatedBounds {
    let either = |value: &str, length: &str| schema[value].as_f64().or_else(|| schema[length].as_f64());
    (either("minimum", "minLength"), either("maximum", "maxLength"))
}

fn checked(bounds: &RangeInclusive<i64>) -> StatedBounds {
    (Some(*bounds.start() as f64), Some(*bounds.end() as f64))
}

fn numbers<T: Copy + Into<f64>>(bounds: &RangeInclusive<T>) -> StatedBounds {
    (Some((*bounds.start()).into()), Some((*bounds.end()).into()))
}

/// The upper bound of a text whose least length is not stated.
fn at_most(bounds: &RangeInclusive<usize>) -> StatedBounds {
    (None, Some(*bounds.end() as f64))
}

fn rows(bounds: &RangeInclusive<usize>) -> StatedBounds {
    (Some(*bounds.start() as f64), Some(*bounds.end() as f64))
}

#[test]
fn parameters_state_the_bounds_that_are_checked() {
    let document = whole();
    let mut seen = 0;
    for (method, path, operation) in operations(&document) {
        for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            let stated = stated(&parameter["schema"]);
            let expected = match name {
                "limit" if path.ends_with("/events") => rows(&EVENT_ROWS),
                "limit" if path.ends_with("/timeseries") => numbers(&SERIES_POINTS),
                "offset" if path.ends_with("/performance-summary") => numbers(&(0..=MAX_SUMMARY_OFFSET)),
                "adaptation_steps" => numbers(&ADAPTATION_STEPS),
                "limit" => checked(&(1..=i64::from(MAX_PAGE_ROWS))),
                "Idempotency-Key" => rows(&(1..=MAX_KEY_LEN)),
                "target_instances" => checked(&INSTANCE_COUNTS),
                "risk_score_min" | "risk_score_max" => checked(&RISK_SCORES),
                "name" if path.ends_with("/security/policies") => at_most(&policy_change::NAME_LENGTH),
                _ => {
                    assert_eq!(stated.1, None, "{method} {path}: compare the bounds of {name} here");
                    continue;
                }
            };
            seen += 1;
            assert_eq!(stated, expected, "{method} {path}: {name}");
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn members_of_bodies_state_the_bounds_that_are_checked() {
    let document = whole();
    let ttl = checked(&(1..=MAX_TTL.as_secs().cast_signed()));
    for (schema, member, expected) in [
        ("PolicyRules", "max_execution_time", checked(&policy_change::EXECUTION_SECONDS)),
        ("PolicyRules", "max_memory_usage", checked(&policy_change::MEMORY_MB)),
        ("PolicyRules", "max_concurrent_executions", checked(&policy_change::CONCURRENT_EXECUTIONS)),
        ("PolicyRules", "max_workflow_steps", checked(&policy_change::WORKFLOW_STEPS)),
        ("PolicyRules", "max_data_size", checked(&policy_change::DATA_BYTES)),
        ("WorkflowCreate", "name", at_most(&workflows::NAME_LENGTH)),
        ("SendMessageRequest", "ttl", ttl),
        ("BroadcastRequest", "ttl", ttl),
        ("ChannelMessage", "ttl", ttl),
    ] {
        let shown = &document["components"]["schemas"][schema]["properties"][member];
        assert_eq!(stated(shown), expected, "{schema}.{member}");
    }
}
