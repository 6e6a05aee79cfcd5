//! What keeps agents from doing harm.

mod bounds;
mod dashboard;
mod hostile;
mod policies;
mod sandbox;
mod trust;

use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::harness::ApiClient;
use crate::kit::JsonDocument;

pub const SECURITY: &str = "/api/v1/agents/security";

/// A step that runs `argv`, under the public level unless `more` says otherwise.
pub fn command(argv: &[&str], more: Value) -> Value {
    let mut action = json!({"kind": "command", "argv": argv});
    for (name, value) in more.as_object().into_iter().flatten() {
        action[name] = value.clone();
    }
    json!({"step_type": "custom", "max_retries": 0, "timeout_seconds": 20, "action": action})
}

/// A step that runs a program of Python.
pub fn python(code: &str, more: Value) -> Value {
    command(&["python3", "-c", code], more)
}

/// Run steps to their end.
pub async fn run(server: &ApiClient, steps: Value, inputs: Value) -> Value {
    let workflow = server.workflow(steps).await;
    let run = server.execute(&workflow, inputs).await;
    server.ended(run.text("id")).await
}

pub async fn monitor(server: &ApiClient, execution: &str) -> Value {
    server.get(&format!("/api/v1/agents/security/sandbox/{execution}/monitor")).await.ok()
}

/// The data of an execution's audit entries of one kind.
pub async fn audited(server: &ApiClient, execution: &str, event: &str) -> Vec<Value> {
    let mut conn =
        SqliteConnection::connect(&format!("sqlite://{}?mode=ro", server.database().display())).await.unwrap();
    let rows: Vec<(String,)> = sqlx::query_as(
        "SELECT event_data FROM agent_audit_logs WHERE execution_id = ?1 AND event_type = ?2 ORDER BY timestamp",
    )
    .bind(execution)
    .bind(event)
    .fetch_all(&mut conn)
    .await
    .unwrap();
    rows.iter().map(|(data,)| serde_json::from_str(data).unwrap()).collect()
}

/// Processes of this machine that have `word` among their arguments.
pub fn processes_with(word: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes())
    };
    pids.filter(has).collect()
}

/// Until nothing with `word` among its arguments runs any more.
pub async fn gone(word: &str) {
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while !processes_with(word).is_empty() {
        assert!(std::time::Instant::now() < deadline, "{word} still runs");
        crate::harness::poll_interval().await;
    }
}

/// A step that ends well.
pub fn good() -> Value {
    json!({"a": {"step_type": "data_processing", "action": {"kind": "jq", "program": "{value: 1}"}}})
}

/// A step that fails.
pub fn bad() -> Value {
    json!({"a": {"step_type": "data_processing", "max_retries": 0, "action": {"kind": "jq", "program": "error(\"no\")"}}})
}

pub async fn score(server: &ApiClient, kind: &str, id: &str) -> Value {
    server.get(&format!("{SECURITY}/trust-scores/{kind}/{id}")).await.ok()
}

/// Run a workflow to its end; answers the execution.
pub async fn run_of(server: &ApiClient, workflow: &str) -> Value {
    let started = server.execute(workflow, json!({})).await;
    server.ended(started.text("id")).await
}

/// Tell the log what was seen elsewhere.
pub async fn seen(server: &ApiClient, event: &str, workflow: &str, data: Value) {
    let body = json!({"event_type": event, "workflow_id": workflow, "event_data": data});
    server.post(&format!("{SECURITY}/audit-logs"), body).await.is(201);
}
