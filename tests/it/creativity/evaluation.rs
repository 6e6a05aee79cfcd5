//! Evaluation of creations.

#[path = "../../../crates/rl/src/text_encoder/test_place.rs"]
mod test_place;

use super::*;
use crate::{harness::TestApp, kit::locations, portfolio::text_of};

async fn evaluate(server: &ApiClient, path: &str, body: Value) -> Value {
    server.post(&format!("{path}/evaluate"), body).await.ok()
}

fn near(found: &Value, expected: f64) -> bool {
    found.as_f64().is_some_and(|found| (found - expected).abs() < 1e-9)
}

#[tokio::test]
async fn a_creation_is_measured_against_references_and_earlier_works() {
    let server = TestApp::start().await;
    let path = with_corpus(&server, "poet").await;
    let first = evaluate(&server, &path, json!({"creation_data": {"text": WORKS[0]}})).await;
    let measures = &first["measures"];
    assert!(near(&measures["novelty"], 0.0) || measures["novelty"].as_f64().unwrap() < 1e-6, "it is in the corpus");
    assert!(measures["originality"].is_null() && measures["reasons"]["originality"].is_string(), "{first}");
    assert!(first["reasons"]["originality"].is_string() && first["reasons"]["aesthetic_quality"].is_string());
    assert_eq!((&measures["embedding"], &measures["earlier_works"]), (&json!("hashed_ngrams"), &json!(4)));
    assert!(measures["limits"]["coherence"].is_string() && measures["mtld"].is_null(), "{measures}");
    let other = "Bees vote by dancing. The swarm follows whoever dances longest.";
    let body = json!({"creation_data": {"text": other, "references": [other, "Salt preserves fish."]}});
    let second = evaluate(&server, &path, body).await;
    assert!(second["measures"]["originality"].as_f64().unwrap() < 1e-6, "{second}");
    assert!(second["measures"]["novelty"].as_f64().unwrap() > 0.5, "{second}");
    assert_eq!(second["measures"]["earlier_works"], 5, "the first creation is an earlier work now");
    assert_eq!(second["creations_generated"], 2);
    // The moving average of novelty: the newest value weighs 0.2.
    let values = [&first, &second].map(|told| told["combined"]["novelty"].as_f64().unwrap());
    assert!(near(&second["averages"]["novelty"], values[0] + 0.2 * (values[1] - values[0])), "{second}");
    let listed = server.get(&format!("{CREATIVITY}/capabilities/poet")).await.ok();
    assert_eq!(listed[0]["novelty_score"], second["averages"]["novelty"]);
    assert_eq!((&listed[0]["status"], &listed[0]["creations_generated"]), (&json!("ready"), &json!(2)));
    let row = "SELECT (abs(novelty_score - (SELECT novelty FROM am_creative_capabilities)) < 1e-12) || '' FROM creative_capabilities";
    assert_eq!(text_of(&server, row).await, "1", "the coordinator reads the same");
}

#[tokio::test]
async fn experts_weigh_seven_tenths() {
    let server = TestApp::start().await;
    let path = with_corpus(&server, "poet").await;
    let feedback = json!({"novelty": 1.0, "originality_score": 0.4, "aesthetic_quality": 4.5, "sparkle": 11});
    let told =
        evaluate(&server, &path, json!({"creation_data": {"content": WORKS[0]}, "expert_feedback": feedback})).await;
    let measured = told["measures"]["novelty"].as_f64().unwrap();
    assert!(near(&told["combined"]["novelty"], 0.7 + 0.3 * measured), "{told}");
    assert!(near(&told["combined"]["originality"], 0.4), "nothing was measured: {told}");
    assert!(near(&told["combined"]["aesthetic_quality"], 4.5), "{told}");
    assert_eq!(told["unused_feedback"], json!(["sparkle"]));
    let listed = server.get(&format!("{CREATIVITY}/capabilities/poet")).await.ok();
    let kept = &listed[0]["expert_evaluations"];
    assert_eq!((kept.as_array().unwrap().len(), &kept[0]["feedback"]["sparkle"]), (1, &json!(11.0)));
}

#[tokio::test]
async fn bad_creations_name_their_places_and_store_nothing() {
    let server = TestApp::start().await;
    let path = with_corpus(&server, "poet").await;
    for (body, places) in [
        (json!({}), vec![json!(["body", "creation_data"])]),
        (json!({"creation_data": {}}), vec![json!(["body", "creation_data"])]),
        (
            json!({"creation_data": {"text": 4}}),
            vec![json!(["body", "creation_data", "text"]), json!(["body", "creation_data"])],
        ),
        (json!({"creation_data": {"ideas": ["one", 2]}}), vec![json!(["body", "creation_data", "ideas", 1])]),
        (
            json!({"creation_data": {"text": "a"}, "expert_feedback": {"novelty": 1.5}}),
            vec![json!(["body", "expert_feedback", "novelty"])],
        ),
        (json!({"creation_data": {"text": "x".repeat(65_537)}}), vec![json!(["body", "creation_data"])]),
    ] {
        let answer = server.post(&format!("{path}/evaluate"), body.clone()).await.is(422);
        assert_eq!(locations(&answer), places, "{answer}");
    }
    // JSON has no number for what is not finite.
    let raw =
        server.request(reqwest::Method::POST, &format!("{path}/evaluate")).header("content-type", "application/json");
    let body = r#"{"creation_data": {"text": "a"}, "expert_feedback": {"novelty": NaN}}"#;
    assert!(server.answer(raw.body(body)).await.status.is_client_error());
    let row = "SELECT coalesce(sum(creations_generated), 0) || '' FROM creative_capabilities";
    assert_eq!(text_of(&server, row).await, "0");
    server.post(&format!("{CREATIVITY}/capabilities/creative_0/evaluate"), body_of("", "evaluate")).await.is(404);
}

#[tokio::test]
async fn fluency_counts_different_ideas() {
    let server = TestApp::start().await;
    let path = format!("{CREATIVITY}/capabilities/{}", capability(&server, "inventor").await);
    let ideas = json!([
        "Prop a door open with it",
        "Prop a door open with it!",
        "Grind it to red pigment",
        "Warm a bed with it"
    ]);
    let told = evaluate(&server, &path, json!({"creation_data": {"title": "Uses of a brick", "ideas": ideas}})).await;
    assert_eq!(told["measures"]["fluency"], 3, "{told}");
}

#[tokio::test]
async fn only_the_last_hundred_creations_are_kept() {
    let server = TestApp::start().await;
    let path = format!("{CREATIVITY}/capabilities/{}", capability(&server, "busy").await);
    for at in 0..103 {
        evaluate(&server, &path, json!({"creation_data": {"text": format!("Creation number {at}")}})).await;
    }
    let kept =
        "SELECT count(*) || ' ' || (SELECT creations_generated FROM creative_capabilities) FROM am_creative_works";
    assert_eq!(text_of(&server, kept).await, "100 103");
}

#[tokio::test]
async fn a_sentence_encoder_sees_that_other_words_mean_the_same() {
    let server = TestApp::builder().env("TEXT_ENCODER_PATH", test_place::encoder_directory().display()).start().await;
    let path = format!("{CREATIVITY}/capabilities/{}", capability(&server, "poet").await);
    let references = json!(["A physician treats patients."]);
    let same = json!({"text": "Doctors take care of sick people.", "references": references});
    let other = json!({"text": "Granite cliffs above the fjord.", "references": references});
    let same = evaluate(&server, &path, json!({"creation_data": same})).await;
    let other = evaluate(&server, &path, json!({"creation_data": other})).await;
    assert_eq!(same["measures"]["embedding"], "minilm");
    let distance = |told: &Value| told["measures"]["originality"].as_f64().unwrap();
    assert!(distance(&same) + 0.3 < distance(&other), "{same} {other}");
}
