//! Requests whose work is an execution: its receipt is required, checked, and good for one request.

use serde_json::json;

use super::*;
use crate::{
    harness::TestApp,
    kit::{AGENTS, jq, locations, waiting},
};

/// An execution of the other admin's that has ended, with its receipt.
async fn receipt(server: &ApiClient) -> (String, Value) {
    let body = json!({"name": "work", "steps": {"a": jq("{n: 1}")}});
    let workflow = post_as(server, OTHER_ADMIN, &format!("{AGENTS}/workflows"), body).await.ok();
    let run = format!("{AGENTS}/workflows/{}/execute?wait=20", workflow.text("id"));
    let run = post_as(server, OTHER_ADMIN, &run, json!({})).await.ok();
    let id = run.text("id").to_owned();
    let receipt = get_as(server, OTHER_ADMIN, &format!("{AGENTS}/executions/{id}/receipt")).await.ok();
    (id, receipt["receipt"].clone())
}

#[tokio::test]
async fn receipt_is_good_for_the_request_that_it_is_of() {
    let server = TestApp::start().await;
    let service = open_market(&server).await;
    let early = receipt(&server).await;
    let mut requests = Vec::new();
    for _ in 0..2 {
        let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
        act(&server, OTHER_ADMIN, &made, "accept", json!({})).await.ok();
        requests.push(made);
    }
    let (id, signed) = receipt(&server).await;
    let complete = async |made: &Value, execution: Value, receipt: Value| {
        let body = json!({"results": {"n": 1}, "execution_id": execution, "receipt": receipt});
        act(&server, OTHER_ADMIN, made, "complete", body).await
    };
    let missing = complete(&requests[0], json!(id), Value::Null).await.is(422);
    assert_eq!(locations(&missing), [json!(["body", "receipt"])]);
    let mut forged = signed.clone();
    forged["payload"]["total_cost"] = json!(99);
    assert_eq!(locations(&complete(&requests[0], json!(id), forged).await.is(422)), [json!(["body", "receipt"])]);
    let other = complete(&requests[0], json!(early.0), signed.clone()).await.is(422);
    assert_eq!(locations(&other), [json!(["body", "execution_id"])], "of another execution");
    let before = complete(&requests[0], json!(early.0), early.1.clone()).await.is(422);
    assert_eq!(locations(&before), [json!(["body", "receipt"])], "it ran before the request was accepted");
    let completed = complete(&requests[0], json!(id), signed.clone()).await.ok();
    assert_eq!((&completed["execution_id"], completed.text("state")), (&json!(id), "completed"));
    assert_eq!(completed["receipt_id"], signed["payload"]["receipt_id"]);
    let again = complete(&requests[1], json!(id), signed).await.is(422);
    assert_eq!(locations(&again), [json!(["body", "execution_id"])], "of another request");
    assert_eq!(now(&server, &requests[1]).await["state"], "accepted");
    check_books(&server).await;
}

#[tokio::test]
async fn workflow_of_a_service_does_the_work_and_its_receipt_settles_it() {
    let server = TestApp::start().await;
    open_market(&server).await;
    let body = json!({"name": "work", "steps": {"a": jq("{sum: (.x + .y)}")}});
    let workflow = post_as(&server, OTHER_ADMIN, &format!("{AGENTS}/workflows"), body).await.ok();
    let service = offer(&server, OTHER_ADMIN, "seller", json!({"workflow_id": workflow["id"]})).await;
    let mut body = request_for(&service, 10.0);
    body["inputs"] = json!({"x": 1, "y": 2});
    let made = request(&server, CLIENT, body).await;
    act(&server, OTHER_ADMIN, &made, "accept", json!({})).await.ok();
    let settled = until_state(&server, &made, "settled").await;
    assert_eq!((&settled["paid"], &settled["workflow_id"]), (&json!(2.5), &workflow["id"]));
    let run = format!("{AGENTS}/executions/{}", settled.text("execution_id"));
    let run = get_as(&server, OTHER_ADMIN, &run).await.ok();
    assert_eq!(run["status"], "completed");
    let receipt = format!("{AGENTS}/executions/{}/receipt", settled.text("execution_id"));
    let receipt = get_as(&server, OTHER_ADMIN, &receipt).await.ok();
    assert_eq!(settled["receipt_id"], receipt["receipt_id"]);
    let history = get(&server, CLIENT, &format!("/requests/{}/history", made.text("id"))).await.ok();
    let events: Vec<&str> = history.as_array().unwrap().iter().map(|event| event.text("event")).collect();
    assert_eq!(events, ["created", "accepted", "started", "completed", "settled"]);
    check_books(&server).await;
}

#[tokio::test]
async fn workflow_that_fails_gives_the_money_back() {
    let server = TestApp::start().await;
    open_market(&server).await;
    let failing =
        json!({"step_type": "data_processing", "max_retries": 0, "action": {"kind": "jq", "program": "error(\"no\")"}});
    for (steps, ends) in [(json!({"a": failing}), true), (json!({"a": waiting()}), false)] {
        let body = json!({"name": "work", "steps": steps});
        let workflow = post_as(&server, OTHER_ADMIN, &format!("{AGENTS}/workflows"), body).await.ok();
        let service = offer(&server, OTHER_ADMIN, "seller", json!({"workflow_id": workflow["id"]})).await;
        let made = request(&server, CLIENT, request_for(&service, 10.0)).await;
        act(&server, OTHER_ADMIN, &made, "accept", json!({})).await.ok();
        if !ends {
            let by_hand = act(&server, OTHER_ADMIN, &made, "complete", json!({"results": 1})).await.is(409);
            assert_eq!(by_hand["code"], "invalid_state");
            server.clock().advance(std::time::Duration::from_secs(11 * 86_400));
        }
        let ended = until_state(&server, &made, if ends { "rejected" } else { "expired" }).await;
        assert_eq!((&ended["refunded"], &ended["paid"]), (&json!(10.0), &json!(0.0)), "{ended}");
        check_books(&server).await;
    }
}
