//! A process dies while it trains: the next one goes on from the last checkpoint, to the same bits.

use super::*;
use crate::rl::{RL, small, trained};

/// A SAC run whose networks are small.
fn sac() -> Value {
    json!({"environment": "Pendulum-v1", "algorithm": "sac", "steps": 256, "seed": 3, "evaluation_episodes": 1, "policy": "p",
        "settings": {"hidden": [8, 8], "batch": 8}})
}

fn ppo() -> Value {
    let mut body = small(320);
    body["policy"] = "p".into();
    body
}

/// A server that keeps a checkpoint after each rollout.
fn training() -> Builder {
    Server::builder().env("TRAINING_CHECKPOINT_SECONDS", 0)
}

async fn begin(server: &ApiClient, body: &Value) -> Option<Answer> {
    let request = server.request(Method::POST, &format!("{RL}/runs")).header("idempotency-key", KEY).json(body);
    let response = request.send().await.ok()?;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.ok()?;
    Some(Answer { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text })
}

/// The hash of the only version of policy `p`, and the run's document without what differs from time to time.
async fn outcome(server: &ApiClient, run: &Value) -> (Value, Value, Value) {
    assert_eq!(run["status"], "completed", "{run}");
    let versions = server.get(&format!("{RL}/policies/p/versions")).await.ok();
    assert_eq!(versions.as_array().unwrap().len(), 1, "one version, however often it was trained");
    (versions[0]["sha256"].clone(), run["curve"].clone(), run["scores"].clone())
}

/// What comes of a run that nothing interrupts.
async fn undisturbed(body: &Value) -> (Value, Value, Value) {
    let server = training().start().await;
    let run = begin(&server, body).await.unwrap().is(201);
    let run = trained(&server, run.text("id")).await;
    outcome(&server, &run).await
}

async fn run_events(server: &ApiClient, id: &str) -> Vec<Value> {
    let page = server.get(&format!("{RL}/runs/{id}/events?format=json&limit=1000")).await.ok();
    page["events"].as_array().unwrap().clone()
}

/// Die at the `n`th passage of `point`, start again, and compare.
async fn dies_while_training(body: &Value, point: &str, n: usize, wanted: &(Value, Value, Value)) {
    let mut server = training().env("FAILPOINTS", format!("{point}={n}*off->return")).start().await;
    // The answer may be lost with the process.
    let id = begin(&server, body).await.map(|answer| answer.is(201)["id"].clone());
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&server.wait()), Some(9), "{point} {n}");
    let server = server.again().env("FAILPOINTS", "").start().await;
    let repeated = begin(&server, body).await.unwrap().is(201)["id"].clone();
    assert!(id.is_none_or(|id| id == repeated), "a repeated request is the same run");
    let run = trained(&server, repeated.as_str().unwrap()).await;
    assert_eq!(&outcome(&server, &run).await, wanted, "{point} {n}");
    let events = run_events(&server, repeated.as_str().unwrap()).await;
    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>(), "no gap and no double");
    let again = |event: &&Value| event["type"] == "resumed" || event["type"] == "restarted";
    let resumed = events.iter().find(again).expect("it says that it goes on");
    // The last checkpoint that a row names is where it goes on.
    let before = events.iter().take_while(|event| !again(event));
    let kept = before.filter_map(|event| event["data"]["checkpoint"].as_u64()).last();
    assert_eq!(resumed["data"]["steps"], kept.unwrap_or(0), "{point} {n}");
    assert_eq!(resumed["type"] == "resumed", kept.is_some(), "{point} {n}: it says which");
    // Removed after the end is on record.
    let removed = timeout(PATIENCE, async {
        while std::fs::read_dir(server.dir().join("training")).unwrap().count() > 0 {
            crate::harness::poll_interval().await;
        }
    });
    removed.await.expect("no checkpoint is left behind");
}

#[tokio::test]
async fn training_result_is_bit_identical_after_a_crash() {
    let body = ppo();
    let wanted = undisturbed(&body).await;
    for (point, n) in [
        ("train.after_advance", 0),
        ("train.after_advance", 5),
        ("train.after_checkpoint_file", 0),
        ("train.after_checkpoint_file", 4),
        ("train.after_checkpoint", 3),
        ("train.before_publish", 0),
    ] {
        dies_while_training(&body, point, n, &wanted).await;
    }
}

#[tokio::test]
async fn replay_training_result_is_bit_identical_after_a_crash() {
    let body = sac();
    let wanted = undisturbed(&body).await;
    dies_while_training(&body, "train.after_advance", 2, &wanted).await;
    dies_while_training(&body, "train.after_checkpoint", 1, &wanted).await;
}

fn train_step(steps: u64) -> Value {
    let mut action = small(steps);
    action["kind"] = "train".into();
    action["policy"] = "p".into();
    json!({"step_type": "training", "action": action})
}

async fn runs(server: &ApiClient) -> Vec<Value> {
    server.get(&format!("{RL}/runs")).await.ok().as_array().unwrap().clone()
}

#[tokio::test]
async fn training_step_waits_for_its_run_after_a_crash() {
    let mut server = training().env("FAILPOINTS", "train.after_checkpoint=3*off->return").start().await;
    let ask = json!({"step_type": "inference", "depends_on": ["train"], "input_mappings": {"state": "$.inputs.state"},
        "action": {"kind": "policy", "policy": "p"}});
    let workflow = server.workflow(json!({"train": train_step(320), "ask": ask})).await;
    let path = format!("/api/v1/agents/workflows/{workflow}/execute");
    let request = server.request(Method::POST, &path).header("idempotency-key", KEY);
    let _ = request.json(&json!({"inputs": {"state": [0, 0, 0, 0]}})).send().await;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&server.wait()), Some(9));
    let server = server.again().env("FAILPOINTS", "").start().await;
    let all = server.get("/api/v1/agents/executions").await.ok();
    let ended = server.ended(all[0].text("id")).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let runs = runs(&server).await;
    assert_eq!((runs.len(), &runs[0]["status"]), (1, &json!("completed")), "one run was ordered");
    assert_eq!(ended["final_result"]["step_results"]["ask"]["policy"], "p@1");
    assert_eq!(ended["step_states"]["train"]["attempts"], 1);
}

#[tokio::test]
async fn cancelling_an_execution_cancels_its_training_run() {
    let server = training().start().await;
    // The second one waits for the only slot.
    let workflow = server.workflow(json!({"a": train_step(50_000_000)})).await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = server.execute(&workflow, json!({})).await.text("id").to_owned();
        server.until(&id, |run| run["step_states"]["a"]["job_id"].is_string()).await;
        ids.push(id);
    }
    let begun = async {
        while !runs(&server).await.iter().any(|run| run["status"] == "running") {
            crate::harness::poll_interval().await;
        }
    };
    timeout(PATIENCE, begun).await.unwrap();
    // Also when another process has driven it since.
    let server = server.restart().await;
    for id in &ids {
        server.post(&format!("/api/v1/agents/executions/{id}/cancel"), json!({})).await.ok();
    }
    for run in runs(&server).await {
        assert_eq!(trained(&server, run.text("id")).await["status"], "cancelled");
    }
    server.get(&format!("{RL}/policies/p")).await.is(404);
}

#[tokio::test]
async fn orderly_stop_writes_a_training_checkpoint() {
    let mut server = Server::start().await;
    let run = begin(&server, &{
        let mut body = ppo();
        body["steps"] = 50_000_000.into();
        body
    })
    .await
    .unwrap()
    .is(201);
    let id = run.text("id").to_owned();
    let path = format!("{RL}/runs/{id}");
    let begun = async {
        while server.get(&path).await.ok()["steps_done"].as_u64().unwrap() == 0 {
            crate::harness::poll_interval().await;
        }
    };
    timeout(PATIENCE, begun).await.unwrap();
    assert!(server.terminate().success());
    let server = server.again().start().await;
    let resumed = timeout(PATIENCE, async {
        loop {
            let events = run_events(&server, &id).await;
            if let Some(resumed) = events.iter().find(|event| event["type"] == "resumed") {
                let released = events.iter().position(|event| event["type"] == "released").unwrap();
                return (resumed["data"]["steps"].clone(), events[released - 1]["data"]["checkpoint"].clone());
            }
            crate::harness::poll_interval().await;
        }
    });
    let (at, kept) = resumed.await.unwrap();
    assert!(at == kept && at.as_u64().unwrap() > 0, "{at} {kept}");
    server.post(&format!("{path}/cancel"), json!({})).await.ok();
    assert_eq!(trained(&server, &id).await["status"], "cancelled");
}

#[tokio::test]
async fn second_process_takes_over_a_training_run() {
    let mut first = training().start().await;
    let mut body = ppo();
    body["steps"] = 50_000_000.into();
    let run = begin(&first, &body).await.unwrap().is(201);
    let id = run.text("id").to_owned();
    let active = async |server: &ApiClient| server.get("/metrics").await.text.contains("rl_training_active 1");
    let until_active = async |server: &ApiClient| {
        let wait = async {
            while !active(server).await {
                crate::harness::poll_interval().await;
            }
        };
        timeout(PATIENCE, wait).await.unwrap();
    };
    until_active(&first).await;
    let second = training().beside(&first).start().await;
    // The second one looks once a second; it has looked when another run of its own was done.
    let other = second.post(&format!("{RL}/runs"), small(64)).await.is(201);
    assert_eq!(trained(&second, other.text("id")).await["status"], "completed");
    assert!(active(&first).await && !active(&second).await);
    first.kill();
    until_active(&second).await;
    // A wish reaches the process that drives the run.
    second.post(&format!("{RL}/runs/{id}/cancel"), json!({})).await.ok();
    assert_eq!(trained(&second, &id).await["status"], "cancelled");
    let events = run_events(&second, &id).await;
    assert!(events.iter().filter(|event| event["type"] == "resumed").count() == 1, "{events:?}");
}

#[tokio::test]
async fn training_cancel_survives_crash_and_stop() {
    for stopped in [false, true] {
        // No checkpoint comes by itself, so the driver asks once a second what is wished.
        let mut server = training().env("TRAINING_CHECKPOINT_SECONDS", 3600).start().await;
        let workflow = server.workflow(json!({"a": train_step(50_000_000)})).await;
        let id = server.execute(&workflow, json!({})).await.text("id").to_owned();
        let begun = async {
            while !runs(&server).await.iter().any(|run| run["status"] == "running") {
                crate::harness::poll_interval().await;
            }
        };
        timeout(PATIENCE, begun).await.unwrap();
        let run = runs(&server).await[0].text("id").to_owned();
        server.post(&format!("/api/v1/agents/executions/{id}/cancel"), json!({})).await.ok();
        if stopped {
            assert!(server.terminate().success());
            let status: String = sqlx::query_scalar("SELECT status FROM am_training_runs")
                .fetch_one(&mut open(&server.database()).await)
                .await
                .unwrap();
            assert_eq!(status, "cancelled", "it is not left for the next one to train");
        }
        let server = server.again().start().await;
        assert_eq!(trained(&server, &run).await["status"], "cancelled");
    }
}

#[tokio::test]
async fn training_run_survives_random_crashes() {
    let seed = u64::from(std::process::id());
    eprintln!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut body = ppo();
    body["steps"] = 10_000.into();
    let wanted = undisturbed(&body).await;
    let mut server = training().start().await;
    let id = begin(&server, &body).await.unwrap().is(201).text("id").to_owned();
    let mut reached = None;
    for _ in 0..5 {
        // A run that never comes on is given up.
        let come_on = async {
            loop {
                let run = server.get(&format!("{RL}/runs/{id}")).await.ok();
                let steps = run["checkpoint"]["steps"].as_u64();
                if steps > reached || run["status"] == "completed" {
                    return steps.or(reached);
                }
                crate::harness::poll_interval().await;
            }
        };
        reached = timeout(PATIENCE, come_on).await.unwrap();
        // When to kill, not what to wait for.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
        server = server.again().start().await;
    }
    let run = trained(&server, &id).await;
    assert_eq!(outcome(&server, &run).await, wanted, "seed {seed}");
    let removed = timeout(PATIENCE, async {
        while std::fs::read_dir(server.dir().join("training")).unwrap().count() > 0 {
            crate::harness::poll_interval().await;
        }
    });
    removed.await.expect("nothing is left behind, half-written files neither");
}
