//! The action in fixed point beside libtorch's.

use std::fs;

use am_zk::{circuits::policy_form, quantised_state};
use serde_json::json;

use super::entropy;
use crate::{
    harness::TestApp,
    kit::{JsonDocument as _, post_as},
    rl::RL,
};

/// States that are compared.
const STATES: usize = 10_000;
/// Most states of one request.
const STATES_AT_ONCE: usize = 4096;

#[tokio::test(flavor = "multi_thread")]
async fn fixed_point_acts_as_libtorch_does() {
    let server = TestApp::start().await;
    let training = json!({"policy": "proved", "environment": "price_optimization", "algorithm": "ppo", "steps": 1024, "seed": 3,
        "evaluation_episodes": 1, "settings": {"environments": 4, "rollout": 64, "batch": 64, "hidden": [32, 32]}});
    let run = post_as(&server, server.key(), &format!("{RL}/runs?wait=30"), training).await.is(201);
    assert_eq!(run["status"], "completed", "{run}");
    let files = fs::read_dir(server.dir().join("policies")).unwrap().map(|entry| entry.unwrap().path());
    let file = files.filter(|path| path.is_file()).max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    let (network, layers) = am_proofs::fixed_network(&fs::read(file.unwrap()).unwrap()).unwrap();
    assert!(policy_form(&network).unwrap().to_string().starts_with("policy-v1-9-32-32-"));

    let mut bytes = entropy(11);
    let mut number = || {
        let mut buffer = [0; 4];
        bytes(&mut buffer);
        f64::from(u32::from_le_bytes(buffer)) / f64::from(u32::MAX) * 4.0 - 2.0
    };
    let states: Vec<Vec<f64>> = (0..STATES).map(|_| (0..9).map(|_| number()).collect()).collect();
    let (mut equal, mut actions) = (0, std::collections::BTreeSet::new());
    for some in states.chunks(STATES_AT_ONCE) {
        let answer = server.post(&format!("{RL}/policies/proved/act"), json!({"states": some})).await.ok();
        for (state, decision) in some.iter().zip(answer["decisions"].as_array().unwrap()) {
            let fixed = network.action(&quantised_state(&layers.first_input(state)).unwrap());
            let recorded = decision["action"].as_u64().unwrap() as usize;
            equal += usize::from(fixed == recorded);
            actions.insert(recorded);
        }
    }
    assert!(equal * 1000 >= STATES * 999, "{equal} of {STATES}");
    assert!(actions.len() > 1, "a policy that always does the same shows nothing: {}", run.text("id"));
}
