//! What is wrong with the values of a JSON body: all of it at once, in plain words. Serde stops at the first fault; what was at fault
//! is taken out, and the rest is read again.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde_json::{Value, error::Category};
use serde_path_to_error::Segment;

use crate::http::{
    error::{FieldError, LocationSegment},
    known_names::nearest_name,
};

/// Faults that one answer names.
const MAX_FAULTS: usize = 20;
/// Bytes of a body that is read again for further faults.
const MAX_READ_AGAIN: usize = 256 << 10;

/// The faults of a body that can't be read as `T`, beginning with the one that was found.
pub fn find_faults<T: DeserializeOwned>(
    body: &[u8],
    first: serde_path_to_error::Error<serde_json::Error>,
) -> Vec<FieldError> {
    let mut found = vec![field_error(&first)];
    // A member that stands twice stands once in a value.
    let is_single = body.len() > MAX_READ_AGAIN || first.inner().to_string().starts_with("duplicate field");
    let Ok(mut rest) = serde_json::from_slice::<Value>(body) else { return found };
    let (mut error, mut removed) = (first, Vec::new());
    while !is_single && found.len() < MAX_FAULTS && remove_fault(&mut rest, &error, &mut removed) {
        let text = rest.to_string();
        let mut reader = serde_json::Deserializer::from_str(&text);
        match serde_path_to_error::deserialize::<_, T>(&mut reader) {
            Ok(_) => break,
            Err(next) if next.inner().classify() != Category::Data => break,
            Err(next) => error = next,
        }
        let fault = field_error(&error);
        // What was taken out is not missing.
        if !removed.contains(&fault.loc) {
            found.push(fault);
        }
    }
    found
}

/// Take out what the error is about: the value, or the list that it is an item of; of a missing member the object that lacks it. False:
/// there is nothing that can be taken out.
fn remove_fault(
    body: &mut Value,
    error: &serde_path_to_error::Error<serde_json::Error>,
    removed: &mut Vec<Vec<LocationSegment>>,
) -> bool {
    let mut names: Vec<String> = Vec::new();
    for segment in error.path() {
        match segment {
            Segment::Map { key } => names.push(key.clone()),
            // A list of other length would have its faults elsewhere.
            _ => break,
        }
    }
    let Some(last) = names.pop() else { return false };
    let parent = names.iter().try_fold(body, |value, name| value.get_mut(name));
    let Some(Value::Object(members)) = parent else { return false };
    let place = std::iter::once("body".to_owned()).chain(names.iter().cloned()).chain([last.clone()]);
    removed.push(place.map(LocationSegment::from).collect());
    members.shift_remove(&last).is_some()
}

/// The fault that serde found, at its place in the body.
fn field_error(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    let inner = error.inner();
    let mut loc: Vec<LocationSegment> = vec!["body".into()];
    loc.extend(error.path().iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some((*index).into()),
        Segment::Map { key } => Some(key.clone().into()),
        Segment::Enum { variant } => Some(variant.clone().into()),
        Segment::Unknown => None,
    }));
    let text = inner.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    if let Some(name) = quoted_name(text, "missing field ") {
        loc.push(name.into());
        return FieldError::new(loc, "Field required", "missing");
    }
    if let Some(name) = quoted_name(text, "duplicate field ") {
        loc.push(name.into());
        return FieldError::invalid_value(loc, "Given twice");
    }
    FieldError::new(loc, plain_message(text), error_kind(text))
}

/// Return the name in ``missing field `name` ``.
fn quoted_name(text: &str, before: &str) -> Option<String> {
    let rest = text.strip_prefix(before)?.strip_prefix('`')?;
    Some(rest.split('`').next()?.to_owned())
}

/// Return the monolith's (pydantic's) code for a serde error.
fn error_kind(text: &str) -> Cow<'static, str> {
    if text.starts_with("unknown variant") {
        return "enum".into();
    }
    if !text.starts_with("invalid type") {
        return "value_error".into();
    }
    let wanted = text.rsplit_once("expected ").map_or("", |(_, wanted)| wanted);
    let kind = match wanted {
        "a string" | "a borrowed string" | "a character" => "string_type",
        "a boolean" => "bool_type",
        "f32" | "f64" => "float_type",
        _ if wanted.starts_with(['i', 'u']) && wanted[1..].parse::<u8>().is_ok() => "int_type",
        "isize" | "usize" => "int_type",
        _ if wanted.starts_with("a sequence") || wanted.starts_with("a tuple") => "list_type",
        _ if wanted.starts_with("a map") || wanted.starts_with("struct") => "dict_type",
        _ => "type_error",
    };
    kind.into()
}

/// A message of serde in plain words.
fn plain_message(text: &str) -> String {
    let lead = ["invalid type: ", "invalid value: "].into_iter().find_map(|lead| text.strip_prefix(lead));
    if let Some((sent, wanted)) = lead.and_then(|rest| rest.split_once(", expected ")) {
        return format!("Should be {}, not {}", plain_type(wanted), plain_value(sent));
    }
    if let Some(word) = quoted_name(text, "unknown variant ") {
        let known: Vec<&str> =
            text.split_once("expected ").map_or("", |(_, rest)| rest).split('`').skip(1).step_by(2).collect();
        return match nearest_name(&word, &known) {
            Some(nearest) => {
                format!("`{word}` is not known, did you mean `{nearest}`? It is one of {}", listed(&known))
            }
            None => format!("`{word}` is not known; it is one of {}", listed(&known)),
        };
    }
    text.to_owned()
}

fn listed(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// What serde expects, in words.
fn plain_type(wanted: &str) -> Cow<'_, str> {
    let is_whole = wanted.starts_with(['i', 'u']) && wanted[1..].parse::<u8>().is_ok();
    match wanted {
        "a boolean" => "true or false".into(),
        "f32" | "f64" => "a number".into(),
        "usize" => "a whole number from 0".into(),
        "isize" => "a whole number".into(),
        _ if is_whole && wanted.starts_with('u') => "a whole number from 0".into(),
        _ if is_whole => "a whole number".into(),
        "a map" => "an object".into(),
        "a sequence" => "a list".into(),
        _ if wanted.starts_with("struct ") => "an object".into(),
        _ => match wanted.strip_prefix("a map, ") {
            Some(form) => format!("an object, {form}").into(),
            None if wanted.contains("RFC 3339") => "a time, as \"2026-12-01T09:00:00Z\"".into(),
            None => wanted.into(),
        },
    }
}

/// What serde found, in words.
fn plain_value(sent: &str) -> String {
    let number = ["integer `", "floating point `"].into_iter().find_map(|lead| sent.strip_prefix(lead));
    match sent {
        "map" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        "unit value" | "null" => "null".to_owned(),
        _ => match (number, sent.strip_prefix("string "), sent.strip_prefix("boolean `")) {
            (Some(number), ..) => format!("the number {}", number.trim_end_matches('`')),
            (_, Some(text), _) => format!("the text {text}"),
            (.., Some(truth)) => truth.trim_end_matches('`').to_owned(),
            _ => sent.to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_plain() {
        for (said, plain) in [
            ("invalid type: integer `5`, expected a string", "Should be a string, not the number 5"),
            ("invalid type: string \"5\", expected u32", "Should be a whole number from 0, not the text \"5\""),
            ("invalid value: integer `-5`, expected u32", "Should be a whole number from 0, not the number -5"),
            ("invalid type: null, expected struct Step", "Should be an object, not null"),
            ("invalid type: map, expected a sequence", "Should be a list, not an object"),
            ("invalid type: boolean `true`, expected f64", "Should be a number, not true"),
            (
                "invalid type: integer `7`, expected a map, step name to step: {\"fetch\": {}}",
                "Should be an object, step name to step: {\"fetch\": {}}, not the number 7",
            ),
            ("unknown variant `x`, expected `a` or `b`", "`x` is not known; it is one of `a`, `b`"),
            ("the time is over", "the time is over"),
        ] {
            assert_eq!(plain_message(said), plain);
        }
    }
}
