//! A real process dies at each point of docs/FAILURES.md and is started again on the same database.

mod absence;
mod background;
mod bulk;
mod clients;
mod ground;
mod ledger;
mod lists;
mod market;
mod market_month;
mod plans;
mod proofs;
mod retention;
#[cfg(feature = "contract-settlement")]
mod settlement;
mod start_lock;
mod training;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection;
use tokio::{sync::watch, time::timeout};

use crate::kit::JsonDocument;
use crate::{
    engine::{events, kinds},
    harness::{Answer, ApiClient, Builder, PATIENCE, Server},
    jobs::{llm, open, queue},
    peer::Peer,
};

const KEY: &str = "the-client-s-own-key";

fn call(id: &str, others: &[&str]) -> Value {
    json!({"step_type": "custom", "depends_on": others,
        "action": {"kind": "http", "endpoint": "peer", "body": {"id": id, "value": "$.inputs.x"}}})
}

/// A bit of everything: pure steps, two calls, a job between them.
fn steps() -> Value {
    let mut job = llm("hello");
    job["depends_on"] = json!(["first"]);
    json!({
        "before": {"step_type": "data_processing", "action": {"kind": "jq", "program": "{x: (.x + 1)}"}},
        "first": call("first", &["before"]),
        "job": job,
        "last": call("last", &["job"]),
        "after": {"step_type": "verification", "depends_on": ["last"], "action": {"kind": "check", "assert": ".value == 1"}},
    })
}

/// What the miner would do.
async fn finish_jobs(database: &Path) {
    sqlx::query(
        "UPDATE job SET state = 'COMPLETED', result = '{\"text\": \"done\"}', receipt = '{\"price\": 0.25}' WHERE state = 'QUEUED'",
    )
    .execute(&mut open(database).await)
    .await
    .unwrap();
}

/// POST with the idempotency key; none when the server dies before its answer has come whole.
async fn keyed(server: &ApiClient, path: &str, key: &str) -> Option<Answer> {
    let request = server.request(Method::POST, path).header("idempotency-key", key).json(&json!({"inputs": {"x": 1}}));
    let response = request.send().await.ok()?;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.ok()?;
    Some(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text })
}

/// The document of an execution at its end; none when the server dies before.
async fn end_of(server: &ApiClient, id: &str) -> Option<Value> {
    let came = timeout(PATIENCE, async {
        loop {
            finish_jobs(&server.database()).await;
            let path = format!("/api/v1/agents/executions/{id}?wait=0.05");
            let document: Value = server.request(Method::GET, &path).send().await.ok()?.json().await.ok()?;
            if matches!(document["status"].as_str(), Some("completed" | "failed" | "cancelled")) {
                return Some(document);
            }
        }
    });
    came.await.expect("the execution did not end")
}

/// What must hold of the run of [`steps`], wherever the process died: everything took effect once.
async fn check_run(server: &ApiClient, peer: &Peer, id: &str, acknowledged: Option<&str>) {
    if let Some(acknowledged) = acknowledged {
        assert_eq!(id, acknowledged, "a repeated request is the same execution");
    }
    let all = server.get("/api/v1/agents/executions").await.ok();
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    let document = server.get(&format!("/api/v1/agents/executions/{id}")).await.ok();
    assert_eq!(document["status"], "completed", "{document}");
    assert_eq!(document["total_cost"], 0.3, "five steps and a receipt: {document}");
    // A call may be repeated under its own key; it never is another.
    let keys: BTreeSet<String> = peer.calls().iter().map(|call| call.key().to_owned()).collect();
    assert_eq!(keys, BTreeSet::from([format!("{id}:first:1"), format!("{id}:last:1")]));
    assert_eq!(queue(server).await.len(), 1, "one job is ordered");
    let events = events(server, id, 1000).await;
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    kinds(&events).into_iter().for_each(|kind| *count.entry(kind).or_default() += 1);
    let expected = [
        ("execution_completed", 1),
        ("execution_started", 1),
        ("job_queued", 1),
        ("step_completed", 5),
        ("step_started", 5),
    ];
    assert_eq!(count, BTreeMap::from(expected));
    check_trail(server, id, &count).await;
    assert_eq!(server.get(&format!("/api/v1/agents/executions/{id}/receipt")).await.ok()["verified"], true);
}

/// The audit log tells of a run what its events tell, no more and no less; and all of it is as it was signed.
async fn check_trail(server: &ApiClient, id: &str, count: &BTreeMap<&str, usize>) {
    let path = format!("/api/v1/agents/security/audit-logs?execution_id={id}&limit=500");
    let entries = server.get(&path).await.ok();
    let kinds: Vec<&str> =
        entries.as_array().unwrap().iter().filter_map(|entry| entry["event_type"].as_str()).collect();
    for kind in [
        "execution_started",
        "step_started",
        "step_completed",
        "step_failed",
        "execution_completed",
        "execution_failed",
    ] {
        let told = kinds.iter().filter(|found| **found == kind).count();
        assert_eq!(told, count.get(kind).copied().unwrap_or(0), "{kind}: {entries}");
    }
}

/// A database as it was when its server was killed: many deaths begin with it.
struct Prepared {
    dir: tempfile::TempDir,
    /// What the client asks for.
    path: String,
}

impl Prepared {
    async fn of(server: Server, path: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = server.database();
        let again = server.again();
        let mut conn = open(&database).await;
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        std::fs::copy(database, dir.path().join("t.db")).unwrap();
        drop(again);
        Self { dir, path }
    }

    /// With the workflow in it.
    async fn workflow() -> Self {
        let server = Server::builder().env("HTTP_ENDPOINTS", Peer::start().endpoints()).start().await;
        let workflow = server.workflow(steps()).await;
        Self::of(server, format!("/api/v1/agents/workflows/{workflow}/execute")).await
    }

    /// With a run of a call and a job in it, both under way. The path is its cancel's.
    async fn under_way() -> Self {
        let peer = Peer::start();
        let server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await;
        let workflow = server.workflow(json!({"held": held(), "j": llm("hello")})).await;
        let run = server.execute(&workflow, json!({"x": 1})).await;
        peer.called(1).await;
        Self::of(server, format!("/api/v1/agents/executions/{}/cancel", run.text("id"))).await
    }

    /// A server on a copy, to die at the `n`th passage of `point`.
    fn to_die_at(&self, point: &str, n: usize, peer: &Peer) -> Result<Server, Builder> {
        Server::builder()
            .database(&self.dir.path().join("t.db"))
            .env("HTTP_ENDPOINTS", peer.endpoints())
            .env("FAILPOINTS", format!("{point}={n}*off->return"))
            .try_start()
    }
}

fn held() -> Value {
    let mut step = call("held", &[]);
    step["action"]["body"]["hold"] = true.into();
    step
}

/// How a death went.
enum Death {
    /// During the start, when nothing had been asked yet.
    AtTheStart,
    /// Everything held.
    Survived(Peer),
    /// The point was not passed so often.
    None,
}

/// Die at the `n`th passage of `point`, start again, and bring the run to its end.
async fn dies_at(prepared: &Prepared, point: &str, n: usize) -> Death {
    let peer = Peer::start();
    let Ok(mut server) = prepared.to_die_at(point, n, &peer) else { return Death::AtTheStart };
    let mut acknowledged = None;
    let mut died = true;
    if let Some(answer) = keyed(&server, &prepared.path, KEY).await {
        acknowledged = answer.ok()["id"].as_str().map(str::to_owned);
    }
    if let Some(id) = &acknowledged {
        died = end_of(&server, id).await.is_none();
    }
    if died {
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&server.wait()), Some(9));
    }
    let server = server.again().env("FAILPOINTS", "").start().await;
    // The client that had no answer asks again; so does the one that had one.
    let answer = keyed(&server, &prepared.path, KEY).await.unwrap();
    let replayed = answer.header("idempotency-replayed") == "true";
    assert!(replayed || acknowledged.is_none(), "{answer:?}");
    let id = answer.ok().text("id").to_owned();
    end_of(&server, &id).await.unwrap();
    check_run(&server, &peer, &id, acknowledged.as_deref()).await;
    if died { Death::Survived(peer) } else { Death::None }
}

/// Each passage of `point` in turn, until the run is through before the next.
async fn sweep(point: &str, at_least: usize) {
    let prepared = Prepared::workflow().await;
    let mut survived = 0;
    for n in 0.. {
        match dies_at(&prepared, point, n).await {
            Death::AtTheStart => {}
            Death::Survived(peer) => {
                // A single death repeats a single call at most.
                assert!(peer.calls().len() <= 3, "{point} {n}: {:?}", peer.calls());
                survived += 1;
            }
            Death::None => break,
        }
    }
    assert!(survived >= at_least, "{point} was passed {survived} times only");
}

/// The calls of the two steps when it dies at each passage of `point` in turn.
async fn calls_when_dying_at(point: &str) -> Vec<(usize, usize)> {
    let prepared = Prepared::workflow().await;
    let mut counts = Vec::new();
    for n in 0.. {
        match dies_at(&prepared, point, n).await {
            Death::AtTheStart => {}
            Death::Survived(peer) => counts.push((peer.count("first"), peer.count("last"))),
            Death::None => break,
        }
    }
    counts
}

#[tokio::test]
async fn crash_before_commit_loses_nothing_acknowledged() {
    sweep("db.before_commit", 5).await;
}

#[tokio::test]
async fn crash_after_commit_repeats_nothing_committed() {
    sweep("db.after_commit", 5).await;
}

#[tokio::test]
async fn crash_before_each_save_of_an_execution() {
    sweep("engine.before_save", 4).await;
}

#[tokio::test]
async fn crash_before_http_call_makes_it_once() {
    assert_eq!(calls_when_dying_at("step.before_http").await, [(1, 1), (1, 1)]);
}

#[tokio::test]
async fn crash_after_http_call_repeats_it_with_the_same_key() {
    assert_eq!(calls_when_dying_at("step.after_http").await, [(2, 1), (1, 2)]);
}

/// A server, a workflow of one call, and its run, whose call `peer` holds.
async fn holding(peer: &Peer) -> (Server, String, Value) {
    let server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await;
    let workflow = server.workflow(json!({"held": held()})).await;
    let run = server.execute(&workflow, json!({"x": 1})).await;
    peer.called(1).await;
    (server, workflow, run)
}

/// Start the server so often that it dies as many times right after it has claimed a run.
fn die_after_claims(server: Server, times: usize) -> Builder {
    let mut again = server.again().env("FAILPOINTS", "engine.after_claim=return");
    for _ in 0..times {
        again = match again.try_start() {
            Err(builder) => builder,
            Ok(mut server) => {
                server.wait();
                server.again()
            }
        };
    }
    again
}

#[tokio::test]
async fn execution_that_ends_its_process_each_time_is_given_up() {
    let peer = Peer::start();
    let (server, workflow, run) = holding(&peer).await;
    let server = die_after_claims(server, 2).env("FAILPOINTS", "").start().await;
    let failed = server.ended(run.text("id")).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    assert!(failed.text("error_message").contains("claimed 3 times without progress"), "{failed}");
    let path =
        format!("/api/v1/agents/security/audit-logs?execution_id={}&event_type=execution_failed", run.text("id"));
    assert_eq!(server.get(&path).await.ok().as_array().map(Vec::len), Some(1), "it is audited");
    peer.open();
    // One that only waits is no danger: it may be claimed any number of times.
    peer.shut();
    let waits = server.execute(&workflow, json!({"x": 1})).await;
    peer.called(2).await;
    let mut server = server;
    for calls in 3..7 {
        server = server.again().start().await;
        peer.called(calls).await;
    }
    peer.open();
    assert_eq!(server.ended(waits.text("id")).await["status"], "completed");
}

#[tokio::test]
async fn crash_after_claim_leaves_the_execution_claimable() {
    let peer = Peer::start();
    let (server, _, run) = holding(&peer).await;
    let again = die_after_claims(server, 1);
    peer.open();
    let server = again.env("FAILPOINTS", "").start().await;
    let id = run.text("id");
    assert_eq!(server.ended(id).await["status"], "completed");
    let keys: BTreeSet<String> = peer.calls().iter().map(|call| call.key().to_owned()).collect();
    assert_eq!(keys, BTreeSet::from([format!("{id}:held:1")]));
    kinds(&events(&server, id, 1000).await);
}

#[tokio::test]
async fn job_is_waited_for_again_after_a_crash() {
    for while_it_is_down in [true, false] {
        let server = Server::start().await;
        let workflow = server.workflow(json!({"j": llm("hello")})).await;
        let run = server.execute(&workflow, json!({})).await;
        let id = run.text("id");
        let waiting = server.until(id, |run| run["step_states"]["j"]["job_id"].is_string()).await;
        let database = server.database();
        let again = server.again();
        if while_it_is_down {
            finish_jobs(&database).await;
        }
        let server = again.start().await;
        if !while_it_is_down {
            finish_jobs(&database).await;
        }
        let done = server.ended(id).await;
        assert_eq!((&done["status"], &done["total_cost"]), (&json!("completed"), &json!(0.26)));
        let rows = queue(&server).await;
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["id"], waiting["step_states"]["j"]["job_id"]);
    }
}
