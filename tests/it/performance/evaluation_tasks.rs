//! Evaluations as background tasks: their events, pause and cancellation, and a case that ends its process each time.

use serde_json::{Value, json};

use super::{
    PERFORMANCE,
    suites::{ended, of_workflow, suite, sums},
    tasks::{event_kinds, in_status, tasks},
};
use crate::{
    harness::{ApiClient, Server, TestApp},
    kit::{AGENTS, JsonDocument as _, jq, waiting},
};

/// Begin an evaluation; answers it, and the path of its task.
async fn begun(server: &ApiClient, draft: Value, step: Value) -> (Value, String) {
    let workflow = server.workflow(json!({"a": step})).await;
    let made = suite(server, draft).await;
    let begun = server.post(&format!("{made}/evaluate"), of_workflow(&workflow)).await.is(201);
    let task = format!("{}/{}", tasks(), begun.text("task_id"));
    (begun, task)
}

#[tokio::test]
async fn an_evaluation_tells_its_cases_as_the_events_of_its_task() {
    let server = TestApp::start().await;
    let (begun, task) = begun(&server, sums("told"), jq(".a + .b")).await;
    assert_eq!(ended(&server, &begun).await["status"], "completed");
    let found = server.get(&task).await.ok();
    assert_eq!(
        (&found["kind"], &found["subject"], &found["status"]),
        (&json!("evaluation"), &begun["id"], &json!("completed"))
    );
    let kinds = event_kinds(&server, &task).await;
    let count = |kind: &str| kinds.iter().filter(|found| *found == kind).count();
    assert_eq!((count("case_started"), count("case_ended"), count("completed")), (2, 2, 1), "{kinds:?}");
    assert_eq!(kinds.last().map(String::as_str), Some("completed"));
    let events = server.get(&format!("{task}/events?format=json&limit=100")).await.ok();
    let end = events["events"].as_array().unwrap().iter().find(|event| event["type"] == "case_ended").unwrap();
    assert_eq!((&end["data"]["status"], &end["data"]["score"]), (&json!("passed"), &json!(1.0)), "{end}");
}

#[tokio::test]
async fn an_evaluation_is_paused_resumed_and_cancelled_as_its_task() {
    let server = TestApp::start().await;
    let (begun, task) = begun(&server, sums("paused"), waiting()).await;
    in_status(&server, server.key(), &task, "running").await;
    server.post(&format!("{task}/pause"), json!({})).await.ok();
    in_status(&server, server.key(), &task, "paused").await;
    let path = format!("{PERFORMANCE}/evaluations/{}", begun.text("id"));
    assert_eq!(server.get(&path).await.ok()["status"], "running");
    server.post(&format!("{task}/resume"), json!({})).await.ok();
    in_status(&server, server.key(), &task, "running").await;
    server.post(&format!("{task}/cancel"), json!({})).await.ok();
    let now = ended(&server, &begun).await;
    assert_eq!((&now["status"], &now["score"], &now["done"]), (&json!("cancelled"), &Value::Null, &json!(2)));
    let results = server.get(&format!("{path}/results")).await.ok();
    for result in results.as_array().unwrap() {
        assert_eq!(result["status"], "cancelled");
        if let Some(run) = result["execution_id"].as_str() {
            assert_eq!(server.ended(run).await["status"], "cancelled");
        }
    }
    let mut kinds = event_kinds(&server, &task).await;
    kinds.retain(|kind| kind != "progress" && kind != "case_started");
    assert_eq!(kinds, ["queued", "started", "paused", "queued", "resumed", "cancelled"]);
    assert_eq!(server.post(&format!("{path}/cancel"), json!({})).await.is(409)["code"], "invalid_state");
}

#[tokio::test]
async fn evaluations_begin_although_long_work_has_every_place() {
    let server = TestApp::start().await;
    let long = super::tasks::endless(&server, server.key(), "worker").await;
    let long = format!("{}/{}", tasks(), long.text("task_id"));
    in_status(&server, server.key(), &long, "running").await;
    let (begun, _) = begun(&server, sums("beside"), jq(".a + .b")).await;
    assert_eq!(ended(&server, &begun).await["passed"], 2);
    assert_eq!(server.get(&long).await.ok()["status"], "running");
    server.post(&format!("{long}/cancel"), json!({})).await.ok();
}

#[tokio::test]
async fn a_case_that_ends_its_process_each_time_is_given_up() {
    let mut server = Server::builder().env("FAILPOINTS", "suites.case_judged=return").start().await;
    let fatal = json!({"name": "fatal", "cases": [{"name": "x", "expected": 1}]});
    let (begun, _) = begun(&server, fatal, jq("1")).await;
    server.wait();
    let mut next = server.again();
    for _ in 0..2 {
        next = match next.try_start() {
            Ok(mut server) => {
                server.wait();
                server.again()
            }
            Err(setup) => setup,
        };
    }
    let server = next.env("FAILPOINTS", "").start().await;
    let now = ended(&server, &begun).await;
    assert_eq!((&now["status"], &now["done"], &now["score"]), (&json!("completed"), &json!(1), &json!(0.0)), "{now}");
    let results = server.get(&format!("{PERFORMANCE}/evaluations/{}/results", begun.text("id"))).await.ok();
    assert_eq!(results[0]["status"], "broken", "{results}");
    assert!(results[0].text("reason").starts_with("given up: the process ended 3 times"), "{results}");
    let run = server.get(&format!("{AGENTS}/executions/{}", results[0].text("execution_id"))).await.ok();
    assert_eq!(run["status"], "completed", "the run itself did no harm");
}
