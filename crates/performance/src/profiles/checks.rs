//! What reports and drafts must be.

use std::collections::BTreeMap;

use am_core::validation::{FieldPath, Violations, has_length};
use serde_json::Value;

use super::model::{MetricsReport, ProfileDraft};
use crate::error::{PerformanceError, Result};

/// Metrics of one report, and of one profile's draft.
const MAX_METRICS: usize = 100;
/// Characters of a metric's name.
const MAX_NAME: usize = 64;
/// Bytes of a report's context as JSON.
const MAX_CONTEXT_BYTES: usize = 4096;
/// The largest size of a value: beyond, sums lose it.
const MAX_VALUE: f64 = 1e15;

fn check_metrics(member: &'static str, metrics: &BTreeMap<String, f64>, violations: &mut Violations) {
    violations.require(metrics.len() <= MAX_METRICS, member, format!("at most {MAX_METRICS} metrics"));
    for (name, value) in metrics.iter().take(MAX_METRICS) {
        let place = || FieldPath::from([member, name.as_str()]);
        let is_name = has_length(name, &(1..=MAX_NAME))
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        violations.require(is_name, place(), format!("a metric's name has 1 to {MAX_NAME} letters, digits and _ . -"));
        let is_free = !name.starts_with("measured_") && name != "overall_score";
        violations.require(is_free, place(), "this service computes it itself: no report may give it");
        let fits = value.is_finite() && value.abs() <= MAX_VALUE;
        violations.require(fits, place(), format!("must be a finite number of at most {MAX_VALUE:e} in size"));
    }
}

/// Check a draft.
pub(super) fn check_draft(draft: &ProfileDraft) -> Result<()> {
    let mut violations = Violations::default();
    let is_type = has_length(&draft.agent_type, &(1..=100))
        && draft.agent_type.trim() == draft.agent_type
        && draft.agent_type != "*"
        && !draft.agent_type.chars().any(char::is_control);
    violations.require(is_type, "agent_type", "has 1 to 100 characters, no control characters, no blanks around it");
    check_metrics("initial_metrics", &draft.initial_metrics, &mut violations);
    violations.finish().map_err(PerformanceError::Invalid)
}

/// Check a report.
pub(super) fn check_report(report: &MetricsReport) -> Result<()> {
    let mut violations = Violations::default();
    violations.require(!report.metrics.is_empty(), "metrics", "name at least one metric");
    check_metrics("metrics", &report.metrics, &mut violations);
    let context = report.task_context.clone().map(Value::Object);
    let size = context.map_or(0, |context| context.to_string().len());
    violations.require(size <= MAX_CONTEXT_BYTES, "task_context", format!("at most {MAX_CONTEXT_BYTES} bytes as JSON"));
    violations.finish().map_err(PerformanceError::Invalid)
}
