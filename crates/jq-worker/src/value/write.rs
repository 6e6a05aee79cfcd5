//! JSON text of values inside programs (`tojson`, `tostring`), by jq's rules.

use std::fmt;

use jaq_json::Val;

use super::number;

/// Maximum nesting of a text; what is deeper is left out, as jq does it.
const MAX_TEXT_DEPTH: usize = 10_000;

/// A value that is displayed as JSON.
pub struct JsonText<'a>(pub &'a Val);

/// Return the JSON text of a value.
pub fn json_text(value: &Val) -> String {
    JsonText(value).to_string()
}

impl fmt::Display for JsonText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_value(self.0, 0, f)
    }
}

fn write_value(value: &Val, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if depth > MAX_TEXT_DEPTH {
        return f.write_str("\"<skipped: too deep>\"");
    }
    match value {
        Val::Null => f.write_str("null"),
        Val::Bool(true) => f.write_str("true"),
        Val::Bool(false) => f.write_str("false"),
        Val::Num(number) => f.write_str(&number::text(number)),
        Val::TStr(text) | Val::BStr(text) => write_string(text, f),
        Val::Arr(values) => {
            f.write_str("[")?;
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    f.write_str(",")?;
                }
                write_value(value, depth + 1, f)?;
            }
            f.write_str("]")
        }
        Val::Obj(members) => {
            f.write_str("{")?;
            for (index, (key, value)) in members.iter().enumerate() {
                if index > 0 {
                    f.write_str(",")?;
                }
                write_value(key, depth + 1, f)?;
                f.write_str(":")?;
                write_value(value, depth + 1, f)?;
            }
            f.write_str("}")
        }
    }
}

fn write_string(text: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    let text = String::from_utf8_lossy(text);
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..0x20 | 0x7f => "",
            _ => continue,
        };
        f.write_str(&text[plain..at])?;
        plain = at + 1;
        if short.is_empty() {
            write!(f, "\\u{byte:04x}")?;
        } else {
            f.write_str(short)?;
        }
    }
    f.write_str(&text[plain..])?;
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_as_jq_writes_them() {
        for text in [r#"{"a":[1,2.50,"b\u007f\u0001\n\\\"ä"],"b":null}"#, "[]", "{}", "[true,false]"] {
            assert_eq!(json_text(&jaq_json::read::parse_single(text.as_bytes()).unwrap()), text);
        }
    }
}
