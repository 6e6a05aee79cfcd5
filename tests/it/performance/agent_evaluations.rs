//! Agents as targets of suites: they get assignments, and their answers are checked.

use std::time::Instant;

use serde_json::{Value, json};

use super::{
    PERFORMANCE,
    suites::{ended, suite, suites},
};
use crate::{
    agents::{
        plans::{assigned, report},
        registry::{beat, register},
    },
    harness::{ApiClient, CLIENT, OTHER_ADMIN, PATIENCE, TestApp, poll_interval},
    kit::{JsonDocument as _, get_as, jq, locations, post_as},
};

fn of_agent(agent: &str) -> Value {
    json!({"target": {"kind": "agent", "id": agent}})
}

async fn results(server: &ApiClient, evaluation: &Value) -> Value {
    server.get(&format!("{PERFORMANCE}/evaluations/{}/results?order=asc", evaluation.text("id"))).await.ok()
}

/// Do what an agent is given by `answer`, until an evaluation has ended.
async fn play(
    server: &ApiClient,
    agent: &str,
    evaluation: &Value,
    answer: impl Fn(&Value) -> (&'static str, Value),
) -> Value {
    let path = format!("{PERFORMANCE}/evaluations/{}", evaluation.text("id"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        beat(server, agent).await.ok();
        for one in assigned(server, agent).await {
            let (what, more) = answer(&one["request"]["input"]);
            report(server, &one, what, more).await;
        }
        let now = server.get(&path).await.ok();
        if now["status"] != "running" {
            return now;
        }
        assert!(Instant::now() < deadline, "it goes on: {now}");
        poll_interval().await;
    }
}

#[tokio::test]
async fn an_agent_gets_the_cases_itself_and_its_answers_are_checked() {
    let server = TestApp::start().await;
    register(&server, "pupil", json!({"performance": 0.1})).await;
    register(&server, "better", json!({"performance": 1.0, "reliability": 1.0})).await;
    let made = suite(
        &server,
        json!({"name": "exam", "cases": [
            {"name": "right", "input": {"a": 2, "b": 3}, "expected": {"sum": 5}},
            {"name": "wrong", "input": {"a": 9, "b": 9}, "expected": {"sum": 18}},
            {"name": "refused", "input": {"a": -1, "b": 0}, "expected": {"sum": -1}},
        ]}),
    )
    .await;
    let begun = server.post(&format!("{made}/evaluate"), of_agent("pupil")).await.is(201);
    assert_eq!((&begun["agent_id"], &begun["parallel"]), (&json!("pupil"), &json!(1)));
    assert_eq!((&begun["task_type"], &begun["timeout_seconds"]), (&json!("text_processing"), &json!(300)));
    let now = play(&server, "pupil", &begun, |input| match input["a"].as_i64() {
        Some(9) => ("result", json!({"result": {"sum": 17}})),
        Some(a) if a >= 0 => ("result", json!({"result": {"sum": a + input["b"].as_i64().unwrap()}})),
        _ => ("fail", json!({"error": "not below zero", "retryable": true})),
    })
    .await;
    assert_eq!((&now["status"], &now["done"], &now["passed"]), (&json!("completed"), &json!(3), &json!(1)), "{now}");
    let found = results(&server, &begun).await;
    let states: Vec<&str> = found.as_array().unwrap().iter().map(|one| one.text("status")).collect();
    assert_eq!(states, ["passed", "failed", "failed"], "{found}");
    assert!(found[2].text("reason").contains("not below zero"), "{found}");
    assert!(assigned(&server, "better").await.is_empty());
}

#[tokio::test]
async fn what_an_agent_does_not_do_in_time_has_failed() {
    let server = TestApp::start().await;
    register(&server, "silent", json!({})).await;
    let made =
        suite(&server, json!({"name": "late", "cases": [{"name": "x", "input": {"a": 1}, "expected": 1}]})).await;
    let mut body = of_agent("silent");
    body["timeout_seconds"] = json!(1);
    body["task_type"] = json!("data_analysis");
    let begun = server.post(&format!("{made}/evaluate"), body).await.is(201);
    let now = ended(&server, &begun).await;
    assert_eq!((&now["status"], &now["score"]), (&json!("completed"), &json!(0.0)), "{now}");
    let found = results(&server, &begun).await;
    assert_eq!((&found[0]["status"], &found[0]["score"]), (&json!("failed"), &json!(0.0)), "{found}");
}

#[tokio::test]
async fn only_own_agents_are_evaluated_in_what_they_do() {
    let server = TestApp::start().await;
    register(&server, "own", json!({})).await;
    let made = suite(&server, json!({"name": "good", "cases": [{"name": "x", "expected": 1}]})).await;
    let evaluate = format!("{made}/evaluate");
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    for (body, place) in [
        (of_agent("nobody"), json!(["body", "target", "id"])),
        (json!({"target": {"kind": "agent", "id": "own"}, "task_type": "io_bound"}), json!(["body", "task_type"])),
        (json!({"target": {"kind": "agent", "id": "own"}, "timeout_seconds": 0}), json!(["body", "timeout_seconds"])),
        (json!({"target": {"kind": "agent", "id": "own"}, "agent_id": "other"}), json!(["body", "agent_id"])),
        (
            json!({"target": {"kind": "workflow", "id": workflow}, "timeout_seconds": 9}),
            json!(["body", "timeout_seconds"]),
        ),
        (
            json!({"target": {"kind": "workflow", "id": workflow}, "task_type": "io_bound"}),
            json!(["body", "task_type"]),
        ),
    ] {
        let refused = server.post(&evaluate, body.clone()).await.is(422);
        assert_eq!(locations(&refused), [place], "{body}");
    }
    assert_eq!(server.get(&format!("{made}/evaluations")).await.ok(), json!([]), "nothing is stored");
    let theirs =
        post_as(&server, CLIENT, &suites(), json!({"name": "own", "cases": [{"name": "x", "expected": 1}]})).await;
    let theirs = format!("{}/{}/evaluate", suites(), theirs.is(201).text("id"));
    let refused = post_as(&server, CLIENT, &theirs, of_agent("own")).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "target", "id"])], "another's agent is not evaluated");
    get_as(&server, OTHER_ADMIN, &made).await.ok();
}

#[tokio::test]
async fn a_step_that_names_an_agent_goes_to_no_other() {
    let server = TestApp::start().await;
    register(&server, "named", json!({"performance": 0.1})).await;
    register(&server, "better", json!({"performance": 1.0})).await;
    let action = json!({"kind": "agent", "task_type": "text_processing", "agent_id": "named"});
    let workflow = server.workflow(json!({"a": {"step_type": "custom", "action": action}})).await;
    let run = server.execute(&workflow, json!({"x": 1})).await;
    let deadline = Instant::now() + PATIENCE;
    let one = loop {
        if let Some(one) = assigned(&server, "named").await.pop() {
            break one;
        }
        assert!(Instant::now() < deadline, "it was never assigned");
        poll_interval().await;
    };
    assert_eq!((&one["only_agent"], &one["agent_id"]), (&json!("named"), &json!("named")));
    // It comes back to the same agent where that one failed.
    report(&server, &one, "fail", json!({"error": "once", "retryable": true})).await.ok();
    let again = loop {
        if let Some(one) = assigned(&server, "named").await.pop() {
            break one;
        }
        assert!(Instant::now() < deadline, "it was never assigned again");
        poll_interval().await;
    };
    assert_eq!(again["attempt"], 2);
    assert!(assigned(&server, "better").await.is_empty());
    report(&server, &again, "result", json!({"result": 7})).await.ok();
    assert_eq!(server.ended(run.text("id")).await["status"], "completed");
}
