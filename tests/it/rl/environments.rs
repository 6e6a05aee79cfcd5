//! Environments that callers send as tables.

use reqwest::Method;
use serde_json::{Value, json};

use super::{RL, place, trained};
use crate::{
    harness::{ADMIN, Answer, ApiClient, CLIENT, TestApp},
    kit::{JsonDocument, get_as, post_as},
};

/// Two states; `go` earns more than `stay`, but only every second step.
pub fn walk(name: &str) -> Value {
    json!({"name": name, "tables": {
        "description": "Two places.",
        "states": ["near", "far"],
        "actions": ["stay", "go"],
        "transitions": [
            {"state": "near", "action": "stay", "next": "near", "reward": 0.25},
            {"state": "near", "action": "go", "next": "far"},
            {"state": "far", "action": "stay", "next": "near"},
            {"state": "far", "action": "go", "next": "near", "reward": 1},
        ],
        "start": {"near": 1},
        "discount": 0.9,
        "horizon": 10,
    }})
}

async fn publish(server: &ApiClient, body: Value) -> Answer {
    server.post(&format!("{RL}/environments"), body).await
}

#[tokio::test]
async fn tables_are_an_environment_that_is_listed_solved_and_trained_in() {
    let server = TestApp::start().await;
    let made = publish(&server, walk("walk")).await.is(201);
    assert_eq!((&made["name"], &made["kind"], &made["latest"]), (&json!("walk"), &json!("tables"), &json!(1)));
    assert_eq!((&made["reference"]["optimum"], &made["reference"]["constant_action"]), (&json!(5.0), &json!("go")));
    let facts = &made["version"];
    assert_eq!((&facts["id"], &facts["states"], &facts["transitions"]), (&json!("walk@1"), &json!(2), &json!(4)));
    // Going: a reward of 1 every second step, 0.9 / (1 - 0.81).
    let discounted = &facts["solution"]["discounted"];
    for bound in ["low", "high"] {
        assert!((discounted[bound].as_f64().unwrap() - 0.9 / 0.19).abs() < 1e-6, "{discounted}");
    }
    assert_eq!((&discounted["policy"], &discounted["policy_return"]), (&json!([1, 1]), &json!(5.0)));
    assert_eq!(publish(&server, walk("walk")).await.is(201)["version"], *facts, "equal tables are no new version");
    let mut second = walk("walk");
    second["tables"]["transitions"][3]["reward"] = json!(2);
    assert_eq!(publish(&server, second).await.is(201)["version"]["version"], 2);
    let listed = server.get(&format!("{RL}/environments")).await;
    assert_eq!((listed.header("x-total-count"), &listed.body[0]["name"]), ("13", &json!("walk")));
    assert_eq!(listed.body[0]["version"]["solution"]["discounted"].get("policy"), None, "not in lists");
    assert_eq!((&listed.body[1]["name"], &listed.body[1]["kind"]), (&json!("CartPole-v1"), &json!("builtin")));
    let pages = server.get(&format!("{RL}/environments?limit=2")).await;
    assert!(pages.header("link").contains("rel=\"next\"") && pages.body.as_array().unwrap().len() == 2);
    let versions = server.get(&format!("{RL}/environments/walk/versions")).await;
    assert_eq!((versions.header("x-total-count"), &versions.body[1]["sha256"]), ("2", &facts["sha256"]));
    let tables = server.get(&format!("{RL}/environments/walk@1/tables")).await.ok();
    assert_eq!((&tables["sha256"], &tables["tables"]["states"]), (&facts["sha256"], &json!(["near", "far"])));
    assert_eq!(get_as(&server, CLIENT, &format!("{RL}/environments/walk@1")).await.ok()["version"], *facts);
    server.get(&format!("{RL}/environments/walk@3")).await.is(404);

    let settings = json!({"environments": 2, "rollout": 16, "batch": 32, "hidden": [8, 8]});
    let body = json!({"environment": "walk@1", "steps": 640, "evaluation_episodes": 2, "settings": settings});
    let run = post_as(&server, CLIENT, &format!("{RL}/runs"), body).await.is(201);
    assert_eq!((&run["policy"], &run["optimal_return"]), (&json!("walk-ppo"), &json!(5.0)));
    assert_eq!((&run["environment_sha256"], &run["settings"]["gamma"]), (&facts["sha256"], &json!(0.9)));
    let run = trained(&server, run.text("id")).await;
    assert_eq!((&run["status"], &run["scores"]["reference"]["optimum"]), (&json!("completed"), &json!(5.0)));
    assert!(run["scores"]["share_of_optimum"].as_f64().unwrap() <= 1.0, "{}", run["scores"]);
    let act = server.post(&format!("{RL}/policies/walk-ppo/act"), json!({"state": [1, 0]})).await.ok();
    assert!(["stay", "go"].contains(&act.text("action_name")));
    let measured = server.post(&format!("{RL}/policies/walk-ppo/evaluate"), json!({"episodes": 2})).await.ok();
    assert_eq!(measured["environment"], "walk@1");
    let other = server.post(&format!("{RL}/policies/walk-ppo/evaluate"), json!({"environment": "walk@2"})).await.ok();
    assert_eq!(other["reference"]["optimum"], 10.0);
    let refused = server.answer(server.request(Method::DELETE, &format!("{RL}/environments/walk"))).await.is(409);
    assert_eq!(refused["code"], "in_use");
    assert!(refused.text("detail").contains("walk-ppo@1"), "{refused}");
    publish(&server, walk("unused")).await.is(201);
    let delete = async |key: &str| {
        let request = server.client().delete(server.url(&format!("{RL}/environments/unused"))).header("x-api-key", key);
        server.answer(request).await.status.as_u16()
    };
    assert_eq!([delete(CLIENT).await, delete(ADMIN).await, delete(ADMIN).await], [403, 204, 404]);
}

#[tokio::test]
async fn tables_that_are_not_an_environment_are_refused_with_the_place() {
    let server = TestApp::start().await;
    let with = |member: &str, value: Value| {
        let mut body = walk("walk");
        body["tables"][member] = value;
        body
    };
    let row = |member: &str, value: Value| {
        let mut body = walk("walk");
        body["tables"]["transitions"][2][member] = value;
        body
    };
    let at = |rest: Value| {
        let mut loc = json!(["body", "tables"]);
        loc.as_array_mut().unwrap().extend(rest.as_array().unwrap().iter().cloned());
        loc
    };
    for (body, loc) in [
        (row("state", json!("nowhere")), at(json!(["transitions", 2, "state"]))),
        (row("next", json!("nowhere")), at(json!(["transitions", 2, "next"]))),
        (row("action", json!("fly")), at(json!(["transitions", 2, "action"]))),
        (row("probability", json!(0.5)), at(json!(["transitions"]))),
        (row("probability", json!(-1)), at(json!(["transitions", 2, "probability"]))),
        (row("reward", json!(1e9)), at(json!(["transitions", 2, "reward"]))),
        (row("reward", json!("much")), at(json!(["transitions", 2, "reward"]))),
        (with("start", json!({"near": 0.5})), at(json!(["start"]))),
        (with("start", json!({"moon": 1})), at(json!(["start", "moon"]))),
        (with("terminal", json!(["near"])), at(json!(["start", "near"]))),
        (with("terminal", json!(["moon"])), at(json!(["terminal", 0]))),
        (with("discount", json!(2)), at(json!(["discount"]))),
        (with("horizon", json!(0)), at(json!(["horizon"]))),
        (with("states", json!(["near", "near"])), at(json!(["states", 1]))),
        (with("features", json!({"names": ["x"], "rows": [[1]]})), at(json!(["features", "rows"]))),
    ] {
        assert_eq!(place(publish(&server, body.clone()).await), loc, "{body}");
    }
    for name in ["CartPole-v1", "bridge", "A name", ""] {
        assert_eq!(place(publish(&server, walk(name)).await), json!(["body", "name"]), "{name}");
    }
    let listed = server.get(&format!("{RL}/environments")).await;
    assert_eq!(listed.header("x-total-count"), "12", "nothing is stored");
    publish(&server, walk("walk")).await.is(201);
    assert_eq!(post_as(&server, CLIENT, &format!("{RL}/environments"), walk("walk")).await.status.as_u16(), 403);
    let parameters = json!({"environment": "walk", "steps": 64, "parameters": {"speed": 1}});
    assert_eq!(place(server.post(&format!("{RL}/runs"), parameters).await), json!(["body", "parameters"]));
}
