//! What generators of clients can't name is written where it stands: components that are plain values, such as a time, since a
//! component becomes a type, and alternatives that are joined from several objects.

use serde_json::{Map, Value, json};

/// Puts plain values in the place of references to them, and removes their components.
pub(super) fn scalars(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else { return };
    let mut plain = Map::new();
    schemas.retain(|name, schema| {
        let keep = !is_plain(schema);
        if !keep {
            plain.insert(format!("#/components/schemas/{name}"), schema.clone());
        }
        keep
    });
    replace(document, &plain);
}

/// Neither an object, a list, an enumeration, nor one of several.
fn is_plain(schema: &Value) -> bool {
    const COMPOSED: [&str; 8] =
        ["properties", "items", "enum", "oneOf", "anyOf", "allOf", "$ref", "additionalProperties"];
    schema["type"] != "object" && COMPOSED.iter().all(|member| schema.get(member).is_none())
}

/// Writes each alternative that joins objects (`allOf` within `oneOf`) as one object, and makes a component of each alternative
/// that a `kind` tells from the others, named by it: a generator names what stands within an alternative by its number.
pub(super) fn named_alternatives(document: &mut Value) {
    let Some(schemas) = document["components"]["schemas"].as_object_mut() else { return };
    let known = schemas.clone();
    let mut named = Map::new();
    for (name, schema) in &mut *schemas {
        for alternative in schema.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(kind) = kind_of(alternative, &known) else { continue };
            let own = format!("{name}{}", kind.split('_').map(capitalized).collect::<String>());
            let reference = json!({"$ref": format!("#/components/schemas/{own}")});
            let alternative = std::mem::replace(alternative, reference);
            named.insert(own, joined(&alternative, &known).unwrap_or(alternative));
        }
    }
    schemas.append(&mut named);
    schemas.sort_keys();
}

/// The only value of an alternative's member `kind`.
fn kind_of(alternative: &Value, known: &Map<String, Value>) -> Option<String> {
    let object = joined(alternative, known);
    let values = object.as_ref().unwrap_or(alternative)["properties"]["kind"]["enum"].as_array()?;
    values.first().filter(|_| values.len() == 1)?.as_str().map(str::to_owned)
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

/// The object that the parts of an `allOf` make; `None` unless all of them are objects with listed members.
fn joined(alternative: &Value, known: &Map<String, Value>) -> Option<Value> {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for part in alternative["allOf"].as_array()? {
        let name = part["$ref"].as_str().and_then(|target| target.strip_prefix("#/components/schemas/"));
        let part = name.map_or(Some(part), |name| known.get(name))?;
        properties.extend(part["properties"].as_object()?.clone());
        required.extend(part["required"].as_array().into_iter().flatten().cloned());
    }
    let mut joined = json!({"type": "object", "required": required, "properties": properties});
    if let Some(description) = alternative.get("description") {
        joined["description"] = description.clone();
    }
    Some(joined)
}

/// Joins the lines of each description: they were broken for the source's width.
pub(super) fn join_lines(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(text)) = members.get_mut("description") {
                let paragraphs: Vec<String> =
                    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
                *text = paragraphs.join("\n\n");
            }
            members.values_mut().for_each(join_lines);
        }
        Value::Array(items) => items.iter_mut().for_each(join_lines),
        _ => {}
    }
}

fn replace(value: &mut Value, plain: &Map<String, Value>) {
    if let Value::Object(members) = value {
        let target = members.get("$ref").and_then(Value::as_str).and_then(|name| plain.get(name)).cloned();
        if let Some(Value::Object(target)) = target {
            members.remove("$ref");
            // What the place says of itself goes before what its type says.
            for (name, member) in target {
                members.entry(name).or_insert(member);
            }
        }
    }
    match value {
        Value::Object(members) => members.values_mut().for_each(|member| replace(member, plain)),
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, plain)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_told_apart_by_a_kind_become_components() {
        let kind = |kind: &str| json!({"type": "string", "enum": [kind]});
        let part = |kind_: &str| json!({"type": "object", "required": ["kind"], "properties": {"kind": kind(kind_)}});
        let mut document = json!({"components": {"schemas": {
            "Body": {"type": "object", "required": ["size"], "properties": {"size": {"type": "integer"}}},
            "Action": {"description": "d", "oneOf": [
                {"allOf": [{"$ref": "#/components/schemas/Body"}, part("big_call")], "description": "Joined."},
                part("jq"),
                // Two kinds, none, and a part that is no object: they stay where they are.
                {"type": "object", "properties": {"kind": {"enum": ["a", "b"]}}},
                {"type": "null"},
                {"allOf": [{"$ref": "#/components/schemas/Gone"}, part("lost")]},
            ]},
        }}});
        named_alternatives(&mut document);
        let schemas = &document["components"]["schemas"];
        let names: Vec<&String> = schemas.as_object().unwrap().keys().collect();
        assert_eq!(names, ["Action", "ActionBigCall", "ActionJq", "Body"]);
        let joined = json!({"type": "object", "required": ["size", "kind"], "description": "Joined.",
            "properties": {"size": {"type": "integer"}, "kind": kind("big_call")}});
        assert_eq!(schemas["ActionBigCall"], joined);
        assert_eq!(schemas["ActionJq"], part("jq"));
        let of = &schemas["Action"]["oneOf"];
        assert_eq!(of[0], json!({"$ref": "#/components/schemas/ActionBigCall"}));
        assert_eq!(of[1], json!({"$ref": "#/components/schemas/ActionJq"}));
        assert_eq!(of.as_array().unwrap().len(), 5);
        assert_eq!((&of[3], &of[4]["allOf"][1]), (&json!({"type": "null"}), &part("lost")));
        let again = document.clone();
        named_alternatives(&mut document);
        assert_eq!(document, again, "once is enough");
    }
}
