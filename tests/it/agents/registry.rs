//! The registry of agents: who is in it, who is there, and what is known of them.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, ApiClient, OTHER_ADMIN, PATIENCE, TestApp},
    kit::{JsonDocument, ask, get_as, locations, operations, post_as},
    redact::redacted,
};

pub const REGISTRY: &str = "/api/v1/agents/registry";

/// Register an agent that does text and data, with `more` in its entry.
pub async fn register(server: &ApiClient, id: &str, more: Value) -> Value {
    let mut body = json!({"agent_id": id, "capabilities": ["text_processing", "data_analysis"], "gpu_tier": "mid_range_gpu",
        "max_concurrent_tasks": 2, "performance": 0.8, "reliability": 0.9, "cost_per_hour": 0.1});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post(REGISTRY, body).await.is(201)
}

pub async fn beat(server: &ApiClient, id: &str) -> Answer {
    server.post(&format!("{REGISTRY}/{id}/heartbeat"), json!({})).await
}

async fn status(server: &ApiClient, id: &str) -> Value {
    server.get(&format!("{REGISTRY}/{id}")).await.ok()["status"].clone()
}

/// Until an agent has this status.
pub async fn becomes(server: &ApiClient, id: &str, wanted: &str) {
    let deadline = Instant::now() + PATIENCE;
    while status(server, id).await != wanted {
        assert!(Instant::now() < deadline, "{id} never was {wanted}");
        crate::harness::poll_interval().await;
    }
}

/// The kinds of the registry's events about an agent, with their reasons.
async fn told(server: &ApiClient, id: &str) -> Vec<String> {
    let page = server.get(&format!("{REGISTRY}/events?format=json&limit=1000")).await.ok();
    let events = page["events"].as_array().unwrap().iter().filter(|event| event["data"]["agent_id"] == id);
    events
        .map(|event| {
            let kind = event.text("type");
            event["data"]["reason"].as_str().map_or(kind.to_owned(), |reason| format!("{kind} {reason}"))
        })
        .collect()
}

#[tokio::test]
async fn agent_is_registered_found_changed_and_deleted() {
    let server = TestApp::start().await;
    let made =
        register(&server, "a-1", json!({"metadata": {"rack": 7}, "endpoint_url": "https://agents.example/work?t=1"}))
            .await;
    let plain = server.post(REGISTRY, json!({"agent_id": "plain", "supported_task_types": ["io_bound"]})).await.is(201);
    insta::assert_json_snapshot!("registered_agents", redacted(&json!([made, plain])));

    // Everybody sees it, but for its address; only its owner changes it.
    let seen = get_as(&server, OTHER_ADMIN, &format!("{REGISTRY}/a-1")).await.ok();
    assert_eq!((&seen["has_endpoint"], &seen["endpoint_url"]), (&json!(true), &Value::Null));
    for path in ["heartbeat", "offline", "online"] {
        post_as(&server, OTHER_ADMIN, &format!("{REGISTRY}/a-1/{path}"), json!({})).await.is(403);
        server.post(&format!("{REGISTRY}/none/{path}"), json!({})).await.is(404);
    }
    get_as(&server, OTHER_ADMIN, &format!("{REGISTRY}/a-1/assignments")).await.is(403);
    let refused =
        post_as(&server, OTHER_ADMIN, REGISTRY, json!({"agent_id": "a-1", "capabilities": ["io_bound"]})).await;
    assert!(refused.is(409).text("detail").contains("another owner's"));
    let change =
        json!({"cost_per_hour": 0.05, "endpoint_url": "", "capabilities": ["model_training", "model_training"]});
    ask(&server, Some(OTHER_ADMIN), Method::PUT, &format!("{REGISTRY}/a-1"), Some(change.clone())).await.is(403);
    let changed = server.put(&format!("{REGISTRY}/a-1"), change).await.ok();
    assert_eq!((&changed["capabilities"], &changed["has_endpoint"]), (&json!(["model_training"]), &json!(false)));

    for (query, expected) in [
        ("", json!(["plain", "a-1"])),
        ("?task_type=io_bound", json!(["plain"])),
        ("?gpu_tier=mid_range_gpu&status=online", json!(["a-1"])),
        ("?status=offline", json!([])),
        ("?agent_type=worker&limit=1", json!(["plain"])),
    ] {
        let list = server.get(&format!("{REGISTRY}{query}")).await;
        let ids: Vec<Value> = list.body.as_array().unwrap().iter().map(|agent| agent["agent_id"].clone()).collect();
        assert_eq!(json!(ids), expected, "{query}");
    }
    ask(&server, Some(OTHER_ADMIN), Method::DELETE, &format!("{REGISTRY}/a-1"), None).await.is(403);
    server.delete(&format!("{REGISTRY}/a-1")).await.is(204);
    server.get(&format!("{REGISTRY}/a-1")).await.is(404);
    server.delete(&format!("{REGISTRY}/a-1")).await.is(404);
    assert_eq!(told(&server, "a-1").await, ["agent_registered", "agent_deregistered"]);
    let entries = server.get("/api/v1/agents/security/audit-logs?limit=100").await.ok();
    let mut actions: Vec<&str> = entries
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["event_data"]["agent_id"] == "a-1")
        .filter_map(|entry| entry["event_data"]["action"].as_str())
        .collect();
    actions.sort_unstable();
    assert_eq!(actions, ["deregistered", "registered", "updated"]);
}

#[tokio::test]
async fn agent_registration_reports_invalid_members() {
    let server = TestApp::start().await;
    let good = json!({"agent_id": "a", "capabilities": ["io_bound"]});
    for (change, member) in [
        (json!({"agent_id": "a b"}), "agent_id"),
        (json!({"agent_id": "utilisation"}), "agent_id"),
        (json!({"capabilities": []}), "capabilities"),
        (json!({"max_concurrent_tasks": 0}), "max_concurrent_tasks"),
        (json!({"performance": 1.5}), "performance"),
        (json!({"reliability": -0.1}), "reliability"),
        (json!({"cost_per_hour": -1}), "cost_per_hour"),
        (json!({"endpoint_url": "http://agents.example/"}), "endpoint_url"),
        (json!({"endpoint_url": "https://127.0.0.1/"}), "endpoint_url"),
        (json!({"endpoint_url": "https://169.254.169.254/latest"}), "endpoint_url"),
        (json!({"agent_type": ""}), "agent_type"),
        (json!({"metadata": {"x": "y".repeat(20_000)}}), "metadata"),
        (json!({"gpu_tier": "huge"}), "gpu_tier"),
    ] {
        let mut body = good.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let refused = server.post(REGISTRY, body).await.is(422);
        assert_eq!(locations(&refused), [json!(["body", member])], "{change}");
    }
    let refused = server.post(REGISTRY, json!({"agent_id": "a", "capabilities": ["cooking"]})).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "capabilities", 0])]);
    register(&server, "a", json!({})).await;
    let refused = server.post(&format!("{REGISTRY}/a/heartbeat"), json!({"load": 2})).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "load"])]);
}

#[tokio::test]
async fn silent_agent_goes_offline_until_its_next_heartbeat() {
    let server = TestApp::builder().env("AGENT_OFFLINE_SECONDS", 1).start().await;
    register(&server, "quiet", json!({})).await;
    assert_eq!(beat(&server, "quiet").await.ok()["offline_after_seconds"], 1.0);
    server.clock().advance(Duration::from_secs(2));
    becomes(&server, "quiet", "offline").await;
    let gone = server.get(&format!("{REGISTRY}/quiet")).await.ok();
    assert_eq!((&gone["offline_reason"], &gone["health_score"]), (&json!("silent"), &json!(0.0)));
    let deadline = Instant::now() + PATIENCE;
    while told(&server, "quiet").await.len() < 2 {
        assert!(Instant::now() < deadline, "nobody told of it");
        crate::harness::poll_interval().await;
    }
    let back = server.post(&format!("{REGISTRY}/quiet/heartbeat"), json!({"load": 0.5, "performance": 0.7})).await.ok();
    assert_eq!(back["status"], "online");
    let known = server.get(&format!("{REGISTRY}/quiet")).await.ok();
    assert_eq!(known["performance"], json!({"value": 0.7, "source": "reported"}));
    assert_eq!((&known["load"], &known["reported_load"]), (&json!(0.5), &json!(0.5)));
    // Taken offline, it stays so until it is told otherwise.
    assert_eq!(server.post(&format!("{REGISTRY}/quiet/offline"), json!({})).await.ok()["offline_reason"], "requested");
    assert_eq!(server.post(&format!("{REGISTRY}/quiet/offline"), json!({})).await.is(400)["code"], "invalid_state");
    assert_eq!(beat(&server, "quiet").await.ok()["status"], "offline");
    assert_eq!(server.post(&format!("{REGISTRY}/quiet/online"), json!({})).await.ok()["status"], "online");
    let events = told(&server, "quiet").await;
    let expected = [
        "agent_registered",
        "agent_offline silent",
        "agent_online heartbeat",
        "agent_offline requested",
        "agent_online requested",
    ];
    assert_eq!(events[..5], expected);
}

#[tokio::test]
async fn words_of_the_paths_are_no_agents_ids() {
    let server = TestApp::start().await;
    let described = server.get("/openapi.json").await.ok();
    let operations = operations(&described);
    // Where a word and an agent's id stand at the same place, and more follows.
    let mut words: Vec<&str> = Vec::new();
    for (_, path) in &operations {
        for (place, more) in [("/api/v1/agents/registry/", false), ("/api/v1/agents/", true)] {
            let Some(rest) = path.strip_prefix(place).filter(|rest| !rest.starts_with('{')) else { continue };
            match rest.split_once('/') {
                Some((word, _)) => words.push(word),
                None if !more => words.push(rest),
                None => {}
            }
        }
    }
    words.retain(|word| !word.starts_with('{'));
    assert!(words.contains(&"registry") && words.contains(&"utilisation"), "{words:?}");
    for word in words {
        let refused = server.post(REGISTRY, json!({"agent_id": word, "capabilities": ["io_bound"]})).await.is(422);
        assert!(refused["detail"][0].text("msg").contains("reserved"), "{word}: {refused}");
    }
}

#[tokio::test]
async fn registered_agents_of_a_principal_are_bounded() {
    let server = TestApp::builder().env("AGENT_MAX_REGISTERED", 2).start().await;
    register(&server, "a-1", json!({})).await;
    register(&server, "a-2", json!({})).await;
    let body = json!({"agent_id": "a-3", "capabilities": ["io_bound"]});
    let refused = server.post(REGISTRY, body.clone()).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
    assert!(
        refused.text.contains("quota_exceeded") && refused.text.contains("AGENT_MAX_REGISTERED"),
        "{}",
        refused.text
    );

    // Registering again is no further agent; another principal has its own; a deregistered one makes room.
    register(&server, "a-2", json!({})).await;
    post_as(&server, OTHER_ADMIN, REGISTRY, body.clone()).await.is(201);
    server.delete(&format!("{REGISTRY}/a-1")).await.is(204);
    server.post(REGISTRY, json!({"agent_id": "a-4", "capabilities": ["io_bound"]})).await.is(201);
}
