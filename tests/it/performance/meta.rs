//! Meta-learning: models trained in the background, measured, adapted, named, and exported.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use super::{PERFORMANCE, tasks};
use crate::{
    harness::{Answer, ApiClient, CLIENT, MINER, Server, TestApp, poll_interval},
    kit::{JsonDocument as _, ask, get_as, json_fixture, locations, post_as},
};

fn models() -> String {
    format!("{PERFORMANCE}/meta-learning/models")
}

fn model_path(model: &Value) -> String {
    format!("{}/{}", models(), model.text("model_id"))
}

/// A small model to train.
pub fn draft(name: &str, more: &Value) -> Value {
    let mut body = json!({
        "model_name": name, "base_algorithms": ["maml"], "meta_strategy": "meta_learning",
        "adaptation_targets": ["sinusoid_regression"],
        "settings": {"iterations": 30, "hidden": [8], "tasks_per_iteration": 4, "inner_rate": 0.002},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Wait for the end of a model's training.
pub async fn ended(server: &ApiClient, model: &Value) -> Value {
    tasks::ended(server, server.key(), model.text("task_id")).await;
    server.get(&model_path(model)).await.ok()
}

/// A model that is ready.
pub async fn trained(server: &ApiClient, name: &str, more: Value) -> Value {
    let made = server.post(&models(), draft(name, &more)).await.ok();
    let model = ended(server, &made).await;
    assert_eq!(model["status"], "ready", "{model}");
    model
}

/// What to ask of a POST of meta-learning so that it succeeds once: its path and its body.
pub async fn prepare(server: &ApiClient, template: &str) -> (String, Value) {
    if template.ends_with("/adapt") {
        let model = trained(server, "once", json!({})).await;
        return (format!("{}/adapt", model_path(&model)), json!({"draw": 1, "save_as": "kept"}));
    }
    (models(), draft("once", &json!({})))
}

async fn count(server: &ApiClient, table: &'static str) -> i64 {
    let mut conn = SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    let sql = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
    let found = sqlx::query_scalar(sql).fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    found
}

#[tokio::test]
async fn figures_are_null_until_they_were_measured() {
    let server = TestApp::start().await;
    let made = server.post(&models(), draft("sines", &json!({"seed": 5}))).await.ok();
    let contract = json_fixture("contract/openapi.json");
    let required = &contract["components"]["schemas"]["MetaLearningResponse"]["required"];
    for member in required.as_array().unwrap() {
        assert!(made.get(member.as_str().unwrap()).is_some(), "{member} is missing in {made}");
    }
    assert_eq!((&made["status"], &made["version"], &made["trained_at"]), (&json!("training"), &json!(1), &Value::Null));
    let figures = [
        "meta_accuracy",
        "adaptation_speed",
        "generalization_ability",
        "training_time",
        "computational_cost",
        "memory_requirement",
    ];
    for figure in figures {
        assert!(made[figure].is_null(), "{made}");
        assert_eq!(made["reasons"][figure], "The training has not ended");
    }
    let model = ended(&server, &made).await;
    assert_eq!(model["status"], "ready", "{model}");
    assert_eq!(model["measures"]["held_out_tasks"], 200);
    assert_eq!(model["measures"]["adaptation"]["losses"].as_array().unwrap().len(), 11);
    for figure in figures {
        let known = model[figure].is_number();
        assert!(known != model["reasons"].get(figure).is_some(), "{figure}: {model}");
    }
    assert!(model["training_time"].as_f64().unwrap() > 0.0 && model["computational_cost"].as_f64().unwrap() > 0.0);
    let mut conn = SqliteConnection::connect(server.database().to_str().unwrap()).await.unwrap();
    let row: (String, String, String, f64, String) = sqlx::query_as(
        "SELECT model_name, meta_strategy, status, meta_accuracy, adaptation_targets FROM meta_learning_models",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    let kept = model["meta_accuracy"].as_f64().unwrap_or(0.0);
    let wanted = ("sines".into(), "META_LEARNING".into(), "ready".into(), kept, r#"["sinusoid_regression"]"#.into());
    assert_eq!(row, wanted);
    // The same settings and seed are the same model.
    let again = trained(&server, "sines", json!({"seed": 5})).await;
    assert_eq!((&again["sha256"], &again["version"]), (&model["sha256"], &json!(2)));
    let other = trained(&server, "sines", json!({"seed": 6})).await;
    assert_ne!(other["sha256"], model["sha256"]);
}

#[tokio::test]
async fn an_adaptation_takes_its_steps_and_leaves_the_model() {
    let server = TestApp::start().await;
    let model = trained(&server, "sines", json!({})).await;
    let path = model_path(&model);
    let set = |from: f64| {
        let x: Vec<f64> = (0..10).map(|step| from + 0.37 * f64::from(step)).collect();
        let inputs: Vec<_> = x.iter().map(|x| vec![*x]).collect();
        json!({"inputs": inputs, "targets": x.iter().map(|x| vec![2.0 * x.sin()]).collect::<Vec<_>>()})
    };
    let body = json!({"support": set(-2.0), "query": set(-1.8)});
    let found = server.post(&format!("{path}/adapt?adaptation_steps=20"), body.clone()).await.ok();
    assert_eq!(found["adaptation_steps"], 20);
    assert_eq!(found["curve"]["losses"].as_array().unwrap().len(), 21);
    let (before, after) = (found["loss_before"].as_f64().unwrap(), found["loss_after"].as_f64().unwrap());
    assert!(after < before, "{found}");
    assert_eq!(found["improvement"], json!(before - after));
    assert_eq!((&found["measured_on_support"], &found["saved"]), (&json!(false), &Value::Null));
    let again = server.post(&format!("{path}/adapt?adaptation_steps=20"), body).await.ok();
    assert_eq!(again, found, "the model has not changed");
    let own = server.post(&format!("{path}/adapt"), json!({"support": set(-2.0)})).await.ok();
    assert_eq!((&own["measured_on_support"], &own["adaptation_steps"]), (&json!(true), &json!(10)));
    let kept = server.post(&format!("{path}/adapt"), json!({"draw": 4, "save_as": "mine"})).await.ok();
    let saved = &kept["saved"];
    assert_eq!((&saved["origin_id"], &saved["status"]), (&model["model_id"], &json!("ready")));
    assert_eq!(saved["reasons"]["meta_accuracy"], "An adapted model is not measured on other tasks");
    // It begins where the adaptation ended.
    let next = server.post(&format!("{}/adapt", model_path(saved)), json!({"draw": 4})).await.ok();
    assert_eq!(next["loss_before"], kept["loss_after"]);
}

#[tokio::test]
async fn classes_are_learnt_from_tasks_that_were_sent() {
    let server = TestApp::start().await;
    let set = |shift: f64| {
        let rows = [[0.0, 1.0], [1.0, 0.0], [0.1, 0.9], [0.9, 0.2]];
        json!({"inputs": rows.map(|[x, y]| [x + shift, y - shift]), "labels": [0, 1, 0, 1]})
    };
    let tasks: Vec<_> =
        (0..6).map(|task| json!({"support": set(f64::from(task)), "query": set(f64::from(task))})).collect();
    let more = json!({"tasks": tasks, "base_algorithms": ["prototypical networks"], "adaptation_targets": ["mine"]});
    let model = trained(&server, "clusters", more).await;
    assert_eq!((&model["plan"]["sent_tasks"], &model["plan"]["family"]), (&json!(6), &Value::Null));
    assert_eq!((&model["meta_accuracy"], &model["generalization_ability"]), (&json!(1.0), &json!(1.0)), "{model}");
    assert!(model["reasons"]["adaptation_speed"].is_string());
    let adapt = format!("{}/adapt", model_path(&model));
    let found = server.post(&adapt, json!({"support": set(9.0), "query": set(9.0)})).await.ok();
    assert_eq!((&found["score_after"], &found["adaptation_steps"]), (&json!(1.0), &json!(0)));
    assert!(found["loss_before"].is_null() && found["reasons"]["loss_before"].is_string(), "{found}");
    let drawn = server.post(&adapt, json!({"draw": 1})).await;
    assert_eq!(locations(&drawn.is(422)), [json!(["body", "draw"])]);
}

#[tokio::test]
async fn what_is_refused_is_told_with_its_place_and_leaves_nothing() {
    let server = TestApp::start().await;
    let refused = async |more: Value| {
        let answer = server.post(&models(), draft("no", &more)).await.is(422);
        locations(&answer)
    };
    assert_eq!(refused(json!({"adaptation_targets": ["weather"]})).await, [json!(["body", "adaptation_targets", 0])]);
    assert_eq!(refused(json!({"base_algorithms": ["magic"]})).await, [json!(["body", "base_algorithms", 0])]);
    assert_eq!(refused(json!({"meta_strategy": "unsupervised_learning"})).await, [json!(["body", "meta_strategy"])]);
    let set = |x: f64| json!({"inputs": [[x], [2.0]], "targets": [[1.0], [2.0]]});
    let wide = json!({"inputs": [[1.0, 1.0], [2.0, 2.0]], "targets": [[1.0], [2.0]]});
    let tasks = json!([{"support": set(1.0), "query": set(1.0)}, {"support": set(1.0), "query": wide}]);
    assert_eq!(refused(json!({"tasks": tasks})).await, [json!(["body", "tasks", 1, "query", "inputs"])]);
    let tasks = json!([{"support": set(1e300), "query": set(1.0)}, {"support": set(1.0), "query": set(1.0)}]);
    assert_eq!(refused(json!({"tasks": tasks})).await, [json!(["body", "tasks", 0, "support", "inputs", 0, 0])]);
    for table in ["am_meta_models", "meta_learning_models", "am_background_tasks"] {
        assert_eq!(count(&server, table).await, 0, "{table}");
    }
    let model = trained(&server, "sines", json!({})).await;
    let adapt = format!("{}/adapt", model_path(&model));
    let places = async |body: Value| locations(&server.post(&adapt, body).await.is(422));
    assert_eq!(places(json!({})).await, [json!(["body", "support"])]);
    assert_eq!(places(json!({"support": set(1.0), "draw": 1})).await, [json!(["body", "draw"])]);
    let two = json!({"inputs": [[1.0, 2.0]], "targets": [[1.0]]});
    assert_eq!(places(json!({"support": two})).await, [json!(["body", "support", "inputs"])]);
    let steps = server.post(&format!("{adapt}?adaptation_steps=51"), json!({"draw": 1})).await.is(422);
    assert_eq!(locations(&steps), [json!(["query", "adaptation_steps"])]);
}

#[tokio::test]
async fn versions_have_aliases_and_files_and_owners() {
    let server = TestApp::start().await;
    let ask_as = async |key: &str, method: Method, path: String| -> Answer {
        ask(&server, Some(key), method, &path, None).await
    };
    let made = post_as(&server, CLIENT, &models(), draft("own", &json!({}))).await.ok();
    let early = ask_as(CLIENT, Method::GET, format!("{}/export", model_path(&made))).await;
    assert!([200, 409].contains(&early.status.as_u16()), "{}", early.text);
    let first = ended(&server, &made).await;
    let made = post_as(&server, CLIENT, &models(), draft("own", &json!({"seed": 2}))).await.ok();
    let second = ended(&server, &made).await;
    let aliased = ask_as(CLIENT, Method::PUT, format!("{}/aliases/live", model_path(&second))).await.ok();
    assert_eq!(aliased["aliases"], json!(["live"]));
    let by = async |reference: &str| get_as(&server, CLIENT, &format!("{}/{reference}", models())).await.ok();
    assert_eq!(by("own@live").await["model_id"], second["model_id"]);
    assert_eq!(by("own@1").await["model_id"], first["model_id"]);
    ask_as(CLIENT, Method::PUT, format!("{}/aliases/live", model_path(&first))).await.ok();
    assert_eq!(by("own@live").await["model_id"], first["model_id"]);
    ask_as(CLIENT, Method::DELETE, format!("{}/aliases/live", model_path(&second))).await.is(404);
    ask_as(CLIENT, Method::DELETE, format!("{}/aliases/live", model_path(&first))).await.ok();
    get_as(&server, CLIENT, &format!("{}/own@live", models())).await.is(404);
    let wrong = ask_as(CLIENT, Method::PUT, format!("{}/aliases/1x", model_path(&first))).await.is(422);
    assert_eq!(locations(&wrong), [json!(["path", "alias"])]);
    let versions = get_as(&server, CLIENT, &format!("{}/versions", model_path(&first))).await.ok();
    let numbers: Vec<_> = versions.as_array().unwrap().iter().map(|model| model["version"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [2, 1]);
    let file = ask_as(CLIENT, Method::GET, format!("{}/export", model_path(&first))).await;
    assert_eq!((file.status.as_u16(), file.header("etag")), (200, format!("\"{}\"", first.text("sha256")).as_str()));
    for (method, path) in
        [(Method::GET, ""), (Method::GET, "/export"), (Method::GET, "/versions"), (Method::PUT, "/aliases/a")]
    {
        ask_as(MINER, method, format!("{}{path}", model_path(&first))).await.is(404);
    }
    assert_eq!(get_as(&server, MINER, &models()).await.ok(), json!([]));
    let listed =
        get_as(&server, CLIENT, &format!("{}?status=ready&meta_strategy=meta_learning&limit=1", models())).await;
    assert_eq!((listed.header("x-total-count"), listed.header("link").contains("next")), ("2", true));
    assert_eq!(get_as(&server, CLIENT, &format!("{}?status=failed", models())).await.ok(), json!([]));
}

#[tokio::test]
async fn a_cancelled_training_leaves_no_model_to_use() {
    let server = TestApp::start().await;
    let long = json!({"settings": {"iterations": 200_000}});
    let made = server.post(&models(), draft("long", &long)).await.ok();
    server.post(&format!("{PERFORMANCE}/tasks/{}/cancel", made.text("task_id")), json!({})).await.ok();
    let model = ended(&server, &made).await;
    assert_eq!((&model["status"], &model["sha256"]), (&json!("cancelled"), &Value::Null));
    assert_eq!(model["reasons"]["meta_accuracy"], "The training was cancelled");
    let refused = server.post(&format!("{}/adapt", model_path(&model)), json!({"draw": 1})).await.is(409);
    assert_eq!(refused["code"], "not_ready");
}

#[tokio::test]
async fn a_training_whose_process_is_killed_ends_with_the_same_model() {
    let settings = json!({"settings": {"iterations": 1500, "hidden": [8], "tasks_per_iteration": 4}});
    let mut server = Server::builder().env("BACKGROUND_CHECKPOINT_SECONDS", "0.05").start().await;
    let made = server.post(&models(), draft("killed", &settings)).await.ok();
    let task = format!("{PERFORMANCE}/tasks/{}", made.text("task_id"));
    loop {
        let now = server.get(&task).await.ok();
        assert_ne!(now["status"], "completed", "it was to be killed before: {now}");
        if count(&server, "am_background_checkpoints").await > 0 && now["done"].as_u64() > Some(0) {
            break;
        }
        poll_interval().await;
    }
    server.kill();
    let server = server.again().start().await;
    let killed = ended(&server, &made).await;
    assert_eq!(killed["status"], "ready", "{killed}");
    let whole = trained(&server, "whole", settings).await;
    assert_eq!(killed["sha256"], whole["sha256"]);
    assert_eq!(killed["measures"]["adaptation"], whole["measures"]["adaptation"]);
}
