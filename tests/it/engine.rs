//! What steps do, and how a run of them is driven, through HTTP.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    harness::{Answer, PATIENCE, Server},
    peer::Peer,
};

/// A server whose steps can call `peer`.
async fn with(peer: &Peer) -> Server {
    Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await
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
async fn run(server: &Server, steps: Value, inputs: Value) -> Value {
    let workflow = server.workflow(steps).await;
    let run = server.execute(&workflow, inputs).await;
    server.ended(run["id"].as_str().unwrap()).await
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
    document["error_message"].as_str().unwrap()
}

#[track_caller]
fn has(text: &str, part: &str) {
    assert!(text.contains(part), "{part:?} is not in {text:?}");
}

/// All events of an execution, by JSON pages of `limit`.
pub async fn events(server: &Server, execution: &str, limit: usize) -> Vec<Value> {
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
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn jq_changes_its_input_within_limits() {
    let server = Server::builder().env("JQ_TIMEOUT_MS", 300).env("JQ_MAX_OUTPUT_BYTES", 4096).start().await;
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
async fn checks_policies_and_verification_decide_on_what_they_are_given() {
    let server = Server::start().await;
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
async fn an_http_step_calls_its_configured_endpoint_once() {
    let peer = Peer::start();
    let server = Server::builder()
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
    let id = started["id"].as_str().unwrap();
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
async fn a_failed_attempt_is_tried_again_as_its_policy_says() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let retrying = |id: &str, times: u64| {
        let mut step = call(id, json!({"status": 500, "times": times}));
        step["max_retries"] = 2.into();
        step["retry_policy"] = json!({"initial_seconds": 0.05, "backoff": 3, "max_seconds": 60, "jitter": 0});
        step
    };
    let good = run(&server, json!({"s": retrying("once", 1)}), json!({})).await;
    completed(&good);
    assert_eq!(good["step_states"]["s"]["attempts"], 2);
    let keys: Vec<String> = peer.calls().iter().map(|call| call.key().to_owned()).collect();
    let id = good["id"].as_str().unwrap();
    assert_eq!(keys, [format!("{id}:s:1"), format!("{id}:s:2")], "another attempt is another request");

    let bad = run(&server, json!({"s": retrying("never", 99)}), json!({})).await;
    has(failed_at(&bad, "s"), "500");
    assert_eq!(peer.count("never"), 3, "two retries");
    let events = events(&server, bad["id"].as_str().unwrap(), 1000).await;
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
async fn mappings_pick_what_steps_take_and_give() {
    let server = Server::start().await;
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
    let command = json!({"s": {"step_type": "custom", "action": {"kind": "command", "command": "ls"}}});
    let refused = server.post("/api/v1/agents/workflows", json!({"name": "n", "steps": command})).await.is(422);
    has(refused["detail"][0]["msg"].as_str().unwrap(), "sandbox");
}

#[tokio::test]
async fn ready_steps_run_in_parallel_up_to_the_limit() {
    let peer = Peer::start();
    let server =
        Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("ENGINE_MAX_PARALLEL_STEPS", 3).start().await;
    let steps: serde_json::Map<String, Value> =
        (0..7).map(|n| (format!("s{n}"), call(&format!("s{n}"), json!({"hold": true})))).collect();
    let workflow = server.workflow(Value::Object(steps)).await;
    let run = server.execute(&workflow, json!({})).await;
    peer.called(3).await;
    peer.open();
    completed(&server.ended(run["id"].as_str().unwrap()).await);
    assert_eq!((peer.most_at_once(), peer.calls().len()), (3, 7));
}

#[tokio::test]
async fn limits_of_time_stop_what_runs_and_say_what_was_measured() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let mut step = call("slow", json!({"hold": true}));
    step["timeout_seconds"] = 1.into();
    let bad = run(&server, json!({"s": step}), json!({})).await;
    has(failed_at(&bad, "s"), "timeout_seconds 1");
    assert!(bad["step_states"]["s"]["execution_time"].as_f64().unwrap() >= 1.0);

    let held = json!({"name": "n", "steps": {"s": call("held", json!({"hold": true}))}, "max_execution_time": 1});
    let workflow = server.post("/api/v1/agents/workflows", held).await.ok();
    let run = server.execute(workflow["id"].as_str().unwrap(), json!({})).await;
    let bad = server.ended(run["id"].as_str().unwrap()).await;
    assert_eq!((&bad["status"], &bad["failed_step"]), (&json!("failed"), &Value::Null));
    has(bad["error_message"].as_str().unwrap(), "max_execution_time 1: 1.");
    assert_eq!(bad["step_states"]["s"]["status"], "cancelled");
    let left = timeout(PATIENCE, async {
        while peer.under_way() > 0 {
            tokio::task::yield_now().await;
        }
    });
    assert!(left.await.is_ok(), "the calls were given up");
}

#[tokio::test]
async fn a_budget_is_reserved_before_a_step_and_settled_after() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let chat = |others: &[&str]| {
        after(
            json!({"step_type": "inference", "action": {"kind": "http", "endpoint": "chat", "body": {"messages": 1}}}),
            others,
        )
    };
    let execute = async |steps: Value, budget: f64| {
        let workflow = server.workflow(steps).await;
        let path = format!("/api/v1/agents/workflows/{workflow}/execute?wait=20");
        server.post(&path, json!({"max_cost_budget": budget})).await.ok()
    };
    // Each may cost 0.51. Three side by side fit 1.6, none fits 0.5, and 1.1 stops before the third.
    let three = || json!({"a": chat(&[]), "b": chat(&[]), "c": chat(&[])});
    let good = execute(three(), 1.6).await;
    completed(&good);
    assert_eq!(good["total_cost"], 1.53);
    let bad = execute(three(), 0.5).await;
    has(bad["error_message"].as_str().unwrap(), "max_cost_budget 0.5: 0 is spent, and step \"a\" may cost 0.51");
    let before = peer.calls().len();
    let bad = execute(three(), 1.1).await;
    has(bad["error_message"].as_str().unwrap(), "max_cost_budget 1.1: 1.02 is spent, and step \"c\" may cost 0.51");
    assert_eq!((&bad["status"], &bad["total_cost"]), (&json!("failed"), &json!(1.02)));
    assert_eq!(peer.calls().len() - before, 2, "the third is not called");
    // Retrying does not lift the limit.
    let id = bad["id"].as_str().unwrap();
    server.post(&format!("/api/v1/agents/executions/{id}/retry"), json!({})).await.ok();
    let bad = server.ended(id).await;
    has(bad["error_message"].as_str().unwrap(), "1.02 is spent");

    // What is measured may be more than what was set aside.
    let dear = server.restart_with(&[("COMPUTE_PRICE_PER_SECOND", "1000000")]).await;
    let workflow = dear.workflow(json!({"a": jq("[range(1000)] | add")})).await;
    let path = format!("/api/v1/agents/workflows/{workflow}/execute?wait=20");
    let bad = dear.post(&path, json!({"max_cost_budget": 0.5})).await.ok();
    has(bad["error_message"].as_str().unwrap(), "was spent");
    let spent = bad["total_cost"].as_f64().unwrap();
    has(bad["error_message"].as_str().unwrap(), &format!("max_cost_budget 0.5: {spent:.3}")[..24]);
    let id = bad["id"].as_str().unwrap();
    dear.post(&format!("/api/v1/agents/executions/{id}/retry"), json!({})).await.ok();
    assert_eq!(dear.ended(id).await["status"], "failed", "all its steps are done, and it spent too much still");
}

#[tokio::test]
async fn a_failing_step_stops_the_others_and_a_retry_keeps_what_ended_well() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let steps = json!({
        "first": call("first", json!({"value": 1})),
        "bad": after(call("bad", json!({"status": 400, "times": 1})), &["first"]),
        "beside": after(call("beside", json!({"hold": true})), &["first"]),
        "last": after(call("last", json!({"sum": "$.steps.first.output.value"})), &["bad", "beside"]),
    });
    let failed = run(&server, steps, json!({})).await;
    failed_at(&failed, "bad");
    let states = &failed["step_states"];
    assert_eq!(
        ["first", "bad", "beside", "last"].map(|key| states[key]["status"].as_str().unwrap()),
        ["completed", "failed", "cancelled", "pending"]
    );
    peer.open();
    let id = failed["id"].as_str().unwrap();
    server.post(&format!("/api/v1/agents/executions/{id}/retry"), json!({})).await.ok();
    let done = server.ended(id).await;
    assert_eq!(completed(&done)["last"], json!({"sum": 1, "id": "last"}));
    assert_eq!(["first", "bad", "last"].map(|id| peer.count(id)), [1, 2, 1], "what ended well is not called again");
    assert_eq!(done["total_cost"], 0.04);
    let events = events(&server, id, 1000).await;
    assert!(kinds(&events).contains(&"execution_retried"));
    let receipt = server.get(&format!("/api/v1/agents/executions/{id}/receipt")).await.ok();
    assert_eq!(receipt["verified"], true);
    server.post(&format!("/api/v1/agents/executions/{id}/retry"), json!({})).await.is(400);
}

#[tokio::test]
async fn cancelling_reaches_what_runs_and_holds_before_the_start() {
    let peer = Peer::start();
    let server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("ENGINE_MAX_ACTIVE", 1).start().await;
    let workflow = server.workflow(json!({"s": call("s", json!({"hold": true}))})).await;
    let running = server.execute(&workflow, json!({})).await;
    peer.called(1).await;
    let waiting = server.execute(&workflow, json!({})).await;
    let (running, waiting) = (running["id"].as_str().unwrap(), waiting["id"].as_str().unwrap());
    assert_eq!(server.get(&format!("/api/v1/agents/executions/{waiting}")).await.ok()["status"], "pending");

    let cancel = async |id: &str| server.post(&format!("/api/v1/agents/executions/{id}/cancel"), json!({})).await;
    assert_eq!(cancel(waiting).await.ok()["status"], "cancelled");
    assert_eq!(cancel(running).await.ok()["status"], "cancelled");
    let gone = timeout(PATIENCE, async {
        while peer.under_way() > 0 {
            tokio::task::yield_now().await;
        }
    });
    assert!(gone.await.is_ok(), "the call was given up");
    cancel(running).await.is(400);
    // The place is free, and what was cancelled before its start does not take it.
    peer.open();
    let next = server.execute(&workflow, json!({})).await;
    completed(&server.ended(next["id"].as_str().unwrap()).await);
    assert_eq!(peer.calls().len(), 2);
    for id in [running, waiting] {
        let document = server.get(&format!("/api/v1/agents/executions/{id}")).await.ok();
        assert_eq!(document["step_states"]["s"]["status"], "cancelled");
        let events = events(&server, id, 1000).await;
        assert_eq!(kinds(&events).last(), Some(&"execution_cancelled"));
        let receipt = server.get(&format!("/api/v1/agents/executions/{id}/receipt")).await;
        assert!(receipt.status.is_client_error(), "{receipt:?}");
    }
}

#[tokio::test]
async fn a_paused_run_begins_nothing_until_it_is_resumed() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let steps = json!({"a": call("a", json!({"hold": true})), "b": after(call("b", json!({})), &["a"])});
    let workflow = server.workflow(steps).await;
    let run = server.execute(&workflow, json!({})).await;
    let id = run["id"].as_str().unwrap();
    peer.called(1).await;
    let change = |what: &str| format!("/api/v1/agents/executions/{id}/{what}");
    server.post(&change("pause"), json!({})).await.ok();
    server.post(&change("pause"), json!({})).await.is(400);
    peer.open();
    // What was under way ends.
    let paused = server.until(id, |run| run["step_states"]["a"]["status"] == "completed").await;
    assert_eq!((&paused["paused"], &paused["status"]), (&json!(true), &json!("running")));
    let server = server.restart().await;
    let still = server.get(&format!("/api/v1/agents/executions/{id}?wait=1")).await.ok();
    assert_eq!((&still["status"], peer.count("b")), (&json!("running"), 0), "a pause outlives the process");
    server.post(&change("resume"), json!({})).await.ok();
    completed(&server.ended(id).await);
    assert_eq!((peer.count("a"), peer.count("b")), (1, 1));
    server.post(&change("resume"), json!({})).await.is(400);
    let events = events(&server, id, 1000).await;
    let kinds = kinds(&events);
    assert!(kinds.contains(&"execution_paused") && kinds.contains(&"execution_resumed"), "{kinds:?}");
}

#[tokio::test]
async fn a_client_may_wait_for_the_end_or_until_its_time_is_up() {
    let peer = Peer::start();
    let mut server = with(&peer).await;
    let workflow = server.workflow(json!({"s": call("s", json!({"hold": true}))})).await;
    let execute = format!("/api/v1/agents/workflows/{workflow}/execute");
    let began = Instant::now();
    let run = server.post(&format!("{execute}?wait=0.3"), json!({})).await.ok();
    assert_eq!(run["status"], "running");
    assert!(began.elapsed() >= Duration::from_millis(300));
    let status = format!("/api/v1/agents/executions/{}/status", run["id"].as_str().unwrap());
    let began = Instant::now();
    let patient = format!("{status}?wait=30");
    let (waited, ()) = tokio::join!(server.get(&patient), async {
        peer.called(1).await;
        peer.open();
    });
    completed(&waited.ok());
    assert!(began.elapsed() < Duration::from_secs(20), "it is answered at the end, not at the time's");
    for bad in ["-1", "x", "NaN", "1e400"] {
        server.get(&format!("{status}?wait={bad}")).await.is(422);
    }
    // A service that stops answers who waits as soon as it lets the run go.
    peer.shut();
    let run = server.post(&execute, json!({})).await.ok();
    peer.called(2).await;
    let id = run["id"].as_str().unwrap();
    server.post(&format!("/api/v1/agents/executions/{id}/pause"), json!({})).await.ok();
    let waiting = server.request(Method::GET, &format!("/api/v1/agents/executions/{id}?wait=30"));
    let waiting = tokio::spawn(Answer::of(waiting));
    let in_flight = timeout(PATIENCE, async {
        while !server.get("/metrics").await.text.contains("http_requests_in_flight 2") {
            tokio::task::yield_now().await;
        }
    });
    assert!(in_flight.await.is_ok(), "it waits, beside the one that asks for the metrics");
    let began = Instant::now();
    server.signal("TERM");
    peer.open();
    assert!(timeout(PATIENCE, waiting).await.unwrap().unwrap().ok()["status"].is_string());
    assert!(server.wait().success());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// (id, event, data) of each event of a stream, until it ends or `most` have come.
async fn stream(server: &Server, execution: &str, last: Option<u64>, most: usize) -> Vec<(u64, String, Value)> {
    let path = format!("/api/v1/agents/executions/{execution}/events");
    let mut request = server.request(Method::GET, &path).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let mut response = request.send().await.unwrap().error_for_status().unwrap();
    let (mut text, mut events) = (String::new(), Vec::new());
    while events.len() < most {
        let Some(chunk) = timeout(PATIENCE, response.chunk()).await.expect("the stream stands still").unwrap() else {
            break;
        };
        text.push_str(std::str::from_utf8(&chunk).unwrap());
        while let Some((event, rest)) = text.split_once("\n\n") {
            let field = |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            if !field("id: ").is_empty() {
                let data = serde_json::from_str(field("data: ")).unwrap();
                events.push((field("id: ").parse().unwrap(), field("event: ").to_owned(), data));
            }
            text = rest.to_owned();
        }
    }
    events.truncate(most);
    events
}

#[tokio::test]
async fn events_are_followed_taken_up_again_and_read_after_the_end() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let steps =
        json!({"a": jq("."), "b": after(call("b", json!({"hold": true})), &["a"]), "c": after(jq("."), &["b"])});
    let workflow = server.workflow(steps).await;
    let run = server.execute(&workflow, json!({})).await;
    let id = run["id"].as_str().unwrap();
    peer.called(1).await;
    // a began and ended, b began: then the stream waits.
    let first = stream(&server, id, None, 4).await;
    let (rest, ()) = tokio::join!(stream(&server, id, Some(4), 100), async { peer.open() });
    let whole: Vec<Value> = first.iter().chain(&rest).map(|(_, _, data)| data.clone()).collect();
    assert_eq!(
        kinds(&whole),
        [
            "execution_started",
            "step_started",
            "step_completed",
            "step_started",
            "step_completed",
            "step_started",
            "step_completed",
            "execution_completed"
        ]
    );
    for (number, event, data) in first.iter().chain(&rest) {
        assert_eq!((&json!(number), &json!(event)), (&data["seq"], &data["type"]));
    }
    for limit in [1, 3, 1000] {
        assert_eq!(events(&server, id, limit).await, whole, "pages of {limit}");
    }
    let server = server.restart().await;
    let again = stream(&server, id, Some(5), 100).await;
    assert_eq!(again.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [6, 7, 8]);
    assert!(stream(&server, id, Some(8), 100).await.is_empty());
    assert!(stream(&server, id, Some(u64::MAX), 100).await.is_empty());
}

#[tokio::test]
async fn a_run_keeps_the_definition_it_was_started_with() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let steps = json!({"a": call("a", json!({"hold": true})), "b": after(jq("\"old\""), &["a"])});
    let workflow = server.workflow(steps).await;
    let run = server.execute(&workflow, json!({})).await;
    let id = run["id"].as_str().unwrap();
    peer.called(1).await;
    let path = format!("/api/v1/agents/workflows/{workflow}");
    server.put(&path, json!({"steps": {"a": jq("\"new\"")}})).await.ok();
    server.delete(&path).await.is(409);
    let server = server.restart().await;
    peer.open();
    let done = server.ended(id).await;
    assert_eq!(completed(&done)["b"], "old");
    assert!(server.delete(&path).await.status.is_success());
    assert_eq!(server.get(&format!("/api/v1/agents/executions/{id}/receipt")).await.ok()["verified"], true);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_at_the_next_start_fails_the_run_and_takes_its_jobs_back() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let job = json!({"step_type": "inference", "model_requirements": {"model": "llama-7b"}});
    let workflow = server.workflow(json!({"a": call("a", json!({"hold": true})), "j": job})).await;
    let run = server.execute(&workflow, json!({})).await;
    let id = run["id"].as_str().unwrap();
    peer.called(1).await;
    let server = server.restart_with(&[("HTTP_ENDPOINTS", "{}")]).await;
    let failed = server.ended(id).await;
    assert_eq!(failed["status"], "failed");
    has(failed["error_message"].as_str().unwrap(), "\"peer\" is no configured endpoint");
    let states = &failed["step_states"];
    assert_eq!((&states["a"]["status"], &states["j"]["status"]), (&json!("cancelled"), &json!("cancelled")));
    let events = events(&server, id, 1000).await;
    assert_eq!(kinds(&events).last(), Some(&"execution_failed"));
    assert_eq!(events.last().unwrap()["data"]["jobs_taken_back"], json!([states["j"]["job_id"]]));
}

#[tokio::test]
async fn two_hundred_runs_at_once_all_end_eight_at_a_time() {
    let peer = Peer::start();
    let server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("ENGINE_MAX_ACTIVE", 8).start().await;
    let workflow = server.workflow(json!({"a": call("a", json!({})), "b": after(jq(".id"), &["a"])})).await;
    let path = format!("/api/v1/agents/workflows/{workflow}/execute");
    let mut runs = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let request = server.request(Method::POST, &path).json(&json!({"inputs": {}}));
        runs.spawn(async move { Answer::of(request).await.ok()["id"].as_str().unwrap().to_owned() });
    }
    let ids = runs.join_all().await;
    for id in &ids {
        completed(&server.ended(id).await);
    }
    assert_eq!(peer.calls().len(), 200);
    assert!(peer.most_at_once() <= 8, "{}", peer.most_at_once());
}
