//! What is old, or was deleted, leaves the database: whole, archived, and nothing that is open or referred to.

use std::{collections::BTreeSet, path::Path, process::Output, time::Duration};

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::time::timeout;

use crate::{
    harness::{PATIENCE, TestApp, poll_interval},
    jobs::open,
    kit::{AGENTS, JsonDocument as _, jq, sql, waiting},
    operation::run,
};

const DAY: Duration = Duration::from_secs(86_400);

/// The number that a statement answers.
pub async fn number(database: &Path, query: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&mut open(database).await).await.unwrap()
}

/// Until a statement answers this number.
pub async fn until(database: &Path, query: &str, wanted: i64) {
    let there = async {
        while number(database, query).await != wanted {
            poll_interval().await;
        }
    };
    if timeout(PATIENCE, there).await.is_err() {
        panic!("{query}: {} and never {wanted}", number(database, query).await);
    }
}

/// The command for archives.
pub fn archive(dir: &Path, arguments: &[&str]) -> Output {
    let env = [("DATA_DIR", "."), ("APP_ENV", "dev"), ("LOG_LEVEL", "warn")];
    run(dir, &[&["archive"], arguments].concat(), &env)
}

/// What a command that went well printed, as JSON.
#[track_caller]
pub fn printed(output: Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn texts(list: &Value, member: &str) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|row| row.text(member).to_owned()).collect()
}

/// Rows of executions in every table that they have rows in.
async fn rows_of(database: &Path, execution: &str) -> i64 {
    let mut all = 0;
    for (table, column) in [
        ("agent_executions", "id"),
        ("agent_step_executions", "execution_id"),
        ("am_runs", "execution_id"),
        ("am_events", "stream"),
        ("am_execution_list", "id"),
    ] {
        all += number(database, &format!("SELECT count(*) FROM {table} WHERE {column} = '{execution}'")).await;
    }
    all
}

#[tokio::test]
async fn old_executions_leave_whole_and_come_back_from_their_archive() {
    let builder = TestApp::builder().env("RETENTION_EXECUTIONS", "10d").env("RETENTION_INTERVAL_SECONDS", 1);
    let server = builder.env("RETENTION_DEFINITIONS", "20d").start().await;
    let database = server.database();
    let workflow = server.workflow(json!({"a": jq(".x"), "b": jq("{y: .x}")})).await;
    let mut old = BTreeSet::new();
    for x in 0..3 {
        let run = server.execute(&workflow, json!({"x": x, "word": "café \u{1f980}"})).await;
        old.insert(server.ended(run.text("id")).await.text("id").to_owned());
    }
    let open_workflow = server.workflow(json!({"w": waiting()})).await;
    let running = server.execute(&open_workflow, json!({})).await.text("id").to_owned();
    let paused = server.post(&format!("{AGENTS}/executions/{running}/pause"), json!({})).await;
    paused.ok();
    let first = old.first().unwrap().clone();
    let before = server.get(&format!("{AGENTS}/executions/{first}")).await.ok();
    let logs = server.get(&format!("{AGENTS}/executions/{first}/logs")).await.ok();

    server.clock().advance(DAY * 5);
    let young = server.execute(&workflow, json!({"x": 9})).await.text("id").to_owned();
    server.ended(&young).await;
    server.clock().advance(DAY * 6);
    until(&database, "SELECT count(*) FROM am_archives WHERE done_at IS NOT NULL", 1).await;
    for id in &old {
        server.get(&format!("{AGENTS}/executions/{id}")).await.is(404);
        assert_eq!(rows_of(&database, id).await, 0, "{id} is gone whole");
    }
    let page = server.get(&format!("{AGENTS}/executions")).await;
    assert_eq!(page.header("x-total-count"), "2");
    assert_eq!(texts(&page.body, "id"), BTreeSet::from([running.clone(), young.clone()]));
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("retention_removed_total{kind=\"executions\"} 3"), "{metrics}");
    // Both definitions are referred to still.
    assert_eq!(number(&database, "SELECT count(*) FROM am_definitions").await, 2);

    // The audit log has the hash of the file, which is nobody else's to read.
    let found = printed(archive(server.dir(), &["list"]));
    assert_eq!((&found[0]["things"], &found[0]["removed"], &found[0]["kept"]), (&json!(3), &json!(3), &json!(0)));
    let told = server.get(&format!("{AGENTS}/security/audit-logs?limit=500")).await.ok();
    let told = told.as_array().unwrap().iter().map(|entry| &entry["event_data"]);
    let told: Vec<&Value> = told.filter(|data| data["resource"] == "archive").collect();
    assert_eq!((told.len(), &told[0]["archive_sha256"]), (1, &found[0]["sha256"]), "{told:?}");
    assert_eq!(told[0]["rows"]["agent_step_executions"], 6);
    let file = server.dir().join("archive").join(found[0].text("name"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    printed(archive(server.dir(), &["verify"]));

    // One comes back as it was, and nothing is written over.
    // With the setting it would leave again.
    let restored = server.restart_with(&[("RETENTION_EXECUTIONS", "0")]).await;
    let report = printed(archive(restored.dir(), &["restore", "--kind", "executions", "--id", &first]));
    assert_eq!((&report["restored"], &report["present"]), (&json!(1), &json!(0)));
    assert_eq!(restored.get(&format!("{AGENTS}/executions/{first}")).await.ok(), before);
    assert_eq!(restored.get(&format!("{AGENTS}/executions/{first}/logs")).await.ok(), logs);
    assert_eq!(restored.get(&format!("{AGENTS}/executions")).await.header("x-total-count"), "3");
    let again = printed(archive(restored.dir(), &["restore"]));
    assert_eq!((&again["restored"], &again["present"]), (&json!(2), &json!(1)));

    // A file that somebody has changed is told of, and nothing comes from it.
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    std::fs::write(file.with_file_name("foreign.jsonl.zst"), "x").unwrap();
    let refused = archive(restored.dir(), &["verify"]);
    assert_eq!(refused.status.code(), Some(1));
    let said: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert!(said[0]["state"]["altered"].text_or_empty().contains("another hash"), "{said}");
    assert_eq!(said[1], json!({"name": "foreign.jsonl.zst", "state": "unknown"}));
    assert!(!archive(restored.dir(), &["restore"]).status.success());
}

/// The text of a value, empty where it is none.
trait TextOrEmpty {
    fn text_or_empty(&self) -> &str;
}

impl TextOrEmpty for Value {
    fn text_or_empty(&self) -> &str {
        self.as_str().unwrap_or_default()
    }
}

#[tokio::test]
async fn definitions_go_when_no_run_refers_to_them_and_a_process_that_knew_them_stores_them_again() {
    let builder = TestApp::builder().env("RETENTION_EXECUTIONS", "1d").env("RETENTION_DEFINITIONS", "1d");
    let server = builder.env("RETENTION_INTERVAL_SECONDS", 1).start().await;
    let workflow = server.workflow(json!({"a": jq(".x")})).await;
    let run = server.execute(&workflow, json!({"x": 1})).await;
    server.ended(run.text("id")).await;
    server.clock().advance(DAY * 2);
    until(&server.database(), "SELECT count(*) FROM am_definitions", 0).await;
    let run = server.execute(&workflow, json!({"x": 2})).await;
    assert_eq!(server.ended(run.text("id")).await["status"], "completed");
    assert_eq!(number(&server.database(), "SELECT count(*) FROM am_definitions").await, 1);
}

#[tokio::test]
async fn rows_of_every_kind_go_by_age_and_what_is_open_or_named_stays() {
    let kinds = [
        "MESSAGES",
        "JOBS",
        "PLANS",
        "ASSIGNMENTS",
        "TRAINING_RUNS",
        "POLICY_VERSIONS",
        "WEBHOOK_DELIVERIES",
        "MARKET_REQUESTS",
        "SETTLEMENTS",
    ];
    let server = TestApp::start().await;
    let database = server.database();
    let old = "'2020-01-01 10:00:00.000000'";
    sql(
        &database,
        &format!(
            "PRAGMA foreign_keys = OFF;
             INSERT INTO am_message_contents VALUES ('shared', '{{}}', {old}), ('used', '{{}}', {old});
             INSERT INTO am_messages (message_id, channel_id, seq, sender, recipient, kind, priority, encryption, scope,
                 content, bytes, price, payment_status, status, pushed, created_at, expires_at, content_id)
             SELECT 'm' || value, 'c', value, 'a', 'b', 'TEXT', 'NORMAL', 'NONE', 'NONE', '{{}}', 2, 0, 'NONE',
                 CASE value WHEN 3 THEN 'PENDING' ELSE 'READ' END, 0, {old}, '2999-01-01 10:00:00.000000',
                 CASE value WHEN 1 THEN 'shared' WHEN 3 THEN 'used' END FROM json_each('[1, 2, 3]');
             INSERT INTO am_jobs SELECT 'j' || value, 'llm', 'key_1', 'COMPLETED', {old}, {old},
                 CASE value WHEN 3 THEN NULL ELSE {old} END FROM json_each('[1, 2, 3]');
             INSERT INTO job (id, client_id, state, payload, constraints, ttl_seconds, requested_at, expires_at)
             SELECT 'j' || value, 'key_1', 'COMPLETED', '{{}}', '{{}}', 60, {old}, {old} FROM json_each('[1, 2, 4]');
             INSERT INTO jobreceipt (id, job_id, receipt_id, payload, created_at) VALUES ('r', 'j2', 'r', '{{}}', {old});
             INSERT INTO am_plans (id, owner_id, strategy, document, created_at, updated_at)
             SELECT 'p' || value, 'key_1', 's', '{{}}', {old}, {old} FROM json_each('[1, 2]');
             INSERT INTO agent_executions (id, workflow_id, client_id, status, current_step, step_states, total_cost,
                 total_steps, completed_steps, created_at, updated_at)
             VALUES ('e', 'p2', 'key_1', 'COMPLETED', 0, '{{}}', 0, 1, 1, {old}, {old});
             INSERT INTO am_assignments (id, execution_id, step_key, workflow_id, client_id, task_type, priority, request,
                 max_retries, state, deadline, placed_at, ended_at)
             SELECT 'a' || value, 'x', 's', 'w', 'key_1', 't', 1, '{{}}', 1, 'COMPLETED', {old}, {old}, {old}
             FROM json_each('[1, 2]');
             INSERT INTO am_assignment_attempts (assignment_id, attempt, agent_id, score, cost_per_hour, offered_at)
             VALUES ('a1', 1, 'g', 0.5, 1.0, {old});
             INSERT INTO am_assignment_notices (assignment_id, attempt, agent_id, kind, due_at)
             VALUES ('a2', 1, 'g', 'TASK', '2999-01-01 10:00:00.000000');
             INSERT INTO am_training_runs (id, owner_id, policy, work, status, steps, version, created_at, ended_at, updated_at)
             SELECT 't' || value, 'key_1', 'p', '{{}}', CASE value WHEN 3 THEN 'paused' ELSE 'completed' END, 1,
                 CASE value WHEN 2 THEN 4 END, {old}, CASE value WHEN 3 THEN NULL ELSE {old} END, {old}
             FROM json_each('[1, 2, 3]');
             INSERT INTO am_policies (name, owner_id, last_version, split, revision, created_at, updated_at)
             VALUES ('p', 'key_1', 1, 'null', 90, {old}, {old}),
                 ('q', 'key_1', 5, '{{\"canary\":{{\"version\":2,\"share\":0.5}},\"shadow\":null}}', 91, {old}, {old});
             INSERT INTO am_policy_aliases (name, alias, version, updated_at) VALUES ('q', 'kept', 3, {old});
             INSERT INTO am_policy_versions SELECT name || version, name, version, 'key_1', name || version, 1,
                 '{{\"algorithm\":\"ppo\",\"state_length\":9,\"actions\":{{\"type\":\"discrete\",\"count\":4}},\"hidden\":[8],\"atoms\":null,\"parameters\":1,\"normalized\":false}}',
                 '[]', '[]', NULL,
                 'uploaded', NULL, 'x', 'null', 'null', {old}
             FROM (SELECT 'q' AS name, value AS version FROM json_each('[1, 2, 3, 4, 5]') UNION ALL SELECT 'p', 4);
             INSERT INTO ai_agent_workflows SELECT 'agent_n', 'key_1', 'w', '', '{{\"a\":{{\"action\":{{\"kind\":\"policy\",\"policy\":\"q@4\"}}}}}}',
                 '{{}}', 60, 0, 0, 'BASIC', '[]', '1', 0, {old}, {old};
             INSERT INTO am_webhook_deliveries (id, endpoint, kind, body, state, next_attempt_at, created_at)
             SELECT 'd' || value, 'ops', 'test', '{{}}', CASE value WHEN 1 THEN 'DELIVERED' ELSE 'PENDING' END, '2999-01-01 10:00:00.000000', {old}
             FROM json_each('[1, 2]');
             INSERT INTO am_market_requests (id, client_id, category, requirements, inputs, budget, escrow, deadline, state,
                 due_at, events, created_at, ended_at, updated_at)
             SELECT 'q' || value, 'key_1', 'RESEARCH', 'r', '{{}}', 5, CASE value WHEN 2 THEN 5 ELSE 0 END,
                 CASE value WHEN 3 THEN '2999-01-01 10:00:00.000000' ELSE {old} END,
                 CASE value WHEN 2 THEN 'DISPUTED' ELSE 'SETTLED' END,
                 CASE value WHEN 2 THEN '2999-01-01 10:00:00.000000' END, 1, {old},
                 CASE value WHEN 2 THEN NULL ELSE {old} END, {old} FROM json_each('[1, 2, 3]');
             INSERT INTO am_market_request_events SELECT 'q' || value, 1, 'created', 'OPEN', 'key_1', 0, 0, NULL, {old}
             FROM json_each('[1, 2, 3]');
             INSERT INTO am_settlements (id, place, owner_id, portfolio_id, agent_address, kind, content, status, attempts,
                 nonce, queued_at, created_at, updated_at)
             SELECT 's' || value, value, 'key_1', 1, '0x', CASE value WHEN 3 THEN 'create' ELSE 'deposit' END, '{{}}',
                 CASE value WHEN 4 THEN 'reverted' ELSE 'confirmed' END, 1, value, {old}, {old}, {old}
             FROM json_each('[1, 2, 3, 4, 5]');
             INSERT INTO am_settlement_transactions (hash, settlement_id, account, nonce, raw, max_fee, mined, created_at)
             SELECT 'h' || value, 's' || value, 'a', value, '0x', 1, 1, {old} FROM json_each('[1, 2, 3, 4, 5]');
             INSERT INTO am_market_ratings VALUES ('q1', 'msvc_1', 'a', 'key_1', 5, NULL, {old});"
        ),
    )
    .await;
    let settings: Vec<(String, &str)> = kinds.iter().map(|kind| (format!("RETENTION_{kind}"), "90d")).collect();
    let mut env: Vec<(&str, &str)> = settings.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    env.push(("RETENTION_INTERVAL_SECONDS", "1"));
    env.push(("WEBHOOK_KEEP_DAYS", "36500"));
    env.push(("TRAINING_SLOTS", "0"));
    let server = server.restart_with(&env).await;
    for (query, wanted) in [
        ("SELECT group_concat(message_id) FROM am_messages", "m3"),
        ("SELECT group_concat(id) FROM am_message_contents", "used"),
        ("SELECT group_concat(id) FROM am_jobs", "j2,j3"),
        ("SELECT group_concat(id) FROM job", "j2,j4"),
        ("SELECT group_concat(id) FROM am_plans", "p2"),
        ("SELECT group_concat(id) FROM am_assignments", "a2"),
        ("SELECT coalesce(group_concat(attempt), '') FROM am_assignment_attempts", ""),
        // The second is told of by the version that it made, the third is open.
        ("SELECT group_concat(id) FROM am_training_runs", "t2,t3"),
        // The policy p is being trained; of q the split, an alias, a step and the last are named.
        (
            "SELECT group_concat(id) FROM (SELECT id FROM am_policy_versions WHERE source <> 'builtin' ORDER BY id)",
            "p4,q2,q3,q4,q5",
        ),
        ("SELECT group_concat(id) FROM am_webhook_deliveries WHERE id LIKE 'd%'", "d2"),
        // The second is disputed, the third may still be rated; what was rated stays rated.
        ("SELECT group_concat(id) FROM am_market_requests", "q2,q3"),
        ("SELECT group_concat(request_id) FROM am_market_request_events", "q2,q3"),
        ("SELECT group_concat(request_id) FROM am_market_ratings", "q1"),
        // The third says that a portfolio is in the contract, the fourth was refused, the fifth is the last in the chain.
        ("SELECT group_concat(id) FROM (SELECT id FROM am_settlements ORDER BY id)", "s3,s4,s5"),
        ("SELECT group_concat(hash) FROM (SELECT hash FROM am_settlement_transactions ORDER BY hash)", "h3,h4,h5"),
    ] {
        let mut conn = open(&database).await;
        let there = async {
            loop {
                let found: String = sqlx::query_scalar(query).fetch_one(&mut conn).await.unwrap();
                if found == wanted {
                    return;
                }
                poll_interval().await;
            }
        };
        if timeout(PATIENCE, there).await.is_err() {
            let found: String = sqlx::query_scalar(query).fetch_one(&mut open(&database).await).await.unwrap();
            panic!("{query}: {found} and never {wanted}");
        }
    }
    let open = "SELECT count(*) FROM am_archives WHERE done_at IS NULL";
    until(&database, open, 0).await;
    let verified = printed(archive(server.dir(), &["verify"]));
    assert_eq!(verified.as_array().unwrap().len(), 10, "an archive of each kind: {verified}");
}

#[tokio::test]
async fn answers_to_repeated_requests_go_however_many_there_are() {
    let server = TestApp::builder().env("RETENTION_INTERVAL_SECONDS", 1).start().await;
    sql(
        &server.database(),
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
         INSERT INTO am_idempotency SELECT 's', 'k' || i, 'f', '{}', CASE i WHEN 7 THEN '2999-01-01 10:00:00.000000'
             ELSE '2020-01-01 10:00:00.000000' END FROM n",
    )
    .await;
    until(&server.database(), "SELECT count(*) FROM am_idempotency", 1).await;
}

#[tokio::test]
async fn without_archives_the_audit_log_tells_how_much_went() {
    let builder = TestApp::builder().env("RETENTION_EXECUTIONS", "1d").env("RETENTION_ARCHIVE", "false");
    let server = builder.env("RETENTION_INTERVAL_SECONDS", 1).start().await;
    let workflow = server.workflow(json!({"a": jq(".x")})).await;
    let run = server.execute(&workflow, json!({"x": 1})).await;
    server.ended(run.text("id")).await;
    server.clock().advance(DAY * 2);
    until(&server.database(), "SELECT count(*) FROM am_runs", 0).await;
    let told = server.get(&format!("{AGENTS}/security/audit-logs?limit=500")).await.ok();
    let told = told.as_array().unwrap().iter().map(|entry| &entry["event_data"]);
    let told: Vec<&Value> = told.filter(|data| data["resource"] == "retention").collect();
    assert_eq!((told.len(), &told[0]["kind"], &told[0]["things"]), (1, &json!("executions"), &json!(1)), "{told:?}");
    assert!(!server.dir().join("archive").exists());
}

#[tokio::test]
async fn the_command_disk_tells_what_takes_it() {
    let server = TestApp::start().await;
    let workflow = server.workflow(json!({"a": jq(".x")})).await;
    let run = server.execute(&workflow, json!({"x": "y".repeat(100_000)})).await;
    server.ended(run.text("id")).await;
    let env = [("DATA_DIR", "."), ("APP_ENV", "dev"), ("LOG_LEVEL", "warn")];
    let usage = printed(run_command(server.dir(), &env));
    let causes = usage["causes"].as_array().unwrap();
    let sum: i64 = causes.iter().map(|cause| cause["bytes"].as_i64().unwrap()).sum();
    assert_eq!(usage["database_bytes"].as_i64().unwrap(), sum + usage["unused_bytes"].as_i64().unwrap());
    let executions = causes.iter().find(|cause| cause["cause"] == "executions").unwrap();
    assert!(executions["bytes"].as_i64().unwrap() > 100_000, "{usage}");
    assert!(executions["tables"]["am_runs"].as_i64().unwrap() > 100_000, "its inputs: {usage}");
    assert_eq!(texts(&usage["folders"], "cause").len(), 4);
    assert!(usage["disk_free_bytes"].as_u64().unwrap() > 0);
    let metrics = server.get("/metrics").await.text;
    let size = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert!(size("db_bytes") > 0 && size("disk_free_bytes") > 0);
}

fn run_command(dir: &Path, env: &[(&str, &str)]) -> Output {
    run(dir, &["disk"], env)
}

#[tokio::test]
async fn rows_that_the_coordinator_wrote_alone_go_only_if_a_setting_says_so() {
    let server = TestApp::builder().env("RETENTION_INTERVAL_SECONDS", 1).start().await;
    let database = server.database();
    crate::agents::kept_lists::built(&database).await;
    let workflow = server.workflow(json!({"a": jq(".x")})).await;
    let own = server.execute(&workflow, json!({"x": 1})).await.text("id").to_owned();
    server.ended(&own).await;
    let old = "'2020-01-01 10:00:00.000000'";
    let rows = format!(
        "PRAGMA foreign_keys = OFF;
         INSERT INTO agent_executions (id, workflow_id, client_id, status, current_step, step_states, total_cost,
             total_steps, completed_steps, created_at, updated_at, completed_at)
         SELECT 'e' || value, 'w', 'a-key-of-the-coordinator-s', CASE value WHEN 2 THEN 'RUNNING' ELSE 'COMPLETED' END, 0, '{{}}', 0, 1, 1,
             {old}, {old}, CASE value WHEN 1 THEN {old} WHEN 3 THEN '2999-01-01 10:00:00.000000' END FROM json_each('[1, 2, 3]');
         INSERT INTO job (id, client_id, state, payload, constraints, ttl_seconds, requested_at, expires_at)
         SELECT 'j' || value, 'a-key-of-the-coordinator-s', CASE value WHEN 2 THEN 'RUNNING' ELSE 'COMPLETED' END, '{{}}', '{{}}', 60,
             CASE value WHEN 3 THEN '2999-01-01 10:00:00.000000' ELSE {old} END, {old} FROM json_each('[1, 2, 3, 4]');
         INSERT INTO jobreceipt (id, job_id, receipt_id, payload, created_at) VALUES ('r', 'j4', 'r', '{{}}', {old})"
    );
    sql(&database, &rows).await;
    let left = async || {
        let all = "SELECT (SELECT group_concat(id) FROM (SELECT id FROM agent_executions WHERE id LIKE 'e_' ORDER BY id)) || ' '
             || (SELECT group_concat(id) FROM (SELECT id FROM job ORDER BY id))";
        sqlx::query_scalar::<_, String>(all).fetch_one(&mut open(&database).await).await.unwrap()
    };
    // The ages of own rows say nothing of them.
    let server = server.restart_with(&[("RETENTION_EXECUTIONS", "3650d"), ("RETENTION_JOBS", "1d")]).await;
    until(&database, "SELECT count(*) FROM am_archives", 0).await;
    assert_eq!(left().await, "e1,e2,e3 j1,j2,j3,j4");
    let server = server.restart_with(&[("RETENTION_COORDINATOR_ROWS", "90d")]).await;
    until(&database, "SELECT count(*) FROM agent_executions WHERE id = 'e1'", 0).await;
    until(&database, "SELECT count(*) FROM job WHERE id = 'j1'", 0).await;
    until(&database, "SELECT count(*) FROM am_archives WHERE done_at IS NULL", 0).await;
    assert_eq!(left().await, "e2,e3 j2,j3,j4");
    server.get(&format!("{AGENTS}/executions/{own}")).await.ok();
    let listed = printed(archive(server.dir(), &["list"]));
    assert_eq!(
        texts(&listed, "kind"),
        BTreeSet::from(["coordinator_executions".to_owned(), "coordinator_jobs".to_owned()])
    );
    // With the setting off again what was removed can be put back.
    let server = server.restart_with(&[("RETENTION_COORDINATOR_ROWS", "0")]).await;
    let restored = printed(archive(server.dir(), &["restore"]));
    assert_eq!(restored["restored"], 2, "{restored}");
    assert_eq!(left().await, "e1,e2,e3 j1,j2,j3,j4");
}

#[tokio::test]
async fn versions_that_steps_name_stay_however_many_are_due() {
    let server = TestApp::builder().env("TRAINING_SLOTS", 0).start().await;
    let database = server.database();
    let old = "'2020-01-01 10:00:00.000000'";
    let form = r#"{"algorithm":"ppo","state_length":9,"actions":{"type":"discrete","count":4},"hidden":[8],"atoms":null,"parameters":1,"normalized":false}"#;
    let rows = format!(
        "INSERT INTO am_policies (name, owner_id, last_version, split, revision, created_at, updated_at)
         VALUES ('q', 'key_1', 400, 'null', 90, {old}, {old});
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
         INSERT INTO am_policy_versions SELECT 'q' || i, 'q', i, 'key_1', 'q' || i, 1, '{form}', '[]', '[]', NULL, 'uploaded', NULL, 'x',
             'null', 'null', {old} FROM n;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30)
         INSERT INTO ai_agent_workflows SELECT printf('agent_%04d', i), 'key_1', 'w', '',
             '{{\"a\":{{\"action\":{{\"kind\":\"policy\",\"policy\":\"q@' || (i * 13) || '\"}}}}}}', '{{}}', 60, 0, 0, 'BASIC', '[]', '1', 0,
             {old}, {old} FROM n;"
    );
    sql(&database, &rows).await;
    let env = [("RETENTION_POLICY_VERSIONS", "90d"), ("RETENTION_INTERVAL_SECONDS", "1")];
    let _server = server.restart_with(&env).await;
    // Thirty are named, and the last is the last.
    until(&database, "SELECT count(*) FROM am_policy_versions WHERE name = 'q'", 31).await;
    let kept = "SELECT count(*) FROM am_policy_versions WHERE name = 'q' AND version <> 400 AND version % 13 <> 0";
    assert_eq!(number(&database, kept).await, 0);
}
