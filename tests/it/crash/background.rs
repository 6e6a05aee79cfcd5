//! A background task that is gone is missed: the service says so, and ends.

use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;

use crate::harness::{PATIENCE, Server};

#[tokio::test]
async fn a_background_task_that_panics_is_named_and_ends_the_process() {
    let mut server = Server::builder().env("FAILPOINTS", "messages.before_push=panic").start().await;
    server.get("/health/ready").await.is(200);
    let running = r#"background_tasks_running{task="messages.writer"}"#;
    assert!(server.get("/metrics").await.text.contains(&format!("{running} 1")));

    // The task that writes messages panics between storing this one and giving it to sockets.
    let message = json!({"sender": "a", "recipient": "b", "content": {"text": "x"}});
    let sent = server.request(Method::POST, "/api/v1/agents/messages/send").json(&message).send();
    assert!(timeout(PATIENCE, sent).await.unwrap().unwrap().status().is_server_error(), "nobody answers for it");

    let ready = server.get("/health/ready").await.is(503);
    assert_eq!(ready["status"], "not_ready");
    let workers = ready["checks"].as_array().unwrap().iter().find(|check| check["name"] == "workers").unwrap();
    assert_eq!(workers["reason"], "the background task messages.writer panicked", "{ready}");
    assert!(server.get("/metrics").await.text.contains(&format!("{running} 0")));

    let status = server.wait();
    assert_eq!(status.code(), Some(1), "{}", server.log());
    assert!(server.log().contains("a background task panicked"), "{}", server.log());
}
