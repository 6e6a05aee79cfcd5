//! JSON encoding of jq values. jaq has more values than JSON: those without a JSON form are errors, or are written as
//! jq writes them where it has a convention.

use jaq_json::{Num, Val};

use super::value::number;

/// Maximum nesting depth: readers stop at 128 levels, and an output is nested in other documents.
const MAX_DEPTH: usize = 100;

/// Error of encoding a value.
#[derive(Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// The JSON would be longer than the limit.
    TooLarge,
    /// JSON has no such value.
    NotJson(String),
}

/// Append `value` as JSON to `out`, at most `limit` bytes.
pub fn encode_json(value: &Val, limit: usize, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let end = out.len().saturating_add(limit);
    JsonEncoder { out, end }.value(value, 0)
}

struct JsonEncoder<'a> {
    out: &'a mut Vec<u8>,
    end: usize,
}

impl JsonEncoder<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if bytes.len() > self.end - self.out.len() {
            return Err(EncodeError::TooLarge);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    fn value(&mut self, value: &Val, depth: usize) -> Result<(), EncodeError> {
        if depth > MAX_DEPTH {
            return Err(EncodeError::NotJson(format!("the output is nested deeper than {MAX_DEPTH} levels")));
        }
        match value {
            Val::Null => self.put(b"null"),
            Val::Bool(true) => self.put(b"true"),
            Val::Bool(false) => self.put(b"false"),
            Val::Num(number) => self.number(number),
            Val::TStr(text) => self.string(text),
            Val::BStr(_) => Err(EncodeError::NotJson("the output holds raw bytes".into())),
            Val::Arr(values) => {
                self.put(b"[")?;
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        self.put(b",")?;
                    }
                    self.value(value, depth + 1)?;
                }
                self.put(b"]")
            }
            Val::Obj(members) => {
                self.put(b"{")?;
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        self.put(b",")?;
                    }
                    let Val::TStr(key) = key else {
                        return Err(EncodeError::NotJson("the output has an object key that is not a string".into()));
                    };
                    self.string(key)?;
                    self.put(b":")?;
                    self.value(value, depth + 1)?;
                }
                self.put(b"}")
            }
        }
    }

    fn string(&mut self, text: &[u8]) -> Result<(), EncodeError> {
        // Checked first because escapes only make it longer, so that a huge string is not copied.
        if text.len() > self.end - self.out.len() {
            return Err(EncodeError::TooLarge);
        }
        let start = self.out.len();
        let text = String::from_utf8_lossy(text);
        serde_json::to_writer(&mut *self.out, &text).map_err(|error| EncodeError::NotJson(error.to_string()))?;
        if self.out.len() > self.end {
            self.out.truncate(start);
            return Err(EncodeError::TooLarge);
        }
        Ok(())
    }

    /// As in jq, NaN is null, and numbers beyond the range of a double are the largest double. Digits are kept as
    /// written.
    fn number(&mut self, number: &Num) -> Result<(), EncodeError> {
        let float = match number {
            Num::Int(_) | Num::Float(_) => return self.put(number::text(number).as_bytes()),
            Num::BigInt(_) | Num::Dec(_) => number::float(number),
        };
        let written = number.to_string();
        // A program may write what JSON has not, such as zeros before digits.
        if float.is_finite() && serde_json::from_str::<serde_json::Number>(&written).is_ok() {
            return self.put(written.as_bytes());
        }
        self.put(number::text(&Num::Float(float)).as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(value: &Val) -> Result<String, EncodeError> {
        let mut out = Vec::new();
        encode_json(value, 1 << 20, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    fn read(text: &str) -> Val {
        jaq_json::read::parse_single(text.as_bytes()).unwrap()
    }

    #[test]
    fn numbers_keep_their_digits_where_json_has_them() {
        for text in ["9007199254740993", "1e16", "0.1", "1.10", "-0.0", "18446744073709551616", "5e-324"] {
            assert_eq!(json(&read(text)).unwrap(), text);
        }
        assert_eq!(json(&Val::from(1e16)).unwrap(), "1e+16");
        assert_eq!(json(&Val::from(f64::NAN)).unwrap(), "null");
        assert_eq!(json(&Val::from(f64::NEG_INFINITY)).unwrap(), "-1.7976931348623157e+308");
        assert_eq!(json(&read("1e999")).unwrap(), "1.7976931348623157e+308");
        assert_eq!(json(&read(&"9".repeat(400))).unwrap(), "1.7976931348623157e+308");
        assert_eq!(json(&read("+1.5")).unwrap(), "1.5");
    }

    #[test]
    fn what_json_cannot_say_is_an_error() {
        assert!(matches!(json(&Val::byte_str(vec![1])), Err(EncodeError::NotJson(_))));
        assert!(matches!(json(&read("{1: 2}")), Err(EncodeError::NotJson(_))));
        assert_eq!(json(&Val::utf8_str(vec![b'a', 0xff])).unwrap(), "\"a\u{fffd}\"");
        let nested = |levels| json(&read(&("[".repeat(levels) + &"]".repeat(levels))));
        assert!(nested(MAX_DEPTH + 1).is_ok());
        assert!(matches!(nested(MAX_DEPTH + 2), Err(EncodeError::NotJson(_))));
    }

    proptest! {
        #[test]
        fn reads_back_as_the_same_and_stops_at_the_limit(text in any::<String>(), ints in any::<Vec<i64>>()) {
            let value = serde_json::json!({ text.clone(): [text, ints, null, true] });
            let text = value.to_string();
            let jq = read(&text);
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&json(&jq).unwrap()).unwrap(), value);
            let exact = json(&jq).unwrap().len();
            prop_assert_eq!(encode_json(&jq, exact, &mut Vec::new()), Ok(()));
            let mut out = b"before".to_vec();
            prop_assert_eq!(encode_json(&jq, exact - 1, &mut out), Err(EncodeError::TooLarge));
            prop_assert!(out.len() < "before".len() + exact);
        }
    }
}
