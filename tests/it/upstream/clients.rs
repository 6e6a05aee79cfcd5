//! Requests of command lines of three generations and of an SDK, each with what its client reads of the answer.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::tokens::{accepting, token};
use crate::{
    harness::{ADMIN, Answer, ApiClient, CLIENT},
    kit::{AGENTS, jq},
};

/// Whose request it is, which decides how it authenticates itself.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Client {
    /// The first command line: `X-Api-Key`.
    First,
    /// The second: a token that the coordinator signed.
    Second,
    /// The third: `Authorization: Bearer` with a key.
    Third,
    /// The SDK: `X-API-Key`.
    Sdk,
}

/// A request, and the answer that its client takes.
struct Row {
    client: Client,
    method: Method,
    /// Path with names of earlier answers in braces.
    path: &'static str,
    body: Option<Value>,
    /// Statuses that the client takes.
    good: &'static [u16],
    /// Members that it reads, as JSON pointers.
    reads: &'static [&'static str],
    /// Name under which later paths have one of the members.
    keeps: Option<(&'static str, &'static str)>,
}

fn row(client: Client, line: &'static str, body: Value, reads: &'static [&'static str]) -> Row {
    let (method, path) = line.split_once(' ').unwrap();
    let body = Some(body).filter(|body| !body.is_null());
    Row { client, method: method.parse().unwrap(), path, body, good: &[200, 201], reads, keeps: None }
}

impl Row {
    /// Take this status only.
    fn only(mut self, good: &'static [u16]) -> Self {
        self.good = good;
        self
    }

    fn keep(mut self, name: &'static str, pointer: &'static str) -> Self {
        self.keeps = Some((name, pointer));
        self
    }
}

fn first() -> Vec<Row> {
    let of = |line, body, reads| row(Client::First, line, body, reads);
    let steps = json!({"a": jq("1")});
    vec![
        of("GET /v1/health", Value::Null, &["/status"]),
        of("GET /v1/agents/workflows?limit=10&owner_id=&tags=&is_public=", Value::Null, &[]),
        of(
            "POST /v1/agents/workflows",
            json!({"name": "w", "description": "", "steps": steps, "dependencies": {}, "verification_level": "basic",
                "max_execution_time": 3600, "max_cost_budget": 0, "tags": [], "is_public": false}),
            &["/id", "/owner_id", "/name", "/steps", "/verification_level", "/created_at"],
        )
        .keep("workflow", "/id"),
        of(
            "POST /v1/agents/workflows/{workflow}/execute",
            json!({"workflow_id": "{workflow}", "inputs": {"x": 1}, "verification_level": "full", "priority": "normal", "timeout_seconds": 60}),
            &["/id", "/execution_id", "/workflow_id", "/status", "/total_steps"],
        )
        .only(&[200])
        .keep("execution", "/execution_id"),
        of("GET /v1/agents/executions?workflow_id=&status=&limit=50&offset=0", Value::Null, &["/0/execution_id"]),
        of("GET /v1/agents/executions?workflow_id=&status=&limit=&offset=", Value::Null, &["/0/execution_id"]),
        of("GET /v1/agents/executions/{execution}?wait=20", Value::Null, &["/id", "/progress", "/status"]),
        of("GET /v1/agents/executions/{execution}/status", Value::Null, &["/status", "/current_step", "/current_cost"]),
        of("GET /v1/agents/executions/{execution}/logs", Value::Null, &["/step_logs/0/status", "/total_execution_time"]),
        of("GET /v1/agents/executions/{execution}/receipt", Value::Null, &["/receipt_id", "/coordinator_attestations", "/receipt"]),
        of("GET /v1/agents/workflows/{workflow}/executions", Value::Null, &["/0/id"]),
        of("POST /v1/agents/receipts/verify", json!({"receipt": {}}), &["/valid"]),
        of(
            "POST /v1/agents/networks",
            json!({"name": "n", "agents": ["{workflow}"], "description": "", "coordination": "centralized"}),
            &["/id", "/coordination_strategy", "/status", "/created_at"],
        )
        .only(&[201])
        .keep("network", "/id"),
        of("POST /v1/agents/networks/{network}/execute", json!({"task": {"x": 1}, "priority": "normal"}), &["/id"]),
        of("GET /v1/agents/networks/{network}/status?metrics=all", Value::Null, &["/status"]),
        of("POST /v1/agents/networks/{network}/optimize", json!({"objective": "efficiency"}), &[]),
        of(
            "POST /v1/agents/learner/learning/enable",
            json!({"mode": "reinforcement", "learning_rate": 0.001, "feedback_source": "sales"}),
            &[],
        ),
        of("GET /v1/agents/learner/learning/progress?metrics=accuracy", Value::Null, &[]),
        of("GET /v1/agents/security/scan", Value::Null, &[]),
        of("GET /v1/services/", Value::Null, &["/services"]),
    ]
}

fn second() -> Vec<Row> {
    let of = |line, body, reads| row(Client::Second, line, body, reads);
    let step = |name: &str| {
        let mut step = jq(".");
        step["name"] = name.into();
        step
    };
    vec![
        of(
            "POST /api/v1/agent/workflows",
            json!({"name": "w2", "description": "", "steps": [step("one"), step("two")], "created_by": "cli"}),
            &["/id", "/steps/one", "/steps/two"],
        )
        .keep("workflow2", "/id"),
        of("POST /api/v1/agent/workflows/{workflow2}/execute", json!({"input_parameters": {"x": 1}}), &["/id"])
            .only(&[200]),
        of(
            "GET /api/v1/agent/workflows/{workflow2}/status?wait=20",
            Value::Null,
            &["/status", "/progress", "/workflow_id"],
        ),
        of("GET /api/v1/agent/workflows", Value::Null, &["/0/id"]),
        of(
            "GET /api/v1/agent/discover?capability=gpu&agent_type=worker&min_health_score=0.5&limit=50",
            Value::Null,
            &["/agents", "/count", "/query", "/timestamp"],
        ),
        of("GET /api/v1/agent/messages/discover", Value::Null, &["/agents", "/count"]),
        of(
            "POST /api/v1/agent/subscribe",
            json!({"agent_id": "a", "topic": "t", "filter": {}}),
            &["/status", "/agent_id", "/topic"],
        ),
        of(
            "POST /api/v1/agent/unsubscribe",
            json!({"agent_id": "a", "topic": "t", "filter": {}}),
            &["/status", "/topic"],
        ),
        of(
            "GET /api/v1/agent/messages/inbox?agent_id=a&limit=100&unread_only=False",
            Value::Null,
            &["/agent_id", "/messages", "/count", "/timestamp"],
        ),
        of("GET /api/v1/services/jobs?state=&service_type=", Value::Null, &[]),
    ]
}

fn third() -> Vec<Row> {
    let of = |line, body, reads| row(Client::Third, line, body, reads);
    vec![
        of(
            "POST /v1/agents/register",
            json!({"agent_id": "worker-1", "agent_type": "worker", "capabilities": ["gpu", "inference"], "services": ["gpu"],
                "endpoints": {"http": "http://10.0.0.7:9000"}, "metadata": {"name": "W", "reputation": 0.5, "version": "1.0.0"},
                "chain_id": "ait-hub", "island_id": ""}),
            &["/status", "/message", "/agent_id", "/registered_at"],
        ),
        of(
            "POST /v1/agents/discover",
            json!({"status": "active", "limit": 100, "chain_id": "ait-hub", "capabilities": ["gpu"]}),
            &[
                "/status", "/query", "/count", "/timestamp", "/agents/0/agent_id", "/agents/0/metadata/name",
                "/agents/0/endpoints/http", "/agents/0/last_heartbeat", "/agents/0/chain_id", "/agents/0/capabilities/0",
            ],
        ),
        of("POST /v1/agents/discover", json!({"query": {"capabilities": ["gpu"], "limit": 50}}), &["/status", "/count", "/agents/0/agent_id"]),
        of("POST /v1/agents/discover", json!({"status": "active", "limit": 1000}), &["/agents/0/status"]),
        of("GET /v1/agents/worker-1", Value::Null, &["/status", "/agent/agent_id", "/agent/health_score", "/agent/tags"]),
        of("POST /v1/agents/worker-1/heartbeat", Value::Null, &["/status", "/agent_id", "/heartbeat_at"]),
        of("PUT /v1/agents/worker-1/status", json!({"status": "busy", "load_metrics": {"cpu": 0.4}}), &["/status", "/new_status", "/updated_at"]),
        of(
            "POST /api/v1/agent/messages/send",
            json!({"sender": "worker-1", "recipient": "hub-coordinator", "content": {"message": "hi"}, "message_type": "coordination",
                "encrypt": true, "priority": "critical", "ttl": 300, "message_id": "cli-1"}),
            &["/status", "/message_id", "/sender", "/recipient", "/encrypted", "/ws_delivered", "/message_status", "/sent_at"],
        )
        .only(&[200]),
        of("GET /api/v1/agent/messages/inbox?agent_id=hub-coordinator&limit=20&unread_only=true", Value::Null, &["/messages/0/content/message", "/messages/0/sender_id", "/count"]),
        of("GET /api/v1/agent/messages/history?sender_id=worker-1&receiver_id=&limit=100&offset=0", Value::Null, &["/0/message_id"]),
        of("GET /api/v1/agent/messages/id/cli-1", Value::Null, &["/message_id"]),
        of("POST /v1/agents/worker-1/deregister", Value::Null, &["/status", "/agent_id"]),
    ]
}

fn sdk() -> Vec<Row> {
    let of = |line, body, reads| row(Client::Sdk, line, body, reads);
    let letter = json!({"from": "agent_0a1b2c3d", "to": "agent_9", "type": "task_assignment", "payload": {"x": 1},
        "timestamp": "2026-08-20T10:00:00+00:00", "signature": "3045"});
    vec![
        of(
            "POST /v1/agents/register",
            json!({"agent_id": "agent_0a1b2c3d", "agent_type": "inference", "capabilities": ["inference", "text", "llama3.2:3b"],
                "services": ["inference", "text", "llama3.2:3b"], "endpoints": {"http": "http://localhost:8107"},
                "metadata": {"name": "n", "address": "0x0", "public_key": "-----BEGIN PUBLIC KEY-----\nMII\n", "reputation": 0.0,
                    "version": "1.0.0", "compute_type": "inference", "gpu_memory": null, "supported_models": ["llama3.2:3b"],
                    "performance_score": 0.8, "max_concurrent_jobs": 1, "specialization": "text"},
                "chain_id": "ait-hub", "island_id": ""}),
            &["/status", "/agent_id"],
        ),
        of(
            "POST /api/v1/agent/messages/send",
            json!({"sender": "agent_0a1b2c3d", "recipient": "agent_9", "content": letter, "message_type": "task_assignment",
                "encrypt": false, "priority": "normal", "ttl": 300}),
            &["/status", "/message_id"],
        )
        .only(&[200]),
        of("GET /v1/agents/agent_0a1b2c3d/reputation", Value::Null, &[]).only(&[200]),
    ]
}

/// A text with what was kept in the places of names.
fn filled(text: &str, kept: &BTreeMap<&str, String>) -> String {
    kept.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

async fn asked(server: &ApiClient, row: &Row, kept: &BTreeMap<&str, String>) -> Answer {
    let path = filled(row.path, kept);
    let mut request = server.client().request(row.method.clone(), server.url(&path));
    let for_clients = path.starts_with("/api/v1/services/jobs");
    request = match row.client {
        Client::First | Client::Sdk => request.header("X-API-Key", ADMIN),
        Client::Second => request.bearer_auth(token("0xcli", if for_clients { "client" } else { "admin" })),
        Client::Third => request.bearer_auth(if for_clients { CLIENT } else { ADMIN }),
    };
    if let Some(body) = &row.body {
        let body: Value = serde_json::from_str(&filled(&body.to_string(), kept)).unwrap();
        request = request.json(&body);
    }
    server.answer(request).await
}

#[tokio::test]
async fn every_client_gets_the_answer_that_it_reads() {
    let server = accepting().start().await;
    let mut kept: BTreeMap<&str, String> = BTreeMap::new();
    let mut faults = Vec::new();
    for row in [first(), second(), third(), sdk()].into_iter().flatten() {
        let answer = asked(&server, &row, &kept).await;
        let told = format!("{:?} {} {}: {} {}", row.client, row.method, row.path, answer.status, answer.text);
        if !row.good.contains(&answer.status.as_u16()) {
            faults.push(told);
            continue;
        }
        for pointer in row.reads {
            if answer.body.pointer(pointer).is_none_or(Value::is_null) {
                faults.push(format!("{told} has no {pointer}"));
            }
        }
        if let Some((name, pointer)) = row.keeps {
            let value = answer.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            kept.insert(name, value.to_owned());
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    // Each generation meets a key that is none as it expects.
    for path in ["/v1/agents/workflows", "/api/v1/agent/workflows"] {
        let unknown = server.client().get(server.url(path)).bearer_auth("not-a-key-0123456789");
        let refused = server.answer(unknown).await.is(401);
        assert!(refused["detail"].is_string(), "{refused}");
        let nothing = server.answer(server.client().get(server.url(path))).await.is(401);
        assert!(nothing["detail"].is_string(), "{nothing}");
    }
    server.get(&format!("{AGENTS}/workflows")).await.is(200);
}
