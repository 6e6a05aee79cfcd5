//! What steps do, and how a run of them is driven, through HTTP.

mod control;
mod event_times;
mod fairness;
mod history;
mod http;
mod values;
mod waiting;

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::kit::JsonDocument;
use crate::{
    harness::{Answer, ApiClient, PATIENCE, Server, TestApp},
    peer::Peer,
};

/// A server whose steps can call `peer`.
async fn with(peer: &Peer) -> TestApp {
    TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await
}

/// A step that calls the peer with `body`, its key as `id` in it.
fn call(id: &str, mut body: Value) -> Value {
    body["id"] = id.into();
    json!({"step_type": "custom", "max_retries": 0, "action": {"kind": "http", "endpoint": "peer", "body": body}})
}

fn after(mut step: Value, others: &[&str]) -> Value {
    step["depends_on"] = json!(others);
    step
}

fn jq(program: &str) -> Value {
    json!({"step_type": "data_processing", "action": {"kind": "jq", "program": program}})
}

/// Run `steps` to their end.
async fn run(server: &ApiClient, steps: Value, inputs: Value) -> Value {
    let workflow = server.workflow(steps).await;
    let run = server.execute(&workflow, inputs).await;
    server.ended(run.text("id")).await
}

#[track_caller]
fn completed(document: &Value) -> &Value {
    assert_eq!(document["status"], "completed", "{document}");
    &document["final_result"]["step_results"]
}

/// The error of a run that has failed at `step`.
#[track_caller]
fn failed_at<'a>(document: &'a Value, step: &str) -> &'a str {
    assert_eq!(document["status"], "failed", "{document}");
    assert_eq!(document["failed_step"], step, "{document}");
    document.text("error_message")
}

#[track_caller]
fn has(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in {text:?}");
}

/// All events of an execution, by JSON pages of `limit`.
pub async fn events(server: &ApiClient, execution: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut after) = (Vec::new(), json!(0));
    loop {
        let path = format!("/api/v1/agents/executions/{execution}/events?format=json&limit={limit}&after={after}");
        let page = server.get(&path).await.ok();
        let events = page["events"].as_array().unwrap();
        if events.is_empty() {
            return all;
        }
        all.extend(events.iter().cloned());
        after = page["next_after"].clone();
    }
}

/// Numbers from 1 without gaps; the kinds, in order.
#[track_caller]
pub fn kinds(events: &[Value]) -> Vec<&str> {
    let numbers: Vec<i64> = events.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=events.len() as i64).collect::<Vec<_>>(), "{events:?}");
    events.iter().map(|event| event.text("type")).collect()
}

#[tokio::test]
async fn jq_step_transforms_its_input_within_limits() {
    let server = TestApp::builder().env("JQ_TIMEOUT_MS", 300).env("JQ_MAX_OUTPUT_BYTES", 4096).start().await;
    let good = run(&server, json!({"a": jq("{y: (.x * 2)}")}), json!({"x": 21})).await;
    assert_eq!(completed(&good)["a"], json!({"y": 42}));
    for (program, why) in [
        ("error(\"not today\")", "not today"),
        ("def f: f; f", "longer than 0.3 s"),
        ("[range(1e9)]", ""),
        ("[range(5000)]", "4096"),
    ] {
        let bad = run(&server, json!({"a": jq(program)}), json!({})).await;
        has(failed_at(&bad, "a"), why);
        assert_eq!(bad["step_states"]["a"]["attempts"], 1, "it would fail again: {program}");
    }
}

#[tokio::test]
async fn check_policy_and_verification_steps_decide_on_their_inputs() {
    let server = TestApp::start().await;
    let check = |schema: Value, assert: &str| json!({"step_type": "verification", "action": {"kind": "check", "schema": schema, "assert": assert}});
    let schema = json!({"type": "object", "properties": {"x": {"type": "integer", "maximum": 9}}, "required": ["x"]});
    let good = run(&server, json!({"c": check(schema.clone(), ".x < 5")}), json!({"x": 3})).await;
    assert_eq!(completed(&good)["c"], json!({"valid": true, "checked": {"x": 3}}));
    let bad = run(&server, json!({"c": check(schema.clone(), ".x < 5")}), json!({"x": 10})).await;
    has(failed_at(&bad, "c"), "schema");
    let bad = run(&server, json!({"c": check(schema, ".x < 5")}), json!({"x": 7})).await;
    has(failed_at(&bad, "c"), "answered false");

    let policy = json!({"step_type": "inference", "action": {"kind": "policy", "policy": "marketplace-ppo"}});
    let good = run(&server, json!({"p": policy.clone()}), json!({"state": [0, 1, 2, 3, 4, 5, 6, 7, 8]})).await;
    assert!(completed(&good)["p"].is_object(), "{good}");
    let bad = run(&server, json!({"p": policy}), json!({"state": [0, 1]})).await;
    has(failed_at(&bad, "p"), "9 numbers, not 2");

    // Without an action a verification step looks at the checks of what it waits for.
    let verify = json!({"step_type": "verification", "depends_on": ["a"]});
    for level in ["basic", "full"] {
        let mut step = jq(".");
        step["verification_level"] = level.into();
        let good = run(&server, json!({"a": step, "v": verify.clone()}), json!({"x": 1})).await;
        assert_eq!(completed(&good)["v"]["steps"]["a"]["level"], level);
        assert_eq!(good["verification_proof"]["verified"], true);
    }
    let mut step = jq(".");
    step["verification_level"] = "zero-knowledge".into();
    let bad = run(&server, json!({"a": step, "v": verify.clone()}), json!({"x": 1})).await;
    has(failed_at(&bad, "v"), "a (proof)");
    let bad = run(&server, json!({"a": jq("null"), "v": verify}), json!({})).await;
    has(failed_at(&bad, "v"), "a (has_output)");
}

#[tokio::test]
async fn http_step_calls_its_endpoint_once() {
    let peer = Peer::start();
    let server = TestApp::builder()
        .env("HTTP_ENDPOINTS", peer.endpoints())
        .env("HTTP_STEP_MAX_RESPONSE_BYTES", 2048)
        .start()
        .await;
    let chat = json!({"step_type": "inference", "depends_on": ["a"], "action": {"kind": "http", "endpoint": "chat",
        "body": {"model": "m", "messages": "$.steps.a.output.words"}}});
    let workflow = server.workflow(json!({"a": call("a", json!({"words": "$.inputs.w"})), "b": chat})).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = server
        .request(Method::POST, &format!("/api/v1/agents/workflows/{workflow}/execute"))
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .json(&json!({"inputs": {"w": ["hello"]}}));
    let started = Answer::of(request).await.ok();
    let id = started.text("id");
    let done = server.ended(id).await;
    assert_eq!(completed(&done)["a"], json!({"words": ["hello"], "id": "a"}));
    assert_eq!(completed(&done)["b"]["text"], "about [\"hello\"]");
    assert_eq!(done["total_cost"], 0.52, "two steps and a call's price");
    let [first, second] = &peer.calls()[..] else { panic!("{:?}", peer.calls()) };
    assert_eq!((first.path.as_str(), first.key()), ("/json", format!("{id}:a:1").as_str()));
    assert_eq!((first.header("authorization"), second.header("authorization")), ("", "Bearer a-token"));
    assert_eq!(second.body, json!({"model": "m", "messages": ["hello"]}));
    for made in [first, second] {
        let parts: Vec<&str> = made.header("traceparent").split('-').collect();
        assert_eq!((parts[1], parts[2].len()), (trace, 16));
    }
    assert_ne!(first.header("traceparent"), second.header("traceparent"), "each call is a span of its own");

    // What the endpoint says for good is not asked again.
    for (name, body, why) in [
        ("bad", json!({"status": 400}), "400 Bad Request: no luck"),
        ("away", json!({"redirect": true}), "307"),
        ("large", json!({"bytes": 10_000}), "larger than 2048 bytes"),
    ] {
        let mut step = call(name, body);
        step["max_retries"] = 3.into();
        let bad = run(&server, json!({"s": step}), json!({})).await;
        has(failed_at(&bad, "s"), why);
        assert_eq!(peer.count(name), 1);
    }
    assert!(peer.calls().iter().all(|call| call.path != "/elsewhere"), "a redirect leads where nobody configured");

    let unknown = json!({"s": {"step_type": "custom", "action": {"kind": "http", "endpoint": "http://evil.example"}}});
    let refused = server.post("/api/v1/agents/workflows", json!({"name": "n", "steps": unknown})).await.is(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["body", "steps", "s", "action", "endpoint"]));
}

#[tokio::test]
async fn step_retry_follows_its_policy() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let retrying = |id: &str, times: u64| {
        let mut step = call(id, json!({"status": 500, "times": times}));
        step["max_retries"] = 2.into();
        // The coordinator's clients have another name for it.
        step["retry_policy"] = json!({"initial_seconds": 0.05, "backoff_factor": 3, "max_seconds": 60, "jitter": 0});
        step
    };
    let good = run(&server, json!({"s": retrying("once", 1)}), json!({})).await;
    completed(&good);
    assert_eq!(good["step_states"]["s"]["attempts"], 2);
    let keys: Vec<String> = peer.calls().iter().map(|call| call.key().to_owned()).collect();
    let id = good.text("id");
    assert_eq!(keys, [format!("{id}:s:1"), format!("{id}:s:2")], "another attempt is another request");

    let bad = run(&server, json!({"s": retrying("never", 99)}), json!({})).await;
    has(failed_at(&bad, "s"), "500");
    assert_eq!(peer.count("never"), 3, "two retries");
    let events = events(&server, bad.text("id"), 1000).await;
    assert_eq!(
        kinds(&events),
        [
            "execution_started",
            "step_started",
            "step_failed",
            "step_started",
            "step_failed",
            "step_started",
            "step_failed",
            "execution_failed"
        ]
    );
    let moment = |value: &Value| value.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let waits: Vec<i64> = events
        .iter()
        .filter(|event| event["data"]["retry_at"].is_string())
        .map(|event| (moment(&event["data"]["retry_at"]) - moment(&event["at"])).num_milliseconds())
        .collect();
    assert_eq!(waits, [50, 150]);
    let begun: Vec<_> =
        events.iter().filter(|event| event["type"] == "step_started").map(|event| moment(&event["at"])).collect();
    assert!((begun[1] - begun[0]).num_milliseconds() >= 50 && (begun[2] - begun[1]).num_milliseconds() >= 150);

    // Nobody listens there: that may pass.
    let nobody = json!({"gone": {"url": "http://127.0.0.1:1/", "kind": "json"}});
    let server = server.restart_with(&[("HTTP_ENDPOINTS", &nobody.to_string())]).await;
    let step = json!({"step_type": "custom", "max_retries": 1, "retry_policy": {"initial_seconds": 0.01},
        "action": {"kind": "http", "endpoint": "gone"}});
    let bad = run(&server, json!({"s": step}), json!({})).await;
    assert_eq!(bad["step_states"]["s"]["attempts"], 2);
    assert!(!failed_at(&bad, "s").contains("127.0.0.1"), "{bad}");
}

#[tokio::test]
async fn call_without_answer_is_repeated_under_its_key() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let mut step = call("cut", json!({"hang_up": 2, "status": 500, "times": 0}));
    step["max_retries"] = 4.into();
    step["retry_policy"] = json!({"initial_seconds": 0.01, "backoff": 1, "max_seconds": 1, "jitter": 0});
    let good = run(&server, json!({"s": step}), json!({})).await;
    completed(&good);
    let keys: Vec<String> = peer.calls().iter().map(|call| call.key().to_owned()).collect();
    assert_eq!(keys, vec![format!("{}:s:1", good.text("id")); 3], "it may have taken effect each time");

    // All retries are used up; the retried execution repeats the call.
    let mut step = call("cut again", json!({"hang_up": 2}));
    step["max_retries"] = 1.into();
    step["retry_policy"] = json!({"initial_seconds": 0.01});
    let bad = run(&server, json!({"s": step}), json!({})).await;
    assert_eq!(bad["status"], "failed");
    let id = bad.text("id");
    server.post(&format!("/api/v1/agents/executions/{id}/retry"), json!({})).await.ok();
    completed(&server.ended(id).await);
    let calls = peer.calls();
    let keys: Vec<&str> = calls.iter().filter(|call| call.body["id"] == "cut again").map(|call| call.key()).collect();
    assert_eq!(keys, vec![format!("{id}:s:1"); 3]);
}

#[tokio::test]
async fn answer_without_content_is_a_success_with_null() {
    let peer = Peer::start();
    let server = with(&peer).await;
    for status in [200, 202, 204, 205] {
        let done = run(&server, json!({"s": call("quiet", json!({"empty": status}))}), json!({})).await;
        assert_eq!(completed(&done)["s"], Value::Null, "{status}");
    }
    assert_eq!(peer.count("quiet"), 4, "none is repeated");
}

#[tokio::test]
async fn endpoint_that_asks_for_patience_gets_it() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let soon = (am_core::ambient::Clock::system().now() + chrono::TimeDelta::seconds(600))
        .format("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    for (status, wait, seconds) in [
        (429, "100", 99..=101),
        (503, soon.as_str(), 500..=600),
        (503, "Mon, 01 Jan 2125 00:00:00 GMT", 3599..=3601),
        (500, "100", 0..=1),
        (429, "later", 0..=1),
    ] {
        let mut step = call(&format!("busy {status} {wait}"), json!({"status": status, "retry_after": wait}));
        step["max_retries"] = 1.into();
        step["retry_policy"] = json!({"initial_seconds": 0.5, "jitter": 0});
        let workflow = server.workflow(json!({"s": step})).await;
        let started = server.execute(&workflow, json!({})).await;
        let id = started.text("id");
        server
            .until(id, |run| {
                run["step_states"]["s"]["attempts"] == 1 && peer.count(&format!("busy {status} {wait}")) > 0
            })
            .await;
        server.until(id, |run| run["step_states"]["s"]["status"] != "running").await;
        let events = events(&server, id, 1000).await;
        let failed = events.iter().find(|event| event["data"]["retry_at"].is_string()).unwrap();
        let moment = |value: &Value| value.as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        let waited = (moment(&failed["data"]["retry_at"]) - moment(&failed["at"])).num_seconds();
        assert!(seconds.contains(&waited), "{status} {wait}: {waited}");
    }
}

#[tokio::test]
async fn input_and_output_mappings_select_step_data() {
    let server = TestApp::start().await;
    let steps = json!({
        "plain": {"step_type": "custom"},
        "pick": {"step_type": "data_processing", "depends_on": ["plain"], "action": {"kind": "jq", "program": "{sum: (.a + .b), rest: .c}"},
            "input_mappings": {"a": "$.inputs.n", "b": "$.steps.plain.output.list[1]", "c": "$.steps.plain.output.list[*]"},
            "output_mappings": {"total": "$.output.sum", "was": "$.inputs.n", "word": "literal"}},
        "both": {"step_type": "custom", "depends_on": ["plain", "pick"]},
    });
    let done = run(&server, steps, json!({"n": 5, "list": [1, 2, 3]})).await;
    let results = completed(&done);
    assert_eq!(results["plain"], json!({"n": 5, "list": [1, 2, 3]}), "a custom step without an action passes on");
    assert_eq!(results["pick"], json!({"total": 7, "was": 5, "word": "literal"}));
    assert_eq!(results["both"], json!({"plain": results["plain"], "pick": results["pick"]}));

    for (member, path) in [("input_mappings", "$.inputs.none"), ("output_mappings", "$.output.none")] {
        let mut step = jq(".");
        step[member] = json!({"x": path});
        let bad = run(&server, json!({"s": step}), json!({})).await;
        has(failed_at(&bad, "s"), &format!("{member}: {path}"));
        let cost = if member == "output_mappings" { 0.01 } else { 0.0 };
        assert_eq!(bad["total_cost"], cost, "what was done is paid for");
    }
    let command = json!({"s": {"step_type": "custom", "action": {"kind": "command"}}});
    let refused = server.post("/api/v1/agents/workflows", json!({"name": "n", "steps": command})).await.is(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["body", "steps", "s", "action", "argv"]));
}

#[tokio::test]
async fn parallel_steps_are_limited() {
    let peer = Peer::start();
    let server =
        TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("ENGINE_MAX_PARALLEL_STEPS", 3).start().await;
    let steps: serde_json::Map<String, Value> =
        (0..7).map(|n| (format!("s{n}"), call(&format!("s{n}"), json!({"hold": true})))).collect();
    let workflow = server.workflow(Value::Object(steps)).await;
    let run = server.execute(&workflow, json!({})).await;
    peer.called(3).await;
    peer.open();
    completed(&server.ended(run.text("id")).await);
    assert_eq!((peer.most_at_once(), peer.calls().len()), (3, 7));
}
