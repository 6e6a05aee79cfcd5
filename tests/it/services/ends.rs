//! That a job has ended is told once, whoever notices it and whatever dies meanwhile.

use std::time::Instant;

use serde_json::{Value, json};

use super::{COMPLETED, RUNNING, delete, queued, set};
use crate::{
    harness::{ApiClient, Builder, PATIENCE, Server, TestApp},
    kit::{JsonDocument, sql},
    webhooks::{Receiver, SECRET, Say},
};

const DELIVERIES: &str = "/api/v1/agents/security/webhooks/deliveries";

/// An endpoint that nobody listens at, and that wants to hear of ends.
fn ops() -> Value {
    let secret = "whsec_c2VjcmV0LW9mLXRlc3RzLXRoYXQtaXMtbG9uZw==";
    let kinds = ["job.completed", "job.failed", "job.canceled", "job.expired"];
    json!({"ops": {"url": "http://127.0.0.1:9/", "secret": secret, "allow_private": true, "events": kinds}})
}

fn server() -> Builder {
    Server::builder().env("WEBHOOKS", ops())
}

/// The deliveries that are owed, once there are so many.
async fn owed(server: &ApiClient, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = server.get(&format!("{DELIVERIES}?limit=500")).await.ok();
        if rows.as_array().unwrap().len() >= count {
            return rows.as_array().unwrap().clone();
        }
        assert!(Instant::now() < deadline, "{rows}");
        crate::harness::poll_interval().await;
    }
}

/// How often the audit log tells that the job came to this.
async fn told(server: &ApiClient, id: &str, action: &str) -> usize {
    let entries = server.get("/api/v1/agents/security/audit-logs?limit=500").await.ok();
    let is = |entry: &&Value| {
        let data = &entry["event_data"];
        data["resource"] == "job" && data["action"] == action && data["job_id"] == id
    };
    entries.as_array().unwrap().iter().filter(is).count()
}

#[tokio::test]
async fn every_job_end_creates_its_webhook_event() {
    let server = TestApp::builder().env("WEBHOOKS", ops()).start().await;
    let mut ids = Vec::new();
    for change in
        [COMPLETED, "state = 'FAILED', error = 'out of memory'", "state = 'EXPIRED', error = 'job expired'", RUNNING]
    {
        let id = queued(&server, "x").await;
        set(&server, &id, change).await;
        ids.push(id);
    }
    delete(&server, &ids[3]).await.is(200);
    let mut kinds = Vec::new();
    for delivery in owed(&server, 4).await {
        let whole = server.get(&format!("{DELIVERIES}/{}", delivery.text("id"))).await.ok();
        let data = &whole["payload"]["data"];
        let at = ids.iter().position(|id| data["job_id"] == **id).unwrap();
        kinds.push((at, delivery.text("kind").to_owned(), data.text("status").to_owned()));
        assert!(data.text("client_id").starts_with("key_"), "{data}");
        assert_eq!(data["service_type"], "llm_inference");
        assert_eq!(data["error"].is_null(), at == 0, "{data}");
    }
    kinds.sort();
    let expected = [
        (0, "job.completed", "COMPLETED"),
        (1, "job.failed", "FAILED"),
        (2, "job.expired", "EXPIRED"),
        (3, "job.canceled", "CANCELED"),
    ];
    assert_eq!(kinds, expected.map(|(at, kind, state)| (at, kind.to_owned(), state.to_owned())));
    for (id, action) in ids.iter().zip(["completed", "failed", "expired", "canceled"]) {
        assert_eq!(told(&server, id, action).await, 1, "{action}");
    }
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("service_jobs_total{service=\"llm_inference\",state=\"completed\"} 1"), "{metrics}");
}

#[tokio::test]
async fn job_end_webhook_is_retried_until_accepted() {
    let receiver = Receiver::start([Say::Status(503), Say::Status(503)]);
    let wanted = json!({"events": ["job.completed"]});
    let server = receiver.app(&wanted).env("WEBHOOK_RETRY_SCALE", "0.0001").start().await;
    let (failed, done) = (queued(&server, "x").await, queued(&server, "y").await);
    set(&server, &failed, "state = 'FAILED', error = 'out of memory'").await;
    set(&server, &done, &format!("{COMPLETED}, receipt = '{{\"price\": 0.25}}'")).await;
    receiver.called(3).await;
    let ids = receiver.ids(&[SECRET]);
    assert!(ids.iter().all(|id| *id == ids[0]), "one event: {ids:?}");
    let body = receiver.bodies().remove(0);
    let data = &body["data"];
    assert_eq!((&body["type"], &data["job_id"], &data["price"]), (&json!("job.completed"), &json!(done), &json!(0.25)));
    assert_eq!((&data["miner"], &data["result"]), (&json!("miner-1"), &Value::Null), "the result is its client's");
    assert_eq!(owed(&server, 1).await.len(), 1, "of the other end nobody wants to hear");
}

#[tokio::test]
async fn two_processes_send_a_job_end_notice_once() {
    let first = server().start().await;
    let id = queued(&first, "x").await;
    let (other, gone) = (queued(&first, "y").await, queued(&first, "z").await);
    // A second process on the same database.
    let second = server().beside(&first).start().await;
    set(&first, &id, COMPLETED).await;
    owed(&first, 1).await;
    // What ends while nobody is there is told by whoever comes.
    drop(second);
    let mut first = first;
    first.kill();
    set(&first, &other, COMPLETED).await;
    sql(&first.database(), &format!("PRAGMA foreign_keys = OFF; DELETE FROM job WHERE id = '{gone}'")).await;
    let first = first.restart().await;
    let rows = owed(&first, 3).await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    for (id, action) in [(&id, "completed"), (&other, "completed"), (&gone, "canceled")] {
        assert_eq!(told(&first, id, action).await, 1, "{action}");
    }
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn crash_around_job_end_notice_sends_it_once() {
    for point in ["jobs.before_telling", "jobs.after_telling"] {
        let start = server().env("FAILPOINTS", "").start().await;
        let id = queued(&start, "x").await;
        let mut armed = start.restart_with(&[("FAILPOINTS", &format!("{point}=return"))]).await;
        set(&armed, &id, COMPLETED).await;
        armed.wait();
        let after = armed.restart_with(&[("FAILPOINTS", "")]).await;
        assert_eq!(owed(&after, 1).await.len(), 1, "{point}");
        assert_eq!(told(&after, &id, "completed").await, 1, "{point}");
    }
}
