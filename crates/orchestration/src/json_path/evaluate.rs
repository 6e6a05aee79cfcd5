//! Evaluation of paths.

use std::cell::Cell;

use serde_json::Value;

use super::{
    functions::{FilterResult, compare_results},
    syntax::{FilterCondition, FilterOperand, FunctionCall, PathSegment, PathSelector, PathStep},
};

/// Maximum number of values that one query visits.
const MAX_VISITED_VALUES: usize = 2_000_000;

/// Number of bytes of a text whose characters are counted in the time of visiting one value.
const TEXT_BYTES_PER_VISIT: usize = 64;

/// Error of a query that would visit too many values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("visits more than {MAX_VISITED_VALUES} values")]
pub struct TooManyNodes;

/// Return the values that `segments` match below `root`.
pub fn find_values<'a>(segments: &[PathSegment], root: &'a Value) -> Result<Vec<&'a Value>, TooManyNodes> {
    PathQueryRun { left: Cell::new(MAX_VISITED_VALUES) }.find(segments, root)
}

/// One query: how many values it may still visit.
struct PathQueryRun {
    left: Cell<usize>,
}

impl PathQueryRun {
    fn visit(&self, values: usize) -> Result<(), TooManyNodes> {
        self.left.set(self.left.get().checked_sub(values).ok_or(TooManyNodes)?);
        Ok(())
    }

    fn find<'a>(&self, segments: &[PathSegment], root: &'a Value) -> Result<Vec<&'a Value>, TooManyNodes> {
        let mut found = vec![root];
        for segment in segments {
            let mut next = Vec::new();
            for value in found {
                if segment.descends {
                    self.descend(&segment.selectors, value, &mut next)?;
                } else {
                    self.select(&segment.selectors, value, &mut next)?;
                }
            }
            found = next;
        }
        Ok(found)
    }

    /// Apply the selectors to `value`, then to all values below it, in the order of the document. Its depth is that of
    /// parsed JSON, at most 128.
    fn descend<'a>(
        &self,
        selectors: &[PathSelector],
        value: &'a Value,
        found: &mut Vec<&'a Value>,
    ) -> Result<(), TooManyNodes> {
        self.select(selectors, value, found)?;
        children(value).try_for_each(|child| self.descend(selectors, child, found))
    }

    fn select<'a>(
        &self,
        selectors: &[PathSelector],
        value: &'a Value,
        found: &mut Vec<&'a Value>,
    ) -> Result<(), TooManyNodes> {
        for selector in selectors {
            self.visit(1)?;
            match selector {
                PathSelector::Step(step) => found.extend(take_step(step, value)),
                PathSelector::All => {
                    self.visit(children(value).count())?;
                    found.extend(children(value));
                }
                PathSelector::Slice { start, end, step } => {
                    let items = value.as_array().map_or(&[][..], Vec::as_slice);
                    self.visit(items.len())?;
                    found.extend(slice_places(items.len(), *start, *end, *step).map(|at| &items[at]));
                }
                PathSelector::Filter(condition) => {
                    for child in children(value) {
                        self.visit(1)?;
                        if self.holds(condition, child)? {
                            found.push(child);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn holds(&self, condition: &FilterCondition, value: &Value) -> Result<bool, TooManyNodes> {
        match condition {
            FilterCondition::Any(conditions) => {
                for condition in conditions {
                    if self.holds(condition, value)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            FilterCondition::All(conditions) => {
                for condition in conditions {
                    if !self.holds(condition, value)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            FilterCondition::Not(condition) => Ok(!self.holds(condition, value)?),
            FilterCondition::Exists(segments) => Ok(!self.find(segments, value)?.is_empty()),
            FilterCondition::Compare(left, operator, right) => {
                let (left, right) = (self.operand(left, value)?, self.operand(right, value)?);
                Ok(compare_results(&left, *operator, &right, &mut |values| self.visit(values))?)
            }
        }
    }

    fn operand<'a>(&self, operand: &'a FilterOperand, value: &'a Value) -> Result<FilterResult<'a>, TooManyNodes> {
        self.visit(1)?;
        Ok(match operand {
            FilterOperand::Literal(literal) => FilterResult::Value(literal),
            FilterOperand::Path(steps) => {
                let found = steps.iter().try_fold(value, |value, step| take_step(step, value));
                found.map_or(FilterResult::Nothing, FilterResult::Value)
            }
            FilterOperand::Call(call) => match &**call {
                FunctionCall::Length(operand) => {
                    let operand = self.operand(operand, value)?;
                    if let FilterResult::Value(Value::String(text)) = operand {
                        self.visit(text.len() / TEXT_BYTES_PER_VISIT)?;
                    }
                    operand.length()
                }
                FunctionCall::Count(segments) => FilterResult::Count(self.find(segments, value)?.len() as u64),
                FunctionCall::Value(segments) => match self.find(segments, value)?.as_slice() {
                    [value] => FilterResult::Value(value),
                    _ => FilterResult::Nothing,
                },
            },
        })
    }
}

fn take_step<'a>(step: &PathStep, value: &'a Value) -> Option<&'a Value> {
    match step {
        PathStep::Name(name) => value.as_object()?.get(name),
        PathStep::Index(index) => {
            let items = value.as_array()?;
            let from_end = || items.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
            let place = if *index < 0 { from_end()? } else { usize::try_from(*index).ok()? };
            items.get(place)
        }
    }
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(members) => Box::new(members.values()),
        _ => Box::new(std::iter::empty()),
    }
}

/// Return the places of a slice's items (RFC 9535, 2.3.4.2.2).
fn slice_places(length: usize, start: Option<i64>, end: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let length = length as i64;
    let forwards = step > 0;
    let normal = |index: i64| if index < 0 { length + index } else { index };
    let (low, high) = if forwards { (0, length) } else { (-1, length - 1) };
    let bound = |index: Option<i64>, default: i64| index.map_or(default, |index| normal(index).clamp(low, high));
    let (first, last) = if forwards { (low, high) } else { (high, low) };
    let (start, end) = (bound(start, first), bound(end, last));
    let inside = move |at: &i64| if forwards { *at < end } else { step < 0 && *at > end };
    std::iter::successors(Some(start), move |at| at.checked_add(step))
        .take_while(inside)
        .filter_map(|at| usize::try_from(at).ok())
}
