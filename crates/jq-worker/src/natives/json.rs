//! JSON and other texts of values.

use jaq_json::{Num, Val, read};

use super::{NativeFilters, bound, one_value};
use crate::value::{JqError, JqResult, JqValue, message::type_error, number, write};

/// Maximum nesting of a text that is read.
const MAX_READ_DEPTH: usize = 10_000;

/// Return the filters of this module.
pub fn filters() -> NativeFilters {
    vec![
        ("tojson", bound(&[]), |cv| one_value(Ok(JqValue::text(write::json_text(&cv.1.0))))),
        ("fromjson", bound(&[]), |cv| one_value(from_json(&cv.1))),
        ("tonumber", bound(&[]), |cv| one_value(to_number(cv.1))),
        ("toboolean", bound(&[]), |cv| one_value(to_boolean(cv.1))),
    ]
}

fn from_json(value: &JqValue) -> JqResult {
    let text = value.as_text().ok_or_else(|| type_error(value, "only strings can be parsed"))?;
    let invalid = |reason: &dyn std::fmt::Display| JqError::str(format!("{reason} (while parsing '{}')", shown(text)));
    match text.trim_ascii() {
        b"nan" => return Ok(f64::NAN.into()),
        b"" => return Err(invalid(&"Expected JSON value")),
        _ => {}
    }
    if nesting(text) > MAX_READ_DEPTH {
        return Err(invalid(&"Exceeds depth limit for parsing"));
    }
    let found = read::parse_single(text).map_err(|error| invalid(&error))?;
    if json_only(&found) { Ok(JqValue(found)) } else { Err(invalid(&"Invalid literal")) }
}

/// Return how deeply brackets and braces are nested in a JSON text.
fn nesting(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// Return whether a value has only what JSON has: the reader takes more.
fn json_only(value: &Val) -> bool {
    match value {
        Val::BStr(_) => false,
        Val::Arr(values) => values.iter().all(json_only),
        Val::Obj(members) => members.iter().all(|(name, value)| matches!(name, Val::TStr(_)) && json_only(value)),
        _ => true,
    }
}

fn to_number(value: JqValue) -> JqResult {
    let unfit = "cannot be parsed as a number";
    match &value.0 {
        Val::Num(_) => Ok(value),
        Val::TStr(text) => {
            let number = std::str::from_utf8(text).ok().and_then(number_of);
            number.map(|number| JqValue(Val::Num(number))).ok_or_else(|| type_error(&value, unfit))
        }
        _ => Err(type_error(&value, unfit)),
    }
}

/// Return the number that a whole text is: digits with a point, an exponent, or both; or NaN.
fn number_of(text: &str) -> Option<Num> {
    if text.eq_ignore_ascii_case("nan") {
        return Some(Num::Float(f64::NAN));
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let decimal = unsigned.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    // Such as `1e` and `.`, which are made of digits and signs too.
    let _: f64 = decimal.then(|| text.parse().ok())??;
    Some(number::literal(text))
}

fn to_boolean(value: JqValue) -> JqResult {
    match (&value.0, value.as_text()) {
        (Val::Bool(_), _) => Ok(value),
        (_, Some(b"true")) => Ok(true.into()),
        (_, Some(b"false")) => Ok(false.into()),
        _ => Err(type_error(&value, "cannot be parsed as a boolean")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_read_and_not_too_deep() {
        let read = |text: &str| from_json(&JqValue::text(text)).map(|value| value.to_string());
        assert_eq!(read(" {\"a\": [1.50, null]} ").unwrap(), r#"{"a":[1.50,null]}"#);
        for wrong in ["", "[1,]", "{1: 2}", "b\"a\"", "1 2", "'a'"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read(&"[".repeat(MAX_READ_DEPTH + 1)).unwrap_err().into_val().to_string().contains("depth limit"));
        assert_eq!(nesting(br#"[{"a\"[[[": []}]"#), 3);
    }

    #[test]
    fn numbers_are_whole_texts() {
        for (text, number) in [("1", "1"), ("-1.50", "-1.50"), (".5", ".5"), ("1e3", "1e3")] {
            assert_eq!(to_number(JqValue::text(text)).unwrap().to_string(), number);
        }
        for wrong in ["", "+", "1 ", " 1", "0x10", "1e", ".", "infinity", "1_000"] {
            assert!(to_number(JqValue::text(wrong)).is_err(), "{wrong}");
        }
    }
}
