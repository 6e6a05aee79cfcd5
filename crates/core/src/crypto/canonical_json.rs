//! JSON exactly as the coordinator's Python writes it (`json.dumps(..., sort_keys=True)`), byte for byte, since its
//! hashes and signatures are computed over these bytes.
//!
//! Keys are sorted by code point, everything outside printable ASCII is escaped as `\uXXXX` (surrogate pairs beyond the
//! basic plane), floats are written as Python's `repr` does. Integers from -2^63 to 2^64 - 1 keep every digit.

use std::io::Write as _;

use serde_json::{Map, Number, Value};
use sha2::{Digest as _, Sha256};

/// Canonical JSON of a receipt, the input of its signature: null members and null list items are left out, separators
/// are `,` and `:`.
pub fn canonical_receipt_json(value: &Value) -> Vec<u8> {
    JsonStyle { item: b",", colon: b":", nulls: false }.bytes(value)
}

/// Canonical JSON of an audit entry, the input of its hash: nulls are written, separators are `,` and `:`.
pub fn canonical_audit_json(value: &Value) -> Vec<u8> {
    JsonStyle { item: b",", colon: b":", nulls: true }.bytes(value)
}

/// Canonical JSON of an execution's results, the input of their hash: nulls are written, separators are Python's
/// defaults, `, ` and `: `.
pub fn canonical_results_json(value: &Value) -> Vec<u8> {
    JsonStyle { item: b", ", colon: b": ", nulls: true }.bytes(value)
}

/// SHA-256 of `bytes` as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Separators and treatment of nulls, in which the coordinator's three forms differ.
struct JsonStyle {
    item: &'static [u8],
    colon: &'static [u8],
    nulls: bool,
}

impl JsonStyle {
    fn bytes(&self, value: &Value) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.value(value, &mut out);
        out
    }

    fn value(&self, value: &Value, out: &mut Vec<u8>) {
        match value {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Number(number) => write_number(number, out),
            Value::String(text) => write_string(text, out),
            Value::Array(items) => self.array(items, out),
            Value::Object(members) => self.object(members, out),
        }
    }

    fn kept(&self, value: &Value) -> bool {
        self.nulls || !value.is_null()
    }

    fn array(&self, items: &[Value], out: &mut Vec<u8>) {
        out.push(b'[');
        for (place, item) in items.iter().filter(|item| self.kept(item)).enumerate() {
            if place > 0 {
                out.extend_from_slice(self.item);
            }
            self.value(item, out);
        }
        out.push(b']');
    }

    fn object(&self, members: &Map<String, Value>, out: &mut Vec<u8>) {
        out.push(b'{');
        // UTF-8 sorts bytewise in code point order.
        if members.keys().is_sorted() {
            self.members(members.iter(), out);
        } else {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            self.members(sorted.into_iter(), out);
        }
        out.push(b'}');
    }

    fn members<'a>(&self, members: impl Iterator<Item = (&'a String, &'a Value)>, out: &mut Vec<u8>) {
        for (place, (key, value)) in members.filter(|(_, value)| self.kept(value)).enumerate() {
            if place > 0 {
                out.extend_from_slice(self.item);
            }
            write_string(key, out);
            out.extend_from_slice(self.colon);
            self.value(value, out);
        }
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text;
    while let Some(end) = rest.bytes().position(|byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\')) {
        out.extend_from_slice(&rest.as_bytes()[..end]);
        let mut after = rest[end..].chars();
        if let Some(character) = after.next() {
            write_escaped(character, out);
        }
        rest = after.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
    out.push(b'"');
}

fn write_escaped(character: char, out: &mut Vec<u8>) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        '\u{8}' => out.extend_from_slice(b"\\b"),
        '\u{c}' => out.extend_from_slice(b"\\f"),
        other => {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            for unit in other.encode_utf16(&mut [0; 2]) {
                out.extend_from_slice(b"\\u");
                out.extend([12, 8, 4, 0].map(|shift| HEX[usize::from(*unit >> shift & 0xf)]));
            }
        }
    }
}

fn write_number(number: &Number, out: &mut Vec<u8>) {
    // Writing to a Vec never fails, so there is no error to return.
    let _ = if let Some(positive) = number.as_u64() {
        write!(out, "{positive}")
    } else if let Some(negative) = number.as_i64() {
        write!(out, "{negative}")
    } else {
        return write_float(number.as_f64().unwrap_or_default(), out);
    };
}

/// Python's `repr` of a finite float: the shortest digits that read back as the same float, in scientific notation
/// below 1e-4 and from 1e16 on, where the exponent has a sign and at least two digits.
fn write_float(float: f64, out: &mut Vec<u8>) {
    let mut buffer = [0; 32];
    let mut text = format_into(&mut buffer, format_args!("{float:e}"));
    let digits = text.iter().take_while(|byte| **byte != b'e').filter(|byte| byte.is_ascii_digit()).count();
    // Halfway between two shortest forms Rust takes the upper, Python the even one. Fewer than 16 digits are never
    // halfway, since up to 15 name each float once.
    let mut even = [0; 32];
    if digits >= 16 {
        let rounded = format_into(&mut even, format_args!("{float:.*e}", digits - 1));
        if std::str::from_utf8(rounded).is_ok_and(|text| text.parse() == Ok(float)) {
            text = rounded;
        }
    }
    let (sign, text) = text.split_at(usize::from(text.starts_with(b"-")));
    let split = text.iter().position(|byte| *byte == b'e').unwrap_or(text.len());
    let (mantissa, exponent) = (&text[..split], parse_exponent(&text[(split + 1).min(text.len())..]));
    let (first, others) = mantissa.split_at(1.min(mantissa.len()));
    let others = others.strip_prefix(b".").unwrap_or(others);

    out.extend_from_slice(sign);
    match exponent {
        0..16 => {
            let whole = exponent as usize;
            out.extend_from_slice(first);
            out.extend_from_slice(&others[..whole.min(others.len())]);
            out.extend(std::iter::repeat_n(b'0', whole.saturating_sub(others.len())));
            out.push(b'.');
            out.extend_from_slice(if others.len() > whole { &others[whole..] } else { b"0" });
        }
        -4..0 => {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', (-exponent - 1) as usize));
            out.extend_from_slice(first);
            out.extend_from_slice(others);
        }
        _ => {
            out.extend_from_slice(mantissa);
            let _ = write!(out, "e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs());
        }
    }
}

/// Format `text` into `buffer`. 32 bytes suffice: a float has at most 17 digits, sign, point and exponent, 24 in all.
fn format_into<'a>(buffer: &'a mut [u8; 32], text: std::fmt::Arguments<'_>) -> &'a [u8] {
    let mut free = &mut buffer[..];
    let _ = free.write_fmt(text);
    let length = 32 - free.len();
    &buffer[..length]
}

fn parse_exponent(text: &[u8]) -> i32 {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let size = digits.iter().fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'));
    if negative { -size } else { size }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../../../tests/fixtures/vectors/receipts.json")).unwrap()
    }

    #[test]
    fn the_coordinators_vectors_come_out_byte_for_byte() {
        let vectors = vectors();
        let vectors = vectors["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 5);
        for vector in vectors {
            let payload = &vector["payload"];
            assert_eq!(String::from_utf8(canonical_receipt_json(payload)).unwrap(), vector["canonical"]);
            assert_eq!(sha256_hex(&canonical_receipt_json(payload)), vector["sha256"]);
            assert_eq!(String::from_utf8(canonical_audit_json(payload)).unwrap(), vector["audit_canonical"]);
            assert_eq!(sha256_hex(&canonical_audit_json(payload)), vector["audit_sha256"]);
            assert_eq!(sha256_hex(&canonical_results_json(payload)), vector["results_sha256"]);
        }
    }

    #[test]
    fn floats_print_as_pythons_repr_does() {
        // Made by Python: pairs of a float's bits (hex) and its repr.
        let pairs: Vec<(String, String)> =
            serde_json::from_str(include_str!("../../../../tests/fixtures/vectors/python_floats.json")).unwrap();
        assert!(pairs.len() > 300);
        for (bits, repr) in pairs {
            let float = f64::from_bits(u64::from_str_radix(&bits, 16).unwrap());
            assert_eq!(String::from_utf8(canonical_receipt_json(&json!(float))).unwrap(), repr, "bits {bits}");
        }
    }

    #[test]
    fn every_escape_of_python_and_no_other() {
        let text = "\u{0}\u{8}\t\n\u{b}\u{c}\r\u{1f} !\"/\\~\u{7f}\u{80}\u{ffff}\u{10000}\u{10ffff}";
        let expected = r#""\u0000\b\t\n\u000b\f\r\u001f !\"/\\~\u007f\u0080\uffff\ud800\udc00\udbff\udfff""#;
        assert_eq!(String::from_utf8(canonical_receipt_json(&json!(text))).unwrap(), expected);
    }

    #[test]
    fn separators_of_the_results_form_are_pythons_defaults() {
        let value = json!({"b": [1, null, {"c": null}], "a": {}, "d": []});
        assert_eq!(canonical_results_json(&value), br#"{"a": {}, "b": [1, null, {"c": null}], "d": []}"#);
    }

    #[test]
    fn a_null_alone_stays() {
        assert_eq!(canonical_receipt_json(&Value::Null), b"null");
        assert_eq!(canonical_receipt_json(&json!([null])), b"[]");
        assert_eq!(canonical_receipt_json(&json!({"a": null})), b"{}");
    }

    fn without_nulls(value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().filter(|item| !item.is_null()).map(without_nulls).collect(),
            Value::Object(members) => members
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key.clone(), without_nulls(value)))
                .collect(),
            other => other.clone(),
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<u64>().prop_map(|bits| json!(f64::from_bits(bits))),
            (any::<i32>(), -20..20i32).prop_map(|(digits, power)| json!(f64::from(digits) * 10f64.powi(power))),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..8).prop_map(|all| all.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in json_value()) {
            let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
            prop_assert_eq!(read(canonical_receipt_json(&value)), without_nulls(&value));
            prop_assert_eq!(read(canonical_audit_json(&value)), value.clone());
            prop_assert_eq!(read(canonical_results_json(&value)), value);
        }

        #[test]
        fn the_order_of_members_changes_nothing(members in prop::collection::vec((any::<String>(), any::<i64>()), 0..8)) {
            let forwards: std::collections::BTreeMap<_, _> = members.iter().cloned().collect();
            let one: Value = forwards.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
            let two: Value = forwards.iter().rev().map(|(key, value)| (key.clone(), json!(value))).collect();
            prop_assert_eq!(canonical_receipt_json(&one), canonical_receipt_json(&two));
            prop_assert!(canonical_receipt_json(&one).is_ascii());
        }

        #[test]
        fn writing_again_what_was_read_gives_the_same_bytes(value in json_value()) {
            let once = canonical_receipt_json(&value);
            prop_assert_eq!(canonical_receipt_json(&serde_json::from_slice(&once).unwrap()), once);
        }
    }
}
