//! The OpenAPI document, by the programs that others read it with.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    coordinator::python,
    harness::{ADMIN, Answer, CLIENT, MINER, Server, TestApp},
    kit::{ask, filled, fixture, operations},
};

/// The document that is committed; a test of the routes compares it with what they say.
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");

/// What a program of the test tools wrote, once it has succeeded.
fn run(command: &mut Command) -> String {
    let output = command.env("NO_COLOR", "1").output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed: {text}");
    text
}

#[test]
fn openapi_document_is_valid() {
    let text = run(Command::new(python()).args(["-m", "openapi_spec_validator", DOCUMENT]));
    assert!(text.trim_end().ends_with("OK"), "{text}");
}

#[test]
fn openapi_typescript_types_are_generated_without_a_warning() {
    let place = tempfile::tempdir().unwrap();
    let python = python();
    let node = python.with_file_name("node");
    let modules = python.ancestors().nth(3).unwrap().join("npm/node_modules");
    let types = place.path().join("api.ts");
    let generator = modules.join("openapi-typescript/bin/cli.js");
    let text = run(Command::new(&node).arg(generator).arg(DOCUMENT).arg("--output").arg(&types));
    assert!(!text.to_lowercase().contains("warn") && !text.contains('⚠'), "{text}");
    let written = fs::read_to_string(&types).unwrap();
    assert!(written.contains("workflows_create") && written.contains("\"Idempotency-Key\"?: string"), "{text}");
    let compiler = modules.join("typescript/bin/tsc");
    run(Command::new(&node).arg(compiler).args(["--noEmit", "--strict"]).arg(&types));
}

/// Generates the Python client below `place`.
fn generate_client(place: &Path) {
    let text = run(Command::new(python().with_file_name("openapi-python-client"))
        .current_dir(place)
        .args(["generate", "--path", DOCUMENT, "--meta", "none", "--fail-on-warning"])
        .args(["--output-path", "agent_management_client", "--config"])
        .arg(fixture("openapi/client.yaml")));
    assert!(!text.to_lowercase().contains("warning"), "{text}");
}

#[tokio::test]
async fn openapi_python_client_drives_the_server() {
    let place = tempfile::tempdir().unwrap();
    generate_client(place.path());
    let server = Server::start().await;
    let address = server.url("");
    let output = run(Command::new(python())
        .env("PYTHONPATH", place.path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(fixture("openapi/drive.py"))
        .args([address.trim_end_matches('/'), ADMIN]));
    let report: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    assert_eq!(report["result"]["step_results"]["double"], json!(42), "{report}");
    assert_eq!(report["missing"], "not_found");
    assert!(report["policy"].as_str().unwrap().starts_with("marketplace-ppo@"), "{report}");
    assert_eq!(server.get("/api/v1/agents/workflows").await.ok().as_array().unwrap().len(), 1);
}

/// What operations need in their query before the body is read, where they have such a parameter.
const NEEDED: [(&str, &str); 8] = [
    ("name", "x"),
    ("execution_success", "true"),
    ("workflow_id", "x"),
    ("agent_id", "x"),
    ("metric", "accuracy"),
    ("deployment_name", "x"),
    ("target_environment", "production"),
    ("target_instances", "1"),
];

/// Whether an operation has this parameter.
fn has_parameter(stated: &Value, name: &str) -> bool {
    stated["parameters"].as_array().into_iter().flatten().any(|one| one["name"] == name)
}

/// The query that an operation needs before its body is read.
fn needed_query(stated: &Value) -> Vec<String> {
    let parameters = stated["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "query");
    let needs = |name: &str| parameters.clone().any(|one| one["name"] == name);
    NEEDED.iter().filter(|(name, _)| needs(name)).map(|(name, value)| format!("{name}={value}")).collect()
}

/// Asks an operation with `query` and, unless it is a GET, with `body` and a header.
async fn probe(
    server: &Server,
    (method, template, stated): (&Method, &str, &Value),
    query: &str,
    body: &Value,
    key: &str,
) -> Answer {
    let path = filled(template, if template.contains("{service_type}") { "whisper" } else { "x" });
    let mut pairs = needed_query(stated);
    pairs.extend((!query.is_empty()).then(|| query.to_owned()));
    let request = server.request(method.clone(), &format!("{path}?{}", pairs.join("&")));
    let request = if key.is_empty() { request } else { request.header("idempotency-key", key) };
    Answer::of(if *method == Method::GET { request } else { request.json(body) }).await
}

/// Whether a 422 names this place.
fn names(answer: &Answer, place: &Value) -> bool {
    let faults = answer.body["detail"].as_array().into_iter().flatten();
    answer.status == 422 && faults.into_iter().any(|fault| fault["loc"] == *place)
}

#[tokio::test]
async fn openapi_roles_keys_and_pages_are_those_of_the_server() {
    let server = Server::start().await;
    let document = server.get("/openapi.json").await.ok();
    let mut seen = [0; 3];
    for operation in operations(&document) {
        let (method, template) = &operation;
        let stated = &document["paths"][template][method.as_str().to_lowercase()];
        let parameter = |name: &str| has_parameter(stated, name);
        if let Some(roles) = stated["security"][0]["ApiKey"].as_array() {
            assert!(roles.contains(&json!("admin")), "{method} {template}");
            for (key, role) in [(CLIENT, "client"), (MINER, "miner")] {
                let path = filled(template, if template.contains("{service_type}") { "whisper" } else { "x" });
                let body = (*method != Method::GET).then(|| json!({}));
                let answer = ask(&server, Some(key), method.clone(), &path, body).await;
                let refused = answer.body["code"] == "insufficient_role";
                assert_eq!(refused, !roles.contains(&json!(role)), "{method} {template} with a {role} key");
            }
            seen[0] += 1;
        }
        if *method == Method::GET {
            let answer = probe(&server, (method, template, stated), "limit=0", &json!({}), "").await;
            let refused = names(&answer, &json!(["query", "limit"])) && !answer.text.contains("extra_forbidden");
            // Whatever the list belongs to may be looked for first.
            let known = refused || answer.status == 404;
            assert!(if parameter("limit") { known } else { !refused }, "{method} {template} with a limit of 0");
            seen[1] += usize::from(refused);
        } else {
            let answer = probe(&server, (method, template, stated), "", &json!({}), "a blank").await;
            let refused = names(&answer, &json!(["header", "Idempotency-Key"]));
            assert_eq!(refused, parameter("Idempotency-Key"), "{method} {template} with a bad key: {}", answer.text);
            seen[2] += usize::from(refused);
        }
    }
    assert!(seen[0] > 160 && seen[1] > 25 && seen[2] > 60, "{seen:?}");
}

#[tokio::test]
async fn unknown_names_never_vanish() {
    const NOBODY: &str = "nobody_knows_this";
    let server = TestApp::start().await;
    let document = server.get("/openapi.json").await.ok();
    let mut seen = [0; 4];
    for (method, template) in operations(&document) {
        let stated = &document["paths"][&template][method.as_str().to_lowercase()];
        let path = filled(&template, if template.contains("{service_type}") { "whisper" } else { "x" });
        let told = |answer: &Answer, place: &str| {
            let refused = names(answer, &json!([place, NOBODY]));
            assert!(refused || answer.header("x-ignored").contains(NOBODY), "{method} {template}: {}", answer.text);
            usize::from(refused)
        };
        let asked = server.request(method.clone(), &format!("{path}?{NOBODY}=1"));
        seen[0] += told(&server.answer(asked).await, "query");
        seen[1] += 1;
        let other =
            stated["requestBody"]["content"].as_object().is_some_and(|kinds| !kinds.contains_key("application/json"));
        if matches!(method, Method::GET | Method::DELETE) || other {
            continue;
        }
        let query = needed_query(stated).join("&");
        let asked = server.request(method.clone(), &format!("{path}?{query}")).json(&json!({NOBODY: 1}));
        seen[2] += told(&server.answer(asked).await, "body");
        seen[3] += 1;
    }
    assert!(seen[0] > 150 && seen[1] > seen[0] && seen[2] > 25 && seen[3] > 60, "{seen:?}");
}

#[tokio::test]
async fn misspelt_members_are_refused_with_the_nearest_name() {
    let server = TestApp::start().await;
    let step = |more: Value| {
        let mut step = json!({"step_type": "data_processing", "action": {"kind": "jq", "program": "."}});
        step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"name": "n", "steps": {"a": step}})
    };
    let workflows = "/api/v1/agents/workflows";
    for (body, place, word) in [
        (step(json!({"max_retry": 1})), json!(["body", "steps", "a", "max_retry"]), "`max_retries`"),
        (step(json!({"timeout": 1})), json!(["body", "steps", "a", "timeout"]), "`timeout_seconds`"),
        (
            json!({"name": "n", "steps": {"a": {"step_type": "custom", "action": {"kind": "http", "endpoint": "x", "metod": "GET"}}}}),
            json!(["body", "steps", "a", "action", "metod"]),
            "`method`",
        ),
    ] {
        let answer = server.post(workflows, body).await;
        assert!(names(&answer, &place) && answer.text.contains(word), "{}", answer.text);
    }
    let id = server.post(workflows, step(json!({"note": 1}))).await.ok();
    assert!(id["warnings"][0].as_str().unwrap().contains("steps.a.note"), "{id}");
    let run = server.post(&format!("{workflows}/{}/execute", id["id"].as_str().unwrap()), json!({"sku": 1})).await;
    assert!(names(&run, &json!(["body", "sku"])) && run.text.contains("under `inputs`"), "{}", run.text);
    let empty = server.post(workflows, json!({"name": "n", "steps": {}})).await;
    assert!(empty.header("x-ignored") == "steps" && empty.ok()["warnings"][0].is_string());
    let plan = json!({"name": "p", "sub_tasks": [{"task_type": "text_processing", "request": {"x": 1}}]});
    let plan = server.post("/api/v1/agents/plans", plan).await;
    assert!(
        names(&plan, &json!(["body", "sub_tasks", 0, "request"])) && plan.text.contains("`payload`"),
        "{}",
        plan.text
    );
}

/// A schema without references and without its alternative null.
fn resolved<'a>(document: &'a Value, mut schema: &'a Value) -> &'a Value {
    while let Some(reference) = schema["$ref"].as_str() {
        schema = document.pointer(&reference[1..]).unwrap();
    }
    match schema["oneOf"].as_array().map(Vec::as_slice) {
        Some([null, one] | [one, null]) if null["type"] == "null" => resolved(document, one),
        _ => schema,
    }
}

/// Each enumeration below `schema`: a value that has `bad` in its place, where that is, and its words.
fn enumerations(
    document: &Value,
    schema: &Value,
    bad: &Value,
    depth: usize,
) -> Vec<(Value, Vec<Value>, BTreeSet<String>)> {
    let schema = resolved(document, schema);
    if let Some(words) = schema["enum"].as_array() {
        let words = words.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        return vec![(bad.clone(), Vec::new(), words)];
    }
    let mut found = Vec::new();
    if depth == 0 {
        return found;
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        for (value, mut place, words) in enumerations(document, property, bad, depth - 1) {
            place.insert(0, json!(name));
            found.push((json!({name: value}), place, words));
        }
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        found.extend(enumerations(document, part, bad, depth - 1));
    }
    if schema.get("items").is_some() {
        for (value, mut place, words) in enumerations(document, &schema["items"], bad, depth - 1) {
            place.insert(0, json!(0));
            found.push((json!([value]), place, words));
        }
    }
    found
}

/// The words that a refusal offers: between backticks, double or single quotes, after "one of" or "expected".
fn offered(message: &str) -> BTreeSet<String> {
    let message = message.split(", not ").next().unwrap();
    let after = ["expected one of ", "expected ", "one of ", "there are "];
    let rest = after.iter().find_map(|mark| message.split_once(mark)).map_or("", |(_, rest)| rest);
    let parts: Vec<&str> = rest.split(['`', '"', '\'']).collect();
    if parts.len() > 1 {
        return parts.iter().skip(1).step_by(2).map(|word| (*word).to_owned()).collect();
    }
    rest.split([',', ' '])
        .filter(|word| !word.is_empty() && *word != "and" && *word != "or")
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn openapi_enumerations_are_what_the_server_takes() {
    const BAD: &str = "no-such-word";
    let server = Server::start().await;
    let document = server.get("/openapi.json").await.ok();
    // Its models have descriptions, so that each word is an alternative of its own.
    let whisper = server.get("/api/v1/services/whisper/schema").await.ok();
    let alternatives = |place: &Value| -> BTreeSet<String> {
        let all =
            whisper["properties"][place[1].as_str().unwrap_or_default()]["oneOf"].as_array().into_iter().flatten();
        all.filter_map(|one| one["const"].as_str()).map(str::to_owned).collect()
    };
    let (mut compared, mut faults) = (BTreeSet::new(), Vec::new());
    for operation in operations(&document) {
        let (method, template) = &operation;
        let stated = &document["paths"][template][method.as_str().to_lowercase()];
        let mut check = |answer: &Answer, place: &Value, words: &BTreeSet<String>| {
            let detail = answer.body["detail"].as_array().into_iter().flatten();
            let message =
                detail.into_iter().find(|fault| fault["loc"] == *place).and_then(|fault| fault["msg"].as_str());
            match message {
                Some(message) if offered(message) == *words => drop(compared.insert(words.clone())),
                Some(message) if message.contains("(oneOf)") && alternatives(place) == *words => {}
                _ => faults.push(format!("{method} {template} {place}: {words:?} is not {}", answer.text)),
            }
        };
        for parameter in stated["parameters"].as_array().into_iter().flatten().filter(|one| one["in"] == "query") {
            let name = parameter["name"].as_str().unwrap();
            for (_, _, words) in enumerations(&document, &parameter["schema"], &json!(BAD), 1) {
                let answer = probe(&server, (method, template, stated), &format!("{name}={BAD}"), &json!({}), "").await;
                check(&answer, &json!(["query", name]), &words);
            }
        }
        let schema = &stated["requestBody"]["content"]["application/json"]["schema"];
        for (body, place, words) in enumerations(&document, schema, &json!(BAD), 4) {
            let place: Vec<Value> = std::iter::once(json!("body")).chain(place).collect();
            check(&probe(&server, (method, template, stated), "", &body, "").await, &json!(place), &words);
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
    assert!(compared.len() > 15, "{} enumerations", compared.len());
}
