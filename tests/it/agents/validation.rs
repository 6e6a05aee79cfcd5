//! Bad input of any kind is a 4xx that names it, never a 5xx, and leaves nothing behind.

use serde_json::{Value, json};

use crate::{
    harness::{Answer, ApiClient, TestApp},
    kit::{AGENTS, JsonDocument, jq, locations},
};

const WORKFLOWS: &str = "/api/v1/agents/workflows";

fn of_step(step: Value) -> Value {
    json!({"name": "n", "steps": {"s": step}})
}

fn of_steps(steps: Value) -> Value {
    json!({"name": "n", "steps": steps})
}

/// What is sent, the fault's place, and a word of its message.
fn definitions() -> Vec<(Value, Value, &'static str)> {
    let check = |action: Value| of_step(json!({"step_type": "verification", "action": action}));
    let infer = |action: Value| of_step(json!({"step_type": "inference", "action": action}));
    vec![
        (of_step(json!([])), json!(["body", "steps", "s"]), "object"),
        (of_steps(json!({"": jq(".")})), json!(["body", "steps", ""]), "key"),
        (of_step(json!({"step_type": "magic"})), json!(["body", "steps", "s", "step_type"]), "magic"),
        (of_step(json!({"step_type": 7})), json!(["body", "steps", "s", "step_type"]), ""),
        (of_step(json!({"timeout_seconds": 0})), json!(["body", "steps", "s", "timeout_seconds"]), "1 to"),
        (of_step(json!({"timeout_seconds": -1})), json!(["body", "steps", "s", "timeout_seconds"]), ""),
        (of_step(json!({"timeout_seconds": "10"})), json!(["body", "steps", "s", "timeout_seconds"]), ""),
        (of_step(json!({"max_retries": 101})), json!(["body", "steps", "s", "max_retries"]), "0 to 100"),
        (of_step(json!({"max_retries": 1.5})), json!(["body", "steps", "s", "max_retries"]), ""),
        (of_step(json!({"retry_policy": "often"})), json!(["body", "steps", "s", "retry_policy"]), ""),
        (
            of_step(json!({"retry_policy": {"backoff": 0.5}})),
            json!(["body", "steps", "s", "retry_policy", "backoff"]),
            "1 to 100",
        ),
        (
            of_step(json!({"retry_policy": {"jitter": 2}})),
            json!(["body", "steps", "s", "retry_policy", "jitter"]),
            "0 to 1",
        ),
        (
            of_step(json!({"retry_policy": {"initial_seconds": -1}})),
            json!(["body", "steps", "s", "retry_policy", "initial_seconds"]),
            "0",
        ),
        (
            of_step(json!({"retry_policy": {"max_seconds": "x"}})),
            json!(["body", "steps", "s", "retry_policy", "max_seconds"]),
            "",
        ),
        (of_step(json!({"verification_level": "some"})), json!(["body", "steps", "s", "verification_level"]), "some"),
        (of_step(json!({"name": "x".repeat(101)})), json!(["body", "steps", "s", "name"]), "100"),
        (of_step(json!({"depends_on": "a"})), json!(["body", "steps", "s", "depends_on"]), ""),
        (of_step(json!({"depends_on": ["ghost"]})), json!(["body", "steps", "s", "depends_on", 0]), "ghost"),
        (of_step(json!({"depends_on": ["s"]})), json!(["body", "steps", "s", "depends_on"]), "cycle"),
        (
            of_steps(
                json!({"a": {"step_type": "custom", "depends_on": ["b"]}, "b": {"step_type": "custom", "depends_on": ["a"]}}),
            ),
            json!(["body", "steps", "a", "depends_on"]),
            "cycle: a -> b -> a",
        ),
        (
            json!({"name": "n", "steps": {"a": jq("."), "b": jq(".")}, "dependencies": {"a": ["b"], "b": ["a"]}}),
            json!(["body", "steps", "a", "depends_on"]),
            "cycle",
        ),
        (
            json!({"name": "n", "steps": {"a": jq(".")}, "dependencies": {"a": ["ghost"]}}),
            json!(["body", "dependencies", "a", 0]),
            "ghost",
        ),
        (
            json!({"name": "n", "steps": {"a": jq(".")}, "dependencies": {"ghost": ["a"]}}),
            json!(["body", "dependencies", "ghost"]),
            "ghost",
        ),
        (
            json!({"name": "n", "steps": {"a": jq(".")}, "dependencies": {"a": "b"}}),
            json!(["body", "dependencies", "a"]),
            "list",
        ),
        (
            of_step(json!({"step_type": "data_processing", "action": {"kind": "dance"}})),
            json!(["body", "steps", "s", "action", "kind"]),
            "dance",
        ),
        (
            of_step(json!({"step_type": "data_processing", "action": {}})),
            json!(["body", "steps", "s", "action", "kind"]),
            "string",
        ),
        (
            of_step(json!({"step_type": "data_processing", "action": "jq"})),
            json!(["body", "steps", "s", "action"]),
            "object",
        ),
        (
            of_step(json!({"step_type": "data_processing", "action": {"kind": "jq"}})),
            json!(["body", "steps", "s", "action", "program"]),
            "missing",
        ),
        (of_step(jq(".a |")), json!(["body", "steps", "s", "action", "program"]), ""),
        (of_step(jq("nosuchfunction")), json!(["body", "steps", "s", "action", "program"]), "nosuchfunction"),
        (infer(json!({"kind": "jq", "program": "."})), json!(["body", "steps", "s", "action", "kind"]), "inference"),
        (
            infer(json!({"kind": "policy", "policy": "nobody"})),
            json!(["body", "steps", "s", "action", "policy"]),
            "nobody",
        ),
        (infer(json!({"kind": "policy"})), json!(["body", "steps", "s", "action", "policy"]), "string"),
        (infer(json!({"kind": "job", "service": "tea"})), json!(["body", "steps", "s", "action", "service"]), "tea"),
        (
            infer(json!({"kind": "job", "service": "whisper", "request": []})),
            json!(["body", "steps", "s", "action", "request"]),
            "object",
        ),
        (
            infer(json!({"kind": "job", "service": "whisper", "request": {"a": [0, "$.steps.ghost.output"]}})),
            json!(["body", "steps", "s", "action", "request", "a", 1]),
            "ghost",
        ),
        (
            infer(json!({"kind": "job", "service": "whisper", "request": {"a": ["$.nowhere"]}})),
            json!(["body", "steps", "s", "action", "request", "a", 0]),
            "$.inputs",
        ),
        (of_step(json!({"retry_policy": [1, 2, 3, 0]})), json!(["body", "steps", "s", "retry_policy"]), "object"),
        (
            infer(json!({"kind": "job", "service": "whisper", "ttl_seconds": 0})),
            json!(["body", "steps", "s", "action", "ttl_seconds"]),
            "1 to",
        ),
        (
            infer(json!({"kind": "http", "endpoint": "http://169.254.169.254/"})),
            json!(["body", "steps", "s", "action", "endpoint"]),
            "configured",
        ),
        (
            of_step(json!({"step_type": "training", "action": {"kind": "train"}})),
            json!(["body", "steps", "s", "action", "environment"]),
            "must be an environment's name",
        ),
        (
            of_step(json!({"step_type": "custom", "action": {"kind": "command"}})),
            json!(["body", "steps", "s", "action", "argv"]),
            "sandbox",
        ),
        (check(json!({"kind": "check"})), json!(["body", "steps", "s", "action"]), "schema or an assert"),
        (
            check(json!({"kind": "check", "schema": {"type": "nonsense"}})),
            json!(["body", "steps", "s", "action", "schema"]),
            "",
        ),
        (check(json!({"kind": "check", "assert": "("})), json!(["body", "steps", "s", "action", "assert"]), ""),
        (
            of_step(json!({"input_mappings": {"x": "$.inputs["}})),
            json!(["body", "steps", "s", "input_mappings", "x"]),
            "JSONPath",
        ),
        (
            of_step(json!({"input_mappings": {"x": "$.elsewhere.y"}})),
            json!(["body", "steps", "s", "input_mappings", "x"]),
            "$.inputs",
        ),
        (
            of_step(json!({"output_mappings": {"x": "$$"}})),
            json!(["body", "steps", "s", "output_mappings", "x"]),
            "second $",
        ),
        (of_step(json!({"input_mappings": []})), json!(["body", "steps", "s", "input_mappings"]), ""),
        (
            of_step(json!({"input_mappings": {"x": "$.steps.ghost.output"}})),
            json!(["body", "steps", "s", "input_mappings", "x"]),
            "ghost",
        ),
        (
            of_steps(json!({"a": jq("."), "b": {"step_type": "custom", "input_mappings": {"x": "$.steps.a.output"}}})),
            json!(["body", "steps", "b", "input_mappings", "x"]),
            "depends_on",
        ),
    ]
}

fn members() -> Vec<(Value, Value, &'static str)> {
    let with = |member: &str, value: Value| {
        let mut body = json!({"name": "n", "steps": {"a": jq(".")}});
        body[member] = value;
        body
    };
    vec![
        (json!({"steps": {}}), json!(["body", "name"]), "required"),
        (json!({"name": "n"}), json!(["body", "steps"]), "required"),
        (with("name", json!("")), json!(["body", "name"]), "1 to 100"),
        (with("name", json!("é".repeat(101))), json!(["body", "name"]), "1 to 100"),
        (with("name", json!(5)), json!(["body", "name"]), "string"),
        (with("name", json!("a\0b")), json!(["body", "name"]), "NUL"),
        (with("tags", json!(["a", "b\0"])), json!(["body", "tags", 1]), "NUL"),
        (with("steps", json!([])), json!(["body", "steps"]), "an object"),
        (with("steps", json!("x")), json!(["body", "steps"]), "an object"),
        (with("dependencies", json!([])), json!(["body", "dependencies"]), "an object"),
        (with("tags", json!("a,b")), json!(["body", "tags"]), "a list"),
        (with("tags", json!([1])), json!(["body", "tags", 0]), "string"),
        (with("is_public", json!("maybe")), json!(["body", "is_public"]), "true or false"),
        (with("verification_level", json!("BASIC")), json!(["body", "verification_level"]), "BASIC"),
        (with("max_execution_time", json!(-1)), json!(["body", "max_execution_time"]), "0"),
        (with("max_execution_time", json!(1e30)), json!(["body", "max_execution_time"]), ""),
        (with("max_execution_time", json!("x")), json!(["body", "max_execution_time"]), "a whole number"),
        (with("max_cost_budget", json!(-0.5)), json!(["body", "max_cost_budget"]), "0"),
        (with("max_cost_budget", json!(1e12)), json!(["body", "max_cost_budget"]), "amount"),
        (json!([]), json!(["body"]), "object"),
        (json!(["n", "", {"a": {}}]), json!(["body"]), "object"),
        (json!("x"), json!(["body"]), ""),
        (json!(null), json!(["body"]), ""),
    ]
}

#[tokio::test]
async fn workflow_validation_locates_each_fault() {
    let server = TestApp::start().await;
    for (body, place, word) in definitions().into_iter().chain(members()) {
        let answer = server.post(WORKFLOWS, body.clone()).await;
        assert_eq!(answer.status, 422, "{body} was answered {}", answer.text);
        let answer = answer.body;
        assert_eq!(locations(&answer), [place], "{body} was answered {answer}");
        let message = answer["detail"][0].text("msg");
        assert!(message.contains(word) && !message.is_empty(), "{body} was answered {message}, without {word}");
        assert_eq!(answer["code"], "validation_error");
        assert!(answer["detail"][0]["type"].is_string() && answer["request_id"].is_string(), "{answer}");
    }
    assert_eq!(server.get(WORKFLOWS).await.header("x-total-count"), "0");
}

#[tokio::test]
async fn workflow_validation_reports_all_faults() {
    let server = TestApp::start().await;
    let steps = json!({"a": {"timeout_seconds": 0, "max_retries": 500}, "b": jq("("), "c": {"depends_on": ["x", "y"]}});
    let answer = server.post(WORKFLOWS, of_steps(steps)).await.is(422);
    let expected = [
        json!(["body", "steps", "a", "timeout_seconds"]),
        json!(["body", "steps", "a", "max_retries"]),
        json!(["body", "steps", "b", "action", "program"]),
        json!(["body", "steps", "c", "depends_on", 0]),
        json!(["body", "steps", "c", "depends_on", 1]),
    ];
    assert_eq!(locations(&answer), expected);
}

#[tokio::test]
async fn workflow_validation_locates_steps_with_unusual_keys() {
    let server = TestApp::start().await;
    for key in ["1", "a.b", "with space", "ü", "'\"", "$", "/", &"k".repeat(200)] {
        let answer = server.post(WORKFLOWS, of_steps(json!({key: {"timeout_seconds": 0}}))).await.is(422);
        assert_eq!(locations(&answer), [json!(["body", "steps", key, "timeout_seconds"])]);
        // A good one can be made and run by that key.
        let id = server.workflow(json!({key: jq("{k: 1}")})).await;
        let run = server.post(&format!("{WORKFLOWS}/{id}/execute?wait=20"), json!({})).await.ok();
        assert_eq!(run["final_result"]["step_results"][key], json!({"k": 1}), "{run}");
    }
}

async fn raw(server: &ApiClient, kind: Option<&str>, body: impl Into<Vec<u8>>) -> Answer {
    let request = server.request(reqwest::Method::POST, WORKFLOWS).body(body.into());
    Answer::of(match kind {
        Some(kind) => request.header("content-type", kind),
        None => request,
    })
    .await
}

#[tokio::test]
async fn request_body_must_be_json() {
    let server = TestApp::start().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let texts: [&[u8]; 9] = [
        b"{",
        b"{\"name\": \"n\", \"steps\": {}} trailing",
        b"{'name': 1}",
        b"{\"name\": NaN, \"steps\": {}}",
        b"{\"name\": \"\\ud800\", \"steps\": {}}",
        b"{\"name\": \"\xff\xfe\", \"steps\": {}}",
        b"\x00",
        b"{\"name\": 1e999999, \"steps\": {}}",
        deep.as_bytes(),
    ];
    for text in texts {
        let answer = raw(&server, Some("application/json"), text).await;
        let start = String::from_utf8_lossy(&text[..text.len().min(40)]);
        assert_eq!(answer.status, 422, "{start}: {}", answer.text);
        assert_eq!(answer.body["detail"][0]["loc"][0], "body", "{start}: {}", answer.text);
    }
    assert_eq!(raw(&server, Some("application/json"), "").await.is(422)["detail"][0]["type"], "missing");
    assert_eq!(raw(&server, Some("text/plain"), "{}").await.is(415)["code"], "unsupported_media_type");
    raw(&server, Some("application/x-www-form-urlencoded"), "name=n").await.is(415);
    let good = r#"{"name": "n", "steps": {}}"#;
    raw(&server, None, good).await.is(200);
    raw(&server, Some("application/json; charset=utf-8"), good).await.is(200);
    raw(&server, Some("application/vnd.api+json"), good).await.is(200);
}

#[tokio::test]
async fn list_parameters_are_validated() {
    let server = TestApp::start().await;
    for (query, name) in [
        ("workflows?limit=0", "limit"),
        ("workflows?limit=501", "limit"),
        ("workflows?limit=x", "limit"),
        ("workflows?offset=-1", "offset"),
        ("workflows?cursor=nonsense", "cursor"),
        ("workflows?is_public=perhaps", "is_public"),
        ("workflows?owner_id=%00", "owner_id"),
        ("executions?status=sleeping", "status"),
        ("executions?limit=99999999999999999999", "limit"),
        ("executions/exec_0/status?wait=soon", "wait"),
        ("executions/exec_0?wait=-1", "wait"),
        ("executions/exec_0?wait=nan", "wait"),
        ("executions/exec_0/events?limit=0", "limit"),
        ("executions/exec_0/events?format=xml", "format"),
        ("networks?limit=0", "limit"),
    ] {
        let answer = server.get(&format!("{AGENTS}/{query}")).await;
        assert_eq!(answer.status, 422, "{query}: {}", answer.text);
        assert_eq!(locations(&answer.body), [json!(["query", name])], "{query}");
    }
    // A path that is no text, or none that could be an id.
    for path in ["workflows/%ff%fe", "workflows/%00", "executions/a%2Fb", "networks/%F0%9F%98%80"] {
        let answer = server.get(&format!("{AGENTS}/{path}")).await;
        assert!(matches!(answer.status.as_u16(), 404 | 422), "{path}: {} {}", answer.status, answer.text);
    }
}

#[tokio::test]
async fn execute_request_is_validated() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": jq(".")})).await;
    for (body, place) in [
        (json!({"inputs": []}), json!(["body", "inputs"])),
        (json!({"inputs": "x"}), json!(["body", "inputs"])),
        (json!({"inputs": {"a": "\0"}}), json!(["body", "inputs", "a"])),
        (json!({"verification_level": "much"}), json!(["body", "verification_level"])),
        (json!({"max_execution_time": -5}), json!(["body", "max_execution_time"])),
        (json!({"max_cost_budget": -5}), json!(["body", "max_cost_budget"])),
        (json!([1]), json!(["body"])),
    ] {
        let answer = server.post(&format!("{WORKFLOWS}/{id}/execute"), body.clone()).await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text);
        assert_eq!(locations(&answer.body), [place], "{body}: {}", answer.text);
    }
    assert_eq!(server.get(&format!("{AGENTS}/executions")).await.header("x-total-count"), "0");
}

/// A schema that takes seconds and hundreds of megabytes to compile.
fn costly_schema(patterns: usize) -> Value {
    let pattern = |at: usize| json!({"pattern": format!("^(\\p{{L}}{{1,{}}}|\\w{{2,50}})+$", 50 + at)});
    json!({"allOf": (0..patterns).map(pattern).collect::<Vec<_>>()})
}

fn checked_by(schema: &Value) -> Value {
    json!({"step_type": "verification", "action": {"kind": "check", "schema": schema}})
}

#[tokio::test]
async fn schemas_and_programs_that_cost_too_much_to_compile_are_refused() {
    let place = json!(["body", "steps", "s", "action", "schema"]);
    let costly = costly_schema(2000);
    for (timeout, memory, limit) in [(300, 256, "0.3 s"), (60_000, 64, "64 MiB")] {
        let server = TestApp::builder().env("JQ_TIMEOUT_MS", timeout).env("JQ_MEMORY_MB", memory).start().await;
        let refused = server.post(WORKFLOWS, of_step(checked_by(&costly))).await;
        assert_eq!(refused.status, 422, "{}", refused.body);
        assert_eq!(locations(&refused.body), std::slice::from_ref(&place));
        assert!(refused.body.to_string().contains(limit), "{}", refused.body);
        // Whoever comes next finds a worker that answers.
        server.post(WORKFLOWS, of_step(checked_by(&json!({"type": "object"})))).await.ok();
    }
}

#[tokio::test]
async fn time_limit_of_compiling_holds_for_a_definition_as_a_whole() {
    let server = TestApp::builder().env("JQ_TIMEOUT_MS", 300).start().await;
    let steps = (0..900).map(|at| (format!("s{at}"), checked_by(&costly_schema(2 + at % 7 + at / 7))));
    let refused = server.post(WORKFLOWS, of_steps(Value::Object(steps.collect()))).await;
    assert_eq!(refused.status, 422, "{}", refused.body);
    assert_eq!(locations(&refused.body).len(), 1, "nothing after the first that is too late is compiled");
    assert!(refused.body.to_string().contains("with those before it"), "{}", refused.body);
    // Once is enough for equal ones.
    let steps = (0..900).map(|at| (format!("s{at}"), checked_by(&json!({"pattern": "^a{1,9}$"}))));
    server.post(WORKFLOWS, of_steps(Value::Object(steps.collect()))).await.ok();
}

#[tokio::test]
async fn faults_of_texts_and_of_the_rest_are_told_together() {
    let server = TestApp::start().await;
    let steps = json!({"a": jq("nope"), "b": checked_by(&json!({"type": 7})), "c": {"step_type": "magic"}});
    let mut places = locations(&server.post(WORKFLOWS, of_steps(steps)).await.body);
    places.sort_by_key(Value::to_string);
    let place = |key: &str, members: &[&str]| json!([&["body", "steps", key], members].concat());
    let expected = [place("a", &["action", "program"]), place("b", &["action", "schema"]), place("c", &["step_type"])];
    assert_eq!(places, expected);
}
