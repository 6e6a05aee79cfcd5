//! Shares of several principals: what one asks for, however much, leaves room for another.

use std::collections::BTreeMap;

use super::*;
use crate::{
    harness::OTHER_ADMIN,
    kit::{AGENTS, get_as, post_as, waiting},
};

/// Start a run of `steps` by the other principal.
async fn started_by_other(server: &ApiClient, steps: Value) -> String {
    let draft = json!({"name": "test", "steps": steps});
    let workflow = post_as(server, OTHER_ADMIN, &format!("{AGENTS}/workflows"), draft).await.ok();
    let execute = format!("{AGENTS}/workflows/{}/execute", workflow.text("id"));
    post_as(server, OTHER_ADMIN, &execute, json!({})).await.ok().text("id").to_owned()
}

/// The end of a run of the other principal.
async fn ended_of_other(server: &ApiClient, id: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let document = get_as(server, OTHER_ADMIN, &format!("{AGENTS}/executions/{id}?wait=5")).await.ok();
        if document["completed_at"].is_string() {
            return document;
        }
        assert!(Instant::now() < deadline, "the execution did not end: {document}");
    }
}

#[tokio::test]
async fn executions_that_only_wait_hold_no_place() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("ENGINE_MAX_ACTIVE", 1).start().await;
    // For a miner, with a step behind it, and for the time of a retry.
    let mining = server.workflow(json!({"m": waiting(), "after": after(jq("1"), &["m"])})).await;
    let mut failing = call("f", json!({"status": 503}));
    failing["max_retries"] = 1.into();
    failing["retry_policy"] = json!({"initial_seconds": 3600, "max_seconds": 3600, "jitter": 0});
    let retrying = server.workflow(json!({"f": failing})).await;
    let mut waits = Vec::new();
    for workflow in [&mining, &retrying, &mining, &retrying, &mining] {
        waits.push(server.execute(workflow, json!({})).await.text("id").to_owned());
    }
    for id in &waits {
        server.until(id, |run| run["status"] == "running").await;
    }
    let quick = server.workflow(json!({"q": jq("1 + 1")})).await;
    for _ in 0..3 {
        completed(&server.ended(server.execute(&quick, json!({})).await.text("id")).await);
    }
    // So it is after another process took them up, and they can still be paused, resumed and cancelled.
    let server = server.restart().await;
    completed(&server.ended(server.execute(&quick, json!({})).await.text("id")).await);
    for id in &waits {
        let change = async |what: &str| server.post(&format!("{AGENTS}/executions/{id}/{what}"), json!({})).await.ok();
        change("pause").await;
        change("resume").await;
        assert_eq!(change("cancel").await["status"], "cancelled");
    }
}

#[tokio::test]
async fn open_executions_of_a_principal_are_bounded() {
    let server = TestApp::builder().env("ENGINE_MAX_OPEN", 3).start().await;
    let steps = || json!({"m": waiting()});
    let workflow = server.workflow(steps()).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(server.execute(&workflow, json!({})).await.text("id").to_owned());
    }
    let total = async || server.get(&format!("{AGENTS}/executions")).await.header("x-total-count").to_owned();
    let before = total().await;
    let refused = server.post(&format!("{AGENTS}/workflows/{workflow}/execute"), json!({})).await;
    assert_eq!((refused.status.as_u16(), refused.body.text("code")), (429, "quota_exceeded"), "{refused:?}");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{refused:?}");
    has(refused.body.text("detail"), "ENGINE_MAX_OPEN: you have 3 executions");
    assert_eq!((before.as_str(), total().await), ("3", before.clone()), "no row is left");
    // Another is not refused, and a place is free when one has ended.
    started_by_other(&server, steps()).await;
    server.post(&format!("{AGENTS}/executions/{}/cancel", open[0]), json!({})).await.ok();
    server.execute(&workflow, json!({})).await;
}

#[tokio::test]
async fn executions_that_begin_together_keep_to_the_bound() {
    let server = TestApp::builder().env("ENGINE_MAX_OPEN", 3).start().await;
    let workflow = server.workflow(json!({"m": waiting()})).await;
    let path = format!("{AGENTS}/workflows/{workflow}/execute");
    let starts = (0..24).map(|_| server.post(&path, json!({})));
    let mut answers = BTreeMap::new();
    for answer in futures_util::future::join_all(starts).await {
        *answers.entry(answer.status.as_u16()).or_insert(0) += 1;
    }
    assert_eq!(answers.remove(&429), Some(21), "{answers:?}");
    assert_eq!(server.get(&format!("{AGENTS}/executions")).await.header("x-total-count"), "3");
}

#[tokio::test]
async fn steps_behind_a_wait_take_a_place_again() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("ENGINE_MAX_ACTIVE", 1).start().await;
    let mut failing = call("f", json!({"status": 503, "times": 1}));
    failing["max_retries"] = 1.into();
    failing["retry_policy"] = json!({"initial_seconds": 0.1, "max_seconds": 0.1, "jitter": 0});
    let steps = json!({"f": failing, "last": after(call("last", json!({"hold": true})), &["f"])});
    let first = server.execute(&server.workflow(steps).await, json!({})).await;
    // In the retry's delay another takes the only place, and keeps it.
    let held = server.workflow(json!({"h": call("h", json!({"hold": true}))})).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(server.execute(&held, json!({})).await.text("id").to_owned());
    }
    peer.called(2).await;
    assert_eq!(peer.under_way(), 1, "one place, one call");
    peer.open();
    completed(&server.ended(first.text("id")).await);
    for id in &others {
        completed(&server.ended(id).await);
    }
    assert_eq!(peer.most_at_once(), 1);
}

#[tokio::test]
async fn a_flood_of_one_principal_does_not_keep_anothers_runs_waiting() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("ENGINE_MAX_ACTIVE", 2).start().await;
    let held = server.workflow(json!({"h": call("flood", json!({"hold": true}))})).await;
    let mut flood = Vec::new();
    for _ in 0..60 {
        flood.push(server.execute(&held, json!({})).await.text("id").to_owned());
    }
    peer.called(2).await;
    // One place is kept for others, whatever the flood does with its own.
    let quick = started_by_other(&server, json!({"q": call("quick", json!({}))})).await;
    completed(&ended_of_other(&server, &quick).await);
    assert_eq!(peer.count("flood"), 2);
    // What waits is taken in turn: three of the other's are done before four more of the flood are begun.
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(started_by_other(&server, json!({"h": call("other", json!({"hold": true}))})).await);
    }
    peer.called(4).await;
    peer.open();
    let mut last = Value::Null;
    for id in &others {
        last = ended_of_other(&server, id).await;
        completed(&last);
    }
    let mut before = 0;
    for id in &flood {
        let run = server.ended(id).await;
        before += usize::from(run.text("started_at") < last.text("started_at"));
    }
    assert!(before <= 20, "{before} of 60 were begun before the other's fourth");
}

#[tokio::test]
async fn endless_programs_of_one_principal_leave_a_worker_for_others() {
    let server = TestApp::builder().env("JQ_WORKERS", 1).start().await;
    let endless = server.workflow(json!({"e": jq("def f: f; f")})).await;
    let mut flood = Vec::new();
    for _ in 0..10 {
        flood.push(server.execute(&endless, json!({})).await.text("id").to_owned());
    }
    let quick = started_by_other(&server, json!({"q": jq("1 + 1")})).await;
    completed(&ended_of_other(&server, &quick).await);
    let mut open = 0;
    for id in &flood {
        open += usize::from(server.get(&format!("{AGENTS}/executions/{id}")).await.ok()["status"] == "running");
    }
    assert!(open >= 7, "only {open} of 10 endless runs are left: the other waited for them");
}
