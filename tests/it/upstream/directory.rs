//! The directory of agents, as present clients enter, search and leave it.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agent_keys::key_of,
    harness::{ADMIN, ApiClient, OTHER_ADMIN, PATIENCE, TestApp, poll_interval},
    kit::{AGENTS, JsonDocument, ask, get_as, locations, post_as},
};

/// What an SDK of today registers.
fn worker(id: &str) -> Value {
    json!({
        "agent_id": id, "agent_type": "inference", "capabilities": ["inference", "llama3.2:3b", "model_inference"],
        "services": ["inference"], "endpoints": {"http": "http://localhost:8107"},
        "metadata": {"name": "w", "reputation": 0.5, "public_key": "-----BEGIN PUBLIC KEY-----\n", "gpu_memory": 24},
        "chain_id": "ait-mainnet", "island_id": "",
    })
}

async fn register(server: &ApiClient, entry: Value) -> Value {
    server.post("/v1/agents/register", entry).await.is(200)
}

async fn found(server: &ApiClient, query: Value) -> Vec<String> {
    let answer = server.post("/v1/agents/discover", query).await.is(200);
    let agents = answer["agents"].as_array().unwrap();
    assert_eq!(answer["count"], agents.len());
    agents.iter().map(|agent| agent.text("agent_id").to_owned()).collect()
}

async fn set_status(server: &ApiClient, id: &str, report: Value) -> Value {
    server.put(&format!("/v1/agents/{id}/status"), report).await.is(200)
}

#[tokio::test]
async fn agent_is_entered_found_and_taken_out() {
    let server = TestApp::start().await;
    let entered = register(&server, worker("agent_1")).await;
    assert_eq!((&entered["status"], &entered["agent_id"]), (&json!("success"), &json!("agent_1")));
    assert!(entered["message"].is_string() && entered["registered_at"].is_string(), "{entered}");
    let shown = server.get("/v1/agents/agent_1").await.is(200);
    assert_eq!(shown["status"], "success");
    let agent = &shown["agent"];
    for (member, value) in [
        ("agent_id", json!("agent_1")),
        ("agent_type", json!("inference")),
        ("status", json!("active")),
        ("capabilities", json!(["inference", "llama3.2:3b", "model_inference"])),
        ("services", json!(["inference"])),
        ("endpoints", json!({"http": "http://localhost:8107"})),
        ("metadata", worker("")["metadata"].clone()),
        ("load_metrics", json!({})),
        ("version", json!("1.0.0")),
        ("tags", json!([])),
        ("chain_id", json!("ait-mainnet")),
        ("island_id", json!("")),
    ] {
        assert_eq!(agent[member], value, "{member}");
    }
    assert!(
        agent["last_heartbeat"].is_string() && agent["registration_time"].is_string() && agent["health_score"].is_f64()
    );
    // The registry has the same agent, with what it acts on.
    let known = server.get(&format!("{AGENTS}/registry/agent_1")).await.is(200);
    assert_eq!(known["capabilities"], json!(["model_inference"]));
    assert_eq!(known["endpoint_url"], Value::Null, "an address of the directory is never called");
    register(&server, json!({"agent_id": "bare", "agent_type": "worker"})).await;
    let beat = server.post("/v1/agents/agent_1/heartbeat", json!({})).await.is(200);
    assert_eq!((&beat["status"], &beat["agent_id"]), (&json!("success"), &json!("agent_1")));
    assert!(beat["heartbeat_at"].is_string());
    let gone = server.post("/v1/agents/agent_1/deregister", json!({})).await.is(200);
    assert_eq!((&gone["status"], &gone["agent_id"]), (&json!("success"), &json!("agent_1")));
    server.get("/v1/agents/agent_1").await.is(404);
    server.post("/v1/agents/agent_1/heartbeat", json!({})).await.is(404);
    assert_eq!(found(&server, json!({})).await, ["bare"]);
}

#[tokio::test]
async fn search_restricts_by_each_member() {
    let server = TestApp::start().await;
    register(&server, worker("a")).await;
    register(&server, json!({"agent_id": "b", "capabilities": ["gpu"], "tags": ["eu"], "services": ["x", "y"]})).await;
    let body = json!({"agent_id": "c", "capabilities": ["io_bound"], "agent_type": "own"});
    server.post(&format!("{AGENTS}/registry"), body).await.is(201);
    for (query, expected) in [
        (json!({}), vec!["a", "b", "c"]),
        (json!({"status": "active", "limit": 1000}), vec!["a", "b", "c"]),
        (json!({"status": "inactive"}), vec![]),
        (json!({"capabilities": ["gpu"]}), vec!["b"]),
        (json!({"capabilities": ["inference", "model_inference"]}), vec!["a"]),
        (json!({"capabilities": ["inference", "gpu"]}), vec![]),
        (json!({"capabilities": ["io_bound"]}), vec!["c"]),
        (json!({"services": ["y"]}), vec!["b"]),
        (json!({"tags": ["eu"]}), vec!["b"]),
        (json!({"agent_type": "own"}), vec!["c"]),
        (json!({"chain_id": "ait-mainnet", "status": "active"}), vec!["a"]),
        (json!({"chain_id": "other"}), vec![]),
        (json!({"min_health_score": 1.0}), vec![]),
        (json!({"query": {"capabilities": ["gpu"], "limit": 50}}), vec!["b"]),
        (json!({"query": {}}), vec!["a", "b", "c"]),
    ] {
        let mut agents = found(&server, query.clone()).await;
        agents.sort_unstable();
        assert_eq!(agents, expected, "{query}");
    }
    assert_eq!(found(&server, json!({"limit": 1})).await.len(), 1);
    for (query, member) in
        [(json!({"status": "asleep"}), "status"), (json!({"limit": 0}), "limit"), (json!({"limit": 1001}), "limit")]
    {
        let refused = server.post("/v1/agents/discover", query).await.is(422);
        assert_eq!(locations(&refused), [json!(["body", member])]);
    }
    // Words are found by the older search too.
    let older = server.get("/api/v1/agent/messages/discover?capability=gpu").await.is(200);
    assert_eq!((&older["count"], &older["agents"][0]["agent_id"]), (&json!(1), &json!("b")), "{older}");
    assert_eq!(older["agents"][0]["capabilities"], json!(["gpu"]));
}

#[tokio::test]
async fn reported_state_decides_whether_an_agent_is_there() {
    let server = TestApp::builder().env("AGENT_OFFLINE_SECONDS", 600).start().await;
    register(&server, worker("a")).await;
    for (word, shown, registry) in [
        ("busy", "busy", "online"),
        ("busy", "busy", "online"),
        ("active", "active", "online"),
        ("maintenance", "maintenance", "offline"),
        ("error", "error", "offline"),
        ("inactive", "inactive", "offline"),
        ("offline", "inactive", "offline"),
        ("busy", "busy", "online"),
        ("online", "active", "online"),
    ] {
        let answer = set_status(&server, "a", json!({"status": word, "load_metrics": {"cpu": 0.5}})).await;
        assert_eq!((&answer["status"], &answer["new_status"]), (&json!("success"), &json!(shown)), "{word}");
        assert!(answer["updated_at"].is_string());
        assert_eq!(server.get("/v1/agents/a").await.ok()["agent"]["status"], shown);
        assert_eq!(server.get(&format!("{AGENTS}/registry/a")).await.ok()["status"], registry, "{word}");
        assert_eq!(found(&server, json!({"status": shown})).await, ["a"]);
    }
    set_status(&server, "a", json!({"status": "busy", "load_metrics": {"gpu": 1.0}})).await;
    let agent = server.get("/v1/agents/a").await.ok()["agent"].clone();
    assert_eq!(agent["load_metrics"], json!({"cpu": 0.5, "gpu": 1.0}));
    assert_eq!(server.get(&format!("{AGENTS}/registry/a")).await.ok()["reported_load"], 1.0);
    // A busy agent that goes silent is not there; its heartbeat brings it back.
    let server = server.restart_with(&[("AGENT_OFFLINE_SECONDS", "1")]).await;
    let deadline = Instant::now() + PATIENCE;
    while server.get("/v1/agents/a").await.ok()["agent"]["status"] != "inactive" {
        assert!(Instant::now() < deadline, "it is still there");
        poll_interval().await;
    }
    let server = server.restart_with(&[("AGENT_OFFLINE_SECONDS", "600")]).await;
    server.post("/v1/agents/a/heartbeat", json!({})).await.ok();
    assert_eq!(server.get("/v1/agents/a").await.ok()["agent"]["status"], "busy");
    for bad in [json!({"status": "asleep"}), json!({}), json!({"status": 1})] {
        server.put("/v1/agents/a/status", bad).await.is(422);
    }
    server.put("/v1/agents/nobody/status", json!({"status": "active"})).await.is(404);
    let entries = server.get(&format!("{AGENTS}/security/audit-logs?limit=100")).await.ok().to_string();
    for action in ["offline", "online", "updated", "registered"] {
        assert!(entries.contains(&format!("\"{action}\"")), "{action}: {entries}");
    }
}

#[tokio::test]
async fn entries_are_their_owners() {
    let server = TestApp::start().await;
    register(&server, worker("a")).await;
    post_as(&server, OTHER_ADMIN, "/v1/agents/register", worker("a")).await.is(409);
    post_as(&server, OTHER_ADMIN, "/v1/agents/a/heartbeat", json!({})).await.is(403);
    post_as(&server, OTHER_ADMIN, "/v1/agents/a/deregister", json!({})).await.is(403);
    let report = Some(json!({"status": "inactive"}));
    ask(&server, Some(OTHER_ADMIN), Method::PUT, "/v1/agents/a/status", report.clone()).await.is(403);
    get_as(&server, OTHER_ADMIN, "/v1/agents/a").await.is(200);
    let own = key_of(&server, "a").await;
    ask(&server, Some(&own), Method::PUT, "/v1/agents/a/status", report.clone()).await.is(200);
    post_as(&server, &own, "/v1/agents/a/heartbeat", json!({})).await.is(200);
    ask(&server, Some(&own), Method::PUT, "/v1/agents/b/status", report).await.is(403);
    post_as(&server, &own, "/v1/agents/a/deregister", json!({})).await.is(403);
    // Again by its owner: the entry is replaced, and the agent is there.
    post_as(&server, ADMIN, "/v1/agents/register", json!({"agent_id": "a", "capabilities": ["other"]})).await.is(200);
    let agent = server.get("/v1/agents/a").await.ok()["agent"].clone();
    assert_eq!((&agent["status"], &agent["capabilities"]), (&json!("active"), &json!(["other"])));
    assert_eq!(agent["services"], json!([]));
}

#[tokio::test]
async fn faults_of_an_entry_are_named() {
    let server = TestApp::start().await;
    for (member, value) in [
        ("agent_id", json!("two words")),
        ("agent_id", json!("register")),
        ("agent_type", json!("x".repeat(51))),
        ("capabilities", json!([""])),
        ("capabilities", json!((0..101).map(|n| n.to_string()).collect::<Vec<_>>())),
        ("services", json!(["x".repeat(129)])),
        ("tags", json!(["a\nb"])),
        ("endpoints", json!({"http": "x".repeat(2049)})),
        ("version", json!("\u{0}")),
        ("metadata", json!({"x": "y".repeat(17_000)})),
    ] {
        let mut entry = worker("a");
        entry[member] = value;
        let refused = server.post("/v1/agents/register", entry).await.is(422);
        assert_eq!(locations(&refused), [json!(["body", member])], "{refused}");
    }
    assert_eq!(found(&server, json!({})).await, [""; 0]);
    server.post("/v1/agents/register", json!({"agent_type": "worker"})).await.is(422);
}
