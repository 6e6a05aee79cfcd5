//! What is written down of a task: its violations, or its plan.

use std::ops::RangeInclusive;

use super::{
    decompose, estimate,
    model::{ConfidenceSource, PlanDocument, PlanDraft},
};
use crate::{
    error::{OrchestrationError, Result},
    workflows::check_limits,
};
use am_core::validation::has_length;
use am_db::codec::Timestamp;

/// Minimum number of ended plans of a strategy for a measured success rate.
const MIN_ENDED_PLANS: i64 = 5;

/// Characters of a task's name.
const NAME_LENGTH: RangeInclusive<usize> = 1..=200;
/// Characters of a task's description.
const DESCRIPTION_LENGTH: RangeInclusive<usize> = 0..=10_000;

/// The violations of a task that its split does not find.
pub fn check_draft(draft: &PlanDraft, now: Timestamp) -> Result<()> {
    let mut violations = check_limits(0, draft.max_cost_budget);
    violations.require(has_length(&draft.name, &NAME_LENGTH), "name", "must have 1 to 200 characters");
    let described = has_length(&draft.description, &DESCRIPTION_LENGTH);
    violations.require(described, "description", "at most 10000 characters");
    let is_late = draft.deadline.is_some_and(|deadline| deadline <= now);
    violations.require(!is_late, "deadline", "must be in the future");
    violations.finish().map_err(OrchestrationError::Invalid)
}

/// Build the document of a decomposed task; `good` of `all` ended plans of its strategy ended well.
pub fn build_document(
    draft: PlanDraft,
    split: &decompose::TaskSplit,
    known: &estimate::PlanningInput,
    (good, all): (i64, i64),
    now: Timestamp,
) -> PlanDocument {
    let planned = estimate::plan_assignments(split, known);
    let totals = estimate::sum_estimates(split, &planned);
    let measured = (all >= MIN_ENDED_PLANS).then(|| good as f64 / all as f64);
    let decomposition = measured.unwrap_or_else(|| split.assumed_confidence());
    let over_budget =
        draft.max_cost_budget.is_positive() && totals.cost.is_some_and(|cost| cost > draft.max_cost_budget);
    let late = |deadline: Timestamp| totals.seconds.is_some_and(|seconds| seconds > deadline.seconds_since(now));
    let past_deadline = draft.deadline.is_some_and(late);
    let key = |at: &usize| split.sub_tasks[*at].key.clone();
    PlanDocument {
        name: draft.name,
        description: draft.description,
        strategy: split.strategy,
        split_by: split.by,
        inputs: draft.inputs,
        priority: draft.priority,
        max_cost_budget: draft.max_cost_budget,
        deadline: draft.deadline,
        sub_tasks: split.sub_tasks.clone(),
        stages: split.stages().iter().map(|stage| stage.iter().map(key).collect()).collect(),
        confidence: estimate::plan_confidence(decomposition, over_budget, past_deadline, totals.available),
        assignments: planned,
        estimated_cost: totals.cost,
        estimated_seconds: totals.seconds,
        estimate_reason: totals.reason,
        decomposition_confidence: decomposition,
        confidence_source: if measured.is_some() { ConfidenceSource::Measured } else { ConfidenceSource::Assumed },
    }
}
