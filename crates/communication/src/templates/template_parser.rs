//! Parser of content with placeholders: `{{name}}` in any string. A string that is only a placeholder becomes the value
//! itself, of whatever type; within a longer string the placeholder is replaced by the value's text. Inserted values
//! are not parsed again.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Maximum length of a placeholder's name.
const MAX_PLACEHOLDER_LEN: usize = 64;

/// A segment of a string.
enum TextSegment<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

/// The name in `{{name}}`, without surrounding spaces.
fn parse_name(text: &str) -> Option<&str> {
    let name = text.trim_matches(' ');
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let good = (1..=MAX_PLACEHOLDER_LEN).contains(&name.len())
        && name.bytes().all(fine)
        && !name.as_bytes()[0].is_ascii_digit();
    good.then_some(name)
}

/// Segments of a string; braces without a name are text.
fn parse_segments(mut text: &str) -> Vec<TextSegment<'_>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find("{{").map(|at| from + at) {
        let hole =
            text[at + 2..].find("}}").and_then(|end| Some((parse_name(&text[at + 2..at + 2 + end])?, at + end + 4)));
        match hole {
            Some((name, end)) => {
                if at > 0 {
                    found.push(TextSegment::Text(&text[..at]));
                }
                found.push(TextSegment::Placeholder(name));
                (text, from) = (&text[end..], 0);
            }
            // Continue one character later: in `{{{x}}` the placeholder starts after the first brace.
            None => from = at + 1,
        }
    }
    if !text.is_empty() {
        found.push(TextSegment::Text(text));
    }
    found
}

fn visit_strings<'a>(content: &'a Value, see: &mut impl FnMut(&'a str)) {
    match content {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| visit_strings(item, see)),
        Value::Object(members) => members.values().for_each(|member| visit_strings(member, see)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Names of the placeholders, in order and each once.
pub fn placeholder_names(content: &Value) -> Vec<String> {
    let (mut seen, mut names) = (BTreeSet::new(), Vec::new());
    visit_strings(content, &mut |text| {
        for piece in parse_segments(text) {
            if let TextSegment::Placeholder(name) = piece
                && seen.insert(name)
            {
                names.push(name.to_owned());
            }
        }
    });
    names
}

/// Replace the placeholders by values.
///
/// # Errors
/// Returns the names without a value, in order and each once.
pub fn fill_placeholders(content: &Value, values: &Map<String, Value>) -> Result<Value, Vec<String>> {
    let missing: Vec<String> =
        placeholder_names(content).into_iter().filter(|name| values.get(name).is_none_or(Value::is_null)).collect();
    if missing.is_empty() { Ok(replace_placeholders(content, values)) } else { Err(missing) }
}

fn replace_placeholders(content: &Value, values: &Map<String, Value>) -> Value {
    let value = |name: &str| values.get(name).cloned().unwrap_or_default();
    match content {
        Value::String(text) => match parse_segments(text).as_slice() {
            [TextSegment::Placeholder(name)] => value(name),
            pieces => {
                let texts = pieces.iter().map(|piece| match piece {
                    TextSegment::Text(text) => (*text).to_owned(),
                    TextSegment::Placeholder(name) => match value(name) {
                        Value::String(text) => text,
                        other => other.to_string(),
                    },
                });
                Value::String(texts.collect())
            }
        },
        Value::Array(items) => items.iter().map(|item| replace_placeholders(item, values)).collect(),
        Value::Object(members) => Value::Object(
            members.iter().map(|(name, member)| (name.clone(), replace_placeholders(member, values))).collect(),
        ),
        plain => plain.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn holes_are_filled_wherever_they_are() {
        let content = json!({
            "task": "{{task}}", "list": ["{{ n }}", {"{{key}}": "by {{who}}, {{n}} times"}], "plain": 1, "odd": "{{{who}}} {{1x}} {{",
        });
        assert_eq!(placeholder_names(&content), ["task", "n", "who"]);
        let values = object(json!({"task": {"deep": [1, null]}, "n": 2.5, "who": "{{task}}", "more": 1}));
        let expected = json!({
            "task": {"deep": [1, null]}, "list": [2.5, {"{{key}}": "by {{task}}, 2.5 times"}], "plain": 1,
            "odd": "{{{task}}} {{1x}} {{",
        });
        assert_eq!(fill_placeholders(&content, &values), Ok(expected));
    }

    #[test]
    fn what_is_missing_is_named() {
        let content = json!(["{{b}} {{a}}", "{{b}}", "{{c}}"]);
        assert_eq!(
            fill_placeholders(&content, &object(json!({"a": 1, "c": null}))),
            Err(vec!["b".to_owned(), "c".to_owned()])
        );
    }

    proptest! {
        #[test]
        fn every_text_is_its_pieces(text in "[a{} _1é]{0,30}") {
            let again: String = parse_segments(&text).iter().map(|piece| match piece {
                TextSegment::Text(text) => (*text).to_owned(),
                TextSegment::Placeholder(name) => format!("{{{{{name}}}}}"),
            }).collect();
            // Blanks around a name are not kept.
            prop_assert_eq!(again.replace(' ', ""), text.replace(' ', ""));
        }

        #[test]
        fn nothing_stays_unfilled_and_values_stay_as_they_are(before in "[a-z ]{0,8}", value in "[{}a-z]{1,8}") {
            let content = json!(format!("{before}|{{{{x}}}}"));
            prop_assert_eq!(fill_placeholders(&content, &object(json!({"x": value}))), Ok(json!(format!("{before}|{value}"))));
        }
    }
}
