//! Components that are plain values, such as a time, are put where they are referred to: generators make a type of each
//! component.

use serde_json::{Map, Value};

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
