//! How messages between agents are sealed, who may write to whom, and what is recorded of it.

mod between;
mod keys;
mod records;
mod sealing;

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    harness::{Answer, ApiClient},
    kit::{AGENTS, JsonDocument},
    messages::MESSAGES,
    operation::run_with,
};

/// POST below an agent.
async fn post(server: &ApiClient, agent: &str, what: &str, body: Value) -> Answer {
    server.post(&format!("{AGENTS}/{agent}/{what}"), body).await
}

/// GET below an agent.
async fn get(server: &ApiClient, agent: &str, what: &str) -> Answer {
    server.get(&format!("{AGENTS}/{agent}/{what}")).await
}

/// Send what `body` says more than the usual.
async fn try_send(server: &ApiClient, sender: &str, recipient: &str, more: Value) -> Answer {
    let mut body = json!({"sender": sender, "recipient": recipient, "content": {"x": 1}});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    server.post(&format!("{MESSAGES}/send"), body).await
}

/// A command that needs no server, in the server's directory; what it printed.
#[track_caller]
fn command(dir: &Path, arguments: &[&str], stdin: &str) -> String {
    let output = run_with(dir, arguments, &[("LOG_LEVEL", "warn")], stdin);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Make a key of an agent in a file of its name, and register it; the public half.
async fn keyed(server: &ApiClient, agent: &str) -> Value {
    let key: Value = serde_json::from_str(&command(server.dir(), &["agent-key", "new", agent], "")).unwrap();
    post(server, agent, "keys", key.clone()).await.is(201);
    key
}

/// Open a message with the key in an agent's file.
#[track_caller]
fn opened(server: &ApiClient, agent: &str, message: &Value) -> Value {
    serde_json::from_str(&command(server.dir(), &["agent-key", "open", agent], &message.to_string())).unwrap()
}

/// What the audit log tells of a resource: the actions, the latest first.
async fn told(server: &ApiClient, resource: &str) -> Vec<String> {
    let entries = server.get(&format!("{AGENTS}/security/audit-logs?event_type=workflow_updated&limit=500")).await.ok();
    let entries = entries.as_array().unwrap().iter().map(|entry| &entry["event_data"]);
    let of = entries.filter(|data| data["resource"] == resource);
    of.map(|data| data.text("action").to_owned()).collect()
}
