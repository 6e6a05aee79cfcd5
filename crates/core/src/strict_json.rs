//! JSON that has one meaning only: for what is verified, where a reader that takes a member's first value and one that takes
//! its last must see the same.

use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::json_number::{JsonReadError, exact_numbers};

/// Parse one JSON document. Refused are, beside what is no JSON, a name given twice in one object, at any depth, and numbers
/// that would not be kept.
///
/// # Errors
/// Returns the reason in words, with the place where it was found.
pub fn parse_strict_json(text: &[u8]) -> Result<Value, JsonReadError> {
    let exact = exact_numbers(text)?;
    let mut reader = serde_json::Deserializer::from_slice(&exact);
    let value = StrictValue.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
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
        for text in ["18446744073709551616", "-9223372036854775809", r#"{"a": [1, 1e3, 99999999999999999999]}"#] {
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
                prop_assert_eq!(crate::json_number::read_json::<Value>(text.as_bytes()).unwrap(), value);
            }
        }
    }
}
