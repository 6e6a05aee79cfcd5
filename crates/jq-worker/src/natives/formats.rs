//! Formats of texts: `@base64`, `@uri` and the like.

use std::fmt::Write as _;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jaq_json::Val;

use super::{NativeFilters, bound, one_value};
use crate::value::{JqResult, JqValue, message::type_error, number, write};

/// As jq takes it: bits that no byte needs are dropped.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const BASE32_DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Return the filters of this module.
pub fn filters() -> NativeFilters {
    vec![
        ("_csv", bound(&[]), |cv| one_value(row(&cv.1, "cannot be csv-formatted, only array", ",", "\"", &CSV))),
        ("_tsv", bound(&[]), |cv| one_value(row(&cv.1, "cannot be tsv-formatted, only array", "\t", "", &TSV))),
        ("_html", bound(&[]), |cv| one_value(Ok(JqValue::text(escaped(&plain(&cv.1), &HTML))))),
        ("_sh", bound(&[]), |cv| one_value(shell_words(&cv.1))),
        ("_uri", bound(&[]), |cv| one_value(Ok(JqValue::text(encode_uri(&plain(&cv.1)))))),
        ("_urid", bound(&[]), |cv| one_value(decode_uri(&cv.1))),
        ("_base64", bound(&[]), |cv| one_value(Ok(JqValue::text(BASE64.encode(plain(&cv.1)))))),
        ("_base64d", bound(&[]), |cv| one_value(decode_base64(&cv.1))),
        ("_base32", bound(&[]), |cv| one_value(Ok(JqValue::text(encode_base32(plain(&cv.1).as_bytes()))))),
        ("_base32d", bound(&[]), |cv| one_value(decode_base32(&cv.1))),
    ]
}

type EscapeTable = [(char, &'static str)];
const CSV: [(char, &str); 1] = [('"', "\"\"")];
const TSV: [(char, &str); 4] = [('\t', "\\t"), ('\r', "\\r"), ('\n', "\\n"), ('\\', "\\\\")];
const HTML: [(char, &str); 5] = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('\'', "&apos;"), ('"', "&quot;")];
const SHELL: [(char, &str); 1] = [('\'', "'\\''")];

/// Return a string as it is, and the JSON text of another value.
fn plain(value: &JqValue) -> String {
    match value.as_text() {
        Some(text) => String::from_utf8_lossy(text).into_owned(),
        None => write::json_text(&value.0),
    }
}

fn escaped(text: &str, escapes: &EscapeTable) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match escapes.iter().find(|(escaped, _)| *escaped == character) {
            Some((_, instead)) => out.push_str(instead),
            None => out.push(character),
        }
    }
    out
}

fn row(value: &JqValue, unfit: &str, separator: &str, quote: &str, escapes: &EscapeTable) -> JqResult {
    let Val::Arr(fields) = &value.0 else { return Err(type_error(value, unfit)) };
    let mut line = String::new();
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            line.push_str(separator);
        }
        match field {
            Val::Null => {}
            Val::Num(number) if number::float(number).is_nan() => {}
            Val::Bool(_) | Val::Num(_) => line.push_str(&write::json_text(field)),
            Val::TStr(text) => {
                line.push_str(quote);
                line.push_str(&escaped(&String::from_utf8_lossy(text), escapes));
                line.push_str(quote);
            }
            other => return Err(type_error(&JqValue(other.clone()), "is not valid in a csv row")),
        }
    }
    Ok(JqValue::text(line))
}

fn shell_words(value: &JqValue) -> JqResult {
    let words = match &value.0 {
        Val::Arr(words) => words.as_slice(),
        single => std::slice::from_ref(single),
    };
    let mut line = String::new();
    for (at, word) in words.iter().enumerate() {
        if at > 0 {
            line.push(' ');
        }
        match word {
            Val::TStr(text) => {
                line.push('\'');
                line.push_str(&escaped(&String::from_utf8_lossy(text), &SHELL));
                line.push('\'');
            }
            Val::Arr(_) | Val::Obj(_) => {
                return Err(type_error(&JqValue(word.clone()), "can not be escaped for shell"));
            }
            other => line.push_str(&write::json_text(other)),
        }
    }
    Ok(JqValue::text(line))
}

fn encode_uri(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn decode_uri(value: &JqValue) -> JqResult {
    let text = plain(value);
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    let mut valid = true;
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => valid = false,
        }
    }
    match String::from_utf8(out) {
        Ok(text) if valid => Ok(JqValue::text(text)),
        _ => Err(type_error(&JqValue::text(text), "is not a valid uri encoding")),
    }
}

fn decode_base64(value: &JqValue) -> JqResult {
    let text = plain(value);
    let digits = text.split('=').next().unwrap_or_default();
    let fault = if !digits.bytes().all(|digit| digit.is_ascii_alphanumeric() || b"+/".contains(&digit)) {
        "is not valid base64 data"
    } else if digits.len() % 4 == 1 {
        "trailing base64 byte found"
    } else {
        match BASE64.decode(digits) {
            Ok(bytes) => return Ok(JqValue::text(String::from_utf8_lossy(&bytes).into_owned())),
            Err(_) => "is not valid base64 data",
        }
    };
    Err(type_error(&JqValue::text(text), fault))
}

fn encode_base32(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(5) * 8);
    for chunk in bytes.chunks(5) {
        let mut group = [0; 5];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = group.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let digits = (chunk.len() * 8).div_ceil(5);
        for at in 0..8 {
            let digit = BASE32_DIGITS[(bits >> (35 - 5 * at)) as usize & 31];
            out.push(if at < digits { char::from(digit) } else { '=' });
        }
    }
    out
}

fn decode_base32(value: &JqValue) -> JqResult {
    let text = plain(value);
    let (mut out, mut bits, mut count) = (Vec::new(), 0u64, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let Some(digit) = BASE32_DIGITS.iter().position(|known| *known == digit) else {
            return Err(type_error(value, "is not valid base32 data"));
        };
        bits = bits << 5 | digit as u64;
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Ok(JqValue::text(String::from_utf8_lossy(&out).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(result: JqResult) -> String {
        match result {
            Ok(value) => String::from_utf8(value.as_text().unwrap().to_vec()).unwrap(),
            Err(error) => error.into_val().to_string(),
        }
    }

    #[test]
    fn encodings_go_back_and_forth() {
        for (bytes, base32) in [("", ""), ("f", "MY======"), ("fo", "MZXQ===="), ("foobar", "MZXW6YTBOI======")] {
            assert_eq!(encode_base32(bytes.as_bytes()), base32);
            assert_eq!(shown(decode_base32(&JqValue::text(base32))), bytes);
        }
        for (base64, text) in [("YQ==", "a"), ("YQ", "a"), ("YWJj=", "abc"), ("=", ""), ("YR", "a")] {
            assert_eq!(shown(decode_base64(&JqValue::text(base64))), text);
        }
        assert!(shown(decode_base64(&JqValue::text("QUJDa"))).contains("trailing base64 byte found"));
        assert!(shown(decode_base64(&JqValue::text("*"))).contains("is not valid base64 data"));
        assert_eq!(encode_uri("a b/é~"), "a%20b%2F%C3%A9~");
        assert_eq!(shown(decode_uri(&JqValue::text("a%20b%2F%c3%a9+"))), "a b/é+");
        for wrong in ["%", "%4", "%4x", "%ff"] {
            assert!(shown(decode_uri(&JqValue::text(wrong))).contains("is not a valid uri encoding"));
        }
    }

    #[test]
    fn rows_and_words_are_quoted() {
        let value = JqValue(jaq_json::read::parse_single(br#"[1, "a\"b'", null, true]"#).unwrap());
        assert_eq!(shown(row(&value, "", ",", "\"", &CSV)), r#"1,"a""b'",,true"#);
        assert_eq!(shown(row(&value, "", "\t", "", &TSV)), "1\ta\"b'\t\ttrue");
        assert_eq!(shown(shell_words(&value)), r#"1 'a"b'\''' null true"#);
        assert!(shown(row(&JqValue::text("a"), "unfit", ",", "", &CSV)).contains("unfit"));
    }
}
