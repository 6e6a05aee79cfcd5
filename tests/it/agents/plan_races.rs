//! Requests on one plan at the same moment.

use reqwest::Method;
use serde_json::{Value, json};

use super::{
    plans::{PLANS, plan, standing},
    registry::register,
};
use crate::{
    harness::{Answer, ApiClient, TestApp},
    kit::{AGENTS, JsonDocument},
};

async fn post_once(server: &ApiClient, path: &str, key: &str) -> Answer {
    Answer::of(server.request(Method::POST, path).header("idempotency-key", key).json(&json!({}))).await
}

#[tokio::test]
async fn executing_against_cancelling_agrees_with_the_execution() {
    let server = TestApp::builder().env("PLANS_MAX_RUNNING", 1000).start().await;
    register(&server, "a", json!({})).await;
    for round in 0..60 {
        let sub_task = json!({"key": "s", "task_type": "text_processing"});
        let made = plan(&server, json!({"sub_tasks": [sub_task]})).await;
        let path = format!("{PLANS}/{}", made.text("id"));
        let (execute, cancel) = (format!("{path}/execute"), format!("{path}/cancel"));
        let (executed, cancelled) = tokio::join!(server.post(&execute, json!({})), server.post(&cancel, json!({})));
        assert_eq!(cancelled.status, 200, "round {round}");
        let after = standing(&server, &made).await;
        assert_eq!(after["status"], "cancelled", "round {round}: {after}");
        match after["execution_id"].as_str() {
            Some(execution) => {
                let run = server.get(&format!("{AGENTS}/executions/{execution}")).await.ok();
                assert_eq!((executed.status.as_u16(), &run["status"]), (200, &json!("cancelled")), "round {round}");
            }
            None => assert_eq!(executed.status, 400, "round {round}"),
        }
    }
}

#[tokio::test]
async fn changes_of_a_plan_with_one_key_at_once_have_one_answer() {
    let server = TestApp::start().await;
    register(&server, "a", json!({})).await;
    let sub_task = json!({"key": "s", "task_type": "text_processing"});
    let made = plan(&server, json!({"sub_tasks": [sub_task]})).await;
    for action in ["execute", "cancel"] {
        let path = format!("{PLANS}/{}/{action}", made.text("id"));
        let key = format!("key-{action}");
        let asks = (0..8).map(|_| post_once(&server, &path, &key));
        let answers: Vec<Value> = futures_util::future::join_all(asks).await.into_iter().map(|one| one.ok()).collect();
        assert!(answers.iter().all(|one| one["id"] == answers[0]["id"] && one["plan_id"] == answers[0]["plan_id"]));
    }
    let logs = format!("{AGENTS}/executions/{}", standing(&server, &made).await.text("execution_id"));
    assert_eq!(server.get(&logs).await.ok()["status"], "cancelled");
}
