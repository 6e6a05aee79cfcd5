//! Ideas and synthesis.

use super::*;
use crate::{harness::TestApp, kit::locations};

async fn ideas(server: &ApiClient, change: Value) -> Value {
    let mut body = body_of("", "generate");
    body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    server.post(&format!("{CREATIVITY}/ideation/generate"), body).await.ok()
}

#[tokio::test]
async fn the_same_seed_gives_the_same_ideas_by_each_technique() {
    let server = TestApp::start().await;
    for technique in ["scamper", "triz", "six_hats", "first_principles", "biomimicry", "morphological"] {
        let asked = json!({"technique": technique, "num_ideas": 4, "seed": 7});
        let found = ideas(&server, asked.clone()).await;
        assert_eq!(ideas(&server, asked).await, found, "{technique}");
        let made = found["ideas"].as_array().unwrap();
        assert!(!made.is_empty() && made.len() <= 4, "{technique}: {found}");
        let scores: Vec<f64> = made.iter().map(|idea| idea["score"].as_f64().unwrap()).collect();
        assert!(scores.is_sorted_by(|one, other| one >= other), "{technique}: {scores:?}");
        for idea in made {
            assert!(idea["lineage"]["technique"] == technique && !idea.text("text").is_empty(), "{idea}");
        }
        assert_eq!((&found["embedding"], &found["source"]), (&json!("hashed_ngrams"), &json!("template")));
    }
}

#[tokio::test]
async fn bad_orders_name_their_fields() {
    let server = TestApp::start().await;
    for (change, field) in [
        (json!({"technique": "oracle"}), "technique"),
        (json!({"num_ideas": 0}), "num_ideas"),
        (json!({"num_ideas": 21}), "num_ideas"),
        (json!({"problem_statement": " ? "}), "problem_statement"),
        (json!({"problem_statement": "x".repeat(100_001)}), "problem_statement"),
        (json!({"domain": ""}), "domain"),
        (json!({"seed": 9_007_199_254_740_992_u64}), "seed"),
    ] {
        let mut body = body_of("", "generate");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = server.post(&format!("{CREATIVITY}/ideation/generate"), body).await.is(422);
        assert_eq!(locations(&answer), [json!(["body", field])], "{field}");
    }
    let mut body = body_of("", "generate");
    body["language_model"] = json!(true);
    server.post(&format!("{CREATIVITY}/ideation/generate"), body).await.is(409);
}

#[tokio::test]
async fn a_synthesis_says_the_same_each_time() {
    let server = TestApp::start().await;
    let path = format!("{CREATIVITY}/synthesis/cross-domain");
    let found = server.post(&path, body_of("poet", "cross-domain")).await.ok();
    assert_eq!(server.post(&path, body_of("poet", "cross-domain")).await.ok(), found);
    for (change, place) in [
        (json!({"secondary_domains": []}), json!(["body", "secondary_domains"])),
        (json!({"secondary_domains": ["physics", ""]}), json!(["body", "secondary_domains", 1])),
        (json!({"synthesis_goal": ""}), json!(["body", "synthesis_goal"])),
        (json!({"primary_domain": "-"}), json!(["body", "primary_domain"])),
    ] {
        let mut body = body_of("poet", "cross-domain");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(locations(&server.post(&path, body).await.is(422)), [place], "{change}");
    }
}
