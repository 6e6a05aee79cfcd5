//! `DELETE` of what has ended: by its owner, whole, archived, and told of.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{CLIENT, OTHER_ADMIN, TestApp},
    kit::{AGENTS, JsonDocument as _, ask, jq, sql, waiting},
    messages,
    retention::{archive, number, printed},
    rl,
};

/// Audit entries of deletions of this resource.
async fn told(server: &TestApp, resource: &str) -> Vec<Value> {
    let entries = server.get(&format!("{AGENTS}/security/audit-logs?limit=500")).await.ok();
    let entries = entries.as_array().unwrap().iter().map(|entry| entry["event_data"].clone());
    entries.filter(|data| data["resource"] == resource && data["action"] == "deleted").collect()
}

#[tokio::test]
async fn an_execution_is_deleted_by_its_owner_once_it_has_ended() {
    let server = TestApp::start().await;
    let open = server.workflow(json!({"w": waiting()})).await;
    let open = server.execute(&open, json!({})).await.text("id").to_owned();
    let refused = server.delete(&format!("{AGENTS}/executions/{open}")).await.is(409);
    assert_eq!(refused["code"], "in_use", "{refused}");
    assert_eq!(number(&server.database(), "SELECT count(*) FROM am_archives").await, 0);
    let left = std::fs::read_dir(server.dir().join("archive")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "a refusal leaves no file");

    let workflow = server.workflow(json!({"a": jq(".x")})).await;
    let run = server.execute(&workflow, json!({"x": 1})).await.text("id").to_owned();
    let path = format!("{AGENTS}/executions/{run}");
    let before = server.ended(&run).await;
    let foreign = ask(&server, Some(OTHER_ADMIN), Method::DELETE, &path, None).await;
    foreign.is(404);
    let deleted = server.delete(&path).await;
    assert_eq!((deleted.status.as_u16(), deleted.text.as_str()), (204, ""));
    server.get(&path).await.is(404);
    server.delete(&path).await.is(404);
    let page = server.get(&format!("{AGENTS}/executions")).await;
    assert_eq!((page.header("x-total-count"), page.body.as_array().unwrap().len()), ("1", 1));

    let told = told(&server, "execution").await;
    let listed = printed(archive(server.dir(), &["list"]));
    assert_eq!((told.len(), listed.as_array().unwrap().len()), (1, 1));
    assert_eq!((&told[0]["archive"], &told[0]["archive_sha256"]), (&listed[0]["name"], &listed[0]["sha256"]));
    assert_eq!((&listed[0]["cause"], &listed[0]["removed"]), (&json!("request"), &json!(1)));
    printed(archive(server.dir(), &["verify"]));
    assert_eq!(printed(archive(server.dir(), &["restore", "--id", &run]))["restored"], 1);
    assert_eq!(server.get(&path).await.ok(), before);
}

#[tokio::test]
async fn plans_messages_runs_jobs_and_deliveries_are_deleted_when_they_have_ended() {
    let server = TestApp::builder().env("TRAINING_SLOTS", 0).start().await;
    let database = server.database();

    let plan = server.post(&format!("{AGENTS}/plans"), json!({"name": "p", "task_types": ["io_bound"]})).await.is(201);
    let path = format!("{AGENTS}/plans/{}", plan.text("id"));
    ask(&server, Some(OTHER_ADMIN), Method::DELETE, &path, None).await.is(404);
    server.delete(&path).await.is(204);
    server.get(&path).await.is(404);

    let sent = messages::send(&server, "alice", "bob", json!({"text": "x"})).await;
    let path = format!("{AGENTS}/messages/id/{}", sent.text("message_id"));
    let refused = server.delete(&path).await.is(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["query", "agent_id"]), "{refused}");
    server.delete(&format!("{path}?agent_id=bob")).await.is(409);
    messages::inbox(&server, "bob", "").await;
    server.delete(&format!("{path}?agent_id=mallory")).await.is(404);
    server.delete(&format!("{path}?agent_id=bob")).await.is(204);
    server.get(&path).await.is(404);

    let run = server.post(&format!("{}/runs", rl::RL), rl::small(64)).await.is(201);
    let path = format!("{}/runs/{}", rl::RL, run.text("id"));
    server.delete(&path).await.is(409);
    server.post(&format!("{path}/cancel"), json!({})).await.ok();
    ask(&server, Some(CLIENT), Method::DELETE, &path, None).await.is(404);
    server.delete(&path).await.is(204);
    server.get(&path).await.is(404);
    assert_eq!(number(&database, "SELECT count(*) FROM am_events WHERE stream LIKE 'train_%'").await, 0);

    let body = json!({"model": "llama-7b", "prompt": "x"});
    let job = server.post("/api/v1/services/llm/inference", body).await.is(201);
    let path = format!("/api/v1/services/jobs/{}", job.text("job_id"));
    server.delete(&format!("{path}/record")).await.is(409);
    server.delete(&path).await.ok();
    server.delete(&format!("{path}/record")).await.is(204);
    server.get(&path).await.is(404);

    sql(
        &database,
        "INSERT INTO am_webhook_deliveries (id, endpoint, kind, body, state, next_attempt_at, created_at)
         VALUES ('msg_d', 'gone', 'test', '{}', 'DEAD', '2999-01-01 10:00:00.000000', '2999-01-01 10:00:00.000000')",
    )
    .await;
    let path = format!("{AGENTS}/security/webhooks/deliveries/msg_d");
    ask(&server, Some(CLIENT), Method::DELETE, &path, None).await.is(403);
    server.delete(&path).await.is(204);
    server.delete(&path).await.is(404);
    for resource in ["plan", "message", "training_run", "job", "webhook_delivery"] {
        assert_eq!(told(&server, resource).await.len(), 1, "{resource}");
    }
    assert_eq!(
        number(&database, "SELECT count(*) FROM am_archives WHERE done_at IS NOT NULL AND removed = 1").await,
        5
    );
}
