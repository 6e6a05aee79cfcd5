//! Bounds of security policies on commands, sandboxes and what executions override.

use serde_json::{Value, json};

use super::{SECURITY, command};
use crate::{
    harness::{Server, TestApp},
    kit::{AGENTS, JsonDocument, jq, locations, waiting},
    peer::Peer,
};

const WORKFLOWS: &str = "/api/v1/agents/workflows";

#[tokio::test]
async fn each_bound_refuses_workflow_step_sandbox_and_override() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await;
    let made = server.post(&format!("{SECURITY}/policies?name=p&security_level=internal"), json!({})).await.ok();
    assert_eq!((&made["allow_network"], &made["max_cost_budget"]), (&Value::Null, &Value::Null));
    let policy = format!("{SECURITY}/policies/{}", made.text("id"));
    let required = |requirements: Value| command(&["python3", "-c", "1"], json!({"requirements": requirements}));
    let call = json!({"step_type": "custom", "action": {"kind": "http", "endpoint": "peer"}});
    // A run that waits, and whose sandbox may be asked for.
    let held = server.workflow(json!({"w": waiting()})).await;
    let held = server.execute(&held, json!({})).await.text("id").to_owned();
    for (bound, step, sandbox) in [
        (
            json!({"allow_network": false}),
            required(json!({"network_access": true})),
            Some(json!({"network_access": true})),
        ),
        (json!({"allow_network": false}), call.clone(), None),
        (
            json!({"allowed_domains": ["*.example"]}),
            required(json!({"allowed_domains": ["evil.test"]})),
            Some(json!({"allowed_domains": ["evil.test"]})),
        ),
        (json!({"allowed_domains": ["*.example"]}), call, None),
        (
            json!({"allowed_commands": ["python"]}),
            required(json!({"allowed_commands": ["sh"]})),
            Some(json!({"allowed_commands": ["sh"]})),
        ),
        (json!({"allowed_commands": ["node"]}), required(json!({})), None),
        (
            json!({"max_sandbox_level": "internal"}),
            command(&["python3", "-c", "1"], json!({"security_level": "confidential"})),
            None,
        ),
        (json!({"max_cpu_cores": 2}), required(json!({"cpu_cores": 3})), Some(json!({"cpu_cores": 3}))),
        (json!({"max_disk_mb": 100}), required(json!({"disk_mb": 101})), Some(json!({"disk_mb": 101}))),
        (json!({"max_memory_usage": 512}), required(json!({"memory_mb": 513})), Some(json!({"memory_mb": 513}))),
    ] {
        let rule = bound.as_object().unwrap().keys().next().unwrap().clone();
        let body = json!({"name": "n", "steps": {"s": step}});
        // Made before the bound is set; then neither made anew nor started.
        let workflow = server.post(WORKFLOWS, body.clone()).await.ok();
        server.put(&policy, bound).await.ok();
        let execute = format!("{WORKFLOWS}/{}/execute", workflow.text("id"));
        for answer in [server.post(WORKFLOWS, body).await, server.post(&execute, json!({})).await] {
            let refused = answer.is(403);
            assert_eq!((&refused["code"], &refused["rule"]), (&json!("policy_violation"), &json!(rule)), "{refused}");
            assert_eq!(refused["step"], "s");
        }
        if let Some(asked) = sandbox {
            let refused = server.post(&format!("{SECURITY}/sandbox/{held}/create"), asked).await.is(403);
            assert_eq!(refused["rule"], json!(rule), "{refused}");
        }
        let open = if rule == "max_memory_usage" { json!(8192) } else { Value::Null };
        server.put(&policy, json!({rule: open})).await.ok();
    }
    let wide = format!("{SECURITY}/sandbox/{held}/create?security_level=confidential");
    server.put(&policy, json!({"max_sandbox_level": "internal"})).await.ok();
    assert_eq!(server.post(&wide, json!({})).await.is(403)["rule"], "max_sandbox_level");
    server.put(&policy, json!({"max_sandbox_level": null})).await.ok();
}

#[tokio::test]
async fn cost_bound_holds_for_workflows_and_overrides() {
    let server = TestApp::start().await;
    let policies = format!("{SECURITY}/policies?name=p&security_level=internal");
    server.post(&policies, json!({"max_cost_budget": 2})).await.ok();
    let body = |budget: f64| json!({"name": "n", "steps": {"s": jq("1")}, "max_cost_budget": budget});
    for budget in [0.0, 2.5] {
        assert_eq!(server.post(WORKFLOWS, body(budget)).await.is(403)["rule"], "max_cost_budget");
    }
    let workflow = server.post(WORKFLOWS, body(1.5)).await.ok();
    let execute = format!("{WORKFLOWS}/{}/execute?wait=20", workflow.text("id"));
    for budget in [json!(0), json!(2.5)] {
        assert_eq!(server.post(&execute, json!({"max_cost_budget": budget})).await.is(403)["rule"], "max_cost_budget");
    }
    assert_eq!(server.post(&execute, json!({"max_cost_budget": 2})).await.ok()["status"], "completed");
    // A network has no limit of its own, and gets the policy's.
    let network = json!({"name": "n", "agents": [workflow["id"]]});
    let network = server.post(&format!("{AGENTS}/networks"), network).await.ok();
    let run = format!("{AGENTS}/networks/{}/execute?wait=20", network.text("id"));
    assert_eq!(server.post(&run, json!({"task": 1})).await.ok()["status"], "completed");
    // In force at the next start of this process too.
    let server = server.restart().await;
    assert_eq!(server.post(&execute, json!({"max_cost_budget": 0})).await.is(403)["rule"], "max_cost_budget");
}

#[tokio::test]
async fn requirements_above_the_operators_ceilings_are_refused() {
    let settings = [
        ("SANDBOX_MAX_CPU_CORES", 2),
        ("SANDBOX_MAX_MEMORY_MB", 512),
        ("SANDBOX_MAX_DISK_MB", 100),
        ("SANDBOX_MAX_SECONDS", 60),
    ];
    let mut app = TestApp::builder();
    for (name, value) in settings {
        app = app.env(name, value);
    }
    let server = app.start().await;
    let held = server.workflow(json!({"w": waiting()})).await;
    let path = format!("{WORKFLOWS}/{held}");
    let held = server.execute(&held, json!({})).await.text("id").to_owned();
    for (member, value) in [
        ("cpu_cores", json!(3)),
        ("memory_mb", json!(10_000_000)),
        ("disk_mb", json!(101)),
        ("max_execution_time", json!(61)),
        ("idle_timeout", json!(61)),
    ] {
        let asked = json!({member: value});
        let steps = json!({"s": command(&["python3", "-c", "1"], json!({"requirements": asked}))});
        let body = json!({"name": "n", "steps": steps});
        for answer in [server.post(WORKFLOWS, body.clone()).await, server.put(&path, body).await] {
            let refused = answer.is(422);
            let place = json!(["body", "steps", "s", "action", "requirements", member]);
            assert_eq!(locations(&refused), [place], "{refused}");
            assert!(refused["detail"][0].text("msg").contains("at most"), "{refused}");
        }
        let refused = server.post(&format!("{SECURITY}/sandbox/{held}/create"), asked).await.is(422);
        assert_eq!(locations(&refused), [json!(["body", member])]);
    }
}

#[tokio::test]
async fn full_workspaces_hold_commands_back() {
    let server = Server::builder().env("SANDBOX_TOTAL_DISK_MB", 4).start().await;
    let write = "open('/workspace/file', 'wb').write(b'x' * (900 << 10))";
    let keeps = async || {
        let done = super::run(&server, json!({"s": command(&["python3", "-c", write], json!({}))}), json!({})).await;
        (done["status"].clone(), done["error_message"].as_str().unwrap_or_default().to_owned())
    };
    let mut done = Vec::new();
    for _ in 0..8 {
        done.push(keeps().await);
    }
    // Each may fill a part of what is left, so that those at the same time can't pass the quota together.
    assert_eq!(done[0].0, "completed", "{done:?}");
    let last = done.last().unwrap();
    assert_eq!(last.0, "failed", "{done:?}");
    let files = walk(&server.dir().join("sandboxes"));
    // The last one wrote until it was measured.
    assert!(files < 5 << 20, "{files} bytes: {done:?}");
}

/// Bytes of the files below a directory.
fn walk(directory: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { walk(&entry.path()) } else { entry.metadata().unwrap().len() }).sum()
}
