//! Parser of content with placeholders: `{{name}}` in any string. A string that is only a placeholder becomes the value
//! itself, of whatever type; within a longer string the placeholder is replaced by the value's text. Inserted values
//! are not parsed again.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
};

use serde_json::{Map, Value};

use am_core::value_budget::{BudgetExceeded, ByteLimit, ValueBudget};

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

/// Reason why a template is not filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FillError {
    /// These names have no value; in order and each once.
    Missing(Vec<String>),
    /// The content would exceed the limit of messages.
    TooLarge(BudgetExceeded),
}

/// Replace the placeholders by values. What is inserted is drawn from a budget of `limit` before it is copied.
///
/// # Errors
/// Returns the names without a value, or how the content exceeds the limit.
pub fn fill_placeholders(content: &Value, values: &Map<String, Value>, limit: ByteLimit) -> Result<Value, FillError> {
    let missing: Vec<String> =
        placeholder_names(content).into_iter().filter(|name| values.get(name).is_none_or(Value::is_null)).collect();
    if !missing.is_empty() {
        return Err(FillError::Missing(missing));
    }
    let mut filler = PlaceholderFiller { values, budget: ValueBudget::new(limit), texts: HashMap::new() };
    filler.replace(content).map_err(FillError::TooLarge)
}

struct PlaceholderFiller<'a> {
    values: &'a Map<String, Value>,
    budget: ValueBudget,
    /// Texts of the values within longer strings: a large one is printed once only.
    texts: HashMap<String, Cow<'a, str>>,
}

impl PlaceholderFiller<'_> {
    fn replace(&mut self, content: &Value) -> Result<Value, BudgetExceeded> {
        match content {
            Value::String(text) => match parse_segments(text).as_slice() {
                [TextSegment::Placeholder(name)] => {
                    let value = self.values.get(*name).unwrap_or(&Value::Null);
                    self.budget.draw(value)?;
                    Ok(value.clone())
                }
                segments => self.replace_in_text(segments),
            },
            Value::Array(items) => items.iter().map(|item| self.replace(item)).collect(),
            Value::Object(members) => {
                let replaced = members.iter().map(|(name, member)| Ok((name.clone(), self.replace(member)?)));
                replaced.collect::<Result<_, _>>().map(Value::Object)
            }
            plain => Ok(plain.clone()),
        }
    }

    fn replace_in_text(&mut self, segments: &[TextSegment<'_>]) -> Result<Value, BudgetExceeded> {
        let mut filled = String::new();
        for segment in segments {
            let text = match segment {
                TextSegment::Text(text) => *text,
                TextSegment::Placeholder(name) => {
                    let text = || match self.values.get(*name) {
                        Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
                        other => Cow::Owned(other.unwrap_or(&Value::Null).to_string()),
                    };
                    &**self.texts.entry((*name).to_owned()).or_insert_with(text)
                }
            };
            self.budget.draw_bytes(text.len())?;
            filled.push_str(text);
        }
        Ok(Value::String(filled))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fill(content: &Value, values: &Map<String, Value>) -> Result<Value, FillError> {
        fill_placeholders(content, values, ByteLimit { name: "TEST_BYTES", bytes: 1000 })
    }

    #[test]
    fn what_would_exceed_the_limit_is_not_built() {
        let thousands = json!({"a": "{{a}}".repeat(8000), "b": vec!["{{a}}"; 8000]});
        let large = object(json!({"a": "t".repeat(200)}));
        let Err(FillError::TooLarge(exceeded)) = fill(&thousands, &large) else { panic!("it is filled") };
        assert_eq!(exceeded.to_string(), "more than 1000 bytes of JSON (TEST_BYTES)");
        let numbers = object(json!({"a": vec![0; 400]}));
        assert!(matches!(fill(&json!("{{a}}"), &numbers), Err(FillError::TooLarge(_))));
        assert!(fill(&json!("x {{a}}"), &numbers).is_ok(), "as text it is as long as it is");
    }

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
        assert_eq!(fill(&content, &values), Ok(expected));
    }

    #[test]
    fn what_is_missing_is_named() {
        let content = json!(["{{b}} {{a}}", "{{b}}", "{{c}}"]);
        assert_eq!(
            fill(&content, &object(json!({"a": 1, "c": null}))),
            Err(FillError::Missing(vec!["b".to_owned(), "c".to_owned()]))
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
            prop_assert_eq!(fill(&content, &object(json!({"x": value}))), Ok(json!(format!("{before}|{value}"))));
        }
    }
}
