//! JSON that has one meaning only: for what is verified, where a reader that takes a member's first value and one that takes
//! its last must see the same.

use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parse one JSON document. Refused are, beside what is no JSON, a name given twice in one object, at any depth, and integers
/// that do not fit 64 bits, whose digits would be lost.
///
/// # Errors
/// Returns the reason in words, with the place where it was found.
pub fn parse_strict_json(text: &[u8]) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = StrictValue.deserialize(&mut reader)?;
    reader.end()?;
    match find_long_integer(text) {
        None => Ok(value),
        Some(digits) => Err(de::Error::custom(format!("the integer {digits} does not fit 64 bits"))),
    }
}

/// The first integer outside strings that is not written as this service writes it, in at most 40 of its characters.
fn find_long_integer(text: &[u8]) -> Option<String> {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'-' | b'0'..=b'9')) {
        rest = &rest[at..];
        let length = if rest[0] == b'"' { string_length(rest) } else { number_length(rest) };
        let token = &rest[..length];
        let is_integer = rest[0] != b'"' && !token.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
        if is_integer && !fits(token) {
            return Some(String::from_utf8_lossy(&token[..length.min(40)]).into_owned());
        }
        rest = &rest[length..];
    }
    None
}

fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        byte => *byte == b'"',
    });
    end.map_or(text.len(), |end| end + 2)
}

fn number_length(text: &[u8]) -> usize {
    let number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    text.iter().position(|byte| !number(byte)).unwrap_or(text.len())
}

/// Whether an integer is read without loss; `-0` would become the float −0.0.
fn fits(token: &[u8]) -> bool {
    let text = std::str::from_utf8(token).unwrap_or_default();
    text != "-0" && (text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok())
}

struct StrictValue;

impl<'de> DeserializeSeed<'de> for StrictValue {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictValue {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(truth.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(StrictValue)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(de::Error::custom(format!("the name {name:?} is given twice in one object")));
            }
            let value = members.next_value_seed(StrictValue)?;
            object.insert(name, value);
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_given_twice_is_refused_at_any_depth() {
        for text in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"x": {"a": 1, "b": 2, "a": 3}}"#,
            r#"[{"a": [{"b": 1, "b": null}]}]"#,
            r#"{"a": 1, "\u0061": 2}"#,
        ] {
            let error = parse_strict_json(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("is given twice"), "{text}: {error}");
        }
        assert!(parse_strict_json(br#"{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}"#).is_ok());
    }

    #[test]
    fn integers_keep_their_digits_or_are_refused() {
        for text in ["18446744073709551616", "-9223372036854775809", r#"{"a": [1, 1e3, 99999999999999999999]}"#, "-0"] {
            assert!(parse_strict_json(text.as_bytes()).is_err(), "{text}");
        }
        for text in
            ["18446744073709551615", "-9223372036854775808", "1e30", "-0.0", r#"["99999999999999999999\"", "\\"]"#]
        {
            assert!(parse_strict_json(text.as_bytes()).is_ok(), "{text}");
        }
        for text in ["", "{", "1 2", "[1,]", "nul", "{\"a\"}"] {
            assert!(parse_strict_json(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn all_that_is_written_is_read_alike(text in r#"[\[\]{}",:0-9a\\ .eE-]{0,40}"#) {
            if let Ok(value) = parse_strict_json(text.as_bytes()) {
                prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
            }
        }
    }
}
