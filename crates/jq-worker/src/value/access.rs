//! Members, items and slices of values.

use std::ops::Range;

use jaq_core::{ValT as _, val};
use jaq_json::{Num, Val};

use super::{
    JqError, JqResult, JqValue,
    message::{kind_name, quoted},
    number::float,
};

/// Return the error of an index that a value can't have.
pub fn cannot_index(value: &Val, index: &Val) -> JqError {
    let index = JqValue(index.clone());
    JqError::str(format!("Cannot index {} with {} ({})", kind_name(value), kind_name(&index.0), quoted(&index)))
}

/// Return `value[index]`, null if there is none.
pub fn index_value(value: JqValue, index: &JqValue) -> JqResult {
    let found = match (&value.0, &index.0) {
        (Val::Obj(members), Val::TStr(_)) => members.get(&index.0).cloned(),
        (Val::Arr(items), Val::Num(number)) => item_place(number, items.len()).and_then(|at| items.get(at)).cloned(),
        (Val::Null, Val::TStr(_) | Val::Num(_) | Val::Obj(_)) => None,
        (Val::Arr(_) | Val::TStr(_), Val::Obj(bounds)) => {
            let bound = |name: &'static str| bounds.get(&Val::utf8_str(name));
            return slice(value.clone(), bound("start"), bound("end"));
        }
        (Val::Arr(items), Val::Arr(part)) => Some(part_places(items, part)),
        _ => return Err(cannot_index(&value.0, &index.0)),
    };
    Ok(JqValue(found.unwrap_or_default()))
}

/// Return the indexes at which a part begins in a list; null if the part is empty.
pub fn part_places(items: &[Val], part: &[Val]) -> Val {
    if part.is_empty() {
        return Val::Null;
    }
    let places = items.windows(part.len()).enumerate().filter(|(_, window)| *window == part);
    places.map(|(at, _)| Val::from(at)).collect()
}

/// Return the place in a list that a number names, which may be beyond its end; null for NaN and before its start.
pub fn item_place(number: &Num, length: usize) -> Option<usize> {
    let index = match number {
        Num::Int(index) => *index,
        // Saturates.
        other => {
            let index = float(other);
            if index.is_nan() {
                return None;
            }
            index as isize
        }
    };
    if index < 0 { length.checked_sub(index.unsigned_abs()) } else { Some(index as usize) }
}

/// Return the range of a slice in a list of a length: the start is rounded down, the end up.
pub fn slice_bounds(start: Option<&Val>, end: Option<&Val>, length: usize) -> JqResult<Range<usize>> {
    let bound = |bound: Option<&Val>, default: usize, round: fn(f64) -> f64| match bound {
        None | Some(Val::Null) => Ok(default),
        Some(Val::Num(number)) => {
            let index = float(number);
            let index = if index.is_nan() { default as f64 } else { index };
            let index = if index < 0.0 { index + length as f64 } else { index };
            Ok(round(index.max(0.0)).min(length as f64) as usize)
        }
        Some(_) => Err(JqError::str("Array/string slice indices must be integers")),
    };
    let (start, end) = (bound(start, 0, f64::floor)?, bound(end, length, f64::ceil)?);
    Ok(start..end.max(start))
}

/// Return the range that a slice `{start, end}` names in a list.
pub fn slice_range(slice: &Val, length: usize) -> JqResult<Range<usize>> {
    let Val::Obj(bounds) = slice else { return Err(JqError::str("Array/string slice indices must be integers")) };
    let bound = |name: &'static str| bounds.get(&Val::utf8_str(name));
    slice_bounds(bound("start"), bound("end"), length)
}

/// Return a slice of an array or of the characters of a string.
pub fn slice(value: JqValue, start: Option<&Val>, end: Option<&Val>) -> JqResult {
    match &value.0 {
        Val::Null => Ok(value),
        Val::Arr(items) => {
            let range = slice_bounds(start, end, items.len())?;
            if range.len() == items.len() {
                return Ok(value);
            }
            Ok(JqValue::array(items[range].to_vec()))
        }
        Val::TStr(text) => {
            let characters = String::from_utf8_lossy(text).chars().count();
            let range = slice_bounds(start, end, characters)?;
            let bounds: val::Range<Val> = Some(Val::from(range.start))..Some(Val::from(range.end));
            let part = value.0.clone().range(bounds.start.as_ref()..bounds.end.as_ref());
            part.map(JqValue).map_err(|error| JqError::new(JqValue(error.into_val())))
        }
        other => {
            let bounds: val::Range<JqValue> = start.cloned().map(JqValue)..end.cloned().map(JqValue);
            Err(cannot_index(other, &JqValue::from(bounds).0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> JqValue {
        JqValue(jaq_json::read::parse_single(text.as_bytes()).unwrap())
    }

    fn indexed(value: &str, index: &str) -> String {
        match index_value(read(value), &read(index)) {
            Ok(found) => found.to_string(),
            Err(error) => error.into_val().to_string(),
        }
    }

    #[test]
    fn indexes_name_items_members_and_slices() {
        assert_eq!(indexed("[1,2,3]", "1.9"), "2");
        assert_eq!(indexed("[1,2,3]", "-1"), "3");
        assert_eq!(indexed("[1,2,3]", "-4"), "null");
        assert_eq!(indexed("[1,2,3]", "NaN"), "null");
        assert_eq!(indexed("[1,2,3]", r#"{"start": 1.5, "end": 1.5}"#), "[2]");
        assert_eq!(indexed("[1,2,1,2]", "[1,2]"), "[0,2]");
        assert_eq!(indexed("\"äbc\"", r#"{"start": -2}"#), "\"bc\"");
        assert_eq!(indexed("null", "\"a\""), "null");
        assert_eq!(indexed("[]", "\"a\""), r#""Cannot index array with string (\"a\")""#);
        assert_eq!(indexed("{}", "0"), r#""Cannot index object with number (0)""#);
        assert_eq!(indexed("[]", r#"{"start": "a"}"#), "\"Array/string slice indices must be integers\"");
    }
}
