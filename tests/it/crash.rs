//! A real process dies at each point of docs/FAILURES.md and is started again on the same database.

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

use crate::{
    engine::{events, kinds},
    harness::{Answer, Builder, PATIENCE, Server},
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
async fn keyed(server: &Server, path: &str, key: &str) -> Option<Answer> {
    let request = server.request(Method::POST, path).header("idempotency-key", key).json(&json!({"inputs": {"x": 1}}));
    let response = request.send().await.ok()?;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.ok()?;
    Some(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text })
}

/// The document of an execution at its end; none when the server dies before.
async fn end_of(server: &Server, id: &str) -> Option<Value> {
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
async fn check_run(server: &Server, peer: &Peer, id: &str, acknowledged: Option<&str>) {
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
    assert_eq!(server.get(&format!("/api/v1/agents/executions/{id}/receipt")).await.ok()["verified"], true);
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
        Self::of(server, format!("/api/v1/agents/executions/{}/cancel", run["id"].as_str().unwrap())).await
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
    let id = answer.ok()["id"].as_str().unwrap().to_owned();
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
async fn death_before_any_commit_loses_nothing_that_was_acknowledged() {
    sweep("db.before_commit", 5).await;
}

#[tokio::test]
async fn death_after_any_commit_repeats_nothing_that_was_committed() {
    sweep("db.after_commit", 5).await;
}

#[tokio::test]
async fn death_before_any_save_of_a_run() {
    sweep("engine.before_save", 4).await;
}

#[tokio::test]
async fn death_before_a_call_makes_it_once() {
    assert_eq!(calls_when_dying_at("step.before_http").await, [(1, 1), (1, 1)]);
}

#[tokio::test]
async fn death_after_a_call_repeats_it_under_the_same_key() {
    assert_eq!(calls_when_dying_at("step.after_http").await, [(2, 1), (1, 2)]);
}

#[tokio::test]
async fn death_after_a_claim_leaves_the_run_to_the_next_claim() {
    let peer = Peer::start();
    let server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await;
    let workflow = server.workflow(json!({"held": held()})).await;
    let run = server.execute(&workflow, json!({"x": 1})).await;
    peer.called(1).await;
    let mut again = server.again().env("FAILPOINTS", "engine.after_claim=return");
    for _ in 0..3 {
        again = match again.try_start() {
            Err(builder) => builder,
            Ok(mut server) => {
                server.wait();
                server.again()
            }
        };
    }
    peer.open();
    let server = again.env("FAILPOINTS", "").start().await;
    let id = run["id"].as_str().unwrap();
    assert_eq!(server.ended(id).await["status"], "completed");
    let keys: BTreeSet<String> = peer.calls().iter().map(|call| call.key().to_owned()).collect();
    assert_eq!(keys, BTreeSet::from([format!("{id}:held:1")]));
    kinds(&events(&server, id, 1000).await);
}

#[tokio::test]
async fn a_job_outlives_the_process_that_ordered_it() {
    for while_it_is_down in [true, false] {
        let server = Server::start().await;
        let workflow = server.workflow(json!({"j": llm("hello")})).await;
        let run = server.execute(&workflow, json!({})).await;
        let id = run["id"].as_str().unwrap();
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

/// Cancel a run, die, start again, ask again. Answers whether the first cancel was acknowledged, and whether the second
/// was told that it had been done; none when it died before it was asked.
async fn cancels(prepared: &Prepared, point: &str, n: usize) -> Option<(bool, bool)> {
    let peer = Peer::start();
    let server = prepared.to_die_at(point, n, &peer).ok()?;
    let acknowledged = keyed(&server, &prepared.path, KEY).await.map(Answer::ok).is_some();
    // An acknowledged one is followed by death as well.
    let server = server.again().env("FAILPOINTS", "").start().await;
    let answer = keyed(&server, &prepared.path, KEY).await.unwrap();
    let replayed = answer.header("idempotency-replayed") == "true";
    assert!(replayed || !acknowledged, "an acknowledged cancel was lost: {answer:?}");
    let cancelled = answer.ok();
    assert_eq!(cancelled["status"], "cancelled");
    let id = cancelled["execution_id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/api/v1/agents/executions/{id}")).await.ok()["status"], "cancelled");
    assert_eq!(queue(&server).await[0]["state"], "CANCELED");
    let events = events(&server, id, 1000).await;
    assert_eq!(kinds(&events).iter().filter(|kind| **kind == "execution_cancelled").count(), 1);
    Some((acknowledged, replayed))
}

#[tokio::test]
async fn a_cancel_is_not_lost() {
    let prepared = Prepared::under_way().await;
    for point in ["db.before_commit", "db.after_commit"] {
        let mut done_unheard = 0;
        for n in 0.. {
            let Some((acknowledged, replayed)) = cancels(&prepared, point, n).await else { continue };
            done_unheard += usize::from(replayed && !acknowledged);
            if acknowledged {
                break;
            }
        }
        assert!(point == "db.before_commit" || done_unheard >= 1, "a client never had to ask for what was done");
    }
}

/// A client that keeps its own list: it asks again until it is answered, then it notes what it was told.
async fn client(
    number: usize,
    mut at: watch::Receiver<String>,
    mut stop: watch::Receiver<bool>,
) -> Vec<(String, String)> {
    let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).build().unwrap();
    let ask = async |at: &mut watch::Receiver<String>, path: &str, key: &str, body: Value| loop {
        let url = format!("{}{path}", at.borrow().clone());
        let request = http.post(url).header("x-api-key", crate::harness::ADMIN).header("idempotency-key", key);
        match request.json(&body).send().await {
            Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {}
            Ok(response) => {
                let status = response.status();
                if let Ok(body) = response.json::<Value>().await {
                    assert!(status.is_success(), "{status} {body}");
                    return body["id"].as_str().unwrap().to_owned();
                }
            }
            Err(_) => drop(timeout(Duration::from_millis(20), at.changed()).await),
        }
    };
    let mut known = Vec::new();
    for n in 0.. {
        if *stop.borrow_and_update() {
            break;
        }
        let steps = json!({"a": {"step_type": "data_processing", "action": {"kind": "jq", "program": ".x"}}, "b": call("b", &["a"])});
        let workflow = json!({"name": "w", "steps": steps});
        let workflow = ask(&mut at, "/api/v1/agents/workflows", &format!("w-{number}-{n}"), workflow).await;
        let path = format!("/api/v1/agents/workflows/{workflow}/execute");
        let run = ask(&mut at, &path, &format!("e-{number}-{n}"), json!({"inputs": {"x": n}})).await;
        known.push((workflow, run));
    }
    known
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn death_at_random_moments_loses_nothing_and_doubles_nothing() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let peer = Peer::start();
    let server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).start().await;
    let (at, now_at) = watch::channel(server.url(""));
    let (stop, stopped) = watch::channel(false);
    let clients: Vec<_> = (0..4).map(|n| tokio::spawn(client(n, now_at.clone(), stopped.clone()))).collect();
    let mut server = Some(server);
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(random.random_range(50..800))).await;
        let again = server.take().unwrap().again();
        let next = again.start().await;
        at.send_replace(next.url(""));
        server = Some(next);
    }
    stop.send_replace(true);
    let server = server.unwrap();
    let mut known = Vec::new();
    for client in clients {
        known.extend(client.await.unwrap());
    }
    assert!(known.len() >= 40, "{} runs are too few to prove anything", known.len());
    for (workflow, run) in &known {
        server.get(&format!("/api/v1/agents/workflows/{workflow}")).await.ok();
        let document = server.ended(run).await;
        assert_eq!(document["status"], "completed", "{document}");
        let events = events(&server, run, 1000).await;
        assert_eq!(kinds(&events).iter().filter(|kind| **kind == "execution_completed").count(), 1);
        assert_eq!(server.get(&format!("/api/v1/agents/executions/{run}/receipt")).await.ok()["verified"], true);
    }
    // Nothing else came of what was asked more than once.
    let count = |headers: &Answer| headers.header("x-total-count").parse::<usize>().unwrap();
    assert_eq!(count(&server.get("/api/v1/agents/executions?limit=1").await), known.len());
    let keys: BTreeSet<String> = peer.calls().iter().map(|call| call.key().to_owned()).collect();
    let expected: BTreeSet<String> = known.iter().map(|(_, run)| format!("{run}:b:1")).collect();
    assert_eq!(keys, expected, "seed {seed}");
}

#[tokio::test]
async fn a_process_that_hangs_is_taken_over_and_can_write_no_more() {
    let peer = Peer::start();
    let first = Server::builder()
        .env("HTTP_ENDPOINTS", peer.endpoints())
        .env("ENGINE_LEASE_SECONDS", 1)
        .env("RECEIPT_SIGNING_KEY_HEX", "7f".repeat(16) + &"a1".repeat(16))
        .start()
        .await;
    let beside = |first: &Server| {
        Server::builder()
            .env("HTTP_ENDPOINTS", peer.endpoints())
            .env("ENGINE_LEASE_SECONDS", 1)
            .env("RECEIPT_SIGNING_KEY_HEX", "7f".repeat(16) + &"a1".repeat(16))
            .env("DATABASE_URL", format!("sqlite:///{}", first.database().display()))
    };
    let second = beside(&first).start().await;
    let workflow = first.workflow(json!({"held": held(), "then": call("then", &["held"])})).await;
    let run = first.execute(&workflow, json!({"x": 1})).await;
    let id = run["id"].as_str().unwrap();
    peer.called(1).await;
    first.signal("STOP");
    // The second makes the same call when the lease has run out.
    peer.called(2).await;
    peer.open();
    let done = second.ended(id).await;
    assert_eq!(done["status"], "completed");
    let told = events(&second, id, 1000).await;
    first.signal("CONT");
    // The first gets its answer now, and finds that the run is another's.
    let noticed = timeout(PATIENCE, async {
        while !first.log().contains("went to another hand") {
            tokio::task::yield_now().await;
        }
    });
    assert!(noticed.await.is_ok());
    assert_eq!(first.ended(id).await, done, "it did not write");
    assert_eq!(events(&first, id, 1000).await, told);
    let keys: Vec<String> = peer.calls().iter().map(|call| call.key().to_owned()).collect();
    assert_eq!(keys, [format!("{id}:held:1"), format!("{id}:held:1"), format!("{id}:then:1")]);

    // Awake, it is a worker like any other: its runs are left to it although it was taken for dead.
    peer.shut();
    let next = first.execute(&workflow, json!({"x": 1})).await;
    let next = next["id"].as_str().unwrap();
    peer.called(4).await;
    let heartbeat = async |server: &Server| -> String {
        sqlx::query_scalar("SELECT group_concat(heartbeat_at) FROM am_workers WHERE id IN (SELECT worker FROM am_runs WHERE execution_id = ?1)")
            .bind(next)
            .fetch_one(&mut open(&server.database()).await)
            .await
            .unwrap()
    };
    for _ in 0..6 {
        let before = heartbeat(&first).await;
        let beaten = timeout(PATIENCE, async { while heartbeat(&first).await == before {} });
        assert!(beaten.await.is_ok(), "its worker gives signs of life");
    }
    // And what one process is asked reaches a step that another runs.
    assert_eq!(peer.calls().len(), 4, "nobody took it over");
    second.post(&format!("/api/v1/agents/executions/{next}/cancel"), json!({})).await.ok();
    let gone = timeout(PATIENCE, async {
        while peer.under_way() > 0 {
            tokio::task::yield_now().await;
        }
    });
    assert!(gone.await.is_ok(), "the call is given up");
}

#[tokio::test]
async fn a_lock_held_too_long_is_told_and_loses_nothing() {
    let peer = Peer::start();
    let server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("DB_BUSY_TIMEOUT_MS", 300).start().await;
    let workflow = server.workflow(json!({"held": held(), "then": call("then", &["held"])})).await;
    let run = server.execute(&workflow, json!({"x": 1})).await;
    peer.called(1).await;
    // The coordinator, say, in a transaction that does not end.
    let mut other = open(&server.database()).await;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    peer.open();
    for _ in 0..2 {
        let refused = server.post("/api/v1/agents/workflows", json!({"name": "n", "steps": {}})).await;
        assert!(!refused.header("retry-after").is_empty());
        assert_eq!(refused.is(503)["code"], "database_busy");
    }
    let id = run["id"].as_str().unwrap();
    let reading = server.get(&format!("/api/v1/agents/executions/{id}")).await.ok();
    assert_eq!(reading["step_states"]["held"]["status"], "running", "its end can't be saved yet; reading goes on");
    sqlx::query("COMMIT").execute(&mut other).await.unwrap();
    other.close().await.unwrap();
    assert_eq!(server.ended(id).await["status"], "completed");
    assert_eq!((peer.count("held"), peer.count("then")), (1, 1));
    let all = server.get("/api/v1/agents/workflows").await.ok();
    assert_eq!(all.as_array().unwrap().len(), 1, "what was refused is not there");
}

#[tokio::test]
async fn a_failing_fsync_ends_the_process_without_a_promise() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("left out: strace is not there");
        return;
    }
    let mut server = Server::start().await;
    let before = server.workflow(json!({"a": {"step_type": "custom"}})).await;
    let mut strace = Command::new("strace")
        .args(["-f", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO", "-p"])
        .arg(server.pid().to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(strace.stderr.take().unwrap()).lines().map_while(Result::ok);
    if !lines.any(|line| line.contains("attached")) {
        let _ = strace.wait();
        println!("left out: strace may not attach here");
        return;
    }
    std::thread::spawn(move || lines.for_each(drop));
    let answer = keyed(&server, &format!("/api/v1/agents/workflows/{before}/execute"), KEY).await;
    assert!(answer.is_none_or(|answer| answer.status.is_server_error()), "nothing may be acknowledged");
    let status = server.wait();
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    let _ = strace.wait();
    let server = server.restart().await;
    server.get(&format!("/api/v1/agents/workflows/{before}")).await.ok();
    let run = keyed(&server, &format!("/api/v1/agents/workflows/{before}/execute"), KEY).await.unwrap().ok();
    assert_eq!(server.ended(run["id"].as_str().unwrap()).await["status"], "completed");
    let runs = server.get("/api/v1/agents/executions").await;
    assert_eq!(runs.header("x-total-count"), "1", "whether it was written or not, it is there once");
}

/// A small file system of its own, gone with the test.
struct Small(Arc<tempfile::TempDir>);

impl Small {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=4m", "none"]).arg(dir.path()).stderr(Stdio::null());
        mount.status().is_ok_and(|status| status.success()).then(|| Self(Arc::new(dir)))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_what_was_acknowledged_stays() {
    let Some(small) = Small::mount() else {
        println!("left out: a tmpfs can't be mounted here");
        return;
    };
    let peer = Peer::start();
    let url = format!("sqlite:///{}", small.0.path().join("coordinator.db").display());
    let server = Server::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("DATABASE_URL", url).start().await;
    let workflow = server.workflow(json!({"held": held(), "then": call("then", &["held"])})).await;
    let run = server.execute(&workflow, json!({"x": 1})).await;
    peer.called(1).await;
    let filler = small.0.path().join("filler");
    let _ = std::fs::write(&filler, vec![0; 4 << 20]);
    let mut known = Vec::new();
    let refused = loop {
        let body = json!({"name": "n", "description": "x".repeat(2000), "steps": {"a": {"step_type": "custom"}}});
        let answer = server.post("/api/v1/agents/workflows", body).await;
        if answer.status.is_success() {
            known.push(answer.ok()["id"].as_str().unwrap().to_owned());
        } else {
            break answer;
        }
    };
    assert!(!refused.header("retry-after").is_empty(), "{refused:?}");
    assert_eq!(refused.is(503)["code"], "storage_full");
    peer.open();
    std::fs::remove_file(filler).unwrap();
    assert_eq!(server.ended(run["id"].as_str().unwrap()).await["status"], "completed");
    let server = server.restart().await;
    for id in &known {
        server.get(&format!("/api/v1/agents/workflows/{id}")).await.ok();
    }
    assert_eq!((peer.count("held"), peer.count("then")), (1, 1));
    drop(server);
}
