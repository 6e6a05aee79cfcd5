//! docs/METHODS.md: each number of an answer of performance and creativity has a row that says where it comes from.

use std::{collections::BTreeMap, collections::BTreeSet, fs};

use serde_json::Value;

use crate::{harness::TestApp, kit::json_fixture, sources::root};

/// The two groups' paths.
const GROUPS: [&str; 2] = ["/api/v1/agents/performance/", "/api/v1/agents/creativity/"];
/// Policies had their figures before: docs/RL.md has them.
const OLDER: &str = "/api/v1/agents/performance/rl/";

fn in_groups(path: &str) -> bool {
    GROUPS.iter().any(|group| path.starts_with(group)) && !path.starts_with(OLDER)
}

/// The schema that a `$ref` names.
fn referred(schema: &Value) -> Option<&str> {
    schema["$ref"].as_str()?.strip_prefix("#/components/schemas/")
}

/// Schemas inside one: of lists, maps and choices.
fn inner(schema: &Value) -> Vec<&Value> {
    let one = ["items", "additionalProperties"].iter().filter_map(|name| schema.get(name));
    let many = ["oneOf", "anyOf", "allOf", "prefixItems"].iter().filter_map(|name| schema[name].as_array()).flatten();
    one.chain(many).collect()
}

/// Whether a member is a number, or holds numbers without a schema of their own.
fn is_number(schema: &Value) -> bool {
    let is = |kind: &Value| matches!(kind.as_str(), Some("number" | "integer"));
    let own = is(&schema["type"]) || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(is));
    own || inner(schema).into_iter().any(is_number)
}

/// All schemas that this one reaches, and the number members of each named one.
fn collect(document: &Value, schema: &Value, found: &mut BTreeMap<String, BTreeSet<String>>) {
    if let Some(name) = referred(schema) {
        if found.contains_key(name) {
            return;
        }
        found.insert(name.to_owned(), BTreeSet::new());
        let target = &document["components"]["schemas"][name];
        collect_members(document, name, target, found);
        return;
    }
    for member in schema["properties"].as_object().into_iter().flatten().map(|(_, member)| member) {
        collect(document, member, found);
    }
    inner(schema).into_iter().for_each(|schema| collect(document, schema, found));
}

fn collect_members(document: &Value, name: &str, schema: &Value, found: &mut BTreeMap<String, BTreeSet<String>>) {
    for (member, shape) in schema["properties"].as_object().into_iter().flatten() {
        if is_number(shape) {
            found.entry(name.to_owned()).or_default().insert(member.clone());
        }
        // Members of an object without a name of its own are this one's.
        if shape["properties"].is_object() {
            collect_members(document, name, shape, found);
        }
        collect(document, shape, found);
    }
    for part in inner(schema) {
        if part["properties"].is_object() {
            collect_members(document, name, part, found)
        } else {
            collect(document, part, found)
        }
    }
}

/// The rows of docs/METHODS.md: schema and member, and what the third column says.
fn rows() -> BTreeMap<(String, String), String> {
    let text = fs::read_to_string(root().join("docs/METHODS.md")).unwrap();
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| operation")) {
        let cells: Vec<&str> = line.trim_start_matches('|').split('|').map(str::trim).collect();
        if cells.len() < 5 {
            continue;
        }
        for field in cells[1].split('`').skip(1).step_by(2) {
            let Some((schema, member)) = field.split_once('.') else { continue };
            found.insert((schema.to_owned(), member.to_owned()), cells[2].to_owned());
        }
    }
    found
}

#[tokio::test]
async fn every_number_of_an_answer_has_a_row_that_says_where_it_comes_from() {
    let server = TestApp::start().await;
    let document = server.get("/openapi.json").await.ok();
    let mut schemas = BTreeMap::new();
    for (path, operations) in document["paths"].as_object().unwrap().iter().filter(|(path, _)| in_groups(path)) {
        for operation in operations.as_object().unwrap().values() {
            for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
                let content = answer["content"].as_object().filter(|_| status.starts_with('2'));
                for shape in content.into_iter().flatten().map(|(_, content)| &content["schema"]) {
                    collect(&document, shape, &mut schemas);
                    assert!(
                        referred(shape).is_some() || !shape["properties"].is_object(),
                        "{path}: an answer without a name"
                    );
                }
            }
        }
    }
    let rows = rows();
    let mut faults = Vec::new();
    for (schema, members) in &schemas {
        for member in members {
            match rows.get(&(schema.clone(), member.clone())) {
                None => faults.push(format!("{schema}.{member} has no row")),
                Some(said) if !["record:", "computed:", "null:"].iter().any(|kind| said.starts_with(kind)) => {
                    faults.push(format!("{schema}.{member} says neither record: nor computed: nor null: but {said}"));
                }
                Some(_) => {}
            }
        }
    }
    for (schema, member) in rows.keys() {
        let properties = &document["components"]["schemas"][schema]["properties"];
        let is_known = schemas.get(schema).is_some_and(|members| members.contains(member));
        if !is_known && properties.get(member).is_none() {
            faults.push(format!("{schema}.{member} has a row, and there is none"));
        }
    }
    assert!(schemas.values().map(BTreeSet::len).sum::<usize>() > 30, "{schemas:?}");
    assert!(faults.is_empty(), "docs/METHODS.md: {} faults\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test]
async fn every_operation_of_the_contract_is_there() {
    let server = TestApp::start().await;
    let document = server.get("/openapi.json").await.ok();
    let contract = json_fixture("contract/openapi.json");
    let shape = |path: &str| {
        let part = |part: &str| if part.starts_with('{') { "{}".to_owned() } else { part.to_owned() };
        path.split('/').map(part).collect::<Vec<_>>().join("/")
    };
    let routed = |document: &Value| -> BTreeSet<(String, String)> {
        let paths = document["paths"].as_object().unwrap().iter().filter(|(path, _)| in_groups(path));
        let named = paths.flat_map(|(path, operations)| {
            operations.as_object().unwrap().keys().map(move |method| (method.clone(), shape(path))).collect::<Vec<_>>()
        });
        named.collect()
    };
    let (ours, theirs) = (routed(&document), routed(&contract));
    assert_eq!(theirs.len(), 20);
    let missing: Vec<_> = theirs.difference(&ours).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
