//! Messages of errors, as jq words them.

use std::fmt::Write as _;

use jaq_json::Val;

use super::{JqError, JqValue, write::JsonText};

/// Maximum length of a value in a message, in bytes; what is longer is cut and ends in `...`.
const MAX_QUOTED_BYTES: usize = 29;

/// Return the kind of a value, as jq names it.
pub fn kind_name(value: &Val) -> &'static str {
    match value {
        Val::Null => "null",
        Val::Bool(_) => "boolean",
        Val::Num(_) => "number",
        Val::TStr(_) | Val::BStr(_) => "string",
        Val::Arr(_) => "array",
        Val::Obj(_) => "object",
    }
}

/// Return the kind of a value, and in parentheses the beginning of its JSON.
pub fn kind_and_text(value: &JqValue) -> String {
    format!("{} ({})", kind_name(&value.0), quoted(value))
}

/// Return the beginning of a value's JSON.
pub fn quoted(value: &JqValue) -> String {
    let mut text = BoundedText(String::new());
    // An error says only that the text has come to its bound.
    let _ = write!(text, "{}", JsonText(&value.0));
    let mut text = text.0;
    if text.len() > MAX_QUOTED_BYTES {
        let close = match text.as_bytes()[0] {
            b'"' => "\"",
            b'[' => "]",
            b'{' => "}",
            _ => "",
        };
        text.truncate(text.floor_char_boundary(MAX_QUOTED_BYTES - "...".len() - close.len()));
        text.push_str("...");
        text.push_str(close);
    }
    text
}

/// Text that takes no more than is needed to see that it is too long.
struct BoundedText(String);

impl std::fmt::Write for BoundedText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() > MAX_QUOTED_BYTES {
            return Err(std::fmt::Error);
        }
        self.0.push_str(&text[..text.floor_char_boundary(4 * MAX_QUOTED_BYTES)]);
        Ok(())
    }
}

/// Return the error of a value that `what` says more of.
pub fn type_error(value: &JqValue, what: &str) -> JqError {
    JqError::str(format!("{} {what}", kind_and_text(value)))
}

/// Return the error of two values that `what` says more of.
pub fn two_type_error(left: &JqValue, right: &JqValue, what: &str) -> JqError {
    JqError::str(format!("{} and {} {what}", kind_and_text(left), kind_and_text(right)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut() {
        let quoted = |text: &str| quoted(&JqValue(jaq_json::read::parse_single(text.as_bytes()).unwrap()));
        assert_eq!(quoted("[1,2.0,\"a\"]"), "[1,2.0,\"a\"]");
        assert_eq!(quoted(&format!("\"{}\"", "a".repeat(27))), format!("\"{}\"", "a".repeat(27)));
        assert_eq!(quoted(&format!("\"{}\"", "a".repeat(28))), format!("\"{}...\"", "a".repeat(24)));
        assert_eq!(quoted(&"1".repeat(40)), format!("{}...", "1".repeat(26)));
        assert_eq!(quoted(&format!("[{}1]", "1,".repeat(100_000))), "[1,1,1,1,1,1,1,1,1,1,1,1,...]");
        assert_eq!(quoted(&format!("\"{}\"", "ä".repeat(1000))), format!("\"{}...\"", "ä".repeat(12)));
    }
}
