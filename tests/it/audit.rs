//! The audit log through HTTP and the commands: every change leaves its entry, and nothing of it can be changed unseen.

use std::{path::Path, process::Output};

use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::{
    harness::{ADMIN, Answer, ApiClient, CLIENT, OTHER_ADMIN, PATIENCE, Server, TestApp},
    kit::{AGENTS, JsonDocument, ask, fixture, get_as, jq, locations, post_as, sql, waiting},
    operation::run_with,
};

const LOGS: &str = "/api/v1/agents/security/audit-logs";
const TREE: &str = "/api/v1/agents/security/audit-tree";

/// The whole log, newest first, page by page.
async fn log(server: &ApiClient, filter: &str) -> Vec<Value> {
    let mut path = format!("{LOGS}?limit=50&{filter}");
    let mut entries = Vec::new();
    loop {
        let page = server.get(&path).await;
        let links = page.header("link").to_owned();
        entries.extend(page.ok().as_array().unwrap().clone());
        match links.split(", ").find(|link| link.ends_with("rel=\"next\"")) {
            Some(next) => path = next[1..next.find('>').unwrap()].to_owned(),
            None => return entries,
        }
    }
}

/// `resource.action` of each entry, oldest first.
fn actions(entries: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let action = |entry: &Value| {
        let data = &entry["event_data"];
        format!("{} {}.{}", text(&entry["event_type"]), text(&data["resource"]), text(&data["action"]))
    };
    entries.iter().rev().map(action).collect()
}

/// Until an entry is below a signed head.
async fn sealed(server: &ApiClient, id: &str) -> Value {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let answer = server.get(&format!("{TREE}/inclusion/{id}")).await;
        if answer.status == 200 {
            return answer.body;
        }
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (409, "5"), "{}", answer.text);
        assert!(std::time::Instant::now() < deadline, "it was never sealed");
        crate::harness::poll_interval().await;
    }
}

fn command(arguments: &[&str], stdin: &str, dir: &Path) -> Output {
    run_with(dir, arguments, &[("DATA_DIR", ".")], stdin)
}

#[tokio::test]
async fn every_change_leaves_an_audit_entry_with_its_caller() {
    let server = TestApp::start().await;
    let before = log(&server, "").await.len();
    let w = server.workflow(json!({"a": jq(".x"), "b": jq("error(\"no\")")})).await;
    server.put(&format!("{AGENTS}/workflows/{w}"), json!({"name": "renamed"})).await.ok();
    let failed = server.execute(&w, json!({"x": 1})).await;
    let failed = server.ended(failed.text("id")).await;
    assert_eq!(failed["status"], "failed");
    let good = server.workflow(json!({"a": jq(".x")})).await;
    let done = server.execute(&good, json!({"x": 1})).await;
    server.ended(done.text("id")).await;
    let long = server.workflow(json!({"a": waiting()})).await;
    let run = server.execute(&long, json!({})).await.text("id").to_owned();
    server.until(&run, |run| run["step_states"]["a"]["job_id"].is_string()).await;
    for action in ["pause", "resume", "cancel"] {
        server.post(&format!("{AGENTS}/executions/{run}/{action}"), json!({})).await.ok();
    }
    let n = server.post(&format!("{AGENTS}/networks"), json!({"name": "n", "agents": [good]})).await.ok();
    let n = n.text("id").to_owned();
    server.post(&format!("{AGENTS}/networks/{n}/optimize"), json!({"objective": "speed"})).await.ok();
    server.delete(&format!("{AGENTS}/workflows/{good}")).await.ok();
    let learner = json!({"mode": "reinforcement", "learning_rate": 0.01});
    server.post(&format!("{AGENTS}/bot/learning/enable"), learner).await.ok();
    let policy = server.get(&format!("{AGENTS}/performance/rl/policies")).await.ok();
    let policy = policy.as_array().unwrap().iter().find(|policy| policy.text("name").contains("bot"));
    let policy = policy.unwrap().text("name").to_owned();
    let alias = format!("{AGENTS}/performance/rl/policies/{policy}/aliases/best");
    server.put(&alias, json!({"version": 1})).await.ok();

    let entries = log(&server, "").await;
    let new = &entries[..entries.len() - before];
    let found = actions(new);
    let expected = [
        "workflow_created workflow.created",
        "workflow_updated workflow.updated",
        "execution_started execution.started",
        "step_started step.started",
        "step_completed step.completed",
        "step_failed step.failed",
        "execution_failed execution.failed",
        "execution_completed execution.completed",
        "verification_completed execution.verified",
        "workflow_updated step.job_queued",
        "workflow_updated execution.paused",
        "workflow_updated execution.resumed",
        "execution_cancelled execution.cancelled",
        "workflow_created network.created",
        "workflow_updated network.optimized",
        "workflow_deleted workflow.deleted",
        "workflow_updated learner.enabled",
        "workflow_updated policy.published",
        "workflow_updated policy.alias_moved",
    ];
    for wanted in expected {
        assert!(found.iter().any(|action| action == wanted), "{wanted} is not in {found:#?}");
    }
    assert!(
        entries
            .windows(2)
            .all(|pair| pair[0]["log_sequence"].as_i64() == pair[1]["log_sequence"].as_i64().map(|n| n + 1))
    );
    let by_hand = new.iter().find(|entry| entry["event_type"] == "workflow_deleted").unwrap();
    assert_eq!((&by_hand["ip_address"], &by_hand["source"]), (&json!("127.0.0.1"), &json!("service")));
    assert!(by_hand.text("user_id").starts_with("key_"));
    assert_eq!(by_hand["previous_state"]["name"], "test");
    // The risks of the contract: internal is 1.2 times the base, and an error adds 10.
    let risk = |event: &str| new.iter().find(|entry| entry["event_type"] == event).unwrap()["risk_score"].clone();
    assert_eq!(
        (risk("execution_failed"), risk("workflow_created"), risk("execution_started")),
        (json!(46), json!(6), json!(3))
    );

    // What changes nothing leaves nothing, and neither does what is refused.
    let count = log(&server, "").await.len();
    server.get(&format!("{AGENTS}/workflows/{w}")).await.ok();
    server.post(&format!("{AGENTS}/workflows"), json!({"name": "", "steps": {}})).await.is(422);
    assert_eq!(log(&server, "").await.len(), count);
}

#[tokio::test]
async fn audit_entries_of_errors_have_class_and_hash_and_no_text() {
    let server = TestApp::start().await;
    let secret = "value-4711-of-the-run";
    let w = server.workflow(json!({"a": jq("error(\"refused: \" + .x)")})).await;
    let run = server.execute(&w, json!({"x": secret})).await;
    let run = server.ended(run.text("id")).await;
    let error = run["step_states"]["a"]["error"].as_str().unwrap().to_owned();
    assert!(error.contains(secret), "the owner reads the text: {run}");
    let entries = get_as(&server, OTHER_ADMIN, &format!("{LOGS}?execution_id={}", run.text("id"))).await;
    assert!(!entries.text.contains(secret), "another admin does not: {}", entries.text);
    let entries = entries.ok();
    let of = |event: &str| {
        let mut all = entries.as_array().unwrap().iter();
        all.find(|entry| entry["event_type"] == event).unwrap()["event_data"].clone()
    };
    let digest = |text: &str| am_core::crypto::sha256_hex(text.as_bytes());
    let step = of("step_failed");
    assert_eq!((step.text("error_message"), step.text("error_sha256")), ("step_failed", &*digest(&error)), "{step}");
    let execution = of("execution_failed");
    assert_eq!(execution["error_message"], "execution_failed");
    assert_eq!(execution.text("error_sha256"), digest(run.text("error_message")), "{execution}");
}

#[tokio::test]
async fn reported_entries_are_told_apart_by_the_log_and_its_export() {
    let server = TestApp::start().await;
    let body = json!({"event_type": "sandbox_breach", "workflow_id": "agent_00000000", "event_data": {"by": "nobody"}});
    let made = server.post(LOGS, body).await.is(201);
    let id = made["audit_id"].as_str().or(made["id"].as_str()).unwrap().to_owned();
    let entry = server.get(&format!("{LOGS}/{id}")).await.ok();
    assert_eq!((entry.text("source"), entry.text("event_type")), ("reported", "sandbox_breach"));
    let own = server.workflow(json!({"a": jq(".")})).await;
    let own = log(&server, &format!("workflow_id={own}")).await;
    assert_eq!(own[0]["source"], "service");
    sealed(&server, &id).await;
    let head = server.get(&format!("{TREE}/head")).await.ok();
    let export = server.get(&format!("{LOGS}/export")).await.text;
    let done = command(&["verify-audit", "-", "--public-key", head.text("public_key")], &export, server.dir());
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&report["valid"], &report["reported"]), (&json!(true), &json!(1)), "{report}");
}

#[tokio::test]
async fn idempotent_request_leaves_one_audit_entry() {
    let server = TestApp::start().await;
    let body = json!({"name": "w", "steps": {"a": jq(".")}});
    for _ in 0..2 {
        let request = server.request(Method::POST, &format!("{AGENTS}/workflows")).header("idempotency-key", "k");
        Answer::of(request.header(header::USER_AGENT, "curl/8").json(&body)).await.ok();
    }
    let created = log(&server, "event_type=workflow_created").await;
    assert_eq!((created.len(), &created[0]["user_agent"]), (1, &json!("curl/8")));
}

#[tokio::test]
async fn audit_log_filters_and_pages_are_bounded() {
    let server = TestApp::builder().database(&fixture("coordinator/coordinator.sqlite")).start().await;
    let theirs = log(&server, "").await;
    assert!(!theirs.is_empty() && theirs.iter().all(|entry| !entry.to_string().contains("admin-key")));
    for n in 0..7 {
        let data = json!({"n": n});
        let body = json!({"event_type": "access_denied", "security_level": "restricted", "execution_id": "exec_f", "event_data": data});
        post_as(&server, OTHER_ADMIN, LOGS, body).await.is(201);
    }
    let mine = log(&server, "execution_id=exec_f").await;
    assert_eq!(
        mine.iter().map(|entry| entry["event_data"]["n"].as_i64().unwrap()).collect::<Vec<_>>(),
        [6, 5, 4, 3, 2, 1, 0]
    );
    assert_eq!((&mine[0]["risk_score"], &mine[0]["requires_investigation"]), (&json!(100), &json!(true)));
    let page = server.get(&format!("{LOGS}?execution_id=exec_f&limit=3&offset=6")).await;
    assert_eq!(page.ok().as_array().unwrap().len(), 1);
    for filter in [
        "event_type=access_denied&risk_score_min=100",
        "requires_investigation=true&security_level=restricted&execution_id=exec_f",
        &format!("user_id={OTHER_ADMIN}"),
        "risk_score_min=100&risk_score_max=100",
    ] {
        assert_eq!(log(&server, filter).await.len(), 7, "{filter}");
    }
    let counted = server.get(&format!("{LOGS}?event_type=access_denied&security_level=restricted&limit=1")).await;
    assert_eq!(counted.header("x-total-count"), "7");
    assert!(!server.get(&format!("{LOGS}?user_id={OTHER_ADMIN}&limit=2")).await.header("link").contains(OTHER_ADMIN));
    for (query, field) in [
        ("event_type=nothing", "event_type"),
        ("risk_score_min=101", "risk_score_min"),
        ("risk_score_max=x", "risk_score_max"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
        ("requires_investigation=perhaps", "requires_investigation"),
    ] {
        let refused = server.get(&format!("{LOGS}?{query}")).await.is(422);
        assert_eq!(locations(&refused)[0], json!(["query", field]), "{refused}");
    }
    server.get(&format!("{LOGS}/audit_none")).await.is(404);
    get_as(&server, CLIENT, LOGS).await.is(403);
    let body = json!({"event_type": "step_failed", "event_data": {"x": "y".repeat(70_000)}});
    assert_eq!(locations(&server.post(LOGS, body).await.is(422))[0], json!(["body", "event_data"]));
    server.post(LOGS, json!({"event_type": "lunch"})).await.is(422);
}

#[tokio::test]
async fn audit_event_signatures_are_verified() {
    use ed25519_dalek::{Signer as _, SigningKey};
    let server = TestApp::start().await;
    let key = SigningKey::from_bytes(&[7; 32]);
    let signature = key.sign(br#"{"model":"llama-7b","tokens":17}"#);
    let signed = |tokens: i64| {
        json!({"event_type": "step_completed", "event_data": {
            "tokens": tokens, "model": "llama-7b", "nothing": null,
            "signature": hex(&signature.to_bytes()), "public_key": hex(key.verifying_key().as_bytes()),
        }})
    };
    for (body, verdict) in [
        (signed(17), json!(true)),
        (signed(18), json!(false)),
        (json!({"event_type": "step_completed", "event_data": {"tokens": 17}}), json!(null)),
    ] {
        let made = server.post(LOGS, body).await.is(201);
        assert_eq!(made["signature_valid"], verdict, "{made}");
        assert_eq!(server.get(&format!("{LOGS}/{}", made.text("id"))).await.ok()["signature_valid"], verdict);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn risky_audit_entries_become_alerts_and_log_lines() {
    let server = Server::start().await;
    let alerts = "/api/v1/agents/integration/production/alerts";
    assert_eq!(server.get(alerts).await.ok(), json!({"alerts": [], "count": 0, "total": 0}));
    let denied = json!({"event_type": "access_denied", "security_level": "public", "workflow_id": "agent_1"});
    let denied = server.post(LOGS, denied).await.is(201);
    let breach = server.post(LOGS, json!({"event_type": "sandbox_breach", "execution_id": "exec_1"})).await.is(201);
    server.post(LOGS, json!({"event_type": "step_failed"})).await.is(201);
    let all = server.get(alerts).await.ok();
    assert_eq!((&all["total"], &all["alerts"][0]["id"]), (&json!(2), &breach["id"]));
    assert_eq!(server.get(&format!("{alerts}?severity=high")).await.ok()["alerts"][0]["id"], denied["id"]);
    assert_eq!(server.get(&format!("{alerts}?severity=critical&limit=1")).await.ok()["count"], 1);
    assert_eq!(server.get(&format!("{alerts}?severity=low")).await.ok()["count"], 0);
    server.get(&format!("{alerts}?severity=awful")).await.is(422);
    server.get(&format!("{alerts}?limit=501")).await.is(422);
    let told = |id: &Value| {
        let log = server.log();
        log.lines().filter(|line| line.contains("needs investigation") && line.contains(id.as_str().unwrap())).count()
    };
    let deadline = std::time::Instant::now() + PATIENCE;
    while told(&breach["id"]) == 0 || told(&denied["id"]) == 0 {
        assert!(std::time::Instant::now() < deadline, "it was never told");
        crate::harness::poll_interval().await;
    }
    assert_eq!((told(&breach["id"]), told(&denied["id"])), (1, 1));
}

#[tokio::test]
async fn audit_export_verification_finds_changes_offline() {
    let mut server =
        Server::builder().env("AUDIT_SEAL_SECONDS", 1).env("AUDIT_ORIGIN", "example.com/log").start().await;
    let w = server.workflow(json!({"a": jq(".x")})).await;
    let first = log(&server, "event_type=workflow_created").await[0].text("id").to_owned();
    let proof = sealed(&server, &first).await;
    let head = server.get(&format!("{TREE}/head")).await.ok();
    let key = head.text("public_key").to_owned();
    assert!(head.text("verifier_key").starts_with("example.com/log+"));
    let note =
        Answer::of(server.request(Method::GET, &format!("{TREE}/head")).header("accept", "text/plain")).await.text;
    assert!(note.starts_with("example.com/log\n"));
    let kept = server.dir().join("kept.txt");
    std::fs::write(&kept, &note).unwrap();
    for n in 0..3 {
        let run = server.execute(&w, json!({"x": n})).await;
        server.ended(run.text("id")).await;
    }
    let last = log(&server, "").await[0].text("id").to_owned();
    let later = sealed(&server, &last).await;
    let from = proof["head"]["size"].as_u64().unwrap();
    let consistency = server.get(&format!("{TREE}/consistency?from={from}")).await.ok();
    server.get(&format!("{TREE}/consistency?from=999999")).await.is(404);
    server.get(&format!("{TREE}/consistency?from=5&to=2")).await.is(422);
    assert_eq!(server.get(&format!("{TREE}/heads?limit=1")).await.ok().as_array().unwrap().len(), 1);
    let dir = server.dir().to_owned();
    for proof in [&proof, &later, &consistency] {
        let done = command(&["verify-audit-proof", "-", "--public-key", &key], &proof.to_string(), &dir);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let mut forged = later.clone();
    forged["leaf_index"] = json!(0);
    assert!(!command(&["verify-audit-proof", "-", "--public-key", &key], &forged.to_string(), &dir).status.success());

    let export = server.get(&format!("{LOGS}/export")).await;
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let verify = |text: &str| {
        let done = command(&["verify-audit", "-", "--public-key", &key, "--checkpoint", "kept.txt"], text, &dir);
        (done.status.success(), serde_json::from_slice::<Value>(&done.stdout).unwrap_or_default())
    };
    let (good, report) = verify(&export.text);
    assert!(good && report["valid"] == true && report["entries"].as_u64().unwrap() > 15, "{report}");
    // The file itself, cut off before the head that was kept.
    let cut: String = export.text.split_inclusive('\n').take(1).collect();
    assert!(!verify(&cut).0);

    // Somebody with the database file; the service is down, and comes up again without noticing.
    assert!(server.terminate().success());
    let database = server.database();
    sql(&database, &format!("UPDATE agent_audit_logs SET user_id = 'key_00000000000000000000' WHERE id = '{first}'"))
        .await;
    let out = command(&["export-audit"], "", &dir);
    let (good, report) = verify(&String::from_utf8(out.stdout).unwrap());
    assert_eq!((good, &report["first_fault"]["audit_id"]), (false, &json!(first)), "{report}");
    sql(&database, "DROP TRIGGER am_audit_entries_kept; DELETE FROM am_audit_entries; DELETE FROM agent_audit_logs; DELETE FROM am_audit_heads; DELETE FROM am_audit_tiles").await;
    let out = command(&["export-audit"], "", &dir);
    let (good, report) = verify(&String::from_utf8(out.stdout).unwrap());
    assert!(!good, "only the head that was kept can tell: {report}");
    assert_eq!(report["first_fault"]["seq"], 1);
}

#[tokio::test]
async fn coordinator_audit_entries_are_sealed_and_marked() {
    let server = TestApp::builder().env("AUDIT_SEAL_SECONDS", 1).start().await;
    sql(
        &server.database(),
        "INSERT INTO agent_audit_logs (id, event_type, timestamp, user_id, security_level, event_data, risk_score, requires_investigation, created_at)
         VALUES ('audit_theirs', 'SECURITY_VIOLATION', '2026-05-12 14:29:30.123456', 'some-secret-api-key', 'PUBLIC', 'null', 90, 1, '2026-05-12 14:29:30.123456')",
    )
    .await;
    sealed(&server, "audit_theirs").await;
    let entry = server.get(&format!("{LOGS}/audit_theirs")).await;
    assert!(!entry.text.contains("some-secret-api-key"));
    assert_eq!(entry.ok()["source"], "coordinator");
    let alerts = ask(&server, Some(ADMIN), Method::GET, "/v1/agents/integration/production/alerts", None).await.ok();
    assert_eq!(
        (&alerts["alerts"][0]["id"], &alerts["alerts"][0]["source"]),
        (&json!("audit_theirs"), &json!("coordinator"))
    );
}
