//! Runs: how they are asked for, what is told of them, how they are stopped and taken up again.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, OTHER_ADMIN, TestApp},
    kit::{JsonDocument, ask, jq, miner_row, post_as, sql, waiting},
    redact::redacted,
};

const WORKFLOWS: &str = "/api/v1/agents/workflows";
const EXECUTIONS: &str = "/api/v1/agents/executions";

fn id_of(run: &Value) -> &str {
    run.text("id")
}

#[tokio::test]
async fn execute_accepts_every_request_form_of_the_clients() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": jq("{got: (.x // \"nothing\")}")})).await;
    let path = format!("{WORKFLOWS}/{id}/execute?wait=20");
    let nothing = ask(&server, Some(server.key()), Method::POST, &path, None).await;
    for (answer, got) in [
        (nothing, "nothing"),
        (server.post(&path, json!({})).await, "nothing"),
        (server.post(&path, json!(null)).await, "nothing"),
        (server.post(&path, json!({"inputs": null})).await, "nothing"),
        (server.post(&path, json!({"workflow_id": id, "inputs": {"x": "1"}, "priority": "high", "timeout_seconds": 9})).await, "1"),
        (server.post(&path, json!({"workflow_id": "another", "inputs": {"x": "2"}, "verification_level": null})).await, "2"),
        (server.post(&path, json!({"inputs": {"x": "3"}, "verification_level": "full", "max_execution_time": 60, "max_cost_budget": 5})).await, "3"),
    ] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        let run = answer.ok();
        assert_eq!(run["id"], run["execution_id"]);
        assert_eq!((&run["workflow_id"], &run["status"]), (&json!(id), &json!("completed")));
        assert_eq!(run["final_result"]["step_results"]["a"], json!({"got": got}));
        assert_eq!((&run["progress"], &run["current_step"], &run["total_steps"]), (&json!(100.0), &json!(1), &json!(1)));
    }
}

#[tokio::test]
async fn public_workflow_execution_belongs_to_the_caller() {
    let server = TestApp::start().await;
    let body = json!({"name": "p", "steps": {"a": jq("1")}, "is_public": true});
    let id = server.post(WORKFLOWS, body).await.ok().text("id").to_owned();
    let run = post_as(&server, OTHER_ADMIN, &format!("{WORKFLOWS}/{id}/execute?wait=20"), json!({})).await.ok();
    assert_eq!(run["status"], "completed");
    // The workflow's owner has no part in it.
    server.get(&format!("{EXECUTIONS}/{}", id_of(&run))).await.is(404);
    assert_eq!(server.get(&format!("{WORKFLOWS}/{id}/executions")).await.text, "[]");
}

#[tokio::test]
async fn wait_parameter_ends_with_the_execution_or_the_timeout() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": waiting()})).await;
    let begun = Instant::now();
    let run = server.post(&format!("{WORKFLOWS}/{id}/execute?wait=0.3"), json!({})).await.ok();
    assert_eq!(run["status"], "running", "{run}");
    assert!(begun.elapsed() >= Duration::from_millis(300) && begun.elapsed() < Duration::from_secs(10));
    let path = format!("{EXECUTIONS}/{}/status?wait=25", id_of(&run));
    let (seen, _) = tokio::join!(server.get(&path), async {
        server.post(&format!("{EXECUTIONS}/{}/cancel", id_of(&run)), json!({})).await.ok()
    });
    assert_eq!(seen.ok()["status"], "cancelled");
    assert!(begun.elapsed() < Duration::from_secs(20), "the end wakes whoever waits for it");
}

#[tokio::test]
async fn execution_keeps_the_definition_it_started_with() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": waiting(), "b": {"step_type": "custom", "depends_on": ["a"]}})).await;
    let run = server.execute(&id, json!({})).await;
    server.put(&format!("{WORKFLOWS}/{id}"), json!({"steps": {"z": jq("1")}})).await.ok();
    let seen = server.get(&format!("{EXECUTIONS}/{}", id_of(&run))).await.ok();
    assert_eq!(seen["total_steps"], 2);
    assert!(seen["step_states"]["a"].is_object() && seen["step_states"]["z"].is_null(), "{seen}");
    let next = server.post(&format!("{WORKFLOWS}/{id}/execute?wait=20"), json!({})).await.ok();
    assert_eq!(next["final_result"]["step_results"], json!({"z": 1}));
}

#[tokio::test]
async fn step_results_are_mapped_to_later_steps() {
    let server = TestApp::start().await;
    let id = server
        .workflow(json!({
            "double": {"step_type": "data_processing", "input_mappings": {"n": "$.inputs.n", "unit": "kg"},
                       "action": {"kind": "jq", "program": "{value: (.n * 2), unit}"}, "output_mappings": {"v": "$.output.value", "u": "$.output.unit"}},
            "list": {"step_type": "custom", "depends_on": ["double"],
                     "input_mappings": {"from": "$.steps.double.output.v", "all": "$.inputs.items[*].k", "status": "$.steps['double'].status"}},
            "check": {"step_type": "verification", "depends_on": ["list"],
                      "action": {"kind": "check", "schema": {"type": "object", "required": ["from"]}, "assert": ".from == 42"}},
            "policy": {"step_type": "inference", "input_mappings": {"state": [1, 2, 3, 4, 5, 6, 7, 8, 9]}, "action": {"kind": "policy", "policy": "marketplace-ppo"}},
        }))
        .await;
    let inputs = json!({"n": 21, "items": [{"k": 1}, {"k": "two"}]});
    let run = server.post(&format!("{WORKFLOWS}/{id}/execute?wait=25"), json!({"inputs": inputs})).await.ok();
    assert_eq!(run["status"], "completed", "{run}");
    let results = &run["final_result"]["step_results"];
    assert_eq!(results["double"], json!({"v": 42, "u": "kg"}));
    assert_eq!(results["list"], json!({"from": 42, "all": [1, "two"], "status": "completed"}));
    let logs = server.get(&format!("{EXECUTIONS}/{}/logs", id_of(&run))).await.ok();
    let steps = logs["step_logs"].as_array().unwrap();
    assert_eq!(steps.iter().map(|log| log.text("step")).collect::<Vec<_>>(), ["double", "list", "check", "policy"]);
    assert_eq!(steps[0]["input"], json!({"n": 21, "unit": "kg"}));
    assert_eq!(steps[0]["output"], results["double"]);
    for log in steps {
        assert_eq!(
            (&log["status"], &log["verification_status"], &log["retry_count"]),
            (&json!("completed"), &json!("verified"), &json!(0)),
            "{log}"
        );
        assert!(log.text("step_id").starts_with("step_") && log["execution_time"].as_f64().unwrap() >= 0.0);
        assert!(log["started_at"].as_str() <= log["completed_at"].as_str());
    }
    let cost = run["total_cost"].as_f64().unwrap();
    let parts: f64 =
        run["step_states"].as_object().unwrap().values().map(|state| state["cost"].as_f64().unwrap_or(0.0)).sum();
    assert!(cost > 0.0 && (cost - parts).abs() < 1e-9, "{cost} is not the sum of its steps' {parts}");
}

#[tokio::test]
async fn failed_execution_names_the_step_and_can_be_retried() {
    let server = TestApp::start().await;
    let failing = json!({"step_type": "data_processing", "depends_on": ["first"], "max_retries": 1,
        "retry_policy": {"initial_seconds": 0.0}, "action": {"kind": "jq", "program": "error(\"out of \\(.of)\")"}});
    let after = json!({"step_type": "custom", "depends_on": ["broken"]});
    let id = server.workflow(json!({"first": jq("{of: \"luck\"}"), "broken": failing, "after": after})).await;
    let run = server.post(&format!("{WORKFLOWS}/{id}/execute?wait=25"), json!({})).await.ok();
    insta::assert_json_snapshot!("failed_execution", redacted(&run));
    let logs = server.get(&format!("{EXECUTIONS}/{}/logs", id_of(&run))).await.ok();
    let of = |key: &str| {
        logs["step_logs"].as_array().unwrap().iter().find(|log| log["step"] == key).cloned().unwrap_or_default()
    };
    assert_eq!((&of("first")["status"], &of("broken")["status"]), (&json!("completed"), &json!("failed")));
    // A program that says no is not asked twice.
    assert_eq!(of("broken")["retry_count"], 0);
    assert_ne!(of("after")["status"], "completed");
    let refused = server.get(&format!("{EXECUTIONS}/{}/receipt", id_of(&run))).await.is(400);
    assert_eq!(refused["code"], "invalid_state");

    let again = server.post(&format!("{EXECUTIONS}/{}/retry?wait=25", id_of(&run)), json!({})).await.ok();
    assert_eq!((&again["status"], &again["id"]), (&json!("failed"), &run["id"]));
    let more = server.get(&format!("{EXECUTIONS}/{}/logs", id_of(&run))).await.ok();
    let first = more["step_logs"].as_array().unwrap().iter().find(|log| log["step"] == "first").unwrap();
    assert_eq!(first["completed_at"], of("first")["completed_at"], "what ended well is not run again");
}

#[tokio::test]
async fn execution_pause_resume_cancel_check_the_state() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": waiting(), "b": {"step_type": "custom", "depends_on": ["a"]}})).await;
    let run = server.execute(&id, json!({})).await;
    let path = format!("{EXECUTIONS}/{}", id_of(&run));
    let act =
        async |action: &str| ask(&server, Some(server.key()), Method::POST, &format!("{path}/{action}"), None).await;
    assert_eq!(act("resume").await.is(400)["code"], "invalid_state");
    assert_eq!(act("retry").await.is(400)["code"], "invalid_state");
    assert_eq!(act("pause").await.ok()["execution_id"], run["id"]);
    assert_eq!(server.get(&path).await.ok()["paused"], true);
    assert_eq!(act("pause").await.is(400)["code"], "invalid_state");
    act("resume").await.ok();
    assert_eq!(server.get(&path).await.ok()["paused"], false);
    insta::assert_json_snapshot!("answer_to_cancel", redacted(&act("cancel").await.ok()));
    for action in ["cancel", "pause", "resume", "retry"] {
        let refused = act(action).await.is(400);
        assert!(refused.text("detail").starts_with("Execution cannot be"), "{refused}");
    }
    let mut cancelled = server.get(&path).await.ok();
    // Whether the step was taken up again before it was cancelled is left open.
    cancelled["step_states"]["a"].as_object_mut().unwrap().remove("repeat_call");
    insta::assert_json_snapshot!("cancelled_execution", redacted(&cancelled));
}

#[tokio::test]
async fn execution_is_cancelled_through_its_workflow() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": waiting()})).await;
    let other = server.workflow(json!({"a": waiting()})).await;
    let cancel = async |path: String| server.post(&format!("{WORKFLOWS}/{path}"), json!({})).await;
    let run = server.execute(&id, json!({})).await;
    assert_eq!(cancel(format!("{id}/cancel")).await.is(422)["detail"][0]["loc"], json!(["query", "execution_id"]));
    cancel(format!("{other}/cancel?execution_id={}", id_of(&run))).await.is(404);
    cancel(format!("{id}/cancel?execution_id=exec_0000000000")).await.is(404);
    assert_eq!(cancel(format!("{id}/cancel?execution_id={}", id_of(&run))).await.ok()["status"], "cancelled");
    // The id in the path may itself be an execution's.
    let run = server.execute(&id, json!({})).await;
    assert_eq!(cancel(format!("{}/cancel", id_of(&run))).await.ok()["status"], "cancelled");
    let run = server.execute(&id, json!({})).await;
    assert_eq!(cancel(format!("{0}/cancel?execution_id={0}", id_of(&run))).await.ok()["status"], "cancelled");
}

#[tokio::test]
async fn execution_estimate_comes_from_past_executions() {
    let server = TestApp::start().await;
    sql(&server.database(), &miner_row("m", &json!({"gpus": [{"name": "g", "memory_mb": 8192}]}))).await;
    let id = server.workflow(json!({"a": jq("1"), "b": waiting()})).await;
    let first = server.execute(&id, json!({})).await;
    // Nothing is known yet: 30 s a step, and 0.01 and 0.01 a step.
    assert_eq!(first["estimated_total_cost"], 0.03, "{first}");
    let seconds = |run: &Value| {
        let at = |member: &str| run[member].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        (at("estimated_completion") - at("started_at")).as_seconds_f64()
    };
    // A miner has to take the job before an end can be promised.
    let taken = async |server: &TestApp, run: &Value| {
        let begun = server.until(id_of(run), |run| run["step_states"]["b"]["job_id"].is_string()).await;
        let job = begun["step_states"]["b"].text("job_id").to_owned();
        let taken = format!("UPDATE job SET state = 'RUNNING', assigned_miner_id = 'm' WHERE id = '{job}'");
        sql(&server.database(), &taken).await;
        (job, server.get(&format!("{EXECUTIONS}/{}", id_of(run))).await.ok())
    };
    let (job, begun) = taken(&server, &first).await;
    assert_eq!(seconds(&begun), 60.0);
    sql(&server.database(), &format!("UPDATE job SET state = 'COMPLETED', result = '{{}}' WHERE id = '{job}'")).await;
    let ended = server.ended(id_of(&first)).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let of_ended = (&ended["estimated_completion"], &ended["estimated_total_cost"]);
    assert_eq!(of_ended, (&ended["completed_at"], &ended["total_cost"]));
    // What was read is kept for some seconds; another process reads it anew.
    let server = server.restart().await;
    let second = server.execute(&id, json!({})).await;
    assert_eq!(second["estimated_total_cost"], ended["total_cost"]);
    let took = ended["total_execution_time"].as_f64().unwrap();
    let (_, begun) = taken(&server, &second).await;
    assert!((seconds(&begun) - took).abs() < 0.002, "{} for {took}", seconds(&begun));
}

#[tokio::test]
async fn execution_events_are_served_as_stream_and_page() {
    let server = TestApp::start().await;
    let id = server.workflow(json!({"a": jq("1"), "b": {"step_type": "custom", "depends_on": ["a"]}})).await;
    let run = server.post(&format!("{WORKFLOWS}/{id}/execute?wait=20"), json!({})).await.ok();
    let path = format!("{EXECUTIONS}/{}/events", id_of(&run));
    let page = server.get(&format!("{path}?format=json")).await.ok();
    let events = page["events"].as_array().unwrap();
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(page["next_after"].as_u64(), numbers.last().copied());
    let kinds: Vec<&str> = events.iter().map(|event| event.text("type")).collect();
    assert_eq!((kinds[0], *kinds.last().unwrap()), ("execution_started", "execution_completed"), "{kinds:?}");
    let rest = server.get(&format!("{path}?format=json&after=2&limit=1")).await.ok();
    assert_eq!(rest["events"], json!([events[2]]));
    let accepted = Answer::of(server.request(Method::GET, &path).header("accept", "application/json")).await.ok();
    assert_eq!(accepted, page);
    // The stream of a run that has ended is told to its end, from wherever the client left it.
    let stream = Answer::of(server.request(Method::GET, &path).header("last-event-id", "1")).await;
    assert!(stream.header("content-type").starts_with("text/event-stream"));
    let told: Vec<u64> = stream.text.lines().filter_map(|line| line.strip_prefix("id:")?.trim().parse().ok()).collect();
    assert_eq!(told, numbers[1..]);
    let data: Vec<Value> =
        stream.text.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data:")?.trim()).ok()).collect();
    assert_eq!(data, events[1..]);
}
