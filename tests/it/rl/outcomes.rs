//! Versions that are compared: whose calls they are, and what they earned.

use serde_json::{Value, json};

use super::{RL, place, upload};
use crate::{
    harness::{ADMIN, ApiClient, CLIENT, TestApp},
    kit::{JsonDocument, fixture, post_as},
};

async fn versions(server: &ApiClient, count: usize) {
    let weights = std::fs::read(fixture("vectors/ppo.safetensors")).unwrap();
    for _ in 0..count {
        upload(server, ADMIN, "p/versions", weights.clone()).await.is(201);
    }
}

async fn act(server: &ApiClient) -> Value {
    server.post(&format!("{RL}/policies/p/act"), json!({"state": [0, 0, 0, 0, 0, 0, 0, 0, 1]})).await.ok()
}

async fn comparison(server: &ApiClient) -> Value {
    server.get(&format!("{RL}/policies/p/comparison")).await.ok()
}

#[tokio::test]
async fn calls_belong_to_the_version_that_answered_them() {
    let server = TestApp::start().await;
    versions(&server, 3).await;
    let alias = format!("{RL}/policies/p/aliases/production");
    server.put(&alias, json!({"version": 1})).await.ok();
    server.put(&format!("{RL}/policies/p/split"), json!({"canary": {"version": 3, "share": 0.5}})).await.ok();
    for _ in 0..6 {
        act(&server).await;
    }
    let seen = comparison(&server).await;
    assert_eq!((&seen["serving"]["version"], &seen["serving"]["calls"]), (&json!(1), &json!(3)));
    assert!(
        seen["serving"]["critic_estimate"].is_number() && seen["warnings"][0].as_str().unwrap().contains("outcomes")
    );
    server.put(&alias, json!({"version": 2})).await.ok();
    let seen = comparison(&server).await;
    assert_eq!((&seen["serving"]["version"], &seen["serving"]["calls"]), (&json!(2), &json!(0)));
    assert_eq!((&seen["canary"]["version"], &seen["canary"]["calls"]), (&json!(3), &json!(0)));
    act(&server).await;
    assert_eq!(comparison(&server).await["serving"]["calls"], 1);
    // A version that serves because it is the newest is one that serves as well.
    server.delete(&alias).await.ok();
    let moved = comparison(&server).await;
    assert_eq!((&moved["serving"]["version"], &moved["serving"]["calls"]), (&json!(3), &json!(0)));
}

#[tokio::test]
async fn versions_are_compared_by_what_their_calls_earned() {
    let server = TestApp::start().await;
    versions(&server, 2).await;
    server.put(&format!("{RL}/policies/p/split"), json!({"canary": {"version": 1, "share": 0.5}})).await.ok();
    let path = |called: &Value| format!("{RL}/policies/p/act/{}/outcome", called.text("call_id"));
    let mut calls = Vec::new();
    for number in 0..20 {
        let called = act(&server).await;
        let canary = called["policy"] == "p@1";
        let reward = f64::from(number % 4) + if canary { 10.0 } else { 0.0 };
        let taken = post_as(&server, CLIENT, &path(&called), json!({"reward": reward})).await.ok();
        assert_eq!((&taken["version"], &taken["known"]), (&json!(if canary { 1 } else { 2 }), &json!(false)));
        calls.push((called, reward));
    }
    let (called, reward) = &calls[0];
    let known = server.post(&path(called), json!({"reward": reward})).await.ok();
    assert_eq!(known["known"], true);
    let other = server.post(&path(called), json!({"reward": reward + 1.0})).await.is(400);
    assert_eq!(other["code"], "invalid_state");
    let server = server.restart().await;
    let outcomes = comparison(&server).await["outcomes"].clone();
    assert_eq!((&outcomes["serving"]["version"], &outcomes["serving"]["count"]), (&json!(2), &json!(10)), "{outcomes}");
    assert_eq!((&outcomes["canary"]["version"], &outcomes["canary"]["count"]), (&json!(1), &json!(10)));
    let (low, high) = (outcomes["low"].as_f64().unwrap(), outcomes["high"].as_f64().unwrap());
    assert!(
        low > 5.0 && high < 15.0 && (low + high) / 2.0 - outcomes["difference"].as_f64().unwrap() < 1e-9,
        "{outcomes}"
    );
    // Of calls before the versions changed, nothing is counted.
    server.put(&format!("{RL}/policies/p/split"), json!({"canary": {"version": 1, "share": 0.25}})).await.ok();
    let called = act(&server).await;
    assert_eq!(comparison(&server).await["outcomes"]["serving"]["count"], 0);
    server.post(&path(&called), json!({"reward": 1})).await.ok();
    let one = comparison(&server).await["outcomes"].clone();
    assert_eq!((&one["serving"]["mean_reward"], &one["difference"]), (&json!(1.0), &Value::Null));
    // Calls that nobody has answered, and rewards that are none.
    let forged = json!({"call_id": format!("call_{}", "0".repeat(56))});
    server.post(&path(&forged), json!({"reward": 1})).await.is(404);
    let elsewhere = format!("{RL}/policies/marketplace-ppo/act/{}/outcome", called.text("call_id"));
    server.post(&elsewhere, json!({"reward": 1})).await.is(404);
    assert_eq!(place(server.post(&path(&called), json!({"reward": 1e200})).await), json!(["body", "reward"]));
}
