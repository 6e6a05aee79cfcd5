//! Steps that miners do: rows in the coordinator's queue, which a Python program takes with its own SQL.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};
use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use tokio::time::timeout;

use crate::harness::{ApiClient, PATIENCE, Server, TestApp};
use crate::kit::{AGENTS, JsonDocument, sql};

/// Local time nine hours ahead of UTC's, so that the two can't be taken for each other.
const ZONE: &str = "XST-9";

struct Miner(Child);

impl Miner {
    /// One whose local time is the service's: of `zone`, or of this process.
    fn start(database: &Path, zone: Option<&str>) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/miner.py");
        let mut command = Command::new("python3");
        command.arg(program).arg(database).envs(zone.map(|zone| ("TZ", zone)));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn server() -> Server {
    Server::builder().env("TZ", ZONE).env("SERVICE_CONSTRAINTS", "strict").start().await
}

/// A connection as another process has it.
pub async fn open(database: &Path) -> sqlx::SqliteConnection {
    SqliteConnectOptions::new().filename(database).busy_timeout(PATIENCE).connect().await.unwrap()
}

/// The queue, oldest first.
pub async fn queue(server: &ApiClient) -> Vec<Value> {
    let rows: String = sqlx::query_scalar(
        "SELECT json_group_array(json(row)) FROM (SELECT json_object('id', id, 'client_id', client_id, 'state', state, 'payload', payload,
             'constraints', constraints, 'ttl_seconds', ttl_seconds, 'requested_at', requested_at, 'expires_at', expires_at,
             'assigned_miner_id', assigned_miner_id, 'result', result, 'receipt', receipt, 'receipt_id', receipt_id, 'error', error,
             'payment_id', payment_id, 'payment_status', payment_status) AS row FROM job ORDER BY requested_at, rowid)",
    )
    .fetch_one(&mut open(&server.database()).await)
    .await
    .unwrap();
    serde_json::from_str(&rows).unwrap()
}

/// Until `done` holds of the queue.
async fn queue_until(server: &ApiClient, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let came = timeout(PATIENCE, async {
        loop {
            let rows = queue(server).await;
            if done(&rows) {
                return rows;
            }
            crate::harness::poll_interval().await;
        }
    });
    came.await.expect("the queue never came to that")
}

fn states(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row.text("state")).collect()
}

pub fn llm(prompt: &str) -> Value {
    json!({"step_type": "inference", "max_retries": 1, "retry_policy": {"initial_seconds": 0.01},
        "action": {"kind": "job", "service": "llm_inference", "request": {"model": "llama-7b", "prompt": prompt}}})
}

async fn start(server: &ApiClient, steps: Value, inputs: Value) -> String {
    let workflow = server.workflow(steps).await;
    server.execute(&workflow, inputs).await.text("id").to_owned()
}

/// A row as the coordinator itself wrote it.
const COORDINATORS: &str = r#"{"id": "00000000000000000000000000000000", "client_id": "client-key-0123456789abcdef", "state": "QUEUED",
    "payload": "{\"service_type\": \"whisper\", \"service_request\": {\"audio_url\": \"https://example.com/a.wav\"}}",
    "constraints": "{\"models\": [\"whisper\"], \"min_vram_gb\": 1, \"gpu\": \"nvidia\"}", "ttl_seconds": 900,
    "requested_at": "2026-05-12 14:29:30.123456", "expires_at": "2026-05-12 14:44:30.123456", "assigned_miner_id": null, "result": "null",
    "receipt": "null", "receipt_id": null, "error": null, "payment_id": null, "payment_status": null}"#;

#[tokio::test]
async fn queued_job_row_has_the_coordinators_form() {
    let server = server().await;
    let id = start(&server, json!({"j": llm("$.inputs.q")}), json!({"q": "hé"})).await;
    let run = server.until(&id, |run| run["step_states"]["j"]["job_id"].is_string()).await;
    let row = queue(&server).await.remove(0);
    let theirs: Value = serde_json::from_str(COORDINATORS).unwrap();
    for (column, their) in theirs.as_object().unwrap() {
        let our = &row[column];
        assert_eq!(std::mem::discriminant(our), std::mem::discriminant(their), "{column}: {our}");
        // The same form: digits stand for digits, and what is no text is the same or a number.
        let form = |value: &Value| value.as_str().map(|text| text.replace(|c: char| c.is_ascii_digit(), "0"));
        if !matches!(column.as_str(), "id" | "client_id" | "payload" | "constraints") {
            assert_eq!(form(our), form(their), "{column}");
        }
    }
    let text = |column: &str| row[column].as_str().unwrap();
    assert!(text("id").len() == 32 && text("id").bytes().all(|byte| b"0123456789abcdef".contains(&byte)));
    assert_eq!(row["id"], run["step_states"]["j"]["job_id"]);
    assert!(text("client_id").starts_with("key_"), "a principal and no key: {row}");
    let parsed = |column: &str| serde_json::from_str::<Value>(text(column)).unwrap();
    assert_eq!(
        parsed("payload"),
        json!({"service_type": "llm_inference", "service_request": {"model": "llama-7b", "prompt": "hé", "max_tokens": 256,
            "temperature": 0.7, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.1, "stream": false},
            "type": "inference", "model": "llama-7b", "prompt": "hé"}),
        "the schema's members and defaults, and none that it does not know"
    );
    assert_eq!(parsed("constraints"), json!({"models": ["llm"], "gpu": "nvidia", "cuda": "11.8", "min_vram_gb": 8}));
    assert_eq!(row["ttl_seconds"], 300);
    let moment = |text: &str| chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.6f").unwrap();
    let (asked, expires) = (moment(text("requested_at")), moment(text("expires_at")));
    assert_eq!((expires - asked).num_seconds(), 300);
    let created: chrono::DateTime<chrono::Utc> = run.text("created_at").parse().unwrap();
    let ahead = (asked - created.naive_utc()).num_seconds();
    assert!((9 * 3600..9 * 3600 + 60).contains(&ahead), "in this table alone time is local: {ahead}");
}

#[tokio::test]
async fn miner_completes_steps_and_its_receipt_is_paid() {
    let server = server().await;
    let _miner = Miner::start(&server.database(), Some(ZONE));
    let mut proven = llm("$.steps.j.output.text");
    proven["depends_on"] = json!(["j"]);
    proven["verification_level"] = "zero-knowledge".into();
    let named =
        json!({"step_type": "inference", "model_requirements": {"model": "mistral-7b"}, "depends_on": ["proven"]});
    let steps = json!({"j": llm("hello"), "proven": proven, "named": named,
        "v": {"step_type": "verification", "depends_on": ["proven"]}});
    let done = server.ended(&start(&server, steps, json!({})).await).await;
    assert_eq!(done["status"], "completed", "{done}");
    let results = &done["final_result"]["step_results"];
    assert_eq!((&results["j"], &results["named"]), (&json!({"text": "HELLO"}), &json!({"text": "HELLO"})));
    assert_eq!(done["total_cost"], 0.79, "four steps and three receipts");
    assert_eq!(results["v"]["steps"]["proven"]["checks_passed"].as_array().unwrap().last().unwrap(), "proof");
    let rows = queue(&server).await;
    let needs: Value = serde_json::from_str(rows[2].text("constraints")).unwrap();
    assert_eq!(needs["min_vram_gb"], 8, "a known model's name is enough for a job");
    assert_eq!(states(&rows), ["COMPLETED"; 3]);
}

#[tokio::test]
async fn failed_job_is_retried_as_a_new_job() {
    let server = TestApp::start().await;
    let _miner = Miner::start(&server.database(), None);
    let done = server.ended(&start(&server, json!({"j": llm("fail")}), json!({})).await).await;
    assert_eq!(done["status"], "completed", "{done}");
    assert_eq!((&done["step_states"]["j"]["attempts"], &done["total_cost"]), (&json!(2), &json!(0.26)));
    assert_eq!(states(&queue(&server).await), ["FAILED", "COMPLETED"]);
}

#[tokio::test]
async fn expired_job_fails_its_step() {
    let server = TestApp::start().await;
    let mut step = llm("hello");
    step["action"]["ttl_seconds"] = 1.into();
    let id = start(&server, json!({"j": step}), json!({})).await;
    let failed = server.ended(&id).await;
    let events = server.get(&format!("{AGENTS}/executions/{id}/events?format=json")).await.ok();
    let told = |kind: &str| -> Vec<Value> {
        let events = events["events"].as_array().unwrap().iter().filter(|event| event["type"] == kind);
        events.map(|event| event["data"].clone()).collect()
    };
    let (queued, expired) = (told("job_queued"), told("job_expired"));
    assert_eq!((queued.len(), expired.len()), (2, 2), "{events}");
    for (attempt, (queued, expired)) in (1..).zip(queued.iter().zip(&expired)) {
        assert_eq!((&queued["attempt"], &expired["attempt"]), (&json!(attempt), &json!(attempt)));
        assert_eq!(queued["job_id"], expired["job_id"]);
    }
    assert_eq!((&failed["status"], &failed["failed_step"]), (&json!("failed"), &json!("j")));
    let message = failed.text("error_message");
    assert!(message.contains("expired: no miner took it in time"), "{message}");
    assert_eq!(failed["step_states"]["j"]["attempts"], 2);
    assert_eq!(states(&queue(&server).await), ["EXPIRED", "EXPIRED"]);
    assert_eq!(failed["total_cost"], 0.0);
}

#[tokio::test]
async fn cancelled_execution_withdraws_its_queued_jobs() {
    let server = TestApp::start().await;
    let _miner = Miner::start(&server.database(), None);
    let mut elsewhere = llm("hello");
    elsewhere["action"]["constraints"] = json!({"region": "us"});
    let id = start(&server, json!({"held": llm("hold"), "queued": elsewhere.clone()}), json!({})).await;
    queue_until(&server, |rows| {
        let mut states = states(rows);
        states.sort_unstable();
        states == ["QUEUED", "RUNNING"]
    })
    .await;
    server.post(&format!("/api/v1/agents/executions/{id}/cancel"), json!({})).await.ok();
    for row in queue(&server).await {
        let elsewhere = row.text("constraints").contains("us");
        assert_eq!(row["state"], if elsewhere { "CANCELED" } else { "RUNNING" }, "a miner's work is left to it");
    }
    let mut slow = llm("hold");
    (slow["timeout_seconds"], slow["max_retries"]) = (1.into(), 0.into());
    let failed = server.ended(&start(&server, json!({"slow": slow, "queued": elsewhere}), json!({})).await).await;
    assert_eq!(failed["failed_step"], "slow");
    let rows = queue(&server).await;
    assert_eq!(rows.iter().filter(|row| row["state"] == "CANCELED").count(), 2, "{rows:?}");
    assert!(rows.iter().all(|row| row["state"] != "QUEUED"), "{rows:?}");
}

#[tokio::test]
async fn job_max_price_is_reserved_before_queueing() {
    let server = TestApp::start().await;
    let mut dear = llm("hello");
    dear["action"]["max_price"] = 5.into();
    let workflow = server.workflow(json!({"j": dear})).await;
    let path = format!("/api/v1/agents/workflows/{workflow}/execute?wait=20");
    let failed = server.post(&path, json!({"max_cost_budget": 5.0})).await.ok();
    let message = failed.text("error_message");
    assert!(message.contains("max_cost_budget 5: 0 is spent, and step \"j\" may cost 5.01"), "{message}");
    assert!(queue(&server).await.is_empty(), "nothing was ordered");
    let started = server.execute(&workflow, json!({})).await;
    let rows = queue_until(&server, |rows| !rows.is_empty()).await;
    let needs: Value = serde_json::from_str(rows[0].text("constraints")).unwrap();
    assert_eq!(needs["max_price"], 5.0);
    let id = started.text("id");
    assert_eq!(server.get(&format!("/api/v1/agents/executions/{id}")).await.ok()["step_states"]["j"]["reserved"], 5.01);
    let _miner = Miner::start(&server.database(), None);
    let done = server.ended(id).await;
    assert_eq!((&done["total_cost"], &done["step_states"]["j"]["reserved"]), (&json!(0.26), &Value::Null));
}

#[tokio::test]
async fn queued_jobs_survive_an_orderly_restart() {
    let mut server = server().await;
    let workflow = server.workflow(json!({"j": llm("hello")})).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(server.execute(&workflow, json!({})).await.text("id").to_owned());
    }
    let before = queue_until(&server, |rows| rows.len() == 20).await;
    for _ in 0..3 {
        assert!(server.terminate().success());
        server = server.restart().await;
    }
    let _miner = Miner::start(&server.database(), Some(ZONE));
    for id in &ids {
        assert_eq!(server.ended(id).await["status"], "completed");
    }
    let after = queue(&server).await;
    let names = |rows: &[Value]| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
    assert_eq!((names(&after), states(&after)), (names(&before), vec!["COMPLETED"; 20]));
}

#[tokio::test]
async fn unreadable_job_row_fails_its_step_only() {
    let server = TestApp::start().await;
    let mut once = llm("odd");
    once["max_retries"] = 0.into();
    let odd = start(&server, json!({"j": once}), json!({})).await;
    let row = queue_until(&server, |rows| rows.len() == 1).await.remove(0);
    let good = start(&server, json!({"j": llm("hello")}), json!({})).await;
    queue_until(&server, |rows| rows.len() == 2).await;
    sqlx::query("UPDATE job SET state = 'COMPLETED', result = '{' WHERE id = ?1")
        .bind(row.text("id"))
        .execute(&mut open(&server.database()).await)
        .await
        .unwrap();
    let failed = server.ended(&odd).await;
    assert!(failed.text("error_message").contains("its row can't be read"), "{failed}");
    let _miner = Miner::start(&server.database(), None);
    assert_eq!(server.ended(&good).await["status"], "completed");
}

#[tokio::test]
async fn hour_repeated_at_the_end_of_summer_time_is_its_first() {
    let server = Server::builder().env("TZ", "CET-1CEST,M3.5.0,M10.5.0/3").start().await;
    start(&server, json!({"j": llm("hello")}), json!({})).await;
    let id = queue_until(&server, |rows| rows.len() == 1).await[0].text("id").to_owned();
    for (stored, moment) in
        [("01:30", "2020-10-24T23:30"), ("02:30", "2020-10-25T00:30"), ("03:30", "2020-10-25T02:30")]
    {
        let change = format!("UPDATE job SET requested_at = '2020-10-25 {stored}:00.000000' WHERE id = '{id}'");
        crate::kit::sql(&server.database(), &change).await;
        let job = server.get(&format!("/api/v1/services/jobs/{id}")).await.ok();
        assert!(job.text("requested_at").starts_with(moment), "{stored}: {job}");
    }
}

/// Whether any table but the coordinator's `job` holds this text.
async fn tables_with(server: &ApiClient, text: &str) -> Vec<String> {
    let mut conn = open(&server.database()).await;
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'job'")
            .fetch_all(&mut conn)
            .await
            .unwrap();
    let mut found = Vec::new();
    for table in tables {
        let columns: Vec<String> = sqlx::query_scalar("SELECT name FROM pragma_table_info(?)")
            .bind(&table)
            .fetch_all(&mut conn)
            .await
            .unwrap();
        let any: Vec<String> = columns.iter().map(|name| format!("instr(CAST(\"{name}\" AS TEXT), ?1) > 0")).collect();
        let query = format!("SELECT count(*) FROM \"{table}\" WHERE {}", any.join(" OR "));
        let count: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).bind(text).fetch_one(&mut conn).await.unwrap();
        if count > 0 {
            found.push(table);
        }
    }
    found
}

#[tokio::test]
async fn keys_of_miners_and_clients_are_neither_shown_nor_stored() {
    const KEY: &str = crate::harness::MINER;
    const OWNER: &str = crate::harness::CLIENT;
    let server = TestApp::start().await;
    let end = async |id: &str| {
        let change = format!(
            "UPDATE job SET state = 'COMPLETED', client_id = '{OWNER}', assigned_miner_id = '{KEY}', \
             result = '{{\"text\": \"by {KEY}\"}}', \
             receipt = '{{\"provider\": \"{KEY}\", \"client\": \"{OWNER}\", \"price\": 0.1}}' WHERE id = '{id}'"
        );
        crate::kit::sql(&server.database(), &change).await;
    };
    let run = start(&server, json!({"j": llm("hello")}), json!({})).await;
    let job = queue_until(&server, |rows| rows.len() == 1).await[0].text("id").to_owned();
    end(&job).await;
    let done = server.ended(&run).await;
    assert_eq!((&done["status"], &done["total_cost"]), (&json!("completed"), &json!(0.11)), "{done}");
    let asked = json!({"model": "llama-7b", "prompt": "hello"});
    let ordered = server.post("/api/v1/services/llm/inference", asked).await.is(201).text("job_id").to_owned();
    end(&ordered).await;
    server.post(&format!("/api/v1/agents/{KEY}/learning/enable"), json!({})).await.ok();
    for path in [
        format!("/api/v1/services/jobs/{job}"),
        format!("/api/v1/services/jobs/{ordered}?wait=5"),
        format!("/api/v1/services/jobs/{ordered}/events"),
        "/api/v1/services/jobs".to_owned(),
        format!("/api/v1/agents/executions/{run}"),
        format!("/api/v1/agents/executions/{run}/events"),
        format!("/api/v1/agents/executions/{run}/receipt"),
        format!("/api/v1/agents/{KEY}/learning/progress"),
        "/api/v1/agents/security/audit-logs".to_owned(),
    ] {
        let shown = server.get(&path).await.ok().to_string();
        assert!(!shown.contains(KEY) && !shown.contains(OWNER), "{path}: {shown}");
    }
    for key in [KEY, OWNER] {
        assert_eq!(tables_with(&server, key).await, [""; 0]);
    }
}

/// A run whose job a miner has, with the job's id.
async fn taken(server: &ApiClient, steps: Value, budget: f64) -> (String, String) {
    let workflow = server.workflow(steps).await;
    let body = json!({"inputs": {}, "max_cost_budget": budget});
    let run = server.post(&format!("{AGENTS}/workflows/{workflow}/execute"), body).await.ok();
    let id = run.text("id").to_owned();
    let run = server.until(&id, |run| run["step_states"]["j"]["job_id"].is_string()).await;
    let job = run["step_states"]["j"].text("job_id").to_owned();
    sql(&server.database(), &format!("UPDATE job SET state = 'RUNNING' WHERE id = '{job}'")).await;
    (id, job)
}

async fn cancel(server: &ApiClient, id: &str) {
    server.post(&format!("{AGENTS}/executions/{id}/cancel"), json!({})).await.ok();
}

async fn finish(server: &ApiClient, job: &str, state: &str) {
    let change = format!(
        "UPDATE job SET state = '{state}', result = '{{\"text\": \"x\"}}', receipt = '{{\"price\": 0.25}}' WHERE id = '{job}'"
    );
    sql(&server.database(), &change).await;
}

#[tokio::test]
async fn job_that_outlives_its_execution_is_paid_once() {
    // Nothing is noticed by itself.
    let settings = [("JOB_POLL_MS", "60000"), ("ENGINE_LEASE_SECONDS", "3600")];
    let builder = settings.iter().fold(TestApp::builder(), |builder, (name, value)| builder.env(name, value));
    let server = builder.start().await;
    let steps = || json!({"j": llm("hello")});
    let (late, late_job) = taken(&server, steps(), 0.0).await;
    cancel(&server, &late).await;
    finish(&server, &late_job, "COMPLETED").await;
    // It ended first, but nobody had noticed.
    let (unnoticed, unnoticed_job) = taken(&server, steps(), 0.0).await;
    finish(&server, &unnoticed_job, "COMPLETED").await;
    cancel(&server, &unnoticed).await;
    let (dear, dear_job) = taken(&server, steps(), 0.1).await;
    cancel(&server, &dear).await;
    finish(&server, &dear_job, "COMPLETED").await;
    let (free, free_job) = taken(&server, steps(), 0.0).await;
    cancel(&server, &free).await;
    finish(&server, &free_job, "FAILED").await;
    let (withdrawn, gone) = (taken(&server, steps(), 0.0).await, "DELETE FROM job WHERE id = ");
    cancel(&server, &withdrawn.0).await;
    sql(&server.database(), &format!("PRAGMA foreign_keys = OFF; {gone}'{}'", withdrawn.1)).await;

    let server = server.restart_with(&[("JOB_POLL_MS", "20"), ("ENGINE_LEASE_SECONDS", "1")]).await;
    // One that a miner has while its execution fails, and one whose miner takes its time.
    let failing = json!({"j": llm("hello"), "bad": {"step_type": "data_processing", "max_retries": 0,
        "depends_on": ["held"], "action": {"kind": "jq", "program": "error(\"x\")"}}, "held": llm("held")});
    let (failed, failed_job) = taken(&server, failing, 0.0).await;
    let held = server.get(&format!("{AGENTS}/executions/{failed}")).await.ok()["step_states"]["held"].clone();
    finish(&server, held.text("job_id"), "COMPLETED").await;
    assert_eq!(server.ended(&failed).await["status"], "failed");
    finish(&server, &failed_job, "COMPLETED").await;
    let (slow, slow_job) = taken(&server, steps(), 0.0).await;
    cancel(&server, &slow).await;
    let costs = [(&late, 0.26), (&unnoticed, 0.26), (&dear, 0.1), (&failed, 0.52)];
    for (id, cost) in costs {
        server.until(id, |run| run["total_cost"] == cost).await;
    }
    // After the next round nothing else has come.
    assert_eq!(server.get(&format!("{AGENTS}/executions/{slow}")).await.ok()["total_cost"], 0.0);
    finish(&server, &slow_job, "COMPLETED").await;
    server.until(&slow, |run| run["total_cost"] == 0.26).await;
    for (id, cost) in costs.into_iter().chain([(&free, 0.0), (&withdrawn.0, 0.0)]) {
        assert_eq!(server.get(&format!("{AGENTS}/executions/{id}")).await.ok()["total_cost"], cost);
    }
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM am_late_jobs")
        .fetch_one(&mut open(&server.database()).await)
        .await
        .unwrap();
    assert_eq!(left, 0);
    for (id, jobs) in [(&late, 1), (&unnoticed, 1), (&dear, 1), (&failed, 1), (&slow, 1), (&free, 0), (&withdrawn.0, 0)]
    {
        let path = format!("{AGENTS}/security/audit-logs?execution_id={id}&event_type=workflow_updated&limit=500");
        let entries = server.get(&path).await.ok();
        let booked = entries.as_array().unwrap().iter().filter(|one| one["event_data"]["action"] == "late_cost_booked");
        assert_eq!(booked.count(), jobs, "{id}: {entries}");
    }
}
