//! Calls: who may call what, what is answered, and calls that wait for an instance.

use reqwest::Method;
use serde_json::json;

use super::{builder, call, deployed, deployments, healthy, state};
use crate::{
    harness::{Answer, CLIENT, OTHER_ADMIN, poll_interval},
    kit::{JsonDocument, post_as},
};

#[tokio::test]
async fn a_call_runs_the_snapshot_and_tells_what_became_of_it() {
    let server = builder().start().await;
    let (workflow, id) = deployed(&server, ".n + 1", "shop", 1, json!({})).await;
    let answer = call(&server, &id, json!({"n": 41})).await.ok();
    assert_eq!(
        (&answer["status"], &answer["result"]["step_results"]["a"]),
        (&json!("completed"), &json!(42)),
        "{answer}"
    );
    assert_eq!(answer["instance_id"], "shop-production-1");
    let run = server.get(&format!("/api/v1/agents/executions/{}", answer.text("execution_id"))).await.ok();
    assert_eq!(run["workflow_id"], json!(workflow), "the execution is its owner's, like any other");
    let failed = call(&server, &id, json!({"n": {}})).await.ok();
    assert_eq!(failed["status"], "failed");
    assert!(!failed["error"].is_null());
    // The workflow is gone, and its snapshot serves on.
    server.delete(&format!("/api/v1/agents/workflows/{workflow}")).await;
    assert_eq!(call(&server, &id, json!({"n": 1})).await.ok()["result"]["step_results"]["a"], 2);
    let path = deployments(&format!("{id}/invoke"));
    assert_eq!(post_as(&server, OTHER_ADMIN, &path, json!({})).await.status, 404);
    assert_eq!(post_as(&server, CLIENT, &path, json!({})).await.status, 403);
    assert_eq!(server.post(&path, json!({"inputs": [1]})).await.status, 422);
}

#[tokio::test]
async fn a_call_with_a_key_runs_once() {
    let server = builder().start().await;
    let (_, id) = deployed(&server, ".n", "shop", 2, json!({})).await;
    let path = deployments(&format!("{id}/invoke?wait=20"));
    let ask = async |n: i64| {
        let request =
            server.request(Method::POST, &path).header("idempotency-key", "k").json(&json!({"inputs": {"n": n}}));
        Answer::of(request).await
    };
    let (first, again, other) = (ask(1).await, ask(1).await, ask(2).await);
    assert_eq!(first.body["execution_id"], again.body["execution_id"]);
    assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    assert_eq!((other.status.as_u16(), &other.body["code"]), (422, &json!("idempotency_key_reused")), "{}", other.text);
}

#[tokio::test]
async fn only_an_instance_has_its_workflow_run() {
    let server = builder().start().await;
    let (_, id) = deployed(&server, "1", "shop", 1, json!({})).await;
    let instance = healthy(&server, &id, 1, 1).await.remove(0);
    let (name, port) = (instance.text("id"), instance["port"].as_i64().unwrap());
    let path = deployments(&format!("instances/{name}/execute?wait=20"));
    let with = async |token: &str| {
        let request = server.client().post(server.url(&path)).header("authorization", format!("Bearer {token}"));
        server.answer(request.json(&json!({"inputs": {}}))).await
    };
    for guess in ["", "ainst_guess", server.key()] {
        assert_eq!(with(guess).await.status, 401, "{guess}");
    }
    let token = std::fs::read_to_string(server.dir().join("deployments/tokens").join(name)).unwrap();
    let answer = with(&token).await;
    assert_eq!((answer.status.as_u16(), &answer.body["status"]), (200, &json!("completed")), "{}", answer.text);
    // Nobody but the service calls an instance itself.
    let direct = reqwest::Client::new().post(format!("http://127.0.0.1:{port}/invoke")).send().await.unwrap();
    assert_eq!(direct.status(), 401);
    // A token of an instance that has ended is nobody's.
    server.post(&deployments(&format!("{id}/scale?target_instances=1")), json!({})).await.ok();
    server.delete(&deployments(&id)).await.ok();
    while server.get(&deployments(&format!("instances/{name}"))).await.ok()["state"] != "gone" {
        poll_interval().await;
    }
    assert_eq!(with(&token).await.status, 401);
}

#[tokio::test]
async fn what_is_scaled_to_zero_wakes_for_a_call_that_waits() {
    let server = builder().start().await;
    let policy = json!({"idle_seconds": 1, "scale_down_seconds": 1});
    let others = json!({"min_instances": 0, "auto_scaling": true, "scaling_policy": policy});
    let (_, id) = deployed(&server, "7", "shop", 1, others).await;
    while state(&server, &id).await["desired_instances"] != 0 {
        poll_interval().await;
    }
    healthy(&server, &id, 0, 1).await;
    let answer = call(&server, &id, json!({})).await.ok();
    assert_eq!(
        (&answer["status"], &answer["result"]["step_results"]["a"]),
        (&json!("completed"), &json!(7)),
        "{answer}"
    );
    let changes = server.get(&deployments(&format!("{id}/changes"))).await.ok();
    let reasons: Vec<&str> = changes["changes"].as_array().unwrap().iter().map(|row| row.text("reason")).collect();
    assert!(reasons.contains(&"0 to 1 instances: 1 calls wait"), "{reasons:?}");
}
