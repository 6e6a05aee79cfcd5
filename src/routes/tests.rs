//! The OpenAPI document of all routes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{document, groups, with_system};
use crate::{app::App, http::openapi};

fn whole() -> Value {
    document(groups()).unwrap()
}

/// Each operation: method, path, itself.
fn operations(document: &Value) -> Vec<(&str, &str, &Map<String, Value>)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let all = item.as_object().unwrap().iter();
            all.map(move |(method, one)| (method.as_str(), path.as_str(), one.as_object().unwrap()))
        })
        .collect()
}

/// Calls `visit` with each value below `value` and where it stands.
fn walk(value: &Value, place: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(place, value);
    match value {
        Value::Object(members) => members.iter().for_each(|(name, one)| walk(one, &format!("{place}/{name}"), visit)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, one)| walk(one, &format!("{place}/{at}"), visit))
        }
        _ => {}
    }
}

#[test]
fn openapi_operation_ids_are_unique_resource_verb() {
    let document = whole();
    let mut seen = BTreeMap::new();
    let mut tags = BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        let fine = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        assert!(id.contains('_') && id.split('_').all(fine), "{method} {path}: {id} is no resource_verb");
        let Some([tag]) = operation["tags"].as_array().map(Vec::as_slice) else { panic!("{id} has no one tag") };
        let tag = tag.as_str().unwrap();
        assert!(
            id.strip_prefix(tag).is_some_and(|verb| verb.starts_with('_')),
            "{id} does not begin with its tag {tag}"
        );
        tags.insert(tag);
        if let Some(other) = seen.insert(id, path) {
            panic!("{id} is the operation of {path} and of {other}");
        }
    }
    let described: BTreeSet<&str> =
        document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    assert_eq!(tags, described);
}

#[test]
fn openapi_schema_names_are_unique_and_references_resolve() {
    let collisions = openapi::collisions(&with_system::<App>(groups()).into_openapi());
    assert!(collisions.is_empty(), "several schemas have the same name; give them #[schema(as = ...)]: {collisions:?}");
    let document = whole();
    let mut dangling = BTreeSet::new();
    let mut used = BTreeSet::new();
    walk(&document, "", &mut |place, value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            used.insert(reference.to_owned());
            if document.pointer(&reference[1..]).is_none() {
                dangling.insert(format!("{place}: {reference}"));
            }
        }
    });
    assert!(dangling.is_empty(), "references lead nowhere: {dangling:#?}");
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(used.contains(&format!("#/components/schemas/{name}")), "nothing refers to {name}");
    }
}

#[test]
fn openapi_responses_are_described_and_typed() {
    let document = whole();
    for (method, path, operation) in operations(&document) {
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path} has no summary");
        let stated = path.starts_with("/api/") == operation["security"][0]["ApiKey"].is_array();
        assert!(stated || operation["security"] == Value::Array(Vec::new()), "{method} {path} names no roles");
        for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
            let described = parameter["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(described, "{method} {path}: {} has no description", parameter["name"]);
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let described = response["description"].as_str().is_some_and(|text| !text.is_empty());
            assert!(described, "{method} {path}: {status} has no description");
            let empty = matches!(status.as_str(), "101" | "204" | "304");
            assert_eq!(response.get("content").is_none(), empty, "{method} {path}: {status}");
            for (kind, content) in response.get("content").and_then(Value::as_object).into_iter().flatten() {
                let schema = &content["schema"];
                let open =
                    ["/openapi.json", "/api/v1/services/{service_type}/schema"].contains(&path) && status == "200";
                let bare =
                    schema.get("type").is_some_and(|kind| kind == "object") && schema.get("properties").is_none();
                assert!(
                    schema.is_object() && (open || !bare),
                    "{method} {path}: {status} {kind} is not typed: {schema}"
                );
            }
        }
    }
}

#[test]
fn openapi_properties_are_described() {
    let document = whole();
    let schemas = &document["components"]["schemas"];
    let text = |schema: &Value| schema["description"].as_str().is_some_and(|text| !text.trim().is_empty());
    let mut bare = BTreeSet::new();
    walk(schemas, "", &mut |place, value| {
        let Some(properties) = value.get("properties").and_then(Value::as_object) else { return };
        for (name, property) in properties {
            // The tag of an alternative is the alternative's name.
            let tag = property.get("enum").is_some_and(|words| words.as_array().is_some_and(|words| words.len() == 1));
            let inner = property["oneOf"].as_array().into_iter().flatten().any(text);
            if !(tag || inner || text(property)) {
                bare.insert(format!("{place}/{name}"));
            }
        }
    });
    assert!(bare.is_empty(), "{} properties have no description: {bare:#?}", bare.len());
}

#[test]
fn openapi_document_is_the_committed_one() {
    let committed = include_str!("../../docs/openapi.json");
    let generated = serde_json::to_string_pretty(&whole()).unwrap() + "\n";
    let differs = committed.lines().zip(generated.lines()).position(|(one, other)| one != other);
    assert!(
        committed == generated,
        "docs/openapi.json is out of date from line {}: cargo run --bin agent-management -- openapi > docs/openapi.json",
        differs.map_or(committed.lines().count().min(generated.lines().count()), |line| line + 1)
    );
}
