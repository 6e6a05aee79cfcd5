//! NativeFilters of strings, arrays, objects and numbers.

use std::cmp::Ordering;

use jaq_core::ValT as _;
use jaq_json::{Num, Val};

use super::{NativeFilters, bound, one_value};
use crate::value::{
    JqError, JqResult, JqValue, kind,
    message::{kind_and_text, kind_name, two_type_error, type_error},
    number, part_places,
    write::json_text,
};

/// Deepest nesting that `contains` compares.
const MAX_CONTAINED_DEPTH: usize = 10_000;

/// Return the filters of this module.
pub fn filters() -> NativeFilters {
    vec![
        ("_described", bound(&[]), |cv| one_value(Ok(JqValue::text(kind_and_text(&cv.1))))),
        ("type", bound(&[]), |cv| one_value(Ok(JqValue::text(kind(&cv.1))))),
        ("length", bound(&[]), |cv| one_value(length(&cv.1))),
        ("utf8bytelength", bound(&[]), |cv| {
            let length = cv.1.as_text().map(|text| text.len().into());
            one_value(length.ok_or_else(|| type_error(&cv.1, "only strings have UTF-8 byte length")))
        }),
        ("has", bound(&["$key"]), |mut cv| one_value(has(&cv.1, &cv.0.pop_var()))),
        ("contains", bound(&["$part"]), |mut cv| {
            let part = cv.0.pop_var();
            one_value(contains(&cv.1, &part))
        }),
        ("keys_unsorted", bound(&[]), |cv| one_value(keys(&cv.1))),
        ("indices", bound(&["$part"]), |mut cv| {
            let part = cv.0.pop_var();
            one_value(indices(&cv.1, &part))
        }),
        ("_flatten", bound(&["$depth"]), |mut cv| {
            let depth = cv.0.pop_var();
            one_value(flatten(&cv.1, &depth))
        }),
        ("bsearch", bound(&["$target"]), |mut cv| {
            let target = cv.0.pop_var();
            one_value(binary_search(&cv.1, &target))
        }),
        ("startswith", bound(&["$start"]), |mut cv| {
            let start = cv.0.pop_var();
            one_value(match (cv.1.as_text(), start.as_text()) {
                (Some(text), Some(start)) => Ok(text.starts_with(start).into()),
                _ => Err(JqError::str("startswith() requires string inputs")),
            })
        }),
        ("endswith", bound(&["$end"]), |mut cv| {
            let end = cv.0.pop_var();
            one_value(match (cv.1.as_text(), end.as_text()) {
                (Some(text), Some(end)) => Ok(text.ends_with(end).into()),
                _ => Err(JqError::str("endswith() requires string inputs")),
            })
        }),
        ("split", bound(&["$separator"]), |mut cv| {
            let separator = cv.0.pop_var();
            one_value(match (cv.1.as_text(), separator.as_text()) {
                (Some(_), Some(_)) => cv.1 / separator,
                _ => Err(JqError::str("split input and separator must be strings")),
            })
        }),
        ("join", bound(&["$separator"]), |mut cv| {
            let separator = cv.0.pop_var();
            one_value(join(cv.1, &separator))
        }),
        ("explode", bound(&[]), |cv| one_value(explode(&cv.1))),
        ("implode", bound(&[]), |cv| one_value(implode(&cv.1))),
        ("trim", bound(&[]), |cv| one_value(trimmed(&cv.1, str::trim))),
        ("ltrim", bound(&[]), |cv| one_value(trimmed(&cv.1, str::trim_start))),
        ("rtrim", bound(&[]), |cv| one_value(trimmed(&cv.1, str::trim_end))),
        ("isnan", bound(&[]), |cv| one_value(Ok(float_of(&cv.1).is_ok_and(f64::is_nan).into()))),
        ("isinfinite", bound(&[]), |cv| one_value(Ok(float_of(&cv.1).is_ok_and(f64::is_infinite).into()))),
        ("isnormal", bound(&[]), |cv| one_value(Ok(float_of(&cv.1).is_ok_and(f64::is_normal).into()))),
        ("nan", bound(&[]), |_| one_value(Ok(f64::NAN.into()))),
        ("infinite", bound(&[]), |_| one_value(Ok(f64::INFINITY.into()))),
        ("significand", bound(&[]), |cv| one_value(float_of(&cv.1).map(significand))),
    ]
}

fn length(value: &JqValue) -> JqResult {
    Ok(match &value.0 {
        Val::Null => 0usize.into(),
        Val::Bool(_) => return Err(type_error(value, "has no length")),
        Val::Num(Num::Int(int)) if *int >= 0 => value.clone(),
        // NaN is less than any number, but a double.
        Val::Num(Num::Int(_) | Num::BigInt(_) | Num::Dec(_)) if value < &JqValue::from(0usize) => {
            return -value.clone();
        }
        Val::Num(Num::BigInt(_) | Num::Dec(_)) => value.clone(),
        Val::Num(number) => JqValue(Val::Num(number::from_float(number::float(number).abs()))),
        Val::TStr(text) | Val::BStr(text) => String::from_utf8_lossy(text).chars().count().into(),
        Val::Arr(values) => values.len().into(),
        Val::Obj(members) => members.len().into(),
    })
}

fn has(value: &JqValue, key: &JqValue) -> JqResult {
    match (&value.0, &key.0) {
        (Val::Null, _) => Ok(false.into()),
        (Val::Obj(members), Val::TStr(_)) => Ok(members.contains_key(&key.0).into()),
        (Val::Arr(items), Val::Num(index)) => {
            let index = number::float(index).trunc();
            Ok((index >= 0.0 && index < items.len() as f64).into())
        }
        _ => Err(JqError::str(format!("Cannot check whether {} has a {} key", kind(value), kind(key)))),
    }
}

fn contains(value: &JqValue, part: &JqValue) -> JqResult {
    if kind(value) != kind(part) {
        return Err(two_type_error(value, part, "cannot have their containment checked"));
    }
    let contained = is_contained(&value.0, &part.0, 0);
    contained.map(JqValue::from).ok_or_else(|| JqError::str("Containment check too deep"))
}

/// Return whether a value contains another; `None` if they are too deep to say.
fn is_contained(value: &Val, part: &Val, depth: usize) -> Option<bool> {
    if depth > MAX_CONTAINED_DEPTH {
        return None;
    }
    match (value, part) {
        (Val::TStr(text), Val::TStr(part)) => {
            Some(String::from_utf8_lossy(text).contains(&*String::from_utf8_lossy(part)))
        }
        (Val::Arr(items), Val::Arr(parts)) => {
            for part in parts.iter() {
                let mut found = false;
                for item in items.iter() {
                    if kind_name(item) == kind_name(part) && is_contained(item, part, depth + 1)? {
                        found = true;
                        break;
                    }
                }
                if !found {
                    return Some(false);
                }
            }
            Some(true)
        }
        (Val::Obj(members), Val::Obj(parts)) => {
            for (name, part) in parts.iter() {
                let member = members.get(name).filter(|member| kind_name(member) == kind_name(part));
                if !member.map_or(Some(false), |member| is_contained(member, part, depth + 1))? {
                    return Some(false);
                }
            }
            Some(true)
        }
        _ => Some(value == part),
    }
}

fn keys(value: &JqValue) -> JqResult {
    match &value.0 {
        Val::Arr(items) => Ok((0..items.len()).map(JqValue::from).collect()),
        Val::Obj(members) => Ok(JqValue::array(members.keys().cloned().collect())),
        _ => Err(type_error(value, "has no keys")),
    }
}

fn indices(value: &JqValue, part: &JqValue) -> JqResult {
    match (&value.0, &part.0) {
        (Val::Null, _) => Ok(JqValue::NULL),
        (Val::Arr(items), Val::Arr(part)) => Ok(JqValue(part_places(items, part))),
        (Val::Arr(items), _) => Ok(JqValue(part_places(items, std::slice::from_ref(&part.0)))),
        (Val::TStr(text), Val::TStr(sought)) => {
            let (text, sought) = (String::from_utf8_lossy(text), String::from_utf8_lossy(sought));
            if sought.is_empty() {
                return Ok(JqValue::NULL);
            }
            let places = text.char_indices().enumerate().filter(|(_, (at, _))| text[*at..].starts_with(&*sought));
            Ok(places.map(|(character, _)| JqValue::from(character)).collect())
        }
        _ => crate::value::index_value(value.clone(), part),
    }
}

fn flatten(value: &JqValue, depth: &JqValue) -> JqResult {
    let depth = float_of(depth)?;
    let mut out = Vec::new();
    // What is left of each array that is being taken apart; a stack of its own, as arrays may be nested deeply.
    let mut open = match &value.0 {
        Val::Arr(_) | Val::Obj(_) => vec![children(&value.0).into_iter()],
        _ => return Err(JqError::str(format!("Cannot iterate over {}", kind_and_text(value)))),
    };
    while let Some(items) = open.last_mut() {
        match items.next() {
            None => drop(open.pop()),
            Some(item @ Val::Arr(_)) if open.len() as f64 <= depth => open.push(children(&item).into_iter()),
            Some(item) => out.push(item),
        }
    }
    Ok(JqValue::array(out))
}

fn children(value: &Val) -> Vec<Val> {
    match value {
        Val::Arr(items) => items.to_vec(),
        Val::Obj(members) => members.values().cloned().collect(),
        _ => Vec::new(),
    }
}

fn binary_search(value: &JqValue, target: &JqValue) -> JqResult {
    let Val::Arr(items) = &value.0 else { return Err(type_error(value, "cannot be searched from")) };
    // An equal item is sought from the middle, and NaN is less than itself.
    let (mut start, mut end) = (0, items.len());
    while start < end {
        let middle = start + (end - start) / 2;
        match target.0.cmp(&items[middle]) {
            Ordering::Equal => return Ok(middle.into()),
            Ordering::Less => end = middle,
            Ordering::Greater => start = middle + 1,
        }
    }
    Ok((-1 - start as isize).into())
}

fn join(value: JqValue, separator: &JqValue) -> JqResult {
    let mut joined: Option<Vec<u8>> = None;
    for item in value.values() {
        let item = item?;
        let mut text = match joined.take() {
            None => Vec::new(),
            Some(mut before) => {
                match &separator.0 {
                    Val::Null => {}
                    Val::TStr(separator) => before.extend_from_slice(separator),
                    _ => return Err(two_type_error(&JqValue::text(before), separator, "cannot be added")),
                }
                before
            }
        };
        match &item.0 {
            Val::Null => {}
            Val::TStr(item) => text.extend_from_slice(item),
            Val::Bool(_) | Val::Num(_) => text.extend_from_slice(json_text(&item.0).as_bytes()),
            _ => return Err(two_type_error(&JqValue::text(text), &item, "cannot be added")),
        }
        joined = Some(text);
    }
    Ok(JqValue::text(joined.unwrap_or_default()))
}

fn explode(value: &JqValue) -> JqResult {
    let text = value.as_text().ok_or_else(|| JqError::str("explode input must be a string"))?;
    Ok(String::from_utf8_lossy(text).chars().map(|character| JqValue::from(character as usize)).collect())
}

fn implode(value: &JqValue) -> JqResult {
    let Val::Arr(codes) = &value.0 else { return Err(JqError::str("implode input must be an array")) };
    let mut text = String::with_capacity(codes.len());
    for code in codes.iter() {
        let float = match code {
            Val::Num(number) => number::float(number),
            _ => f64::NAN,
        };
        if float.is_nan() {
            let what = "can't be imploded, unicode codepoint needs to be numeric";
            return Err(type_error(&JqValue(code.clone()), what));
        }
        let code = if float >= 0.0 { float as u32 } else { u32::MAX };
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
    }
    Ok(JqValue::text(text))
}

fn trimmed(value: &JqValue, trim: fn(&str) -> &str) -> JqResult {
    let text = value.as_text().ok_or_else(|| JqError::str("trim input must be a string"))?;
    Ok(JqValue::text(trim(&String::from_utf8_lossy(text))))
}

fn float_of(value: &JqValue) -> JqResult<f64> {
    match &value.0 {
        Val::Num(number) => Ok(number::float(number)),
        _ => Err(type_error(value, "number required")),
    }
}

/// Return a number's digits with a binary exponent of zero.
fn significand(float: f64) -> JqValue {
    if float == 0.0 || !float.is_finite() {
        return float.into();
    }
    let mut scaled = float;
    while scaled.abs() >= 2.0 {
        scaled /= 2.0;
    }
    while scaled.abs() < 1.0 {
        scaled *= 2.0;
    }
    JqValue(Val::Num(number::from_float(scaled)))
}
