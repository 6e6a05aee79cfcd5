//! Enhancement: background work on an agent's own corpus.

use std::time::Instant;

use super::*;
use crate::{
    harness::{PATIENCE, TestApp, poll_interval},
    kit::locations,
    portfolio::text_of,
};

/// The enhancement once it has ended.
async fn ended(server: &ApiClient, path: &str, task: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = server.get(&format!("{path}/enhancements/{task}")).await.ok();
        if found["completed_at"].is_string() {
            return found;
        }
        assert!(Instant::now() < deadline, "it never ended: {found}");
        poll_interval().await;
    }
}

#[tokio::test]
async fn each_algorithm_works_on_the_corpus_and_reports_what_it_measured() {
    let server = TestApp::start().await;
    let path = with_corpus(&server, "poet").await;
    let algorithms =
        ["divergent_thinking", "conceptual_blending", "morphological_analysis", "lateral_thinking", "bisociation"];
    let mut tasks = Vec::new();
    for algorithm in algorithms {
        let asked = json!({"algorithm": algorithm, "training_cycles": 3, "seed": 5});
        let begun = server.post(&format!("{path}/enhance"), asked).await.ok();
        assert!(begun["gain"].is_null() && begun["reasons"]["gain"].is_string(), "{begun}");
        assert_eq!((&begun["algorithm"], &begun["training_cycles"]), (&json!(algorithm), &json!(3)));
        tasks.push(begun.text("task_id").to_owned());
    }
    for task in &tasks {
        let found = ended(&server, &path, task).await;
        assert_eq!(found["status"], "completed", "{found}");
        let gain = found["gain"].as_f64().unwrap();
        let outcome = &found["outcome"];
        let change = outcome["score_after"].as_f64().unwrap() - outcome["score_before"].as_f64().unwrap();
        assert!(gain >= 0.0 && (gain - change.max(0.0)).abs() < 1e-9, "{found}");
        assert_eq!(found["embedding"], "hashed_ngrams");
    }
    let listed = server.get(&format!("{path}/enhancements?limit=2")).await;
    assert_eq!(listed.header("x-total-count"), "5");
    assert_eq!(listed.ok().as_array().unwrap().len(), 2);
    let capability = server.get(&format!("{CREATIVITY}/capabilities/poet")).await.ok();
    assert!(capability[0]["creative_learning_rate"].is_number(), "{capability}");
    // The same again comes to the same.
    let asked = json!({"algorithm": algorithms[0], "training_cycles": 3, "seed": 5});
    let again = server.post(&format!("{path}/enhance"), asked).await.ok();
    let (first, second) = (ended(&server, &path, &tasks[0]).await, ended(&server, &path, again.text("task_id")).await);
    assert_eq!(first["outcome"], second["outcome"]);
}

#[tokio::test]
async fn without_a_corpus_there_is_nothing_to_enhance() {
    let server = TestApp::start().await;
    let path = format!("{CREATIVITY}/capabilities/{}", capability(&server, "poet").await);
    let refused = server.post(&format!("{path}/enhance"), json!({})).await.is(409);
    assert!(refused.text("detail").contains("corpus"), "{refused}");
    for (body, field) in [
        (json!({"algorithm": "magic"}), "algorithm"),
        (json!({"training_cycles": 0}), "training_cycles"),
        (json!({"training_cycles": 1001}), "training_cycles"),
    ] {
        let answer = server.post(&format!("{path}/enhance"), body).await.is(422);
        assert_eq!(locations(&answer), [json!(["body", field])]);
    }
    assert_eq!(text_of(&server, "SELECT count(*) || '' FROM am_background_tasks").await, "0");
    let other = with_corpus(&server, "other").await;
    let begun = server.post(&format!("{other}/enhance"), json!({"training_cycles": 1})).await.ok();
    server.get(&format!("{path}/enhancements/{}", begun.text("task_id"))).await.is(404);
}
