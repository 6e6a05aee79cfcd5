//! Two live applications over one database: what one has acknowledged, the other knows at once.

use reqwest::Method;
use serde_json::json;

use crate::{
    harness::{ADMIN, TestApp},
    keys::{create, rotate},
    kit::{AGENTS, ask, fixture, get_as, post_as},
    rl::{RL, upload},
};

const WORKFLOWS: &str = "/api/v1/agents/workflows";

#[tokio::test]
async fn version_of_a_policy_answers_at_once_in_the_other_process() {
    let one = TestApp::start().await;
    let two = one.beside().start().await;
    let weights = std::fs::read(fixture("vectors/ppo.safetensors")).unwrap();
    let state = json!({"state": [0, 0, 0, 0, 0, 0, 0, 0, 0]});
    for (version, (here, there)) in (1..).zip([(&one, &two), (&two, &one), (&one, &two), (&two, &one)]) {
        let made = upload(here, ADMIN, "p/versions", weights.clone()).await.is(201);
        assert_eq!(made["version"], version);
        // Each is the first question after an upload.
        let name = format!("p@{version}");
        let step = json!({"step_type": "inference", "action": {"kind": "policy", "policy": name}});
        match version {
            1 => drop(there.post(&format!("{RL}/policies/{name}/act"), state.clone()).await.ok()),
            2 => drop(there.get(&format!("{RL}/policies/p/versions/2")).await.ok()),
            3 => drop(there.get(&format!("{RL}/policies/p/versions/3/weights")).await.is(200)),
            _ => drop(there.post(WORKFLOWS, json!({"name": "n", "steps": {"a": step}})).await.ok()),
        }
    }
    two.post(&format!("{RL}/policies/p@5/act"), state).await.is(404);
}

#[tokio::test]
async fn key_is_known_at_once_in_every_process() {
    let one = TestApp::start().await;
    let two = one.beside().start().await;
    let first = create(&one, "ci", "admin", &[]);
    for server in [&one, &two] {
        get_as(server, &first, WORKFLOWS).await.is(200);
    }
    let second = rotate(&one, "ci");
    // What the first question with it has too much is reported, too.
    let body = json!({"name": "n", "steps": {"a": {"step_type": "custom"}}, "nobody_knows_this": 1});
    let made = post_as(&two, &second, WORKFLOWS, body).await.ok();
    assert_eq!(made["warnings"].as_array().map(Vec::len), Some(1), "{made}");
    for server in [&two, &one] {
        get_as(server, &second, WORKFLOWS).await.is(200);
    }
    // Many unknown keys at once are refused, and hold nobody up.
    let unknown = |at: u32| format!("am_{at:08x}_{}", "0".repeat(48));
    let asked = (0..300).map(|at| {
        let two = &two;
        async move { ask(two, Some(&unknown(at)), Method::GET, &format!("{AGENTS}/workflows"), None).await.is(401) }
    });
    futures_util::future::join_all(asked).await;
    get_as(&two, &second, WORKFLOWS).await.is(200);
}
