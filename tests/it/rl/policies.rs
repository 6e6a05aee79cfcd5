//! What is uploaded is what answers, and nothing else is taken.

use reqwest::Method;
use serde_json::{Value, json};

use super::{RL, place, upload};
use crate::{
    harness::{ADMIN, Answer, ApiClient, CLIENT, MINER, OTHER_ADMIN, TestApp},
    kit::{AGENTS, JsonDocument, ask, fixture, get_as, json_fixture, post_as},
    retention::{archive, printed},
};

fn weights(name: &str) -> Vec<u8> {
    std::fs::read(fixture(&format!("vectors/{name}.safetensors"))).unwrap()
}

#[track_caller]
fn close(got: &Value, wanted: &Value) {
    match (got, wanted) {
        (Value::Array(got), Value::Array(wanted)) => {
            assert_eq!(got.len(), wanted.len());
            got.iter().zip(wanted).for_each(|(got, wanted)| close(got, wanted));
        }
        _ => {
            let (got, wanted) = (got.as_f64().unwrap(), wanted.as_f64().unwrap());
            assert!((got - wanted).abs() < 1e-5, "{got} is not {wanted}");
        }
    }
}

/// An answer without the id of its call.
fn decided(mut answer: Value) -> Value {
    assert!(answer.as_object_mut().unwrap().remove("call_id").is_some());
    answer
}

/// What the policy answers to each of the vector's states, alone and all together.
async fn answers(server: &ApiClient, policy: &str, vector: &Value) -> Vec<Value> {
    let path = format!("{RL}/policies/{policy}/act");
    let all = server.post(&path, json!({"states": vector["states"]})).await.ok();
    assert_eq!(all["count"].as_u64().unwrap() as usize, vector["states"].as_array().unwrap().len());
    for (state, together) in vector["states"].as_array().unwrap().iter().zip(all["decisions"].as_array().unwrap()) {
        let alone = decided(server.post(&path, json!({"state": state})).await.ok());
        assert_eq!(&alone, together, "the same bits in any company");
    }
    all["decisions"].as_array().unwrap().clone()
}

#[tokio::test]
async fn act_matches_contract_vectors() {
    let server = TestApp::start().await;
    for name in ["ppo", "sac", "rainbow_dqn"] {
        let policy = name.replace('_', "-");
        let made = upload(&server, ADMIN, &format!("{policy}/versions"), weights(name)).await.is(201);
        assert_eq!((&made["algorithm"], &made["state_length"], &made["version"]), (&json!(name), &json!(9), &json!(1)));
        let vector = json_fixture(&format!("vectors/{name}.json"));
        let members: &[(&str, &str)] = match name {
            "ppo" => &[("probabilities", "action_probs"), ("value", "values"), ("action", "greedy_actions")],
            "sac" => &[("mean", "means"), ("std", "stds"), ("action", "actions")],
            _ => &[("q_values", "q_values"), ("action", "greedy_actions")],
        };
        for (row, decision) in answers(&server, &policy, &vector).await.iter().enumerate() {
            assert_eq!(decision["policy"], format!("{policy}@1"));
            for (ours, theirs) in members {
                close(&decision[*ours], &vector[*theirs][row]);
            }
        }
    }
    let path = format!("{RL}/policies/ppo/versions/1/weights");
    let response = server.request(Method::GET, &path).send().await.unwrap();
    assert!(response.headers()["etag"].to_str().unwrap().len() == 66);
    assert_eq!(response.bytes().await.unwrap(), weights("ppo"), "what was uploaded comes back to the byte");
}

#[tokio::test]
async fn policy_requests_report_faults() {
    let server = TestApp::start().await;
    let put = async |path: &str, bytes: Vec<u8>| upload(&server, ADMIN, path, bytes).await;
    let pickle = put("p/versions", b"PK\x03\x04 and so on".to_vec()).await;
    assert!(pickle.text.contains("pickle"), "{}", pickle.text);
    assert_eq!(place(pickle), json!(["body"]));
    assert_eq!(place(put("p/versions", b"nothing".to_vec()).await), json!(["body"]));
    assert_eq!(place(put("P/versions", weights("ppo")).await), json!(["path", "name"]));
    let four = put("p/versions?environment=CartPole-v1", weights("ppo")).await;
    assert!(four.text.contains("states of 4 numbers, the network takes 9"), "{}", four.text);
    assert_eq!(place(four), json!(["query", "environment"]));
    assert_eq!(place(put("p/versions?action_names=a,b", weights("ppo")).await), json!(["query", "action_names"]));
    assert_eq!(place(put("p/versions?aliases=latest", weights("ppo")).await), json!(["query", "aliases"]));
    assert_eq!(place(put("p/versions?v_min=1", weights("rainbow_dqn")).await), json!(["query", "v_min"]));
    put("marketplace-ppo/versions", weights("ppo")).await.is(403);
    server.get(&format!("{RL}/policies/p")).await.is(404);

    let act = async |policy: &str, body: Value| server.post(&format!("{RL}/policies/{policy}/act"), body).await;
    let state = |position: usize, number: Value| {
        let mut state = json!([0, 0, 0, 0, 0, 0, 0, 0, 0]);
        state[position] = number;
        state
    };
    assert_eq!(place(act("marketplace-ppo", json!({"state": [1, 2]})).await), json!(["body", "state"]));
    let wrong = json!({"states": [state(0, json!(1)), [1]]});
    assert_eq!(place(act("marketplace-ppo", wrong).await), json!(["body", "states", 1]));
    let large = json!({"states": [state(0, json!(1)), state(7, json!(1e39))]});
    assert_eq!(place(act("marketplace-ppo", large).await), json!(["body", "states", 1, 7]));
    assert_eq!(
        place(act("marketplace-ppo", json!({"state": state(4, json!("1"))})).await),
        json!(["body", "state", 4])
    );
    // JSON has neither NaN nor infinity; what Python writes for them is no JSON.
    let path = format!("{RL}/policies/marketplace-ppo/act");
    for text in ["NaN", "Infinity", "1e999"] {
        let body = format!("{{\"state\": [0, 0, {text}, 0, 0, 0, 0, 0, 0]}}");
        let request = server.request(Method::POST, &path).header("content-type", "application/json").body(body);
        Answer::of(request).await.is(422);
    }
    assert_eq!(place(act("marketplace-ppo", json!({})).await), json!(["body", "state"]));
    assert_eq!(place(act("marketplace-ppo", json!({"state": {"price": 1}})).await), json!(["body", "state"]));
    act("nobody", json!({"state": [1]})).await.is(404);
    act("marketplace-ppo@7", json!({"state": [1]})).await.is(404);
    assert_eq!(place(act("marketplace-ppo@x!", json!({"state": [1]})).await), json!(["path", "policy"]));
    put("r/versions", weights("rainbow_dqn")).await.is(201);
    let sampled = act("r", json!({"state": state(0, json!(1)), "mode": "sample"})).await;
    assert_eq!(place(sampled), json!(["body", "mode"]));
}

#[tokio::test]
async fn act_accepts_named_states_and_seeds() {
    let server = TestApp::start().await;
    let path = format!("{RL}/policies/marketplace-ppo/act");
    let names =
        ["price", "volume", "demand", "supply", "competition", "reputation", "resources", "capabilities", "position"];
    let named: serde_json::Map<String, Value> =
        names.iter().enumerate().map(|(at, name)| ((*name).to_owned(), json!(at))).collect();
    let ask = async |body: Value| decided(server.post(&path, body).await.ok());
    let by_name = ask(json!({"state": named})).await;
    assert_eq!(by_name, ask(json!({"state": [0, 1, 2, 3, 4, 5, 6, 7, 8]})).await);
    assert!(["increase", "decrease", "maintain", "dynamic"].contains(&by_name.text("action_name")));
    let body = |seed: u64| json!({"states": vec![[0.5; 9]; 64], "mode": "sample", "seed": seed});
    let first = ask(body(1)).await;
    assert_eq!(first, ask(body(1)).await);
    assert_ne!(first, ask(body(2)).await);
    assert!(server.get("/metrics").await.text.contains("rl_act_duration_seconds_count{policy=\"marketplace-ppo@1\"}"));
}

#[tokio::test]
async fn policy_alias_is_promoted_and_rolled_back() {
    let server = TestApp::start().await;
    let file = weights("ppo");
    for version in 1..=3 {
        let made = upload(&server, CLIENT, "p/versions", file.clone()).await.is(201);
        assert_eq!(made["version"], version, "the same weights are another version");
    }
    let at = |alias: &str| format!("{RL}/policies/p/aliases/{alias}");
    let serving = async |server: &ApiClient| server.get(&format!("{RL}/policies/p")).await.ok()["serving"].clone();
    assert_eq!(serving(&server).await, 3, "the newest, while nothing is in production");
    let move_to = async |key: &str, alias: &str, version: u32| {
        let request = server.client().request(Method::PUT, server.url(&at(alias)));
        Answer::of(request.header("x-api-key", key).json(&json!({"version": version}))).await
    };
    move_to(OTHER_ADMIN, "production", 1).await.is(403);
    for version in [1, 2, 3] {
        assert_eq!(move_to(CLIENT, "production", version).await.ok()["serving"], version);
    }
    assert_eq!(place(move_to(CLIENT, "production", 9).await), json!(["body", "version"]));
    assert_eq!(place(move_to(CLIENT, "latest", 1).await), json!(["path", "alias"]));
    assert_eq!(get_as(&server, MINER, &at("latest")).await.ok()["version"], 3);
    for version in [2, 1] {
        let back = post_as(&server, CLIENT, &format!("{}/rollback", at("production")), json!({})).await.ok();
        assert_eq!(back["serving"], version);
    }
    post_as(&server, CLIENT, &format!("{}/rollback", at("production")), json!({})).await.is(400);
    let history = get_as(&server, MINER, &at("production")).await.ok();
    assert_eq!((&history["version"], history["moves"].as_array().unwrap().len()), (&json!(1), 5));
    let server = server.restart().await;
    let act = server.post(&format!("{RL}/policies/p/act"), json!({"state": [0, 0, 0, 0, 0, 0, 0, 0, 0]})).await.ok();
    assert_eq!(act["policy"], "p@1", "after a restart as well");
    let list = server.get(&format!("{RL}/policies?limit=1")).await;
    assert_eq!((list.header("x-total-count"), list.body[0]["name"].as_str()), ("2", Some("p")));
    let versions = server.get(&format!("{RL}/policies/p/versions?limit=2")).await;
    assert_eq!((versions.header("x-total-count"), &versions.body[0]["version"]), ("3", &json!(3)));
    assert!(versions.header("link").contains("rel=\"next\""));
    let request = server.client().request(Method::DELETE, server.url(&at("production"))).header("x-api-key", CLIENT);
    assert_eq!(Answer::of(request).await.ok()["serving"], 3);
}

#[tokio::test]
async fn canary_and_shadow_split_policy_requests() {
    let server = TestApp::start().await;
    for _ in 0..3 {
        upload(&server, ADMIN, "p/versions", weights("ppo")).await.is(201);
    }
    let path = format!("{RL}/policies/p/split");
    let split = json!({"canary": {"version": 1, "share": 0.25}, "shadow": {"version": 2}});
    let set = server.put(&path, split.clone()).await.ok();
    assert_eq!(set["split"], split);
    let refused = server.put(&path, json!({"canary": {"version": 9, "share": 0.5}})).await;
    assert_eq!(place(refused), json!(["body", "canary", "version"]));
    let refused = server.put(&path, json!({"canary": {"version": 1, "share": 1.5}})).await;
    assert_eq!(place(refused), json!(["body", "canary", "share"]));
    let mut by = [0; 4];
    for _ in 0..20 {
        let act =
            server.post(&format!("{RL}/policies/p/act"), json!({"state": [0, 0, 0, 0, 0, 0, 0, 0, 1]})).await.ok();
        by[act.text("policy").trim_start_matches("p@").parse::<usize>().unwrap()] += 1;
    }
    assert_eq!(by, [0, 5, 0, 15]);
    let comparison = loop {
        let seen = server.get(&format!("{RL}/policies/p/comparison")).await.ok();
        if seen["shadow"]["calls"] == 15 {
            break seen;
        }
        crate::harness::poll_interval().await;
    };
    assert_eq!((&comparison["serving"]["version"], &comparison["canary"]["calls"]), (&json!(3), &json!(5)));
    assert_eq!((&comparison["agreement"], &comparison["mean_value_difference"]), (&json!(1.0), &json!(0.0)));
    server.delete(&path).await.ok();
    server.get(&format!("{RL}/policies/p/comparison")).await.is(404);
}

#[tokio::test]
async fn policy_upload_is_idempotent() {
    let server = TestApp::start().await;
    let put = async || {
        let request = server.request(Method::POST, &format!("{RL}/policies/p/versions"));
        let request = request.header("content-type", "application/octet-stream").header("idempotency-key", "once");
        Answer::of(request.body(weights("ppo"))).await
    };
    let (first, second) = (put().await, put().await);
    assert_eq!((first.header("idempotency-replayed"), second.header("idempotency-replayed")), ("", "true"));
    assert_eq!(first.is(201), second.is(201));
    assert_eq!(server.get(&format!("{RL}/policies/p")).await.ok()["latest"], 1);
}

#[tokio::test]
async fn uploaded_weights_have_a_quota_and_are_deleted() {
    let server = TestApp::builder().env("POLICY_UPLOAD_QUOTA_MB", 1).start().await;
    let (file, other) = (weights("ppo"), weights("sac"));
    let stored = || std::fs::read_dir(server.dir().join("policies")).unwrap().count();
    upload(&server, server.key(), "p/versions", file.clone()).await.is(201);
    upload(&server, server.key(), "p/versions", file.clone()).await.is(201);
    upload(&server, server.key(), "q/versions", other).await.is(201);
    assert_eq!(stored(), 2, "equal weights are one file");
    let mut refused = None;
    for _ in 0..200 {
        let answer = upload(&server, server.key(), "p/versions", file.clone()).await;
        if answer.status == 429 {
            refused = Some(answer.body);
            break;
        }
        answer.is(201);
    }
    let refused = refused.expect("a megabyte is full");
    assert_eq!(refused["code"], "quota_exceeded");
    assert!(refused.text("detail").contains("POLICY_UPLOAD_QUOTA_MB"), "{refused}");
    // Others have a quota of their own.
    upload(&server, CLIENT, "mine/versions", file.clone()).await.is(201);
    let newest = server.get(&format!("{RL}/policies/p")).await.ok()["latest"].as_u64().unwrap();
    let version = |number: u64| format!("{RL}/policies/p/versions/{number}");
    let serves = server.delete(&version(newest)).await.is(400);
    assert_eq!(serves["code"], "invalid_state");
    server.put(&format!("{RL}/policies/p/aliases/kept"), json!({"version": 1})).await.ok();
    assert!(server.delete(&version(1)).await.is(400).text("detail").contains("'kept'"));
    ask(&server, Some(CLIENT), Method::DELETE, &version(2), None).await.is(403);
    let before = server.get(&version(2)).await.ok();
    server.delete(&version(2)).await.ok();
    server.get(&version(2)).await.is(404);
    // It was archived with its weights, and comes back whole.
    let listed = printed(archive(server.dir(), &["list"]));
    assert_eq!((&listed[0]["kind"], &listed[0]["cause"]), (&json!("policy_versions"), &json!("request")), "{listed}");
    let told = server.get(&format!("{AGENTS}/security/audit-logs")).await.ok();
    let told =
        told.as_array().unwrap().iter().find(|entry| entry["event_data"]["action"] == "version_deleted").unwrap();
    assert_eq!(told["event_data"]["archive_sha256"], listed[0]["sha256"]);
    assert_eq!(printed(archive(server.dir(), &["restore"]))["restored"], 1);
    let there = async {
        while server.get(&version(2)).await.status != 200 {
            crate::harness::poll_interval().await;
        }
    };
    tokio::time::timeout(crate::harness::PATIENCE, there).await.expect("it comes back");
    assert_eq!(server.get(&version(2)).await.ok(), before);
    server.delete(&version(2)).await.ok();
    server.delete(&version(2)).await.is(422);
    upload(&server, server.key(), "p/versions", file).await.is(201);
    assert_eq!(server.get(&format!("{RL}/policies/p")).await.ok()["latest"], newest + 1, "no number is used again");
    // The file goes with its last version.
    let twin = weights("rainbow_dqn");
    upload(&server, CLIENT, "mine/versions", twin).await.is(201);
    let before = stored();
    upload(&server, CLIENT, "mine/versions", weights("ppo")).await.is(201);
    ask(&server, Some(CLIENT), Method::DELETE, &format!("{RL}/policies/mine/versions/2"), None).await.ok();
    assert_eq!(stored(), before - 1);
}

#[tokio::test]
async fn answers_of_a_policy_are_not_kept() {
    let server = TestApp::start().await;
    let body = json!({"states": vec![vec![0.5; 9]; 500], "mode": "sample"});
    let ask = async |key: &str| {
        let request = server.request(Method::POST, &format!("{RL}/policies/marketplace-ppo/act"));
        Answer::of(request.header("idempotency-key", key).json(&body)).await
    };
    let (first, second, other) = (ask("a").await, ask("a").await, ask("b").await);
    assert_eq!((first.header("idempotency-replayed"), second.header("idempotency-replayed")), ("", "true"));
    assert_eq!(first.body, second.body, "a sample is drawn again as it was");
    assert_ne!(first.body, other.body);
    let kept: i64 = sqlx::query_scalar("SELECT max(length(answer)) FROM am_idempotency")
        .fetch_one(&mut crate::jobs::open(&server.database()).await)
        .await
        .unwrap();
    assert!(kept < 200, "{kept} characters are kept");
}
