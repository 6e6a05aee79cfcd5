//! Deployments from outside: real processes that serve workflows, rolled out, killed, scaled and rolled back.

mod calls;
mod fleet;
mod refusals;
mod reports;
mod rollouts;

use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::{Value, json};

use crate::{
    harness::{Answer, ApiClient, AppBuilder, TestApp, poll_interval},
    kit::{AGENTS, JsonDocument, jq, sql},
};

/// Ports of each service.
const PORTS: u16 = 50;

/// The prefix of the group.
pub const INTEGRATION: &str = "/api/v1/agents/integration";

/// The path of something of deployments.
pub fn deployments(what: &str) -> String {
    format!("{INTEGRATION}/deployments/{what}")
}

/// An application that may start instances, whoever runs the tests, and has ports of its own: tests run beside each other.
pub fn builder() -> AppBuilder {
    static SERVICES: AtomicU16 = AtomicU16::new(0);
    let low = 21_000 + SERVICES.fetch_add(1, Ordering::Relaxed) * PORTS;
    let ports = format!("{low}-{}", low + PORTS - 1);
    TestApp::builder().env("DEPLOYMENT_ALLOW_ROOT", true).env("DEPLOYMENT_PORTS", ports)
}

/// A configuration whose checks are quick.
pub fn quick_config() -> Value {
    json!({"min_instances": 1, "max_instances": 3, "health_check_interval": 1, "auto_scaling": false, "min_memory_mb": 256})
}

/// Make a deployment of a workflow, with other members than usual.
pub async fn make(server: &ApiClient, workflow: &str, name: &str, others: Value) -> String {
    let mut body = quick_config();
    body.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
    let path = deployments(&format!("config?workflow_id={workflow}&deployment_name={name}"));
    server.post(&path, body).await.ok().text("id").to_owned()
}

/// Begin to deploy.
pub async fn deploy(server: &ApiClient, id: &str) -> Value {
    server.post(&deployments(&format!("{id}/deploy")), json!({})).await.ok()
}

/// The deployment.
pub async fn state(server: &ApiClient, id: &str) -> Value {
    server.get(&deployments(&format!("configs/{id}"))).await.ok()
}

/// The deployment, once its rollout has ended.
pub async fn settled(server: &ApiClient, id: &str) -> Value {
    loop {
        let found = state(server, id).await;
        if found["rollout"].is_null() && found["status"] != "pending" {
            return found;
        }
        poll_interval().await;
    }
}

/// The instances that are healthy and get calls, once there are as many of this revision and no others.
pub async fn healthy(server: &ApiClient, id: &str, count: usize, revision: i64) -> Vec<Value> {
    loop {
        let path = deployments(&format!("instances?deployment_id={id}"));
        let rows = server.get(&path).await.ok();
        let there: Vec<Value> = rows.as_array().unwrap().iter().filter(|row| row["state"] != "gone").cloned().collect();
        let good = |row: &&Value| row["health_status"] == "healthy" && row["revision"] == revision;
        if there.len() == count && there.iter().filter(good).count() == count {
            return there;
        }
        poll_interval().await;
    }
}

/// A workflow of one step, deployed with so many instances.
pub async fn deployed(server: &ApiClient, program: &str, name: &str, count: usize, others: Value) -> (String, String) {
    let workflow = server.workflow(json!({"a": jq(program)})).await;
    let mut all = json!({"min_instances": count, "max_instances": count + 2});
    all.as_object_mut().unwrap().extend(others.as_object().unwrap().clone());
    let id = make(server, &workflow, name, all).await;
    deploy(server, &id).await;
    let found = settled(server, &id).await;
    assert_eq!(found["status"], "deployed", "{found}");
    (workflow, id)
}

/// Change what a workflow's one step does.
pub async fn redefine(server: &ApiClient, workflow: &str, program: &str) {
    let body = json!({"steps": {"a": jq(program)}});
    let path = format!("{AGENTS}/workflows/{workflow}");
    Answer::of(server.request(reqwest::Method::PUT, &path).json(&body)).await.ok();
}

/// Call a deployment.
pub async fn call(server: &ApiClient, id: &str, inputs: Value) -> Answer {
    server.post(&deployments(&format!("{id}/invoke?wait=20")), json!({"inputs": inputs})).await
}

/// Store an alert as the fleet's task would raise it.
pub async fn raised_alert(server: &ApiClient, deployment: &str, number: usize) -> String {
    let id = format!("dalert_{number:012x}");
    let owner = crate::marketplace::principal(server.key());
    let row = format!(
        "INSERT INTO am_deployment_alerts (id, deployment_id, owner_id, rule, severity, state, value, message, created_at)
         VALUES ('{id}', '{deployment}', '{owner}', 'ERROR_RATE', 'HIGH', 'OPEN', 7.0, '7 of 100 calls failed', '2026-05-12 15:32:30.132465')"
    );
    sql(&server.database(), &row).await;
    id
}

/// What to ask of an operation so that it succeeds once.
pub async fn prepare(server: &ApiClient, template: &str) -> (String, Value) {
    let path = |id: &str| format!("{AGENTS}{}", crate::kit::filled(template, id));
    let name = format!("once{}", template.replace(['/', '{', '}'], "-"));
    let workflow = server.workflow(json!({"a": jq("1")})).await;
    match template.strip_prefix("/integration").unwrap() {
        "/deployments/config" => {
            (format!("{}?workflow_id={workflow}&deployment_name={name}", path("")), quick_config())
        }
        "/production/deploy" => {
            let mut config = quick_config();
            config["deployment_name"] = json!(name);
            (format!("{}?workflow_id={workflow}", path("")), json!({"deployment_config": config}))
        }
        "/deployments/{config_id}/deploy" => (path(&make(server, &workflow, &name, json!({})).await), json!({})),
        "/deployments/{config_id}/scale" => {
            let (_, id) = deployed(server, "1", &name, 1, json!({})).await;
            (path(&id) + "?target_instances=2", json!({}))
        }
        "/deployments/{config_id}/rollback" => {
            let (_, id) = deployed(server, "1", &name, 1, json!({})).await;
            deploy(server, &id).await;
            settled(server, &id).await;
            (path(&id), json!({}))
        }
        "/deployments/{config_id}/invoke" => {
            let (_, id) = deployed(server, "1", &name, 1, json!({})).await;
            (path(&id), json!({"inputs": {"n": 1}}))
        }
        other if other.starts_with("/deployments/alerts/") => {
            let number = template.bytes().map(usize::from).sum();
            let body = if template.ends_with("/silence") { json!({"seconds": 60}) } else { json!({}) };
            (path(&raised_alert(server, &format!("deploy_{number}"), number).await), body)
        }
        other => panic!("POST {other} is not tried here: say how it is asked"),
    }
}

/// Store an instance that has ended.
pub async fn stored_instance(server: &ApiClient, deployment: &str) -> String {
    let (id, owner) = (format!("{deployment}.1"), crate::marketplace::principal(server.key()));
    let rows = format!(
        "INSERT INTO agent_deployment_instances (id, deployment_id, instance_id, environment, region, status, health_status,
         request_count, error_count, consecutive_failures, health_check_history, created_at, updated_at) VALUES
         ('{id}', '{deployment}', 'ended-production-1', 'production', 'local', 'TERMINATED', 'unknown', 0, 0, 0, '[]',
         '2026-05-12 15:32:30.132465', '2026-05-12 15:32:30.132465');
         INSERT INTO am_deployment_instances (id, deployment_id, owner_id, number, revision, port, state, token_hash, reason, created_at)
         VALUES ('{id}', '{deployment}', '{owner}', 1, 1, 20000, 'GONE', '', 'it has ended', '2026-05-12 15:32:30.132465')"
    );
    sql(&server.database(), &rows).await;
    id
}
