//! Numbers of JSON documents: which of them are kept exactly, and their order.
//!
//! Integers are kept from -2^63 to 2^64 - 1. A number with a fraction or an exponent is a double, as for Python's `json`.
//! serde_json would read an integer beyond 64 bits as the nearest double, so every document that comes from outside is
//! looked through before: [`read_json`] parses it, or says where the number stands that can't be kept.

use std::{borrow::Cow, cmp::Ordering, ops::Range};

use serde::de::DeserializeOwned;
use serde_json::Number;

use crate::validation::{FieldPath, PathSegment, Violation};

/// Maximum number of characters of a number that are quoted in an error.
const MAX_QUOTED_CHARS: usize = 40;
/// Number of digits that always fit 64 bits.
const SAFE_DIGITS: usize = 18;
/// Number of digits that are always within the range of a double.
const SAFE_FLOAT_DIGITS: usize = 308;

/// Number of a document that would not be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", pointer_prefix(.path))]
pub struct InexactNumber {
    /// Path to the number from the document's root.
    pub path: FieldPath,
    /// Description of the error.
    pub message: String,
}

impl From<InexactNumber> for Violation {
    fn from(error: InexactNumber) -> Self {
        Self::new(error.path, error.message)
    }
}

fn pointer_prefix(path: &FieldPath) -> String {
    if path.segments().is_empty() { String::new() } else { format!("{path}: ") }
}

/// Error of reading a document from outside.
#[derive(Debug, thiserror::Error)]
pub enum JsonReadError {
    /// A number would not be kept.
    #[error(transparent)]
    Number(#[from] InexactNumber),
    /// The text is not JSON, or not the JSON of the wanted type.
    #[error(transparent)]
    Syntax(#[from] serde_json::Error),
}

/// Parse a document that comes from outside.
///
/// # Errors
/// Fails when a number would not be kept, or the text can't be read as `T`.
pub fn read_json<T: DeserializeOwned>(text: &[u8]) -> Result<T, JsonReadError> {
    Ok(serde_json::from_slice(&exact_numbers(text)?)?)
}

/// Return `text` with each integer `-0` written as `0`, which serde_json would read as the double -0.0; the length stays
/// the same. Text that is not JSON is returned as it is, or refused for something that looks like a number.
///
/// # Errors
/// The first number that would not be kept.
pub fn exact_numbers(text: &[u8]) -> Result<Cow<'_, [u8]>, InexactNumber> {
    let mut out = Cow::Borrowed(text);
    let mut rest = 0;
    while let Some(at) = next_number(text, &mut rest) {
        let number = &text[at.clone()];
        match check_number(number) {
            NumberFate::Kept => {}
            NumberFate::NegativeZero => out.to_mut()[at].copy_from_slice(b" 0"),
            NumberFate::Lost(why) => {
                let quoted = String::from_utf8_lossy(&number[..number.len().min(MAX_QUOTED_CHARS)]);
                let more = if number.len() > MAX_QUOTED_CHARS { "…" } else { "" };
                let message = format!("The number {quoted}{more} {why}");
                return Err(InexactNumber { path: path_to(text, at.start), message });
            }
        }
    }
    Ok(out)
}

/// Return the place of the next number at or behind `from`, which is moved behind it.
fn next_number(text: &[u8], from: &mut usize) -> Option<Range<usize>> {
    let mut at = *from;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = string_end(text, at),
            b'-' | b'0'..=b'9' => {
                let start = at;
                let part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                at += text[at..].iter().take_while(|byte| part(byte)).count();
                *from = at;
                return Some(start..at);
            }
            _ => at += 1,
        }
    }
    *from = at;
    None
}

/// Return the position behind the string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

enum NumberFate {
    Kept,
    NegativeZero,
    Lost(&'static str),
}

/// Decide about a number; what is no number is left to the parser.
fn check_number(number: &[u8]) -> NumberFate {
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    if digits.iter().all(u8::is_ascii_digit) {
        if number == b"-0" {
            return NumberFate::NegativeZero;
        }
        let fits = digits.len() <= SAFE_DIGITS
            || std::str::from_utf8(number).is_ok_and(|text| text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok());
        return if fits { NumberFate::Kept } else { NumberFate::Lost("has more than 64 bits; send it as a string") };
    }
    let small = number.len() <= SAFE_FLOAT_DIGITS && !number.iter().any(|byte| matches!(byte, b'e' | b'E'));
    let infinite = || std::str::from_utf8(number).is_ok_and(|text| text.parse().is_ok_and(f64::is_infinite));
    if !small && infinite() {
        return NumberFate::Lost("is beyond the range of a double; send it as a string");
    }
    NumberFate::Kept
}

/// Return the path to the value at `end`.
fn path_to(text: &[u8], end: usize) -> FieldPath {
    let mut path: Vec<PathSegment> = Vec::new();
    let mut at = 0;
    while at < end {
        match text[at] {
            b'{' => path.push("".into()),
            b'[' => path.push(0.into()),
            b'}' | b']' => drop(path.pop()),
            b',' => {
                if let Some(PathSegment::Item(item)) = path.last_mut() {
                    *item += 1;
                }
            }
            b'"' => {
                let behind = string_end(text, at);
                let is_name = text[behind..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
                if let Some(PathSegment::Member(name)) = path.last_mut().filter(|_| is_name) {
                    *name = serde_json::from_slice(&text[at..behind]).unwrap_or_default();
                }
                at = behind;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    path.into_iter().collect()
}

/// Compare two numbers by their values, exactly: an integer is never rounded to a double.
pub fn compare_numbers(left: &Number, right: &Number) -> Ordering {
    let whole = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    let float = |number: &Number| number.as_f64().unwrap_or_default();
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        (Some(left), None) => compare_with_float(left, float(right)),
        (None, Some(right)) => compare_with_float(right, float(left)).reverse(),
        (None, None) => float(left).partial_cmp(&float(right)).unwrap_or(Ordering::Equal),
    }
}

/// Compare an integer of at most 65 bits with a finite double.
fn compare_with_float(whole: i128, float: f64) -> Ordering {
    // The conversion saturates beyond 128 bits, so such a double stays beyond any integer here.
    whole.cmp(&(float.trunc() as i128)).then_with(|| 0.0.partial_cmp(&float.fract()).unwrap_or(Ordering::Equal))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::crypto::canonical_audit_json;

    fn refusal(text: &str) -> String {
        match read_json::<Value>(text.as_bytes()) {
            Err(JsonReadError::Number(error)) => error.to_string(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_would_not_be_kept_is_named_with_its_place() {
        let table = [
            ("18446744073709551616", "The number 18446744073709551616 has more than 64 bits"),
            ("-9223372036854775809", "The number -9223372036854775809 has more than 64 bits"),
            (r#"{"a": {"b": [1, {"c": 99999999999999999999}]}}"#, "a.b.1.c: The number 99999999999999999999 has"),
            (r#"{"a,[": [{"x": [1, 2]}, "1e400", 1e400]}"#, "a,[.2: The number 1e400 is beyond the range of a double"),
            (r#"{"é\"": -1E+309}"#, "é\": The number -1E+309 is beyond"),
            (r#"[[], {}, -123456789012345678901234567890]"#, "2: The number -123456789012345678901234567890 has"),
        ];
        for (text, expected) in table {
            assert!(refusal(text).starts_with(expected), "{text}: {}", refusal(text));
        }
        assert!(refusal(&"9".repeat(400)).contains(&format!("{}… has", "9".repeat(40))));
        assert!(refusal(&format!("{}.0", "9".repeat(400))).contains("range of a double"));
    }

    #[test]
    fn all_other_numbers_are_read_as_python_reads_them() {
        let table = [
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("-0", "0"),
            ("[-0,-0.0, -0e1]", "[0,-0.0,-0.0]"),
            ("1e5", "100000.0"),
            ("0.10", "0.1"),
            ("1e-400", "0.0"),
            ("18446744073709551616.0", "1.8446744073709552e+19"),
            (r#"{"-0": "-0", "n": "99999999999999999999 1e999 \" 1e999"}"#, ""),
        ];
        for (text, python) in table {
            let read = read_json::<Value>(text.as_bytes()).unwrap();
            if !python.is_empty() {
                assert_eq!(String::from_utf8(canonical_audit_json(&read)).unwrap(), python, "{text}");
            }
        }
    }

    #[test]
    fn integers_are_compared_without_rounding() {
        let number = |text: &str| serde_json::from_str::<Number>(text).unwrap();
        let ascending = [
            "-1e300",
            "-9223372036854775808",
            "-9223372036854775807",
            "-1.5",
            "-1",
            "0",
            "5e-324",
            "0.5",
            "1",
            "9007199254740992",
            "9007199254740993",
            "9007199254740994.0",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "18446744073709551616.0",
            "1e300",
        ];
        for (at, left) in ascending.iter().enumerate() {
            for (other, right) in ascending.iter().enumerate() {
                assert_eq!(compare_numbers(&number(left), &number(right)), at.cmp(&other), "{left} {right}");
            }
        }
        for (left, right) in [("1", "1.0"), ("0", "-0.0"), ("9007199254740992", "9007199254740992.0")] {
            assert_eq!(compare_numbers(&number(left), &number(right)), Ordering::Equal, "{left} {right}");
        }
    }

    fn number_text() -> impl Strategy<Value = String> {
        prop_oneof!["-?(0|[1-9][0-9]{0,40})", "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",]
    }

    proptest! {
        #[test]
        fn an_integer_keeps_every_digit_or_is_refused(
            text in number_text(),
            name in "[a-z\"\\\\\\[\\]{},: 0-9é-]{0,6}",
            before in prop::collection::vec(any::<i32>(), 0..3),
        ) {
            let items: Vec<String> = before.iter().map(i32::to_string).chain([text.clone()]).collect();
            let body = format!("{{\"x\":[1],{}:{{\"list\":[{}]}}}}", json!(name), items.join(","));
            match read_json::<Value>(body.as_bytes()) {
                Ok(read) => {
                    let number = &read[&name]["list"][before.len()];
                    if text.bytes().skip(1).all(|byte| byte.is_ascii_digit()) {
                        let kept = if text == "-0" { "0" } else { &text };
                        prop_assert_eq!(String::from_utf8(canonical_audit_json(number)).unwrap(), kept);
                    } else {
                        prop_assert_eq!(number.as_f64().unwrap().to_bits(), text.parse::<f64>().unwrap().to_bits());
                    }
                }
                Err(JsonReadError::Number(error)) => {
                    let path: FieldPath = [PathSegment::from(&name), "list".into(), before.len().into()].into_iter().collect();
                    prop_assert_eq!(error.path, path);
                    prop_assert!(text.parse::<i128>().map_or(true, |whole| whole > u64::MAX.into() || whole < i64::MIN.into()));
                }
                Err(error) => prop_assert!(false, "{body}: {error}"),
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..60)) {
            let exact = read_json::<Value>(&text);
            if let Ok(value) = serde_json::from_slice::<Value>(&text) {
                prop_assert!(exact.is_err() || exact.is_ok_and(|exact| exact == value || value.to_string().contains("-0.0")));
            }
        }

        #[test]
        fn the_order_is_that_of_the_values(left in any::<i64>(), right in any::<u64>(), float in -1e20..1e20f64) {
            prop_assert_eq!(compare_numbers(&left.into(), &right.into()), i128::from(left).cmp(&i128::from(right)));
            let float = Number::from_f64(float).unwrap();
            prop_assert_eq!(compare_numbers(&left.into(), &float), compare_numbers(&float, &left.into()).reverse());
        }
    }
}
