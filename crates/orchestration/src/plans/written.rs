//! What is written down of a task: its faults, or its plan.

use super::{
    decompose, estimate,
    model::{Document, Draft},
};
use crate::{
    error::{Error, Result},
    model::Fault,
    workflows::check_limits,
};
use am_db::codec::Timestamp;

/// Plans of a strategy that must have ended before their share of success counts.
const ENOUGH: i64 = 5;

/// The faults of a task that its split does not find.
pub fn check(draft: &Draft, now: Timestamp) -> Result<()> {
    let mut faults = Vec::new();
    if !(1..=200).contains(&draft.name.chars().count()) {
        faults.push(Fault::new(["name"], "must have 1 to 200 characters"));
    }
    if draft.description.chars().count() > 10_000 {
        faults.push(Fault::new(["description"], "at most 10000 characters"));
    }
    if draft.deadline.is_some_and(|deadline| deadline <= now) {
        faults.push(Fault::new(["deadline"], "must be in the future"));
    }
    faults.extend(check_limits(0, draft.max_cost_budget));
    if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
}

/// The plan of a task that was split; `good` of `all` plans of its strategy ended well so far.
pub fn document(
    draft: Draft,
    split: &decompose::Split,
    known: &estimate::Known,
    (good, all): (i64, i64),
    now: Timestamp,
) -> Document {
    let planned = estimate::assign(split, known);
    let totals = estimate::totals(split, &planned);
    let measured = (all >= ENOUGH).then(|| good as f64 / all as f64);
    let decomposition = measured.unwrap_or_else(|| split.assumed());
    let over_budget = draft.max_cost_budget > 0.0 && totals.cost.is_some_and(|cost| cost > draft.max_cost_budget);
    let late = |deadline: Timestamp| totals.seconds.is_some_and(|seconds| seconds > deadline.seconds_since(now));
    let past_deadline = draft.deadline.is_some_and(late);
    let key = |at: &usize| split.sub_tasks[*at].key.clone();
    Document {
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
        confidence: estimate::confidence(decomposition, over_budget, past_deadline, totals.available),
        assignments: planned,
        estimated_cost: totals.cost,
        estimated_seconds: totals.seconds,
        estimate_reason: totals.reason,
        decomposition_confidence: decomposition,
        confidence_source: if measured.is_some() { "measured" } else { "assumed" }.to_owned(),
    }
}
