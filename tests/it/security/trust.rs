//! Trust: from evidence, exactly once, explained.

use std::path::Path;

use reqwest::{Method, header::LINK};
use serde_json::{Value, json};

use super::{SECURITY, audited, bad, good, python, run_of, score, seen};
use crate::{
    agents::kept_lists::built,
    harness::{ADMIN, Answer, ApiClient, PATIENCE, Server, TestApp, poll_interval},
    jobs::open,
    kit::{JsonDocument, sql},
};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// Each term adds up to what is stored.
async fn explained(server: &ApiClient, kind: &str, id: &str) -> Value {
    let explained = server.get(&format!("{SECURITY}/trust-scores/{kind}/{id}/explain")).await.ok();
    for (sum, stored) in [("trust", "trust_score"), ("reputation", "reputation_score")] {
        let terms = explained[sum]["terms"].as_array().unwrap();
        let added: f64 = terms.iter().map(|term| number(&term["value"])).sum();
        assert!((added.clamp(0.0, 100.0) - number(&explained["stored"][stored])).abs() < 1e-9, "{explained}");
    }
    assert_eq!(explained["agrees"], true);
    explained
}

#[tokio::test]
async fn concurrent_trust_updates_are_all_counted() {
    let server = TestApp::start().await;
    let update = |n: u32| {
        let query = format!(
            "execution_success={}&execution_time={n}&security_violation={}",
            !n.is_multiple_of(4),
            n.is_multiple_of(32)
        );
        server.request(Method::POST, &format!("{SECURITY}/trust-scores/agent/a-1/update?{query}"))
    };
    let all = futures_util::future::join_all((0..64).map(|n| Answer::of(update(n)))).await;
    assert!(all.iter().all(|answer| answer.status == 200), "{all:?}");
    let counts: std::collections::BTreeSet<i64> =
        all.iter().map(|answer| answer.body["total_executions"].as_i64().unwrap()).collect();
    assert_eq!(counts, (1..=64).collect(), "each saw the one before");
    let found = score(&server, "agent", "a-1").await;
    let count = |name: &str| found[name].as_i64().unwrap();
    assert_eq!((count("total_executions"), count("successful_executions"), count("failed_executions")), (64, 48, 16));
    assert_eq!((count("security_violations"), found["violation_history"].as_array().unwrap().len()), (2, 2));
    assert!((number(&found["average_execution_time"]) - 31.5).abs() < 1e-6);
    // 50 + 0.25 * 40 - 20 + 5; 50 + 0.25 * 30 + 0.64 - 4.
    assert!((number(&found["trust_score"]) - 45.0).abs() < 1e-9, "{found}");
    assert!((number(&found["reputation_score"]) - 54.14).abs() < 1e-9, "{found}");
    let listed = server.get(&format!("{SECURITY}/trust-scores?entity_type=agent")).await;
    assert_eq!((listed.header("x-total-count"), listed.body[0]["id"] == found["id"]), ("1", true));
    let logged = server.get(&format!("{SECURITY}/audit-logs?event_type=workflow_updated&limit=500")).await.ok();
    let told = logged.as_array().unwrap().iter().filter(|entry| entry["event_data"]["resource"] == "trust_score");
    assert_eq!(told.count(), 64, "one entry an update");
    explained(&server, "agent", "a-1").await;
}

#[tokio::test]
async fn audit_entries_change_trust_scores() {
    let server = TestApp::start().await;
    let workflow = server.workflow(good()).await;
    assert_eq!(server.get(&format!("{SECURITY}/trust-scores/workflow/{workflow}")).await.is(404)["code"], "not_found");
    let done = run_of(&server, &workflow).await;
    assert_eq!(done["status"], "completed");
    let first = score(&server, "workflow", &workflow).await;
    assert_eq!((&first["total_executions"], &first["successful_executions"]), (&json!(1), &json!(1)));
    assert!((number(&first["trust_score"]) - 75.0).abs() < 1e-9, "{first}");
    assert!(first["average_execution_time"].is_number() && first["last_execution"].is_string());
    let failing = server.workflow(bad()).await;
    assert_eq!(run_of(&server, &failing).await["status"], "failed");
    assert!((number(&score(&server, "workflow", &failing).await["trust_score"]) - 35.0).abs() < 1e-9);
    seen(&server, "sandbox_breach", &workflow, json!({})).await;
    seen(&server, "security_violation", &workflow, json!({})).await;
    seen(&server, "access_denied", &workflow, json!({"policy_id": "policy_1"})).await;
    // Who may do what is no policy's business.
    seen(&server, "access_denied", &workflow, json!({})).await;
    seen(&server, "verification_failed", &workflow, json!({})).await;
    seen(&server, "execution_cancelled", &workflow, json!({})).await;
    // What an admin reports is no evidence, and does not read as the service's own.
    let last = score(&server, "workflow", &workflow).await;
    let counts = ["total_executions", "security_violations", "policy_violations", "sandbox_breaches"];
    assert_eq!(counts.map(|name| last[name].as_i64().unwrap()), [1, 0, 0, 0]);
    assert!((number(&last["trust_score"]) - 75.0).abs() < 1e-9, "{last}");
    let entries = server.get(&format!("{SECURITY}/audit-logs?event_type=sandbox_breach")).await.ok();
    let entry = &entries[0];
    assert_eq!((entry.text("event_type"), entry.text("source")), ("sandbox_breach", "reported"));
    let user = score(&server, "user", entry.text("user_id")).await;
    assert_eq!((&user["total_executions"], &user["failed_executions"]), (&json!(2), &json!(1)));
    explained(&server, "workflow", &workflow).await;
    explained(&server, "user", user.text("entity_id")).await;
}

#[tokio::test]
async fn real_violations_lower_trust() {
    let server = Server::start().await;
    let breach = python("open('/etc/shadow')", json!({}));
    let steps = json!({"s": breach, "t": {"step_type": "custom", "depends_on": ["s"]}});
    let workflow = server.workflow(steps).await;
    let ended = run_of(&server, &workflow).await;
    assert_eq!(ended["status"], "failed", "{ended}");
    let breaches = audited(&server, ended.text("id"), "SANDBOX_BREACH").await;
    assert_eq!(breaches.len(), 1);
    let last = score(&server, "workflow", &workflow).await;
    assert_eq!((&last["sandbox_breaches"], &last["failed_executions"]), (&json!(1), &json!(1)), "{last}");
    // One that only fails is trusted more.
    let failing = server.workflow(bad()).await;
    run_of(&server, &failing).await;
    let only_failed = number(&score(&server, "workflow", &failing).await["trust_score"]);
    assert!(number(&last["trust_score"]) < only_failed, "{last}");
    explained(&server, "workflow", &workflow).await;
    // As evidence the entry is the service's own.
    let entries = server.get(&format!("{SECURITY}/audit-logs?event_type=sandbox_breach")).await.ok();
    assert_eq!(entries[0]["source"], "service", "{entries}");
}

#[tokio::test]
async fn api_key_is_never_shown_as_a_trust_entity() {
    let server = Server::start().await;
    let made =
        server.request(Method::POST, &format!("{SECURITY}/trust-scores/user/{ADMIN}/update?execution_success=true"));
    let made = Answer::of(made).await;
    assert!(made.body.text("entity_id").starts_with("key_"), "{}", made.text);
    let listed = server.get(&format!("{SECURITY}/trust-scores?entity_id={ADMIN}")).await;
    assert_eq!(listed.body.as_array().unwrap().len(), 1);
    assert!(listed.headers.get(LINK).is_none());
    let logged = server.get(&format!("{SECURITY}/audit-logs")).await;
    let stored = std::fs::read(server.database()).unwrap();
    let wal = std::fs::read(format!("{}-wal", server.database().display())).unwrap_or_default();
    for shown in [made.text, listed.text, logged.text, server.log()] {
        assert!(!shown.contains(ADMIN));
    }
    for bytes in [stored, wal] {
        assert!(!bytes.windows(ADMIN.len()).any(|part| part == ADMIN.as_bytes()));
    }
}

#[tokio::test]
async fn coordinator_trust_scores_are_kept_and_continued() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/coordinator/coordinator.sqlite");
    let server = TestApp::builder().database(&fixture).start().await;
    // Its old entries get their leaves, and are no news.
    let sealed =
        async || server.get(&format!("{SECURITY}/security-stats")).await.ok()["audit_statistics"]["total"].clone();
    while sealed().await == json!(0) {
        crate::harness::poll_interval().await;
    }
    let listed = server.get(&format!("{SECURITY}/trust-scores")).await;
    assert_eq!(listed.header("x-total-count"), "4", "{}", listed.text);
    let high = server.get(&format!("{SECURITY}/trust-scores?min_score=70&max_score=80")).await.ok();
    assert_eq!((high.as_array().unwrap().len(), &high[0]["entity_id"]), (1, &json!("agent-0")));
    let user = score(&server, "user", "user-1").await;
    assert_eq!((&user["trust_score"], &user["entity_id"]), (&json!(20.0), &json!("user-1")));
    assert_eq!(user["violation_history"][0]["type"], "policy_violation");
    let told = server.get(&format!("{SECURITY}/trust-scores/user/user-1/explain")).await.ok();
    assert_eq!(told["agrees"], false, "its own sum was another");
    let update = || {
        let path = format!("{SECURITY}/trust-scores/user/user-1/update?execution_success=true&execution_time=2.6");
        server.request(Method::POST, &path).header("idempotency-key", "once")
    };
    let after = Answer::of(update()).await.ok();
    let again = Answer::of(update()).await;
    assert_eq!((again.header("idempotency-replayed"), &again.body), ("true", &after));
    assert_eq!((&after["id"], &after["total_executions"]), (&user["id"], &json!(11)));
    assert!((number(&after["average_execution_time"]) - 1.6).abs() < 1e-9, "{after}");
    explained(&server, "user", "user-1").await;
    for (path, status) in [
        ("trust-scores/user/user-1/update", 422),
        ("trust-scores/user/user-1/update?execution_success=true&execution_time=-1", 422),
        (&format!("trust-scores/{}/x/update?execution_success=true", "k".repeat(51)), 422),
    ] {
        Answer::of(server.request(Method::POST, &format!("{SECURITY}/{path}"))).await.is(status);
    }
    server.get(&format!("{SECURITY}/trust-scores/user/nobody/explain")).await.is(404);
}

#[tokio::test]
async fn two_processes_count_trust_once() {
    let first = Server::start().await;
    let second = Server::builder().beside(&first).start().await;
    let workflow = first.workflow(good()).await;
    let runs = (0..40).map(|n| {
        let (server, workflow) = (if n % 2 == 0 { &first } else { &second }, &workflow);
        async move {
            assert_eq!(run_of(server, workflow).await["status"], "completed");
            score(server, "workflow", workflow).await
        }
    });
    futures_util::future::join_all(runs).await;
    for server in [&first, &second] {
        assert_eq!(score(server, "workflow", &workflow).await["total_executions"], 40);
    }
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn crash_while_counting_trust_counts_once() {
    let mut server = Server::builder().env("FAILPOINTS", "trust.before_commit=2*off->return").start().await;
    let workflow = server.workflow(good()).await;
    // The third time that something is counted is the last of this process.
    let path = format!("/api/v1/agents/workflows/{workflow}/execute");
    for _ in 0..3 {
        let started = server.request(Method::POST, &path).json(&json!({"inputs": {}})).send().await;
        let Ok(started) = started else { break };
        let Ok(id) = started.json::<Value>().await.map(|body| body.text("id").to_owned()) else { break };
        let ended = async || -> Option<bool> {
            let url = format!("/api/v1/agents/executions/{id}?wait=5");
            let answer = server.request(Method::GET, &url).send().await.ok()?.json::<Value>().await.ok()?;
            Some(answer["status"] == "completed")
        };
        while ended().await == Some(false) {}
        let path = format!("{SECURITY}/trust-scores/workflow/{workflow}");
        let _ = server.request(Method::GET, &path).send().await;
    }
    server.wait();
    let server = server.again().env("FAILPOINTS", "").start().await;
    let listed = server.get(&format!("/api/v1/agents/executions?workflow_id={workflow}")).await.ok();
    for execution in listed.as_array().unwrap() {
        server.ended(execution.text("id")).await;
    }
    assert_eq!(listed.as_array().unwrap().len(), 3);
    let found = score(&server, "workflow", &workflow).await;
    let noted = found["execution_history"].as_array().unwrap().iter().filter(|note| note.get("success").is_some());
    assert_eq!((&found["total_executions"], noted.count()), (&json!(3), 3));
}

/// Ids of a list of trust scores, all of its pages, and its total.
async fn walk(server: &ApiClient, filter: &str) -> (Vec<String>, String) {
    let (mut found, mut path) = (Vec::new(), Some(format!("{SECURITY}/trust-scores?{filter}")));
    let mut total = String::new();
    while let Some(at) = path {
        let page = server.get(&at).await;
        total = page.header("x-total-count").to_owned();
        let next = page.header(LINK.as_str()).split(", ").find(|link| link.ends_with("rel=\"next\""));
        path = next.map(|link| link.trim_start_matches('<').split_once('>').unwrap().0.to_owned());
        found.extend(page.ok().as_array().unwrap().iter().map(|row| row.text("id").to_owned()));
    }
    (found, total)
}

/// The lists and the statistics say what the table holds.
async fn lists_are_true(server: &ApiClient) {
    let database = server.database();
    for (filter, condition) in [
        ("limit=4", "true"),
        ("limit=4&entity_type=robot", "entity_type = 'robot'"),
        ("limit=4&min_score=40&max_score=90", "trust_score BETWEEN 40 AND 90"),
        ("limit=4&entity_type=robot&min_score=40", "entity_type = 'robot' AND trust_score >= 40"),
        ("limit=4&entity_id=e1", "entity_id = 'e1'"),
        ("limit=4&created_after=2026-01-02T12:00:00Z", "created_at > '2026-01-02 12'"),
    ] {
        let query = format!("SELECT id FROM agent_trust_scores WHERE {condition} ORDER BY created_at DESC, id DESC");
        let expected: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&mut open(&database).await).await.unwrap();
        assert!(!expected.is_empty(), "{filter}");
        let total = expected.len().to_string();
        assert_eq!(walk(server, filter).await, (expected, total), "{filter}");
    }
    let query = "SELECT count(*), avg(trust_score), count(*) FILTER (WHERE trust_score < 20),
         count(*) FILTER (WHERE trust_score >= 80) FROM agent_trust_scores";
    let (all, mean, low, high): (i64, f64, i64, i64) =
        sqlx::query_as(query).fetch_one(&mut open(&database).await).await.unwrap();
    let told = server.get(&format!("{SECURITY}/security-stats")).await.ok();
    let trust = &told["trust_statistics"];
    let counts =
        ["total_entities", "low_trust_entities", "high_trust_entities"].map(|name| trust[name].as_i64().unwrap());
    assert_eq!(counts, [all, low, high], "{trust}");
    assert!((number(&trust["average_trust_score"]) - mean).abs() < 1e-6, "{trust}");
}

#[tokio::test]
async fn lists_of_scores_and_sandboxes_follow_what_both_write() {
    let server = TestApp::start().await;
    let database = server.database();
    built(&database).await;
    let rows = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 29)
         INSERT INTO agent_trust_scores (id, entity_type, entity_id, trust_score, reputation_score, total_executions,
             successful_executions, failed_executions, verification_success_rate, security_violations, policy_violations,
             sandbox_breaches, execution_history, violation_history, created_at, updated_at)
         SELECT printf('trust_%03d', i), CASE i % 2 WHEN 0 THEN 'robot' ELSE 'agent' END, 'e' || (i % 10),
             CASE i WHEN 29 THEN 100.0 ELSE i * 3.7 END, 50, 0, 0, 0, 0, 0, 0, 0, '[]', '[]',
             '2026-01-0' || (1 + i % 4) || ' 10:00:00.000000', '2026-01-05 10:00:00.000000' FROM n;
         INSERT INTO agent_sandbox_configs (id, sandbox_type, security_level, cpu_limit, memory_limit, disk_limit, network_access,
             max_execution_time, idle_timeout, enable_monitoring, log_all_commands, log_file_access, log_network_access, is_active,
             created_at, updated_at)
         SELECT 'sandbox_' || value, 'docker', 'INTERNAL', 2.0, 100, 20480, 1, 7200, 600, 1, 0, 1, 1, value % 2, '2026-01-01 10:00:00',
             '2026-01-01 10:00:00' FROM json_each('[1, 2, 3, 4, 5]')";
    sql(&database, rows).await;
    lists_are_true(&server).await;
    let active = async || server.get(&format!("{SECURITY}/security-stats")).await.ok()["active_sandboxes"].clone();
    assert_eq!(active().await, 3);
    let updated = format!("{SECURITY}/trust-scores/robot/e4/update?execution_success=true");
    server.answer(server.request(Method::POST, &updated)).await.is(200);
    lists_are_true(&server).await;
    let changes = "UPDATE agent_trust_scores SET trust_score = 12.5 WHERE id IN ('trust_029', 'trust_020');
         DELETE FROM agent_trust_scores WHERE id = 'trust_007'; UPDATE agent_sandbox_configs SET is_active = 0 WHERE id = 'sandbox_1'";
    sql(&database, changes).await;
    // What others change is found by the sweep.
    let differing = "SELECT (SELECT count(*) FROM agent_trust_scores t LEFT JOIN am_trust_list l ON l.id = t.id
             WHERE l.trust_score IS NOT t.trust_score)
         + (SELECT count(*) FROM am_trust_list WHERE id NOT IN (SELECT id FROM agent_trust_scores))
         + (SELECT count(*) FROM agent_sandbox_configs t LEFT JOIN am_sandbox_list l ON l.id = t.id WHERE l.is_active IS NOT t.is_active)";
    let followed = async {
        while sqlx::query_scalar::<_, i64>(differing).fetch_one(&mut open(&database).await).await.unwrap() > 0 {
            poll_interval().await;
        }
    };
    tokio::time::timeout(PATIENCE * 4, followed).await.expect("the lists follow");
    lists_are_true(&server).await;
    assert_eq!(active().await, 2);
}
