//! What an execution and its steps say that they wait for.

use super::*;
use crate::kit::{AGENTS, miner_row, sql, waiting};

async fn seen(server: &ApiClient, id: &str) -> Value {
    server.get(&format!("{AGENTS}/executions/{id}")).await.ok()
}

/// The execution once it waits for something of this kind.
async fn waits_for(server: &ApiClient, id: &str, kind: &str) -> Value {
    server.until(id, |run| run["waiting_for"]["kind"] == kind).await
}

async fn started(server: &ApiClient, steps: Value) -> String {
    let workflow = server.workflow(steps).await;
    server.execute(&workflow, json!({})).await.text("id").to_owned()
}

#[tokio::test]
async fn a_queued_job_says_how_many_miners_could_take_it() {
    let server = TestApp::start().await;
    let id = started(&server, json!({"first": jq("1"), "mined": after(waiting(), &["first"])})).await;
    let run = waits_for(&server, &id, "miner").await;
    let wait = &run["waiting_for"];
    assert_eq!((&wait["step"], &wait["matching_miners"]), (&json!("mined"), &json!(0)), "{wait}");
    assert_eq!(wait["job_id"], run["step_states"]["mined"]["job_id"]);
    assert!(wait["since"].is_string() && wait["until"].is_null());
    assert_eq!(wait, &run["step_states"]["mined"]["waiting_for"]);
    assert_eq!(run["step_states"]["first"].get("waiting_for"), None);
    assert_eq!((&run["estimated_completion"], &run["estimated_total_cost"]), (&Value::Null, &Value::Null));
    let listed = server.get(&format!("{AGENTS}/executions")).await.ok();
    assert_eq!(listed[0]["waiting_for"], Value::Null);
    assert_eq!(listed[0]["step_states"]["mined"].get("waiting_for"), None);

    // Behind another job, with a miner that could take both, and one that could not.
    let second = started(&server, json!({"mined": waiting()})).await;
    let miner = |id: &str, mb: u32| miner_row(id, &json!({"gpus": [{"name": "g", "memory_mb": mb}]}));
    sql(&server.database(), &format!("{};{}", miner("large", 8192), miner("small", 1024))).await;
    let run = server.until(&second, |run| run["waiting_for"]["queue_position"] == 2).await;
    assert_eq!(run["waiting_for"]["matching_miners"], 1, "{run}");
    assert!(run["estimated_total_cost"].is_number() && run["estimated_completion"].is_null());

    let take =
        format!("UPDATE job SET state = 'RUNNING', assigned_miner_id = 'large' WHERE id = '{}'", wait.text("job_id"));
    sql(&server.database(), &take).await;
    let run = waits_for(&server, &id, "job").await;
    assert_eq!(
        (&run["waiting_for"]["queue_position"], &run["waiting_for"]["matching_miners"]),
        (&Value::Null, &Value::Null)
    );
    assert!(run["estimated_completion"].is_string());
    let cancelled = server.post(&format!("{AGENTS}/executions/{second}/cancel"), json!({})).await.ok();
    assert_eq!(cancelled["status"], "cancelled");
    let ended = seen(&server, &second).await;
    assert_eq!((&ended["waiting_for"], ended["step_states"]["mined"].get("waiting_for")), (&Value::Null, None));
}

#[tokio::test]
async fn a_retry_says_when_it_is_and_a_pause_what_ends_it() {
    let peer = Peer::start();
    let server = with(&peer).await;
    let mut failing = call("f", json!({"status": 503}));
    failing["max_retries"] = 1.into();
    failing["retry_policy"] = json!({"initial_seconds": 3600, "max_seconds": 3600, "jitter": 0});
    let id = started(&server, json!({"f": failing})).await;
    let run = waits_for(&server, &id, "timer").await;
    assert_eq!(run["waiting_for"]["until"], run["step_states"]["f"]["retry_at"]);

    // While a step is at work, the execution waits for nothing.
    let held = started(&server, json!({"h": call("h", json!({"hold": true})), "then": after(jq("1"), &["h"])})).await;
    peer.called(2).await;
    assert_eq!(seen(&server, &held).await["waiting_for"], Value::Null);
    server.post(&format!("{AGENTS}/executions/{held}/pause"), json!({})).await.ok();
    assert_eq!(seen(&server, &held).await["waiting_for"], Value::Null);
    peer.open();
    waits_for(&server, &held, "resume").await;
    server.post(&format!("{AGENTS}/executions/{held}/resume"), json!({})).await.ok();
    assert_eq!(completed(&server.ended(&held).await)["then"], 1);
}

#[tokio::test]
async fn an_execution_without_a_place_says_how_many_are_before_it() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("ENGINE_MAX_ACTIVE", 1).start().await;
    let mut ids = Vec::new();
    for number in 0..3 {
        ids.push(started(&server, json!({"h": call(&format!("h{number}"), json!({"hold": true}))})).await);
        peer.called(1).await;
    }
    for (place, id) in [(1, &ids[1]), (2, &ids[2])] {
        let run = waits_for(&server, id, "place").await;
        assert_eq!((&run["waiting_for"]["queue_position"], &run["waiting_for"]["step"]), (&json!(place), &Value::Null));
        assert_eq!(run["waiting_for"]["since"], run["created_at"]);
    }
    peer.open();
    for id in &ids {
        assert_eq!(server.ended(id).await["waiting_for"], Value::Null);
    }
}

#[tokio::test]
async fn an_execution_that_is_to_go_on_says_that_it_waits_for_a_place_again() {
    let peer = Peer::start();
    let server = TestApp::builder().env("HTTP_ENDPOINTS", peer.endpoints()).env("ENGINE_MAX_ACTIVE", 1).start().await;
    let mut failing = call("f", json!({"status": 503, "times": 1}));
    failing["max_retries"] = 1.into();
    failing["retry_policy"] = json!({"initial_seconds": 2, "max_seconds": 2, "jitter": 0});
    let id = started(&server, json!({"f": failing})).await;
    waits_for(&server, &id, "timer").await;
    // Another takes the only place while the retry's time has not come, and keeps it.
    let held = started(&server, json!({"h": call("h", json!({"hold": true}))})).await;
    peer.called(2).await;
    let run = waits_for(&server, &id, "place").await;
    let wait = &run["waiting_for"];
    assert!(wait["since"].is_string() && wait["step"].is_null() && wait["queue_position"].is_null(), "{wait}");
    assert_eq!(run["status"], "running");
    peer.open();
    completed(&server.ended(&held).await);
    assert_eq!(completed(&server.ended(&id).await)["waiting_for"], Value::Null);
}

#[tokio::test]
async fn a_step_waits_for_an_agent_or_for_training() {
    let server = TestApp::start().await;
    let agent = json!({"step_type": "data_processing", "action": {"kind": "agent", "task_type": "text_processing"}});
    let id = started(&server, json!({"a": agent})).await;
    let run = waits_for(&server, &id, "agent").await;
    assert!(run["waiting_for"].text("job_id").starts_with("assign_") && run["waiting_for"]["until"].is_string());
    assert_eq!(run["waiting_for"]["agent_id"], Value::Null);

    let train = json!({"step_type": "training", "action": {"kind": "train", "environment": "CartPole-v1", "steps": 2_000_000,
        "policy": "balance", "settings": {"environments": 2, "rollout": 16, "batch": 32, "hidden": [8, 8]}}});
    let id = started(&server, json!({"t": train})).await;
    let run = waits_for(&server, &id, "training").await;
    assert!(run["waiting_for"].text("job_id").starts_with("train_"), "{run}");
    server.post(&format!("{AGENTS}/executions/{id}/cancel"), json!({})).await.ok();
}
