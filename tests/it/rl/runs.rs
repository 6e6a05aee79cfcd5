//! Training runs, environments and strategies.

use reqwest::Method;
use serde_json::{Value, json};

use super::{RL, place, small, trained};
use crate::{
    harness::{ADMIN, Answer, ApiClient, CLIENT, OTHER_ADMIN, TestApp},
    kit::{JsonDocument, get_as, post_as},
};

async fn create(server: &ApiClient, body: Value) -> Answer {
    server.post(&format!("{RL}/runs"), body).await
}

#[tokio::test]
async fn training_run_is_trained_evaluated_and_served() {
    let server = TestApp::start().await;
    let made = create(&server, small(640)).await.is(201);
    assert_eq!((&made["status"], &made["policy"]), (&json!("queued"), &json!("cartpole-v1-ppo")));
    let id = made.text("id");
    let run = trained(&server, id).await;
    assert_eq!(
        (&run["status"], &run["progress"], &run["reference"]),
        (&json!("completed"), &json!(1.0), &json!("cartpole-v1-ppo@1"))
    );
    let curve = run["curve"].as_array().unwrap();
    assert!(curve.len() > 10 && curve.last().unwrap()["measures"]["approx_kl"].is_number());
    for name in ["policy_loss", "value_loss", "entropy", "clip_fraction", "explained_variance"] {
        assert!(run["measures"][name].is_number(), "{name} in {}", run["measures"]);
    }
    assert_eq!(
        (&made["eta_seconds"], &run["eta_seconds"], &run["eta_reason"]),
        (&Value::Null, &json!(0.0), &Value::Null)
    );
    assert!(made.text("eta_reason").contains("waits for a place"), "{made}");
    let csv = server.get(&format!("{RL}/runs/{id}/curve")).await;
    assert_eq!((csv.status.as_u16(), csv.header("content-type")), (200, "text/csv; charset=utf-8"));
    assert!(csv.text.starts_with("steps,episodes,mean_return,mean_length,approx_kl,"), "{}", csv.text);
    assert_eq!(csv.text.lines().count(), curve.len() + 1);
    let events = server.get(&format!("{RL}/runs/{id}/curve?format=tfevents")).await;
    assert_eq!(events.header("content-type"), "application/octet-stream");
    assert!(
        events.header("content-disposition").contains(&format!("events.out.tfevents.{id}")) && events.text.len() > 1000
    );
    assert_eq!(place(server.get(&format!("{RL}/runs/{id}/curve?format=gif")).await), json!(["query", "format"]));
    let svg = server.get(&format!("{RL}/runs/{id}/curve?format=svg")).await;
    let drawn = curve.iter().filter(|point| point["mean_return"].is_number()).count();
    assert!(svg.text.starts_with("<svg") && svg.text.matches("<circle").count() == drawn, "{}", svg.text);
    let version = server.get(&format!("{RL}/policies/cartpole-v1-ppo/versions/latest")).await.ok();
    assert_eq!((&version["source"], &version["training"]["run_id"]), (&json!("trained"), &run["id"]));
    assert_eq!(version["scores"], run["scores"]);
    let act = server.post(&format!("{RL}/policies/cartpole-v1-ppo/act"), json!({"state": [0, 0, 0.01, 0]})).await.ok();
    assert!(["left", "right"].contains(&act.text("action_name")));
    let evaluate = format!("{RL}/policies/cartpole-v1-ppo@1/evaluate");
    let measured = server.post(&evaluate, json!({"episodes": 4, "seed": 7})).await.ok();
    assert_eq!((&measured["environment"], &measured["episodes"]), (&json!("CartPole-v1"), &json!(4)));
    assert_eq!(measured, server.post(&evaluate, json!({"episodes": 4, "seed": 7})).await.ok());
    let refused = server.post(&evaluate, json!({"environment": "Pendulum-v1"})).await;
    assert_eq!(place(refused), json!(["body", "environment"]));
    let mirrored: (String, String, f64) = sqlx::query_as(
        "SELECT environment_type, algorithm, training_progress FROM rl_configurations WHERE config_id = 'cartpole-v1-ppo'",
    )
    .fetch_one(&mut crate::jobs::open(&server.database()).await)
    .await
    .unwrap();
    assert_eq!(mirrored, ("CartPole-v1".into(), "ppo".into(), 1.0));
}

#[tokio::test]
async fn run_without_a_gradient_step_is_not_published() {
    let server = TestApp::start().await;
    let dqn = |steps: u64, settings: Value| {
        json!({"environment": "CartPole-v1", "algorithm": "dqn", "policy": "p", "steps": steps, "settings": settings,
            "aliases": ["production"], "evaluation_episodes": 1})
    };
    for (steps, settings, name) in [
        (1000, json!({}), "warmup"),
        (1500, json!({"every": 900}), "every"),
        (20, json!({"warmup": 4}), "batch"),
        (20, json!({"warmup": 4, "batch": 4, "steps": 21}), "steps"),
    ] {
        assert_eq!(place(create(&server, dqn(steps, settings)).await), json!(["body", "settings", name]));
    }
    let small = json!({"hidden": [8, 8], "stream": 8, "warmup": 16, "batch": 8});
    let id = create(&server, dqn(128, small.clone())).await.is(201).text("id").to_owned();
    let run = trained(&server, &id).await;
    assert_eq!((&run["status"], &run["gradient_steps"]), (&json!("completed"), &json!(112)));
    // Its time is over before its warmup is.
    let mut hasty = dqn(50_000_000, small);
    hasty["settings"]["warmup"] = json!(40_000_000);
    hasty["max_seconds"] = json!(1e-9);
    let id = create(&server, hasty).await.is(201).text("id").to_owned();
    let run = trained(&server, &id).await;
    assert_eq!((&run["status"], &run["gradient_steps"], &run["version"]), (&json!("failed"), &json!(0), &Value::Null));
    assert!(run.text("error").contains("before the first gradient step"), "{run}");
    let policy = server.get(&format!("{RL}/policies/p")).await.ok();
    assert_eq!(policy["aliases"], json!({"production": 1}));
}

#[tokio::test]
async fn training_event_stream_resumes() {
    let server = TestApp::start().await;
    let id = create(&server, small(320)).await.is(201).text("id").to_owned();
    let path = format!("{RL}/runs/{id}/events");
    // The stream ends with the run.
    let stream = server.request(Method::GET, &path).header("accept", "text/event-stream").send().await.unwrap();
    let text = stream.text().await.unwrap();
    assert!(text.starts_with("id: 1\nevent: queued\n") && text.contains("event: completed"), "{text}");
    let page = server.get(&format!("{path}?format=json")).await.ok();
    assert_eq!((&page["run_id"], &page["events"][1]["type"]), (&json!(id), &json!("started")));
    let last = page["events"].as_array().unwrap().len();
    let request = server.request(Method::GET, &path).header("last-event-id", (last - 1).to_string());
    let rest = request.send().await.unwrap().text().await.unwrap();
    assert!(rest.starts_with(&format!("id: {last}\nevent: completed\n")), "{rest}");
    get_as(&server, CLIENT, &path).await.is(404);
}

#[tokio::test]
async fn training_run_is_controlled_by_its_owner() {
    let server = TestApp::start().await;
    let id = create(&server, small(50_000_000)).await.is(201).text("id").to_owned();
    let path = format!("{RL}/runs/{id}");
    let until = async |wanted: &str| {
        loop {
            let run = server.get(&path).await.ok();
            if run["status"] == wanted {
                return run;
            }
            crate::harness::poll_interval().await;
        }
    };
    until("running").await;
    post_as(&server, CLIENT, &format!("{path}/pause"), json!({})).await.is(404);
    server.post(&format!("{path}/pause"), json!({})).await.ok();
    let paused = until("paused").await;
    assert_eq!(paused["checkpoint"]["steps"], paused["steps_done"]);
    let refused = server.post(&format!("{path}/pause"), json!({})).await.is(400);
    assert_eq!(
        (&refused["code"], &refused["detail"]),
        (&json!("invalid_state"), &json!("The training run cannot be paused: it is paused"))
    );
    server.post(&format!("{path}/resume"), json!({})).await.ok();
    until("running").await;
    server.post(&format!("{path}/cancel"), json!({})).await.ok();
    let ended = trained(&server, &id).await;
    assert_eq!((&ended["status"], &ended["version"]), (&json!("cancelled"), &Value::Null));
    server.post(&format!("{path}/cancel"), json!({})).await.is(400);
    server.get(&format!("{RL}/policies/cartpole-v1-ppo")).await.is(404);
    let mine = server.get(&format!("{RL}/runs?status=cancelled")).await;
    assert_eq!((mine.header("x-total-count"), &mine.body[0]["id"]), ("1", &json!(id)));
    assert!(mine.body[0].get("curve").is_none(), "not in lists");
    assert_eq!(get_as(&server, CLIENT, &format!("{RL}/runs")).await.ok(), json!([]));
    get_as(&server, CLIENT, &path).await.is(404);
}

#[tokio::test]
async fn training_run_validation_reports_faults() {
    let server = TestApp::start().await;
    let with = |member: &str, value: Value| {
        let mut body = small(64);
        body[member] = value;
        body
    };
    for (member, value, loc) in [
        ("algorithm", json!("td3"), json!(["body", "algorithm"])),
        ("algorithm", json!("pixie"), json!(["body", "algorithm"])),
        ("environment", json!("Tetris"), json!(["body", "environment"])),
        ("parameters", json!({"gravity": 1}), json!(["body", "parameters"])),
        ("settings", json!({"gama": 1}), json!(["body", "settings", "gama"])),
        ("settings", json!({"gamma": 2}), json!(["body", "settings", "gamma"])),
        ("steps", json!(0), json!(["body", "steps"])),
        ("steps", json!("many"), json!(["body", "steps"])),
        ("policy", json!("No Name"), json!(["body", "policy"])),
        ("evaluation_episodes", json!(0), json!(["body", "evaluation_episodes"])),
        ("max_seconds", json!(-1), json!(["body", "max_seconds"])),
        ("aliases", json!(["latest"]), json!(["body", "aliases"])),
    ] {
        assert_eq!(place(create(&server, with(member, value)).await), loc, "{member}");
    }
    let refused = create(&server, with("algorithm", json!("muzero"))).await;
    assert!(refused.text.contains("'muzero' is not implemented"), "{}", refused.text);
    server.get(&format!("{RL}/runs/train_0")).await.is(404);
}

#[tokio::test]
async fn training_environments_are_described() {
    let server = TestApp::start().await;
    let all = server.get(&format!("{RL}/environments")).await.ok();
    let names: Vec<&str> = all.as_array().unwrap().iter().map(|one| one.text("name")).collect();
    for name in [
        "CartPole-v1",
        "Acrobot-v1",
        "Pendulum-v1",
        "MountainCar-v0",
        "marketplace_trading",
        "resource_allocation",
        "price_optimization",
        "service_selection",
        "negotiation_strategy",
        "portfolio_management",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    let one = server.get(&format!("{RL}/environments/price_optimization")).await.ok();
    assert!(one.text("summary").len() > 100 && one["horizon"].is_number());
    assert!(one["parameters"][0]["meaning"].is_string() && one["actions"]["names"].is_array());
    let reference = &one["reference"];
    assert!(reference["optimum"].as_f64().unwrap() > reference["random"].as_f64().unwrap());
    server.get(&format!("{RL}/environments/Tetris")).await.is(404);
    // An empty database says nothing of prices.
    let calibration = server.get(&format!("{RL}/environments/price_optimization/calibration")).await.ok();
    assert_eq!((&calibration["source"], &calibration["records"]), (&Value::Null, &json!(0)));
    let mut body = small(64);
    body["calibrate"] = true.into();
    body["environment"] = "price_optimization".into();
    let run = create(&server, body).await.is(201);
    assert_eq!(run["parameters"], calibration["parameters"], "what it was trained with is on record");
}

#[tokio::test]
async fn strategy_is_optimized_deployed_and_evaluated() {
    let server = TestApp::start().await;
    let at = |strategy: &str, verb: &str| format!("{RL}/strategies/{strategy}/{verb}");
    let settings = json!({"environments": 2, "rollout": 16, "batch": 32, "hidden": [8, 8]});
    let body = json!({"steps": 64, "settings": settings});
    let run = server.post(&at("pricing", "optimize"), body.clone()).await.is(201);
    assert_eq!((&run["environment"], &run["algorithm"]), (&json!("price_optimization"), &json!("ppo")));
    let policy = run.text("policy");
    assert_eq!(trained(&server, run.text("id")).await["status"], "completed");
    let listed = server.get(&format!("{RL}/strategies")).await.ok();
    assert_eq!((&listed[0]["strategy"], &listed[0]["policy"]), (&json!("pricing"), &json!(policy)));
    let deployed = server.post(&at("pricing", "deploy"), json!({})).await.ok();
    assert_eq!((&deployed["name"], &deployed["aliases"]["production"]), (&json!(policy), &json!(1)));
    let measured = server.post(&at("pricing", "evaluate"), json!({"episodes": 4})).await.ok();
    assert_eq!(
        (&measured["policy"], &measured["environment"]),
        (&json!(format!("{policy}@1")), &json!("price_optimization"))
    );
    assert!(measured["share_of_optimum"].is_number(), "{measured}");
    // Another caller has a policy of their own.
    let other = post_as(&server, CLIENT, &at("price_optimization", "optimize"), body).await.is(201);
    assert_ne!(other["policy"], policy);
    server.post(&at("chess", "optimize"), json!({})).await.is(404);
    let refused = server.post(&at("trading", "optimize"), json!({"algorithm": "impala"})).await;
    assert_eq!(place(refused), json!(["body", "algorithm"]));
    assert!(server.key() == ADMIN);
}

#[tokio::test]
async fn limits_of_training_are_by_role_and_admins_may_end_any_run() {
    let server = TestApp::builder()
        .env("TRAINING_SLOTS", 0)
        .env("TRAINING_MAX_STEPS_CLIENT", 1000)
        .env("TRAINING_MAX_OPEN_RUNS", 2)
        .start()
        .await;
    let runs = format!("{RL}/runs");
    let named = |policy: &str, steps: u64| {
        let mut body = small(steps);
        body["policy"] = json!(policy);
        body
    };
    let refused = post_as(&server, CLIENT, &runs, named("p", 1001)).await;
    assert_eq!(place(refused), json!(["body", "steps"]));
    let strategy = format!("{RL}/strategies/pricing/optimize");
    post_as(&server, CLIENT, &strategy, json!({"steps": 100_000})).await.is(422);
    let id = post_as(&server, CLIENT, &runs, named("p", 1000)).await.is(201).text("id").to_owned();
    post_as(&server, CLIENT, &runs, named("p", 1000)).await.is(201);
    let full = post_as(&server, CLIENT, &runs, named("p", 1000)).await.is(429);
    assert_eq!(full["code"], "quota_exceeded");
    assert!(full.text("detail").contains("TRAINING_MAX_OPEN_RUNS"), "{full}");
    // Others have places of their own.
    server.post(&runs, named("q", 50_000)).await.is(201);
    get_as(&server, CLIENT, &format!("{runs}?all=true")).await.is(403);
    let all = get_as(&server, OTHER_ADMIN, &format!("{runs}?all=true")).await;
    assert_eq!(all.header("x-total-count"), "3");
    let cancelled = post_as(&server, OTHER_ADMIN, &format!("{runs}/{id}/cancel"), json!({})).await.ok();
    assert_eq!(cancelled["status"], "cancelled");
    post_as(&server, CLIENT, &runs, named("p", 1000)).await.is(201);
}

#[tokio::test]
async fn a_new_run_waits_for_its_end_on_request() {
    let server = TestApp::start().await;
    let run = server.post(&format!("{RL}/runs?wait=50"), small(64)).await.is(201);
    assert_eq!(run["status"], "completed");
    let strategy = format!("{RL}/strategies/pricing/optimize?wait=50");
    let body = json!({"steps": 64, "settings": {"environments": 2, "rollout": 16, "batch": 32, "hidden": [8, 8]}});
    assert_eq!(server.post(&strategy, body).await.is(201)["status"], "completed");
    server.post(&format!("{RL}/runs?wait=x"), small(64)).await.is(422);
}
