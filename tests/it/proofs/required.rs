//! Proofs that steps require: ordered with the end of an execution, made without being asked for.

use serde_json::{Value, json};

use super::{ZK, put_keys};
use crate::{
    harness::{ApiClient, PATIENCE, TestApp, poll_interval},
    kit::{AGENTS, JsonDocument as _, jq, waiting},
    performance::PERFORMANCE,
    portfolio::text_of,
};

/// A step that requires a proof.
fn proved(program: &str) -> Value {
    let mut step = jq(program);
    step["requires_proof"] = json!(true);
    step
}

/// What is said of the steps' verification, in the declared order.
async fn statuses(server: &ApiClient, execution: &str) -> Vec<Value> {
    let logs = server.get(&format!("{AGENTS}/executions/{execution}/logs")).await.ok();
    logs["step_logs"].as_array().unwrap().iter().map(|log| log["verification_status"].clone()).collect()
}

/// Until this is said of the steps' verification.
async fn until_said(server: &ApiClient, execution: &str, words: &[Value]) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let found = statuses(server, execution).await;
        if found == words {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{found:?} is said, not {words:?}");
        poll_interval().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_requires_a_proof_gets_it_without_being_asked() {
    let server = TestApp::start().await;
    put_keys(&server, "openings-v1-2x1");
    let workflow = server.workflow(json!({"a": proved("1"), "b": jq("2")})).await;
    let execution = server.execute(&workflow, json!({})).await.text("execution_id").to_owned();
    let done = server.until(&execution, |run| run["verification_proof"]["proof"]["status"] == "success").await;
    assert_eq!((&done["status"], &done["verification_proof"]["verified"]), (&json!("completed"), &json!(true)));
    assert_eq!(statuses(&server, &execution).await, [json!("verified"), json!("verified")]);
    let proof = server.get(&format!("{ZK}/{execution}")).await.ok();
    assert_eq!(
        (&proof["verification_level"], &proof["integration_status"]),
        (&json!("zero-knowledge"), &json!("success"))
    );
    assert_eq!(proof["zk_proofs_generated"].as_array().unwrap().len(), 1, "{proof}");
    let tasks = server.get(&format!("{PERFORMANCE}/tasks?kind=proof")).await.ok();
    assert_eq!((tasks.as_array().unwrap().len(), &tasks[0]["id"]), (1, &proof["task_id"]), "{tasks}");
    assert_eq!(text_of(&server, "SELECT count(*) || '' FROM am_proof_orders").await, "0");

    // Nobody is asked for what no step requires.
    let plain = server.workflow(json!({"a": jq("1")})).await;
    let plain = server.execute(&plain, json!({})).await.text("execution_id").to_owned();
    server.ended(&plain).await;
    server.get(&format!("{ZK}/{plain}")).await.is(404);
}

#[tokio::test]
async fn without_keys_the_step_fails_its_verification_and_the_document_says_why() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": proved("1"), "b": jq("2")})).await;
    let execution = server.execute(&workflow, json!({})).await.text("execution_id").to_owned();
    until_said(&server, &execution, &[json!("failed"), json!("verified")]).await;
    let proof = server.get(&format!("{ZK}/{execution}")).await.ok();
    assert_eq!(
        (&proof["verification_level"], &proof["integration_status"]),
        (&json!("basic"), &json!("partial_success"))
    );
    let errors = proof["integration_errors"].to_string();
    assert!(errors.contains("agent-management proof-keys openings-v1-2x1"), "{errors}");
    assert!(errors.contains("failed: proof"), "{errors}");
    assert_eq!(server.ended(&execution).await["status"], "completed", "the execution does not fail for it");

    // With the keys it is proved when somebody asks.
    put_keys(&server, "openings-v1-2x1");
    server.post(&format!("{ZK}/{execution}?verification_level=zero-knowledge"), json!({})).await.ok();
    until_said(&server, &execution, &[json!("verified"), json!("verified")]).await;
}

#[tokio::test]
async fn what_does_not_complete_is_not_proved() {
    let server = TestApp::start().await;
    put_keys(&server, "openings-v1-2x1");
    // While the execution goes on the step waits for its proof.
    let mut second = waiting();
    second["depends_on"] = json!(["a"]);
    let workflow = server.workflow(json!({"a": proved("1"), "b": second})).await;
    let execution = server.execute(&workflow, json!({})).await.text("execution_id").to_owned();
    until_said(&server, &execution, &[json!("pending"), Value::Null]).await;
    server.post(&format!("{AGENTS}/executions/{execution}/cancel"), json!({})).await.ok();
    assert_eq!(statuses(&server, &execution).await[0], "failed");
    server.get(&format!("{ZK}/{execution}")).await.is(404);

    let mut second = jq("error(\"no\")");
    second["depends_on"] = json!(["a"]);
    let workflow = server.workflow(json!({"a": proved("1"), "b": second})).await;
    let execution = server.execute(&workflow, json!({})).await.text("execution_id").to_owned();
    assert_eq!(server.ended(&execution).await["status"], "failed");
    until_said(&server, &execution, &[json!("failed"), Value::Null]).await;
    server.get(&format!("{ZK}/{execution}")).await.is(404);
}
