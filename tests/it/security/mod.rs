//! The security group from outside.

mod dashboard;
mod trust;

use serde_json::{Value, json};

use crate::harness::Server;

pub const SECURITY: &str = "/api/v1/agents/security";

/// A step that ends well.
pub fn good() -> Value {
    json!({"a": {"step_type": "data_processing", "action": {"kind": "jq", "program": "{value: 1}"}}})
}

/// A step that fails.
pub fn bad() -> Value {
    json!({"a": {"step_type": "data_processing", "max_retries": 0, "action": {"kind": "jq", "program": "error(\"no\")"}}})
}

pub async fn score(server: &Server, kind: &str, id: &str) -> Value {
    server.get(&format!("{SECURITY}/trust-scores/{kind}/{id}")).await.ok()
}

/// Run a workflow to its end; answers the execution.
pub async fn run(server: &Server, workflow: &str) -> Value {
    let started = server.execute(workflow, json!({})).await;
    server.ended(started["id"].as_str().unwrap()).await
}

/// Tell the log what was seen elsewhere.
pub async fn seen(server: &Server, event: &str, workflow: &str, data: Value) {
    let body = json!({"event_type": event, "workflow_id": workflow, "event_data": data});
    server.post(&format!("{SECURITY}/audit-logs"), body).await.is(201);
}
