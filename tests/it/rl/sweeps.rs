//! Sweeps: their trials as training runs, what is refused, cancellation, and the same result after a crash.

use std::{os::unix::process::ExitStatusExt as _, time::Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::{RL, place};
use crate::{
    harness::{ApiClient, CLIENT, MINER, OTHER_ADMIN, PATIENCE, Server, TestApp, poll_interval},
    kit::{JsonDocument as _, get_as, locations, post_as},
};

fn sweeps() -> String {
    format!("{RL}/sweeps")
}

/// A sweep whose trainings take a moment.
pub fn small(more: Value) -> Value {
    let mut body = json!({"environment": "CartPole-v1", "algorithm": "ppo", "total_timesteps": 64, "evaluation_episodes": 2,
        "settings": {"environments": 2, "rollout": 16, "batch": 32, "hidden": [8, 8]},
        "space": {"learning_rate": {"values": [0.001, 0.01]}}, "seeds": [1, 2]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn ended(server: &ApiClient, key: &str, sweep: &Value) -> Value {
    let sweep = get_as(server, key, &format!("{}/{}?wait=50", sweeps(), sweep.text("sweep_id"))).await.ok();
    assert!(sweep["ended_at"].is_string(), "{sweep}");
    sweep
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn sweep_trains_each_combination_with_each_seed() {
    let server = TestApp::start().await;
    let space = json!({"learning_rate": {"values": [0.001, 0.01]}, "gamma": {"low": 0.9, "high": 0.99, "points": 2}});
    let asked = small(json!({"space": space, "name": "rates", "tags": ["team:a"]}));
    let made = post_as(&server, CLIENT, &sweeps(), asked).await.is(201);
    assert_eq!((&made["status"], &made["method"], &made["trials"]), (&json!("running"), &json!("grid"), &json!(4)));
    let id = made.text("sweep_id");
    assert_eq!((&made["policy"], &made["best"], &made["progress"]), (&json!(id), &Value::Null, &json!(0.0)));
    let sweep = ended(&server, CLIENT, &made).await;
    assert_eq!(
        (&sweep["status"], &sweep["trials_ended"], &sweep["progress"]),
        (&json!("completed"), &json!(4), &json!(1.0))
    );
    let report = get_as(&server, CLIENT, &format!("{}/{id}/trials", sweeps())).await.ok();
    let trials = report["trials"].as_array().unwrap();
    let settings: Vec<&Value> = trials.iter().map(|trial| &trial["settings"]).collect();
    assert_eq!(settings[1], &json!({"gamma": 0.9, "learning_rate": 0.01}), "{settings:?}");
    assert_eq!(settings[3], &json!({"gamma": 0.99, "learning_rate": 0.01}));
    let mut scores = Vec::new();
    for (at, trial) in trials.iter().enumerate() {
        let mut of_seeds = Vec::new();
        for (run, seed) in trial["runs"].as_array().unwrap().iter().zip([1, 2]) {
            // The figures are those of real runs, which have all that runs have.
            let found = get_as(&server, CLIENT, &format!("{RL}/runs/{}", run.text("run_id"))).await.ok();
            assert_eq!(
                (&found["status"], &found["seed"], &found["policy"]),
                (&json!("completed"), &json!(seed), &json!(id))
            );
            assert_eq!(found["settings"]["gamma"], trial["settings"]["gamma"]);
            assert_eq!(found["settings"]["hidden"], json!([8, 8]));
            assert_eq!(found["tags"], json!([format!("sweep:{id}"), format!("trial:{}", at + 1), "team:a"]));
            assert_eq!(found["name"], format!("rates, trial {}, seed {seed}", at + 1));
            assert_eq!(run["reference"], found["reference"]);
            assert_eq!(run["score"], found["scores"]["mean"], "CartPole's model gives no exact return");
            of_seeds.push(run["score"].as_f64().unwrap());
        }
        assert!((trial["score"].as_f64().unwrap() - mean(&of_seeds)).abs() < 1e-9);
        assert!(
            trial["low"].as_f64().unwrap() <= mean(&of_seeds) && trial["high"].as_f64().unwrap() >= mean(&of_seeds)
        );
        scores.push(mean(&of_seeds));
    }
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let best = scores.iter().position(|score| *score == most).unwrap();
    assert_eq!(sweep["best"]["trial"], best + 1, "the first of the best: {scores:?}");
    assert_eq!((&report["margin"]["best"], report["best_scores"].as_array().unwrap().len()), (&json!(best + 1), 4));
    let tagged = get_as(&server, CLIENT, &format!("{RL}/runs?tags=sweep:{id},trial:2")).await;
    assert_eq!(tagged.header("x-total-count"), "2");
    let csv = get_as(&server, CLIENT, &format!("{}/{id}/trials?format=csv", sweeps())).await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    assert!(
        csv.text.starts_with("trial,state,gamma,learning_rate,score,low,high,seed_1,seed_2\n1,measured,0.9,0.001,"),
        "{}",
        csv.text
    );
    assert_eq!(csv.text.lines().count(), 5);
    let svg = get_as(&server, CLIENT, &format!("{}/{id}/trials?format=svg", sweeps())).await;
    assert!(svg.text.starts_with("<svg") && svg.text.matches("<circle").count() == 4, "{}", svg.text);
    let refused = get_as(&server, CLIENT, &format!("{}/{id}/trials?format=gif", sweeps())).await;
    assert_eq!(place(refused), json!(["query", "format"]));
    // It is its owner's, and the admins'.
    let listed = get_as(&server, CLIENT, &format!("{}?status=completed", sweeps())).await;
    assert_eq!((listed.header("x-total-count"), &listed.body[0]["best"]), ("1", &sweep["best"]));
    get_as(&server, MINER, &format!("{}/{id}", sweeps())).await.is(404);
    get_as(&server, MINER, &format!("{}/{id}/trials", sweeps())).await.is(404);
    post_as(&server, MINER, &format!("{}/{id}/cancel", sweeps()), json!({})).await.is(404);
    assert_eq!(get_as(&server, MINER, &sweeps()).await.ok(), json!([]));
    get_as(&server, CLIENT, &format!("{}?all=true", sweeps())).await.is(403);
    let all = get_as(&server, OTHER_ADMIN, &format!("{}?all=true", sweeps())).await;
    assert_eq!(all.header("x-total-count"), "1");
    let again = post_as(&server, CLIENT, &format!("{}/{id}/cancel", sweeps()), json!({})).await.is(409);
    assert_eq!(again["code"], "invalid_state");
}

#[tokio::test(flavor = "multi_thread")]
async fn sweep_by_an_estimator_keeps_to_its_space_and_budget() {
    let server = TestApp::start().await;
    let space = json!({"learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}, "epochs": {"low": 1, "high": 3, "integer": true}});
    let asked = small(json!({"space": space, "method": "tpe", "seeds": [4], "goal": "learning_speed",
        "budget": {"trials": 12, "steps": 64 * 5}}));
    let made = server.post(&sweeps(), asked.clone()).await.is(201);
    let sweep = ended(&server, server.key(), &made).await;
    assert_eq!(
        (&sweep["status"], &sweep["trials_ended"], &sweep["ended_by"]),
        (&json!("completed"), &json!(5), &json!("steps"))
    );
    assert_eq!((&sweep["best"]["low"], &sweep["progress"]), (&Value::Null, &json!(1.0)), "one seed has no interval");
    let trials = async |sweep: &Value| {
        let report = server.get(&format!("{}/{}/trials", sweeps(), sweep.text("sweep_id"))).await.ok();
        report["trials"].as_array().unwrap().clone()
    };
    let first = trials(&sweep).await;
    for trial in &first {
        let rate = trial["settings"]["learning_rate"].as_f64().unwrap();
        let epochs = trial["settings"]["epochs"].as_i64().unwrap();
        assert!((1e-4..=1e-2).contains(&rate) && (1..=3).contains(&epochs), "{trial}");
    }
    // The goal is the mean of the curve.
    let run = server.get(&format!("{RL}/runs/{}", first[0]["runs"][0].text("run_id"))).await.ok();
    let returns: Vec<f64> =
        run["curve"].as_array().unwrap().iter().filter_map(|point| point["mean_return"].as_f64()).collect();
    assert!((first[0]["score"].as_f64().unwrap() - mean(&returns)).abs() < 1e-9, "{first:?}");
    // The same order makes the same trials.
    let again = server.post(&sweeps(), asked).await.is(201);
    let again = ended(&server, server.key(), &again).await;
    let figures =
        |trials: &[Value]| trials.iter().map(|trial| json!([trial["settings"], trial["score"]])).collect::<Vec<_>>();
    assert_eq!(figures(&trials(&again).await), figures(&first));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_sweep_cancels_the_runs_of_its_trial() {
    let server = TestApp::start().await;
    let made = server.post(&sweeps(), small(json!({"total_timesteps": 50_000_000}))).await.is(201);
    let id = made.text("sweep_id");
    let deadline = Instant::now() + PATIENCE;
    let report = loop {
        let report = server.get(&format!("{}/{id}/trials", sweeps())).await.ok();
        // Either may have the place for trainings.
        let runs = report["trials"][0]["runs"].as_array();
        if runs.is_some_and(|runs| runs.iter().any(|run| run["status"] == "running")) {
            break report;
        }
        assert!(Instant::now() < deadline, "{report}");
        poll_interval().await;
    };
    assert_eq!(report["trials"][0]["reason"], "its runs have not ended");
    // It waits for its runs without a place: a task of the same owner goes on, though there is one place.
    let policy = server
        .post(
            &format!("{RL}/compare"),
            json!({"versions": ["marketplace-ppo", super::compare::uploaded(&server).await],
        "environment": "price_optimization", "episodes": 1, "seeds": [0, 1]}),
        )
        .await
        .is(201);
    let tasks = crate::performance::tasks::tasks();
    let other = server.get(&format!("{tasks}/{}?wait=50", policy.text("id"))).await.ok();
    assert_eq!(other["status"], "completed", "{other}");
    server.post(&format!("{}/{id}/cancel", sweeps()), json!({})).await.ok();
    let sweep = ended(&server, server.key(), &made).await;
    assert_eq!((&sweep["status"], &sweep["best"]), (&json!("cancelled"), &Value::Null));
    let report = server.get(&format!("{}/{id}/trials", sweeps())).await.ok();
    assert_eq!(report["trials"][0]["state"], "cancelled");
    for run in report["trials"][0]["runs"].as_array().unwrap() {
        let run = super::trained(&server, run.text("run_id")).await;
        assert_eq!(run["status"], "cancelled", "{run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sweep_that_cannot_be_made_is_refused_with_its_faults() {
    let server = TestApp::builder().env("TRAINING_SLOTS", 0).env("TRAINING_MAX_OPEN_RUNS", 2).start().await;
    let faults = async |more: Value, member: Value| {
        let refused = post_as(&server, CLIENT, &sweeps(), small(more.clone())).await.is(422);
        assert!(locations(&refused).contains(&member), "{more}: {refused}");
    };
    let of_rate = |dimension: Value| json!({"space": {"learning_rate": dimension}});
    for (more, member) in [
        (json!({"space": {}}), json!(["body", "space"])),
        (json!({"space": {"gama": {"values": [1]}}}), json!(["body", "space", "gama"])),
        (of_rate(json!({"values": [0.1, "fast"]})), json!(["body", "space", "learning_rate"])),
        (of_rate(json!({"values": [0.1, -1]})), json!(["body", "space", "learning_rate"])),
        (of_rate(json!({"low": 1, "high": 0})), json!(["body", "space", "learning_rate"])),
        (of_rate(json!({"low": 0, "high": 1, "log": true})), json!(["body", "space", "learning_rate"])),
        (of_rate(json!({"low": 1e-4, "hihg": 1})), json!(["body", "space", "learning_rate", "hihg"])),
        (json!({"method": "grid", "space": {"gamma": {"low": 0, "high": 1}}}), json!(["body", "space", "gamma"])),
        (json!({"method": "chance"}), json!(["body", "method"])),
        (
            json!({"space": {"gamma": {"low": 0, "high": 1, "points": 50}, "learning_rate": {"low": 1e-5, "high": 1e-2, "points": 50}}}),
            json!(["body", "space"]),
        ),
        (json!({"seeds": []}), json!(["body", "seeds"])),
        (json!({"seeds": [1, 1]}), json!(["body", "seeds"])),
        (json!({"seeds": [1, 2, 3]}), json!(["body", "seeds"])),
        (json!({"goal": "speed"}), json!(["body", "goal"])),
        (json!({"total_timesteps": 0}), json!(["body", "total_timesteps"])),
        (json!({"environment": "Tetris"}), json!(["body", "environment"])),
        (json!({"settings": {"gama": 1}}), json!(["body", "settings", "gama"])),
        (json!({"evaluation_episodes": 0}), json!(["body", "evaluation_episodes"])),
        (json!({"budget": {"trials": 0}}), json!(["body", "budget", "trials"])),
        (json!({"budget": {"steps": 100}}), json!(["body", "budget", "steps"])),
        (json!({"budget": {"max_seconds": 0}}), json!(["body", "budget", "max_seconds"])),
        (json!({"policy": "No Name"}), json!(["body", "policy"])),
        (json!({"name": ""}), json!(["body", "name"])),
        (json!({"tags": ["sweep:x"]}), json!(["body", "tags", 0])),
    ] {
        faults(more, member).await;
    }
    let refused =
        post_as(&server, CLIENT, &sweeps(), small(json!({"seeds": [1, 1], "name": "", "budget": {"steps": 1}})))
            .await
            .is(422);
    assert_eq!(locations(&refused).len(), 3, "all at once: {refused}");
    post_as(&server, MINER, &sweeps(), small(json!({"policy": "marketplace-ppo"}))).await.is(403);
    assert_eq!(get_as(&server, CLIENT, &sweeps()).await.ok(), json!([]));
    assert_eq!(get_as(&server, CLIENT, &crate::performance::tasks::tasks()).await.ok(), json!([]));
    // Where the owner has no place for its runs, it waits for one.
    let mut run = super::small(64);
    run["policy"] = json!("other");
    let open = post_as(&server, CLIENT, &format!("{RL}/runs"), run).await.is(201);
    let made = post_as(&server, CLIENT, &sweeps(), small(json!({}))).await.is(201);
    let trials = format!("{}/{}/trials", sweeps(), made.text("sweep_id"));
    crate::performance::tasks::in_status(
        &server,
        CLIENT,
        &format!("{}/{}", crate::performance::tasks::tasks(), made.text("task_id")),
        "running",
    )
    .await;
    assert_eq!(get_as(&server, CLIENT, &trials).await.ok()["trials"], json!([]));
    post_as(&server, CLIENT, &format!("{RL}/runs/{}/cancel", open.text("id")), json!({})).await.ok();
    let deadline = Instant::now() + PATIENCE;
    while get_as(&server, CLIENT, &trials).await.ok()["trials"] == json!([]) {
        assert!(Instant::now() < deadline, "the trial has its place");
        poll_interval().await;
    }
}

/// The figures of a sweep that has ended, without what differs from time to time.
async fn figures(server: &ApiClient, sweep: &Value) -> Value {
    let sweep = ended(server, server.key(), sweep).await;
    assert_eq!(sweep["status"], "completed", "{sweep}");
    let report = server.get(&format!("{}/{}/trials", sweeps(), sweep.text("sweep_id"))).await.ok();
    let of_trial = |trial: &Value| {
        let scores: Vec<&Value> = trial["runs"].as_array().unwrap().iter().map(|run| &run["score"]).collect();
        json!([trial["trial"], trial["settings"], scores, trial["score"]])
    };
    let trials: Vec<Value> = report["trials"].as_array().unwrap().iter().map(of_trial).collect();
    let runs = server.get(&format!("{RL}/runs?limit=1")).await.header("x-total-count").to_owned();
    json!({"trials": trials, "margin": report["margin"], "best": sweep["best"]["trial"], "runs": runs})
}

/// Ask for a sweep under a key of its own.
async fn begin(server: &ApiClient, asked: &Value) -> Value {
    let request = server.request(Method::POST, &sweeps()).header("idempotency-key", "once").json(asked);
    server.answer(request).await.is(201)
}

#[tokio::test(flavor = "multi_thread")]
async fn sweep_result_is_the_same_after_a_crash() {
    let asked = small(json!({"space": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}}, "method": "tpe",
        "budget": {"trials": 3}}));
    let wanted = {
        let server = Server::start().await;
        let made = begin(&server, &asked).await;
        figures(&server, &made).await
    };
    assert_eq!(wanted["runs"], "6");
    for (point, times) in [("sweep.after_trial_save", 2), ("train.after_checkpoint", 7), ("background.before_end", 0)] {
        let builder = Server::builder().env("BACKGROUND_CHECKPOINT_SECONDS", 0).env("TRAINING_CHECKPOINT_SECONDS", 0);
        let mut server = builder.env("FAILPOINTS", format!("{point}={times}*off->return")).start().await;
        let made = begin(&server, &asked).await;
        assert_eq!(server.wait().signal(), Some(9), "{point}");
        let server = server.again().env("FAILPOINTS", "").start().await;
        assert_eq!(begin(&server, &asked).await["sweep_id"], made["sweep_id"], "a repeated request is the same sweep");
        assert_eq!(figures(&server, &made).await, wanted, "{point}");
    }
}
