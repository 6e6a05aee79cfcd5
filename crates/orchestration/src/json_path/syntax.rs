//! Syntax tree of a path.

use serde_json::Value;

/// Segment: each selector is applied to each value found so far.
#[derive(Clone, Debug, PartialEq)]
pub struct PathSegment {
    /// Whether it is applied to all values below, too (`..`).
    pub descends: bool,
    /// Selectors, at least one.
    pub selectors: Vec<PathSelector>,
}

impl PathSegment {
    /// Return the step that this segment takes, if it leads to one value at most.
    pub fn step(&self) -> Option<&PathStep> {
        match self {
            Self { descends: false, selectors } => match selectors.as_slice() {
                [PathSelector::Step(step)] => Some(step),
                _ => None,
            },
            _ => None,
        }
    }
}

/// Selector of a value's children.
#[derive(Clone, Debug, PartialEq)]
pub enum PathSelector {
    /// One child by name or index.
    Step(PathStep),
    /// All children: `*`.
    All,
    /// Items of a list: `start:end:step`.
    Slice {
        /// First index; negative counts from the end. Null: the whole list on this side.
        start: Option<i64>,
        /// Index behind the last; negative counts from the end. Null: the whole list on this side.
        end: Option<i64>,
        /// Distance of the items.
        step: i64,
    },
    /// Children for which the condition is true: `?`.
    Filter(FilterCondition),
}

/// Step to one child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStep {
    /// Member of an object.
    Name(String),
    /// Item of a list; negative counts from the end.
    Index(i64),
}

/// Condition of a filter.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterCondition {
    /// One of them is true.
    Any(Vec<FilterCondition>),
    /// All of them are true.
    All(Vec<FilterCondition>),
    /// It is false.
    Not(Box<FilterCondition>),
    /// The path, relative to the tested value, matches something.
    Exists(Vec<PathSegment>),
    /// The comparison holds.
    Compare(FilterOperand, ComparisonOperator, FilterOperand),
}

/// Operand of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum FilterOperand {
    /// Constant: no list and no object.
    Literal(Value),
    /// Value at steps below the tested value, or nothing.
    Path(Vec<PathStep>),
    /// Result of a function, or nothing.
    Call(Box<FunctionCall>),
}

/// Call of a function.
#[derive(Clone, Debug, PartialEq)]
pub enum FunctionCall {
    /// `length`: characters of a text, items of a list, members of an object.
    Length(FilterOperand),
    /// `count`: number of values that a path matches.
    Count(Vec<PathSegment>),
    /// `value`: the value that a path matches, if it is one.
    Value(Vec<PathSegment>),
}

/// Operator of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComparisonOperator {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}
