//! Versions beside each other: by what their trainings recorded, and by new evaluations in the background.

use serde_json::{Value, json};

use super::{RL, place, small, upload};
use crate::{
    harness::{ApiClient, CLIENT, MINER, TestApp},
    kit::{JsonDocument as _, fixture, get_as, locations, post_as},
};

fn compare() -> String {
    format!("{RL}/compare")
}

/// A version of the uploaded policy `compared`, which has no recorded evaluation.
pub async fn uploaded(server: &ApiClient) -> String {
    let weights = std::fs::read(fixture("vectors/ppo.safetensors")).unwrap();
    upload(server, server.key(), "compared/versions", weights).await.is(201).text("reference").to_owned()
}

/// A version of a policy, trained with a seed and some settings, and its recorded mean return.
async fn version(server: &ApiClient, policy: &str, seed: u64, more: Value) -> f64 {
    let mut body = small(64);
    body["settings"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    (body["policy"], body["seed"], body["evaluation_episodes"]) = (json!(policy), json!(seed), json!(10));
    let run = post_as(server, CLIENT, &format!("{RL}/runs?wait=50"), body).await.is(201);
    assert_eq!(run["status"], "completed", "{run}");
    run["scores"]["mean"].as_f64().unwrap()
}

/// Mean and variance of the mean.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0) / count)
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_compared_over_the_seeds_of_their_settings() {
    let server = TestApp::start().await;
    let mut known = [Vec::new(), Vec::new()];
    for seed in 1..=3 {
        known[0].push(version(&server, "a", seed, json!({})).await);
        known[1].push(version(&server, "b", seed, json!({"learning_rate": 0.02})).await);
    }
    // Another training of the same policy with other settings is none of its group.
    version(&server, "a", 9, json!({"gamma": 0.5})).await;
    let found = get_as(&server, MINER, &format!("{}?versions=a@2,b@3", compare())).await.ok();
    assert_eq!((&found["environment"], &found["measure"]), (&json!("CartPole-v1"), &json!("mean_return")));
    for (version, scores) in found["versions"].as_array().unwrap().iter().zip(&known) {
        let of_seeds: Vec<f64> =
            version["seeds"].as_array().unwrap().iter().map(|one| one["score"].as_f64().unwrap()).collect();
        assert_eq!(
            (&of_seeds, &version["method"], &version["episodes"]),
            (scores, &json!("training_seeds"), &json!(10))
        );
        assert!((version["score"].as_f64().unwrap() - moments(scores).0).abs() < 1e-9);
        assert!(version["low"].as_f64().unwrap() <= moments(scores).0, "{version}");
    }
    let difference = &found["differences"][0];
    let (old, new) = (moments(&known[0]), moments(&known[1]));
    assert_eq!((&difference["version"], &difference["against"]), (&json!("b@3"), &json!("a@2")));
    assert!((difference["difference"].as_f64().unwrap() - (new.0 - old.0)).abs() < 1e-9, "{difference}");
    // Welch: the middle is the difference, and it is wider than 1.96 standard errors.
    let (low, high) = (difference["low"].as_f64().unwrap(), difference["high"].as_f64().unwrap());
    assert!(((low + high) / 2.0 - (new.0 - old.0)).abs() < 1e-6, "{difference}");
    assert!((high - low) / 2.0 > 1.96 * (old.1 + new.1).sqrt(), "{difference}");
    assert_eq!(difference["excludes_zero"], low > 0.0 || high < 0.0);
    let verdict = if low > 0.0 {
        "better"
    } else if high < 0.0 {
        "worse"
    } else {
        "unclear"
    };
    assert_eq!(difference["verdict"], verdict);
    assert!(difference.text("summary").contains(if verdict == "unclear" {
        "does not exclude 0"
    } else {
        "excludes 0"
    }));
    // One training of its kind is compared by its episodes.
    let alone = get_as(&server, CLIENT, &format!("{}?versions=a@1,a@4", compare())).await.ok();
    assert_eq!((&alone["versions"][1]["method"], &alone["versions"][1]["seeds"]), (&json!("episodes"), &json!([])));
    assert_eq!(alone["differences"][0]["method"], "episodes");
    // What has no evaluation says so.
    let named = uploaded(&server).await;
    let unknown = get_as(&server, CLIENT, &format!("{}?versions=a@1,{named}", compare())).await.ok();
    assert_eq!(
        (&unknown["versions"][1]["score"], &unknown["differences"][0]["verdict"]),
        (&Value::Null, &json!("unknown"))
    );
    assert!(unknown["versions"][1].text("reason").contains("POST rl/compare"), "{unknown}");
    assert_eq!(unknown["best"], Value::Null);
    for versions in ["", "a@1", "a@1,No", "a@1,b@0", "a@1,a@2,a@3,a@4,a@5,a@6,a@7,a@8,a@9,a@10,a@11"] {
        assert_eq!(
            place(get_as(&server, CLIENT, &format!("{}?versions={versions}", compare())).await),
            json!(["query", "versions"]),
            "{versions}"
        );
    }
    get_as(&server, CLIENT, &format!("{}?versions=a@1,a@99", compare())).await.is(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_evaluated_in_the_same_episodes() {
    let server = TestApp::start().await;
    version(&server, "a", 1, json!({})).await;
    version(&server, "b", 1, json!({"learning_rate": 0.02})).await;
    let asked = json!({"versions": ["a@1", "b"], "episodes": 4, "seeds": [5, 6, 7]});
    let task = post_as(&server, CLIENT, &compare(), asked.clone()).await.is(201);
    assert_eq!((&task["kind"], &task["parameters"]["versions"]), (&json!("comparison"), &json!(["a@1", "b@1"])));
    let tasks = crate::performance::tasks::tasks();
    let ended = get_as(&server, CLIENT, &format!("{tasks}/{}?wait=50", task.text("id"))).await.ok();
    assert_eq!((&ended["status"], &ended["done"]), (&json!("completed"), &json!(6)), "{ended}");
    let found = &ended["result"];
    let mut scores = [Vec::new(), Vec::new()];
    for (version, scores) in found["versions"].as_array().unwrap().iter().zip(&mut scores) {
        for one in version["seeds"].as_array().unwrap() {
            // The same as the policy's own evaluation of those episodes.
            let path = format!("{RL}/policies/{}/evaluate", version.text("reference"));
            let own = post_as(&server, CLIENT, &path, json!({"episodes": 4, "seed": one["seed"]})).await.ok();
            assert_eq!(one["score"], own["mean"], "{version}");
            scores.push(one["score"].as_f64().unwrap());
        }
        assert_eq!(version["method"], "evaluation_seeds");
    }
    let pairs: Vec<f64> = scores[1].iter().zip(&scores[0]).map(|(new, old)| new - old).collect();
    let difference = found["differences"][0]["difference"].as_f64().unwrap();
    assert!((difference - moments(&pairs).0).abs() < 1e-9, "{found}");
    // The tenth of a second that a repetition takes is not spent on other figures.
    let again = post_as(&server, CLIENT, &compare(), asked).await.is(201);
    let again = get_as(&server, CLIENT, &format!("{tasks}/{}?wait=50", again.text("id"))).await.ok();
    assert_eq!(again["result"], *found);
    for (body, member) in [
        (json!({"versions": ["a@1"]}), json!(["body", "versions"])),
        (json!({"versions": ["a@1", "A@1"]}), json!(["body", "versions", 1])),
        (json!({"versions": ["a@1", "a"]}), json!(["body", "versions"])),
        (json!({"versions": ["a@1", "b"], "seeds": [1]}), json!(["body", "seeds"])),
        (json!({"versions": ["a@1", "b"], "seeds": [1, 1]}), json!(["body", "seeds"])),
        (json!({"versions": ["a@1", "b"], "episodes": 0}), json!(["body", "episodes"])),
        (json!({"versions": ["a@1", "b"], "environment": "Pendulum-v1"}), json!(["body", "environment"])),
        (json!({"versions": ["a@1", "b"], "environment": "Tetris"}), json!(["body", "environment"])),
        (json!({"versions": ["a@1", "b"], "parameters": {"gravity": 1}}), json!(["body", "parameters"])),
    ] {
        let refused = post_as(&server, CLIENT, &compare(), body).await.is(422);
        assert!(locations(&refused).contains(&member), "{refused}");
    }
    post_as(&server, CLIENT, &compare(), json!({"versions": ["a@1", "nothing"]})).await.is(404);
}
