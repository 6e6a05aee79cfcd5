//! A miner that announces product names and model names, and reports failures as results.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    harness::{ApiClient, CLIENT, PATIENCE, TestApp, poll_interval},
    jobs::{llm, queue},
    kit::{AGENTS, JsonDocument, get_as, post_as, sql},
};

const SERVICES: &str = "/api/v1/services";

struct Miner(Child);

impl Miner {
    fn start(database: &Path, models: &[&str]) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/upstream/miner.py");
        let mut command = Command::new("python3");
        command.arg(program).arg(database).args(models).stdin(Stdio::null()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Order this of a service and wait for its end.
async fn ordered(server: &ApiClient, path: &str, body: Value) -> Value {
    let job = post_as(server, CLIENT, &format!("{SERVICES}{path}"), body).await.is(201).text("job_id").to_owned();
    get_as(server, CLIENT, &format!("{SERVICES}/jobs/{job}?wait=25")).await.is(200)
}

async fn run(server: &ApiClient, prompt: &str) -> Value {
    let mut step = llm(prompt);
    step["max_retries"] = 0.into();
    step["verification_level"] = "full".into();
    let workflow = server.workflow(json!({"j": step})).await;
    server.ended(server.execute(&workflow, json!({})).await.text("id")).await
}

#[tokio::test]
async fn step_has_the_result_the_price_and_the_memory_that_the_receipt_states() {
    let server = TestApp::start().await;
    let _miner = Miner::start(&server.database(), &["llama3.2:3b"]);
    let done = run(&server, "hello").await;
    assert_eq!(done["status"], "completed", "{done}");
    let result = &done["final_result"]["step_results"]["j"];
    assert_eq!((&result["output"], &result["tokens_processed"]), (&json!("HELLO"), &json!(7)));
    assert_eq!(done["total_cost"], 0.11, "a step, and five seconds of the miner's");
    let logs = server.get(&format!("{AGENTS}/executions/{}/logs", done.text("id"))).await.ok();
    let log = &logs["step_logs"][0];
    assert_eq!((&log["memory_usage"], &log["gpu_accelerated"]), (&json!(2048.0), &json!(true)), "{logs}");
    let row = queue(&server).await.remove(0);
    let needs: Value = serde_json::from_str(row.text("constraints")).unwrap();
    assert_eq!(needs, json!({"min_vram_gb": 8}), "nothing that the miner can't meet");
}

#[tokio::test]
async fn failure_inside_a_result_fails_the_step_and_costs_nothing() {
    let server = TestApp::start().await;
    let _miner = Miner::start(&server.database(), &["llama3.2:3b"]);
    let failed = run(&server, "fail").await;
    assert_eq!((&failed["status"], &failed["total_cost"]), (&json!("failed"), &json!(0.0)), "{failed}");
    assert!(failed.text("error_message").contains("CUDA out of memory"), "{failed}");
    assert!(failed["step_states"]["j"]["verification"].is_null(), "{failed}");
    let row = queue(&server).await.remove(0);
    assert_eq!(row["state"], "COMPLETED", "the coordinator's word for it stays");
}

#[tokio::test]
async fn clients_are_told_of_a_failure_inside_a_result() {
    let server = TestApp::start().await;
    let _miner = Miner::start(&server.database(), &[]);
    let good = ordered(&server, "/llm/inference", json!({"model": "llama-7b", "prompt": "hello"})).await;
    assert_eq!((&good["status"], &good["result"]["output"]), (&json!("COMPLETED"), &json!("HELLO")), "{good}");
    let bad = ordered(&server, "/llm/inference", json!({"model": "llama-7b", "prompt": "fail"})).await;
    assert_eq!((&bad["status"], &bad["error"]), (&json!("FAILED"), &json!("CUDA out of memory")), "{bad}");
    for (state, job) in [("COMPLETED", &good), ("FAILED", &bad)] {
        let listed = get_as(&server, CLIENT, &format!("{SERVICES}/jobs?state={state}")).await.is(200);
        let jobs = listed.as_array().unwrap();
        assert_eq!(jobs.len(), 1, "{state}: {listed}");
        assert_eq!((&jobs[0]["job_id"], &jobs[0]["status"]), (&job["job_id"], &json!(state)));
        assert_eq!(jobs[0]["error"], job["error"]);
    }
    let events = get_as(&server, CLIENT, &format!("{SERVICES}/jobs/{}/events", bad.text("job_id"))).await.text;
    assert!(events.contains("FAILED") && !events.contains("COMPLETED"), "{events}");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let entries = server.get(&format!("{AGENTS}/security/audit-logs?limit=100")).await.ok();
        let told = |action: &str| entries.as_array().unwrap().iter().any(|entry| entry.to_string().contains(action));
        if told("\"failed\"") || told("CUDA out of memory") {
            break;
        }
        assert!(Instant::now() < deadline, "the failure was never recorded: {entries}");
        poll_interval().await;
    }
}

#[tokio::test]
async fn miner_finds_what_it_looks_for_at_the_top_level() {
    let server = TestApp::start().await;
    let _miner = Miner::start(&server.database(), &[]);
    let sound = "https://example.com/a.wav";
    let text = ordered(&server, "/whisper/transcribe", json!({"audio_url": sound, "model": "small"})).await;
    assert_eq!(text["result"]["output"], format!("text of {sound}"), "{text}");
    assert_eq!(text["result"]["model"], "small");
    let film = json!({"input_url": "https://example.com/a.mkv", "output_format": "webm"});
    let film = ordered(&server, "/ffmpeg/transcode", film).await;
    assert_eq!((&film["status"], &film["result"]["output_format"]), (&json!("COMPLETED"), &json!("webm")), "{film}");
    let translated = ordered(&server, "/whisper/translate", json!({"audio_url": sound})).await;
    assert_eq!(translated["status"], "FAILED", "a miner that can't translate says so: {translated}");
    assert_eq!(translated["error"], "Unsupported job type: translate");
}

#[tokio::test]
async fn model_is_required_where_a_miner_announces_its_name() {
    let server = TestApp::start().await;
    sql(
        &server.database(),
        r#"INSERT INTO miner (id, capabilities, concurrency, status, inflight, extra_metadata, last_heartbeat, jobs_completed,
         jobs_failed, total_job_duration_ms, average_job_duration_ms) VALUES
         ('m1', '{"models": ["llama-7b", 7, null]}', 1, 'ONLINE', 0, '{}', '2026-05-12 15:32:30.132465', 0, 0, 0, 0.0),
         ('m2', '{"models": ["llama-13b"]}', 1, 'OFFLINE', 0, '{}', '2026-05-12 15:32:30.132465', 0, 0, 0, 0.0),
         ('m3', '{', 1, 'ONLINE', 0, '{}', '2026-05-12 15:32:30.132465', 0, 0, 0, 0.0),
         ('m4', 'null', 1, 'ONLINE', 0, '{}', '2026-05-12 15:32:30.132465', 0, 0, 0, 0.0)"#,
    )
    .await;
    // What miners announce is read at the start.
    let server = server.restart().await;
    let needs = async |model: &str| {
        let asked = json!({"model": model, "prompt": "hello"});
        post_as(&server, CLIENT, &format!("{SERVICES}/llm/inference"), asked).await.is(201)["constraints"].clone()
    };
    let deadline = Instant::now() + PATIENCE;
    let expected = json!({"models": ["llama-7b"], "min_vram_gb": 8});
    while needs("llama-7b").await != expected {
        assert!(Instant::now() < deadline, "the announcement was never read");
        poll_interval().await;
    }
    assert_eq!(needs("llama-13b").await, json!({"min_vram_gb": 16}), "its miner is gone");
    let server = server.restart_with(&[("SERVICE_CONSTRAINTS", "strict")]).await;
    let asked = json!({"model": "llama-7b", "prompt": "hello"});
    let strict = post_as(&server, CLIENT, &format!("{SERVICES}/llm/inference"), asked).await.is(201);
    assert_eq!(strict["constraints"], json!({"models": ["llm"], "gpu": "nvidia", "cuda": "11.8", "min_vram_gb": 8}));
}
