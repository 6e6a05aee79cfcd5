//! Values in filters, and how they are compared.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use am_core::json_number::compare_numbers;

use super::syntax::ComparisonOperator;

/// Value of an operand in a comparison.
#[derive(Clone, Copy, Debug)]
pub enum FilterResult<'a> {
    /// Value of the document, or a constant.
    Value(&'a Value),
    /// Result of counting.
    Count(u64),
    /// A path found nothing, or the function has no result.
    Nothing,
}

impl FilterResult<'_> {
    /// Return the number of characters, items or members.
    pub fn length(self) -> Self {
        match self {
            Self::Value(Value::String(text)) => Self::Count(text.chars().count() as u64),
            Self::Value(Value::Array(items)) => Self::Count(items.len() as u64),
            Self::Value(Value::Object(members)) => Self::Count(members.len() as u64),
            _ => Self::Nothing,
        }
    }

    /// Return the number that this is, if it is one.
    fn number(self) -> Option<Number> {
        match self {
            Self::Value(Value::Number(number)) => Some(number.clone()),
            Self::Count(count) => Some(count.into()),
            _ => None,
        }
    }
}

/// Return whether the comparison holds. `visit` is told how many values are compared.
pub fn compare_results<E>(
    left: &FilterResult<'_>,
    operator: ComparisonOperator,
    right: &FilterResult<'_>,
    visit: &mut dyn FnMut(usize) -> Result<(), E>,
) -> Result<bool, E> {
    use ComparisonOperator::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    let order = order_of(left, right);
    Ok(match (operator, order) {
        (Less, order) => order == Some(Ordering::Less),
        (Greater, order) => order == Some(Ordering::Greater),
        (Equal | LessOrEqual | GreaterOrEqual, Some(Ordering::Equal)) => true,
        (LessOrEqual, Some(order)) => order == Ordering::Less,
        (GreaterOrEqual, Some(order)) => order == Ordering::Greater,
        (Equal | NotEqual, Some(_)) => (operator == Equal) == (order == Some(Ordering::Equal)),
        (Equal | NotEqual | LessOrEqual | GreaterOrEqual, None) => {
            (operator != NotEqual) == are_equal(left, right, visit)?
        }
    })
}

/// Return the order of two numbers or two texts; other values have none.
fn order_of(left: &FilterResult<'_>, right: &FilterResult<'_>) -> Option<Ordering> {
    if let (FilterResult::Value(Value::String(left)), FilterResult::Value(Value::String(right))) = (left, right) {
        return Some(left.cmp(right));
    }
    Some(compare_numbers(&left.number()?, &right.number()?))
}

fn are_equal<E>(
    left: &FilterResult<'_>,
    right: &FilterResult<'_>,
    visit: &mut dyn FnMut(usize) -> Result<(), E>,
) -> Result<bool, E> {
    match (left, right) {
        (FilterResult::Nothing, FilterResult::Nothing) => Ok(true),
        (FilterResult::Value(left), FilterResult::Value(right)) => equal_values(left, right, visit),
        _ => Ok(false),
    }
}

fn equal_values<E>(left: &Value, right: &Value, visit: &mut dyn FnMut(usize) -> Result<(), E>) -> Result<bool, E> {
    visit(1)?;
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => Ok(compare_numbers(left, right).is_eq()),
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (left, right) in left.iter().zip(right) {
                if !equal_values(left, right, visit)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Object(left), Value::Object(right)) if left.len() == right.len() => {
            for (name, left) in left {
                let Some(right) = right.get(name) else { return Ok(false) };
                if !equal_values(left, right, visit)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Array(_) | Value::Object(_), _) => Ok(false),
        _ => Ok(left == right),
    }
}
