//! Instances as processes: killed and started again, scaled, ended, and known again after the service's own restart.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::{builder, call, deployed, deployments, healthy, state};
use crate::{
    harness::{Answer, ApiClient, ReservedPort, Server, poll_interval},
    kit::JsonDocument,
};

fn kill(pid: i64) {
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(killed.success(), "process {pid} was not there");
}

fn pids(instances: &[Value]) -> Vec<i64> {
    instances.iter().map(|one| one["pid"].as_i64().unwrap()).collect()
}

/// The instances once none has one of these processes.
async fn replaced(server: &ApiClient, id: &str, count: usize, killed: &[i64]) -> Vec<Value> {
    loop {
        let there = healthy(server, id, count, 1).await;
        if there.iter().all(|one| one["pid"].as_i64().is_some_and(|pid| !killed.contains(&pid))) {
            return there;
        }
        poll_interval().await;
    }
}

#[tokio::test]
async fn killed_instances_are_repaired_and_calls_go_on() {
    let server = builder().start().await;
    let (_, id) = deployed(&server, "1", "shop", 3, json!({})).await;
    let before = healthy(&server, &id, 3, 1).await;
    let killed = &pids(&before)[..2];
    killed.iter().for_each(|pid| kill(*pid));
    let begun = Instant::now();
    // One that is about to end may still take a call: with a key it is sent again.
    let request = server.request(Method::POST, &deployments(&format!("{id}/invoke?wait=20")));
    let answer = Answer::of(request.header("idempotency-key", "killed").json(&json!({"inputs": {}}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let after = replaced(&server, &id, 3, killed).await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    let restarts: i64 = after.iter().map(|one| one["restarts"].as_i64().unwrap()).sum();
    assert_eq!(restarts, 2);
    let told = after.iter().flat_map(|one| one["health_check_history"].as_array().unwrap());
    assert!(told.clone().any(|check| check["error"].as_str().is_some_and(|error| error.contains("signal: 9"))));
}

#[tokio::test]
async fn scaling_adds_and_takes_away_and_the_end_leaves_no_process() {
    let server = builder().start().await;
    let (_, id) = deployed(&server, "1", "shop", 1, json!({"max_instances": 3})).await;
    let scale = async |count: i64| {
        server.post(&deployments(&format!("{id}/scale?target_instances={count}")), json!({})).await.ok()
    };
    let up = scale(3).await;
    assert_eq!((&up["scaling_action"], &up["current_instances"]), (&json!("scale_up"), &json!(1)));
    let names: Vec<String> =
        healthy(&server, &id, 3, 1).await.iter().map(|one| one.text("instance_id").to_owned()).collect();
    let mut sorted = names.clone();
    sorted.sort();
    assert_eq!(sorted, ["shop-production-1", "shop-production-2", "shop-production-3"]);
    assert_eq!(scale(3).await["scaling_action"], "no_change");
    assert_eq!(scale(1).await["scaling_action"], "scale_down");
    let last = pids(&healthy(&server, &id, 1, 1).await);
    server.delete(&deployments(&id)).await.ok();
    healthy(&server, &id, 0, 1).await;
    assert_eq!(state(&server, &id).await["status"], "terminated");
    for pid in last {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} still runs");
    }
    assert_eq!(call(&server, &id, json!({})).await.status, 409);
}

#[tokio::test]
async fn the_fleet_outlives_the_service_and_is_known_again() {
    let port = ReservedPort::new();
    let builder = Server::builder().env("APP_PORT", port.number()).env("DEPLOYMENT_ALLOW_ROOT", true);
    let mut server = builder.start().await;
    let (_, id) = deployed(&server, "1", "shop", 2, json!({})).await;
    let before = pids(&healthy(&server, &id, 2, 1).await);
    server.kill();
    let server = server.again().start().await;
    let answer = call(&server, &id, json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(pids(&healthy(&server, &id, 2, 1).await), before, "the same processes serve on");
    kill(before[0]);
    replaced(&server, &id, 2, &before[..1]).await;
}
