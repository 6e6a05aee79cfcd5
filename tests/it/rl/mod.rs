//! Policies and their training through HTTP.

mod bridges;
pub mod compare;
pub mod environments;
mod labels;
mod learning;
mod mlflow;
mod outcomes;
mod policies;
mod runs;
pub mod sweeps;
mod workflows;

use std::time::Instant;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, ApiClient, PATIENCE};
use crate::kit::JsonDocument;

/// Where the routes stand.
pub const RL: &str = "/api/v1/agents/performance/rl";

/// Upload a file as the next version of a policy.
pub async fn upload(server: &ApiClient, key: &str, path: &str, bytes: Vec<u8>) -> Answer {
    let request = server.client().request(Method::POST, server.url(&format!("{RL}/policies/{path}")));
    Answer::of(request.header("x-api-key", key).header("content-type", "application/octet-stream").body(bytes)).await
}

/// A PPO run that takes a moment.
pub fn small(steps: u64) -> Value {
    json!({"environment": "CartPole-v1", "algorithm": "ppo", "steps": steps, "seed": 3, "evaluation_episodes": 2,
        "settings": {"environments": 2, "rollout": 16, "batch": 32, "hidden": [8, 8]}})
}

/// The run's document at its end. Training has the lowest priority on the machine: patience is for a run that stands still.
pub async fn trained(server: &ApiClient, id: &str) -> Value {
    let (mut reached, mut since) = (None, Instant::now());
    loop {
        let run = server.get(&format!("{RL}/runs/{id}?wait=5")).await.ok();
        if ["completed", "failed", "cancelled"].contains(&run.text("status")) {
            return run;
        }
        let steps = run["steps_done"].as_u64();
        if steps > reached {
            (reached, since) = (steps, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "the run stands still: {run}");
    }
}

/// The `loc` of the first field that was refused.
#[track_caller]
pub fn place(answer: Answer) -> Value {
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.text);
    answer.body["detail"][0]["loc"].clone()
}
