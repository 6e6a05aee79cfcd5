//! A real process that stands still for some time and goes on.

use super::*;
use crate::agents::registry::{REGISTRY, beat, register};

const HANG: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_hang_of_the_service_fails_no_correct_run() {
    let peer = Peer::start();
    let server = Server::builder()
        .env("HTTP_ENDPOINTS", peer.endpoints())
        .env("JQ_TIMEOUT_MS", 2500)
        .env("AGENT_OFFLINE_SECONDS", 3)
        .start()
        .await;
    // A program that takes part of its time: the machine's speed is measured first.
    let looping = |times: u64| {
        let program = format!("reduce range({times}) as $i (0; . + 1)");
        json!({"p": {"step_type": "data_processing", "action": {"kind": "jq", "program": program}}})
    };
    let probe = server.execute(&server.workflow(looping(20_000)).await, json!({})).await;
    let seconds = server.ended(probe.text("id")).await["step_states"]["p"]["execution_time"].as_f64().unwrap();
    let times = (20_000.0 * 0.7 / seconds.max(0.001)) as u64;
    let program = server.workflow(looping(times)).await;
    let mut held = json!({"c": {"step_type": "custom", "max_retries": 0, "timeout_seconds": 3,
        "action": {"kind": "http", "endpoint": "peer", "body": {"id": "held", "hold": true}}}});
    held["last"] =
        json!({"step_type": "data_processing", "depends_on": ["c"], "action": {"kind": "jq", "program": "1"}});
    let call = json!({"name": "call", "steps": held, "max_execution_time": 4});
    let call = server.post("/api/v1/agents/workflows", call).await.ok();
    register(&server, "a", json!({})).await;
    beat(&server, "a").await.ok();
    let program = server.execute(&program, json!({})).await;
    let call = server.execute(call.text("id"), json!({})).await;
    peer.called(1).await;
    server.stop();
    // What was waited for comes meanwhile.
    peer.open();
    tokio::time::sleep(HANG).await;
    server.signal("CONT");
    assert_eq!(server.get(&format!("{REGISTRY}/a")).await.ok()["status"], "online", "nobody could hear it");
    for run in [program, call] {
        let done = server.ended(run.text("id")).await;
        assert_eq!(done["status"], "completed", "{done}");
    }
    assert_eq!(peer.count("held"), 1);
    server.logged("this process did not run for some time").await;
}
