//! The coordinator's database: what it wrote is served, what this service writes it can read, and both write at once.

mod clocks;
mod versions;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};

use crate::{
    harness::{ADMIN, ApiClient, OTHER_ADMIN, Server, TestApp},
    kit::{AGENTS, JsonDocument, fixture, get_as, jq, post_as, sql, waiting},
    rl,
};

fn theirs() -> PathBuf {
    fixture("coordinator/coordinator.sqlite")
}

async fn number(database: &Path, query: &str) -> i64 {
    let mut conn = SqliteConnection::connect(database.to_str().unwrap()).await.unwrap();
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&mut conn).await.unwrap()
}

#[tokio::test]
async fn coordinator_rows_are_served_unchanged() {
    let server = TestApp::builder().database(&theirs()).start().await;
    let workflow = async |key: &str, id: &str| get_as(&server, key, &format!("{AGENTS}/workflows/{id}")).await;
    let first = workflow(ADMIN, "agent_fix00000").await.ok();
    assert_eq!(
        first,
        json!({
            "id": "agent_fix00000", "owner_id": "key_8211bbf633a893df9505", "name": "Fixture workflow 0", "description": "",
            "steps": {
                "fetch": {"name": "Fetch prices", "step_type": "data_processing", "max_retries": 2},
                "score": {"name": "Score offers", "step_type": "inference", "model_requirements": {"model": "llama-7b"}, "depends_on": ["fetch"]},
                "check": {"name": "Check score", "step_type": "verification", "requires_proof": true, "verification_level": "full"},
            },
            "dependencies": {"score": ["fetch"], "check": ["score"]},
            "max_execution_time": 3600, "max_cost_budget": 0.0, "requires_verification": true, "verification_level": "basic",
            "tags": "[\"pricing\", \"t0\"]", "version": "1.0.0", "is_public": false,
            "created_at": "2026-05-12T14:29:30.123456Z", "updated_at": "2026-05-12T14:36:30.124457Z",
        })
    );
    for (id, owner, level, public) in [
        ("agent_fix00001", ADMIN, "full", true),
        ("agent_fix00002", OTHER_ADMIN, "zero-knowledge", false),
        ("agent_fix00003", OTHER_ADMIN, "basic", true),
    ] {
        let row = workflow(owner, id).await.ok();
        assert_eq!((&row["verification_level"], &row["is_public"]), (&json!(level), &json!(public)), "{row}");
        let other = if owner == ADMIN { OTHER_ADMIN } else { ADMIN };
        assert_eq!(workflow(other, id).await.status, if public { 200 } else { 404 }, "{id}");
    }
    let list = get_as(&server, ADMIN, &format!("{AGENTS}/workflows?tags=pricing")).await;
    assert_eq!(
        (list.header("x-total-count"), &list.body[0]["id"]),
        ("3", &json!("agent_fix00003")),
        "newest first: {}",
        list.text
    );

    let execution = async |key: &str, id: &str| get_as(&server, key, &format!("{AGENTS}/executions/{id}/status")).await;
    let pending = execution(ADMIN, "exec_fix000000").await.ok();
    for (member, value) in [
        ("status", json!("pending")),
        ("final_result", Value::Null),
        ("started_at", Value::Null),
        ("step_states", json!({})),
        ("total_steps", json!(3)),
        ("progress", json!(0.0)),
    ] {
        assert_eq!(pending[member], value, "{member}");
    }
    let running = execution(ADMIN, "exec_fix000001").await.ok();
    assert_eq!(
        (&running["status"], &running["started_at"]),
        (&json!("running"), &json!("2026-05-12T15:46:30.134467Z"))
    );
    assert_eq!(
        (&running["total_cost"], &running["step_states"]),
        (&json!(0.03), &json!({"fetch": {"status": "completed"}}))
    );
    let completed = execution(OTHER_ADMIN, "exec_fix000002").await.ok();
    assert_eq!((&completed["status"], &completed["total_execution_time"]), (&json!("completed"), &json!(12.000005)));
    assert_eq!(completed["final_result"], json!({"step_results": {"fetch": {"rows": 3}}}));
    let statuses = [(ADMIN, ["cancelled", "running", "pending"].as_slice()), (OTHER_ADMIN, &["failed", "completed"])];
    for (key, expected) in statuses {
        let list = get_as(&server, key, &format!("{AGENTS}/executions")).await;
        let found: Vec<&str> = list.body.as_array().unwrap().iter().map(|row| row.text("status")).collect();
        assert_eq!(found, expected, "newest first");
    }
    execution(ADMIN, "exec_fix000002").await.is(404);
    let logs = get_as(&server, ADMIN, &format!("{AGENTS}/executions/exec_fix000000/logs")).await.ok();
    assert_eq!(logs["step_logs"].as_array().unwrap().len(), 2);
    let log = &logs["step_logs"][1];
    assert_eq!(
        (&log["step_id"], &log["execution_time"], &log["gpu_accelerated"], &log["memory_usage"]),
        (&json!("step_fix00001"), &json!(0.25), &json!(true), &json!(128.5))
    );
    assert_eq!((&log["input"], &log["output"]), (&json!({"n": 1, "unicode": "naïve ✓"}), &Value::Null));
    // The coordinator left no receipt, and none is made up.
    let receipt = get_as(&server, OTHER_ADMIN, &format!("{AGENTS}/executions/exec_fix000002/receipt")).await.ok();
    assert_eq!(
        (&receipt["verified"], &receipt["receipt_id"], &receipt["coordinator_attestations"]),
        (&json!(false), &Value::Null, &json!([]))
    );
    assert!(receipt.text("reason").contains("coordinator"), "{receipt}");
    // What the coordinator runs is the coordinator's to drive; it can be cancelled, not paused or retried.
    for action in ["pause", "resume", "retry"] {
        post_as(&server, ADMIN, &format!("{AGENTS}/executions/exec_fix000001/{action}"), json!({})).await.is(400);
    }
    assert_eq!(
        get_as(&server, ADMIN, &format!("{AGENTS}/executions/exec_fix000001/events?format=json")).await.ok()["events"],
        json!([])
    );
    let cancelled =
        post_as(&server, ADMIN, &format!("{AGENTS}/executions/exec_fix000001/cancel"), json!({})).await.ok();
    assert_eq!(cancelled["status"], "cancelled");
}

/// The Python that `scripts/test-tools.sh` makes, with the coordinator's SQLAlchemy and with onnxruntime.
pub(crate) fn python() -> PathBuf {
    let executable = Path::new(env!("CARGO_BIN_EXE_agent-management"));
    let places = executable.ancestors().map(|folder| folder.join("tools/venv/bin/python"));
    places.into_iter().find(|python| python.exists()).unwrap_or_else(|| {
        panic!("this test needs a Python with some packages: run scripts/test-tools.sh once (`make test` does)")
    })
}

/// The fixture's policies forbid most kinds of steps.
async fn unbound(server: &ApiClient) {
    for policy in ["policy_fix0000", "policy_fix0001", "policy_fix0003"] {
        let path = format!("{AGENTS}/security/policies/{policy}");
        assert_eq!(server.get(&path).await.ok()["is_active"], true);
        server.put(&path, json!({"is_active": false})).await.ok();
    }
}

/// A row of every kind in every state: each step type and action, ends of all kinds, networks, changes. `theirs`: the coordinator's
/// workflows are there.
async fn write_everything(server: &ApiClient, theirs: bool) {
    let create = async |body: Value| {
        post_as(server, ADMIN, &format!("{AGENTS}/workflows"), body).await.ok().text("id").to_owned()
    };
    let run = async |workflow: &str, body: Value| {
        post_as(server, ADMIN, &format!("{AGENTS}/workflows/{workflow}/execute?wait=20"), body).await.ok()
    };
    let act = async |execution: &Value, action: &str| {
        let path = format!("{AGENTS}/executions/{}/{action}", execution.text("id"));
        post_as(server, ADMIN, &path, json!({})).await.ok();
    };
    let everything = json!({
        "jq": {"name": "ü ✓ \"quoted\"", "step_type": "data_processing", "timeout_seconds": 10, "max_retries": 0, "requires_proof": true, "verification_level": "full",
               "retry_policy": {"initial_seconds": 0.5, "backoff": 2.0}, "input_mappings": {"x": "$.inputs.x", "l": [1, null, "☃"]},
               "output_mappings": {"y": "$.output.x"}, "action": {"kind": "jq", "program": "{x: .x, big: 1e300, small: 1e-7}"}},
        "check": {"step_type": "verification", "depends_on": ["jq"], "action": {"kind": "check", "schema": {"type": "object"}, "assert": "has(\"y\")"}},
        "policy": {"step_type": "inference", "model_requirements": {"model": "x", "memory": 1.5}, "input_mappings": {"state": [1, 2, 3, 4, 5, 6, 7, 8, 9]}, "action": {"kind": "policy", "policy": "marketplace-ppo"}},
        "verify": {"step_type": "verification", "depends_on": ["policy", "check"], "verification_level": "basic"},
        "custom": {"step_type": "custom", "depends_on": ["verify"]},
    });
    let levels = ["basic", "full", "zero-knowledge"];
    for (at, level) in levels.into_iter().enumerate() {
        let body = json!({"name": format!("all {level} 😀"), "description": "d\n", "steps": everything, "dependencies": {"custom": ["jq"]}, "verification_level": level, "tags": ["a", "ü"], "is_public": at == 1, "max_cost_budget": 0.5});
        let id = create(body).await;
        let ended = run(&id, json!({"inputs": {"x": "naïve ✓"}, "verification_level": level})).await;
        assert!(matches!(ended["status"].as_str(), Some("completed" | "failed")), "{ended}");
        server
            .put(
                &format!("{AGENTS}/workflows/{id}"),
                json!({"verification_level": levels[(at + 1) % 3], "steps": everything}),
            )
            .await
            .ok();
    }
    let fails = create(json!({"name": "fails", "steps": {"a": jq("1"), "b": {"step_type": "data_processing", "depends_on": ["a"], "max_retries": 0, "action": {"kind": "jq", "program": "error(\"bad \u{1f4a5}\")"}}, "c": {"step_type": "custom", "depends_on": ["b"]}}})).await;
    let failed = run(&fails, json!({})).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    act(&failed, "retry").await;
    server.ended(failed.text("id")).await;
    // Jobs of each service: left open, cancelled, paused, expired, finished by a miner.
    let services = json!({"w": {"step_type": "inference", "action": {"kind": "job", "service": "whisper", "request": {"audio_url": "https://example.com/x.wav", "model": "large"}}},
        "s": {"step_type": "inference", "action": {"kind": "job", "service": "stable_diffusion", "request": {"prompt": "☃"}}},
        "f": {"step_type": "inference", "action": {"kind": "job", "service": "ffmpeg", "request": {"input_url": "https://example.com/a.mp4"}}},
        "b": {"step_type": "training", "action": {"kind": "job", "service": "blender", "request": {"blend_file_url": "https://example.com/a.blend", "frame_end": 90}, "ttl_seconds": 60}}});
    let jobs = create(json!({"name": "jobs", "steps": services})).await;
    for action in ["", "cancel", "pause"] {
        let begun = server.execute(&jobs, json!({})).await;
        let steps = ["w", "s", "f", "b"];
        server
            .until(begun.text("id"), |run| steps.iter().all(|key| run["step_states"][key]["job_id"].is_string()))
            .await;
        if !action.is_empty() {
            act(&begun, action).await;
        }
    }
    let one = create(json!({"name": "one job", "steps": {"a": waiting()}})).await;
    let by_miner = server.execute(&one, json!({})).await;
    let id = by_miner.text("id");
    let state = server.until(id, |run| run["step_states"]["a"]["job_id"].is_string()).await;
    let job = state["step_states"]["a"].text("job_id");
    sql(&server.database(), &format!("UPDATE job SET state = 'COMPLETED', assigned_miner_id = 'miner-1', result = '{{\"text\": \"hello\"}}' WHERE id = '{job}'")).await;
    assert_eq!(server.ended(id).await["final_result"]["step_results"]["a"], json!({"text": "hello"}));
    if theirs {
        let run = run("agent_fix00001", json!({"inputs": {"x": 1}, "max_execution_time": 1})).await;
        assert_eq!(run["status"], "failed", "no miner comes within its second: {run}");
    }
    let network = post_as(
        server,
        ADMIN,
        &format!("{AGENTS}/networks"),
        json!({"name": "n", "agents": [one, fails], "coordination": "hybrid"}),
    )
    .await
    .ok();
    let path = format!("{AGENTS}/networks/{}", network.text("id"));
    post_as(server, ADMIN, &format!("{path}/execute"), json!({"task": {"x": "ü"}})).await.ok();
    post_as(server, ADMIN, &format!("{path}/optimize"), json!({"objective": "cost"})).await.ok();
    server.delete(&format!("{AGENTS}/workflows/agent_fix00000")).await;
    policies(server).await;
    sandboxes(server, &run).await;
}

/// A sandbox that a command has made, and one that was made beforehand.
async fn sandboxes(server: &ApiClient, run: &impl AsyncFn(&str, Value) -> Value) {
    let action = json!({"kind": "command", "argv": ["python3", "-c", "open('/etc/shadow')"], "security_level": "restricted",
        "requirements": {"allowed_domains": ["*.example.org"]}});
    let steps = json!({"a": {"step_type": "custom", "max_retries": 0, "action": action}});
    let tried = run(&server.workflow(steps).await, json!({})).await;
    assert_eq!(tried["status"], "failed", "{tried}");
    let other = run(&server.workflow(json!({"a": jq("1")})).await, json!({})).await;
    for action in ["create?security_level=confidential", "cleanup"] {
        let path = format!("{AGENTS}/security/sandbox/{}/{action}", other.text("id"));
        post_as(server, ADMIN, &path, json!({"cpu_cores": 1.5})).await.ok();
    }
}

/// Policies uploaded, trained, taught and promoted, one of them under a name that the coordinator has used.
async fn policies(server: &ApiClient) {
    for (policy, file) in [("rl_cfx00000", "ppo"), ("é", "ppo"), ("uploaded", "sac"), ("uploaded", "rainbow_dqn")] {
        let weights = std::fs::read(fixture(&format!("vectors/{file}.safetensors"))).unwrap();
        let made = rl::upload(server, ADMIN, &format!("{policy}/versions?aliases=production"), weights).await;
        assert_eq!(made.status == 201, policy != "é", "{}", made.text);
    }
    let run = post_as(server, ADMIN, &format!("{}/runs", rl::RL), rl::small(320)).await.is(201);
    rl::trained(server, run.text("id")).await;
    let learning = format!("{AGENTS}/agent ☃/learning");
    post_as(server, ADMIN, &format!("{learning}/enable"), json!({})).await.ok();
    let feedback = json!([{"state": [0, 0, 0, 0, 0, 0, 0, 0, 0], "action": 1, "reward": 0.5}]);
    let run = post_as(server, ADMIN, &format!("{learning}/train"), json!({"feedback": feedback})).await.ok();
    assert_eq!(rl::trained(server, run.text("id")).await["status"], "completed");
}

/// What the coordinator is while it works: a process that commits again and again, with its own library.
const WRITER: &str = r#"
import sqlite3, sys, threading
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute("PRAGMA wal_autocheckpoint = 0")
print("begun", flush=True)
stop = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
count = 0
while not stop.is_set():
    db.execute("BEGIN IMMEDIATE")
    db.execute("INSERT INTO job (id, client_id, state, payload, constraints, ttl_seconds, requested_at, expires_at, result, receipt)"
               " VALUES (?, 'python', 'QUEUED', '{}', '{}', 900, '2026-05-12 14:29:30.123456', '2036-05-12 14:29:30.123456', 'null', 'null')",
               (f"python{count:026}",))
    db.execute("UPDATE ai_agent_workflows SET description = ? WHERE id = 'agent_fix00003'", (str(count),))
    db.execute("COMMIT")
    count += 1
print(count, flush=True)
"#;

fn writer(database: &Path) -> Child {
    let mut child = Command::new("python3")
        .args(["-c", WRITER])
        .arg(database)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut begun = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut begun).unwrap();
    child
}

#[tokio::test]
async fn concurrent_coordinator_writes_lose_nothing() {
    let server = Server::builder().database(&theirs()).start().await;
    unbound(&server).await;
    let database = server.database();
    let python = writer(&database);
    let steps = json!({"a": jq("1"), "b": {"step_type": "custom", "depends_on": ["a"]}});
    let quick = server.workflow(steps.clone()).await;
    let before = number(&database, "SELECT count(*) FROM ai_agent_workflows").await;
    let clients = (0..8).map(async |client| {
        let mut ids = Vec::new();
        for turn in 0..12 {
            let body = json!({"name": format!("{client}-{turn}"), "steps": steps});
            let made = server.post(&format!("{AGENTS}/workflows"), body).await;
            assert_eq!(made.status, 200, "{}", made.text);
            ids.push(made.body.text("id").to_owned());
            let run = server.post(&format!("{AGENTS}/workflows/{quick}/execute?wait=20"), json!({})).await;
            assert_eq!((run.status.as_u16(), &run.body["status"]), (200, &json!("completed")), "{}", run.text);
        }
        ids
    });
    let made: Vec<String> = join_all(clients).await.concat();
    // It ends when its standard input does.
    let said = python.wait_with_output().unwrap();
    assert!(said.status.success());
    let committed: i64 = String::from_utf8(said.stdout).unwrap().trim().parse().unwrap();
    assert!(committed > 0, "the other process never got its turn");
    let mut server = server;
    assert!(server.terminate().success());
    assert_eq!(made.len(), 96);
    assert_eq!(number(&database, "SELECT count(*) FROM ai_agent_workflows").await, before + 96);
    assert_eq!(number(&database, "SELECT count(*) FROM job WHERE client_id = 'python'").await, committed);
    let last = format!("SELECT description = '{}' FROM ai_agent_workflows WHERE id = 'agent_fix00003'", committed - 1);
    assert_eq!(number(&database, &last).await, 1);
    assert_eq!(
        number(
            &database,
            "SELECT count(*) FROM agent_executions WHERE status = 'COMPLETED' AND created_at > '2026-06'"
        )
        .await,
        96
    );
    assert_eq!(number(&database, "SELECT integrity_check = 'ok' FROM pragma_integrity_check LIMIT 1").await, 1);
}

/// A copy of the coordinator's database, changed.
async fn changed(statement: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("changed.db");
    std::fs::copy(theirs(), &copy).unwrap();
    sql(&copy, statement).await;
    (dir, copy)
}

#[tokio::test]
async fn missing_coordinator_column_refuses_the_start() {
    let (_dir, copy) =
        changed("ALTER TABLE agent_executions DROP COLUMN failed_step; ALTER TABLE job DROP COLUMN payment_status; DROP INDEX ix_miner_region; ALTER TABLE miner DROP COLUMN region").await;
    let (status, log) = Server::builder().database(&copy).start_and_fail();
    assert_eq!(status.code(), Some(1));
    for fault in ["table agent_executions lacks column failed_step", "table job lacks column payment_status"] {
        assert!(log.contains(fault), "{fault} is not in {log}");
    }
    assert!(!log.contains("table miner"), "nothing is read of it: {log}");
}

#[tokio::test]
async fn added_coordinator_tables_and_columns_are_accepted() {
    let (_dir, copy) = changed(
        "DROP TABLE agent_audit_logs; ALTER TABLE job ADD COLUMN mood VARCHAR; CREATE TABLE other (id INTEGER)",
    )
    .await;
    let server = TestApp::builder().database(&copy).start().await;
    server.get("/health/ready").await.is(200);
    let id = server.workflow(json!({"a": waiting()})).await;
    let run = server.execute(&id, json!({})).await;
    server.until(run.text("id"), |run| run["step_states"]["a"]["job_id"].is_string()).await;
    // A table that stands is never altered.
    assert_eq!(
        number(&server.database(), "SELECT count(*) FROM pragma_table_info('job') WHERE name = 'mood'").await,
        1
    );
}

#[tokio::test]
async fn unreadable_coordinator_rows_fail_alone() {
    let (_dir, copy) = changed(
        "UPDATE ai_agent_workflows SET steps = '{\"a\": {\"step_type\": \"custom\", \"depends_on\": [\"ghost\"]}}', dependencies = '{}', tags = 'no json' WHERE id = 'agent_fix00000';
         UPDATE ai_agent_workflows SET dependencies = 'null', created_at = '2026-05-12 14:36:30' WHERE id = 'agent_fix00001';
         UPDATE agent_executions SET final_result = NULL, step_states = 'null' WHERE id = 'exec_fix000001'",
    )
    .await;
    let server = TestApp::builder().database(&copy).start().await;
    let list = server.get(&format!("{AGENTS}/workflows?limit=50")).await;
    assert_eq!((list.status.as_u16(), list.header("x-total-count")), (200, "3"), "{}", list.text);
    assert_eq!(server.get(&format!("{AGENTS}/workflows?tags=pricing")).await.header("x-total-count"), "2");
    let refused = server.post(&format!("{AGENTS}/workflows/agent_fix00000/execute"), json!({})).await.is(422);
    assert_eq!(refused["detail"][0]["loc"], json!(["body", "steps", "a", "depends_on", 0]));
    let row = server.get(&format!("{AGENTS}/workflows/agent_fix00001")).await.ok();
    assert_eq!(row["created_at"], "2026-05-12T14:36:30.000000Z");
    assert!(row["dependencies"].is_object(), "{row}");
    let run = server.get(&format!("{AGENTS}/executions/exec_fix000001")).await.ok();
    assert!(run["step_states"].is_object() && run["final_result"].is_null(), "{run}");
    server.get(&format!("{AGENTS}/executions/exec_fix000001/logs")).await.is(200);
    server.post(&format!("{AGENTS}/executions/exec_fix000001/cancel"), json!({})).await.is(200);
}

#[tokio::test]
async fn tags_are_found_in_escaped_json() {
    // Python writes what is not ASCII as escapes.
    let (_dir, copy) = changed(r#"UPDATE ai_agent_workflows SET tags = '["gr\u00f6\u00dfe", "\ud83d\ude00", "a"]' WHERE id = 'agent_fix00000'"#).await;
    let server = TestApp::builder().database(&copy).start().await;
    for tag in ["gr%C3%B6%C3%9Fe", "%F0%9F%98%80", "a"] {
        let list = server.get(&format!("{AGENTS}/workflows?tags={tag}")).await;
        assert_eq!(
            (list.header("x-total-count"), &list.body[0]["id"]),
            ("1", &json!("agent_fix00000")),
            "{tag}: {}",
            list.text
        );
    }
}
