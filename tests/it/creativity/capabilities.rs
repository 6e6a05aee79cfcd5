//! Capabilities and their corpora.

use am_core::crypto::sha256_hex;
use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::*;
use crate::{
    harness::{CLIENT, OTHER_ADMIN, TestApp},
    kit::{get_as, locations, sql},
    portfolio::{all_pages, text_of},
};

#[tokio::test]
async fn a_claimed_score_is_no_measurement() {
    let server = TestApp::start().await;
    let made = server.post(&format!("{CREATIVITY}/capabilities"), draft_of("poet")).await.ok();
    assert_eq!(made["claimed_score"], 0.9);
    let figures = [
        "originality_score",
        "novelty_score",
        "aesthetic_quality",
        "coherence_score",
        "style_variety",
        "output_quality",
        "creative_learning_rate",
        "style_adaptation",
        "cross_domain_transfer",
    ];
    for name in figures {
        assert!(made[name].is_null() && made["reasons"][name].is_string(), "{name}: {made}");
    }
    assert_eq!((&made["status"], &made["figures_source"]), (&json!("developing"), &json!("measured")));
    let listed = server.get(&format!("{CREATIVITY}/capabilities/poet")).await.ok();
    assert_eq!(listed, json!([made]));
    // What the coordinator reads: its columns are never null.
    let row = "SELECT originality_score || ' ' || status || ' ' || generation_models FROM creative_capabilities";
    assert_eq!(text_of(&server, row).await, "0.0 developing [\"small-model\"]");
}

#[tokio::test]
async fn bad_capabilities_name_their_fields_and_store_nothing() {
    let server = TestApp::start().await;
    let long = "x".repeat(51);
    for (change, place) in [
        (json!({"initial_score": 1.5}), json!(["body", "initial_score"])),
        (json!({"initial_score": -0.1}), json!(["body", "initial_score"])),
        (json!({"creative_domain": long}), json!(["body", "creative_domain"])),
        (json!({"capability_type": " "}), json!(["body", "capability_type"])),
        (json!({"generation_models": ["a", ""]}), json!(["body", "generation_models", 1])),
        (json!({"agent_id": ""}), json!(["body", "agent_id"])),
    ] {
        let mut body = draft_of("poet");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = server.post(&format!("{CREATIVITY}/capabilities"), body).await.is(422);
        assert_eq!(locations(&answer), [place], "{change}");
    }
    assert_eq!(text_of(&server, "SELECT count(*) || '' FROM creative_capabilities").await, "0");
    assert_eq!(text_of(&server, "SELECT count(*) || '' FROM am_agent_claims").await, "0");
}

#[tokio::test]
async fn an_agents_capabilities_are_its_owners() {
    let server = TestApp::start().await;
    let made = create(&server, CLIENT, "mine").await.ok();
    let path = format!("{CREATIVITY}/capabilities/{}", made.text("capability_id"));
    for key in [server.key(), OTHER_ADMIN, CLIENT] {
        get_as(&server, key, &format!("{path}/corpus")).await.ok();
    }
    let miner = crate::harness::MINER;
    get_as(&server, miner, &format!("{path}/corpus")).await.is(404);
    get_as(&server, miner, &format!("{CREATIVITY}/capabilities/mine")).await.is(404);
    create(&server, miner, "mine").await.is(404);
    create(&server, miner, "another").await.ok();
}

#[tokio::test]
async fn capabilities_of_the_coordinator_are_shown_as_it_wrote_them() {
    let server = TestApp::start().await;
    let row = "INSERT INTO creative_capabilities (id, capability_id, agent_id, creative_domain, capability_type, originality_score,
         novelty_score, aesthetic_quality, coherence_score, style_variety, output_quality, creative_learning_rate, style_adaptation,
         cross_domain_transfer, creations_generated, status, created_at, updated_at, user_ratings, tool_proficiency) VALUES
         ('creative_1', 'creative_1', 'old', 'art', 'painting', 0.5, 0.45, 2.5, 0.8, 3, 1.0, 0.1, 0.2, 0.3, 7, 'ready',
          '2026-05-12 15:32:30.132465', '2026-05-12 15:32:30.132465', '[NaN, 4.0]', 'null')";
    sql(&server.database(), row).await;
    let listed = server.get(&format!("{CREATIVITY}/capabilities/old")).await.ok();
    let one = &listed[0];
    assert_eq!((&one["originality_score"], &one["figures_source"]), (&json!(0.5), &json!("coordinator")));
    assert!(one["claimed_score"].is_null() && one["owner_id"].is_null() && one["reasons"] == json!({}), "{one}");
    // Measured here, it becomes the service's: what the coordinator wrote is a claim from then on.
    let path = format!("{CREATIVITY}/capabilities/creative_1");
    let told = server.post(&format!("{path}/evaluate"), body_of("old", "evaluate")).await.ok();
    assert_eq!(told["creations_generated"], 8);
    let listed = server.get(&format!("{CREATIVITY}/capabilities/old")).await.ok();
    assert_eq!((&listed[0]["claimed_score"], &listed[0]["figures_source"]), (&json!(0.5), &json!("measured")));
    assert!(listed[0]["originality_score"].is_null() && listed[0]["coherence_score"].is_number(), "{listed}");
}

#[tokio::test]
async fn capabilities_are_listed_page_by_page() {
    let server = TestApp::start().await;
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(capability(&server, "poet").await);
        server.clock().advance(std::time::Duration::from_millis(10));
    }
    let found = all_pages(&server, &format!("{CREATIVITY}/capabilities/poet?limit=2")).await;
    let ids: Vec<&str> = found.iter().map(|row| row.text("capability_id")).collect();
    made.reverse();
    assert_eq!(ids, made);
    let oldest = server.get(&format!("{CREATIVITY}/capabilities/poet?limit=1&order=asc")).await;
    assert_eq!(oldest.header("x-total-count"), "5");
    assert_eq!(oldest.ok()[0]["capability_id"], json!(made[4]));
}

#[tokio::test]
async fn a_corpus_takes_each_text_once() {
    let server = TestApp::start().await;
    let path = with_corpus(&server, "poet").await;
    let corpus = format!("{path}/corpus");
    let again = server.post(&corpus, works()).await.ok();
    assert_eq!((&again["known"], &again["texts"], &again["added"]), (&json!(4), &json!(4), &json!([])));
    let reference = json!({"texts": [{"text": WORKS[0], "role": "reference", "title": "theirs"}]});
    assert_eq!(server.post(&corpus, reference).await.ok()["texts"], 5);
    let rows = all_pages(&server, &format!("{corpus}?limit=2")).await;
    assert_eq!(rows.len(), 5);
    let hash = sha256_hex(WORKS[0].as_bytes());
    assert_eq!(rows.iter().filter(|row| row.text("sha256") == hash).count(), 2);
    let listed = server.get(&format!("{CREATIVITY}/capabilities/poet")).await.ok();
    assert!(listed[0]["style_variety"].as_i64().unwrap() >= 1, "{listed}");
    for row in &rows {
        server.delete(&format!("{corpus}/{}", row.text("id"))).await.is(204);
    }
    server.delete(&format!("{corpus}/{}", rows[0].text("id"))).await.is(404);
    let listed = server.get(&format!("{CREATIVITY}/capabilities/poet")).await.ok();
    assert!(listed[0]["style_variety"].is_null(), "{listed}");
}

#[tokio::test]
async fn a_corpus_in_another_encoding_is_refused_by_its_place() {
    let server = TestApp::start().await;
    let corpus = format!("{CREATIVITY}/capabilities/{}/corpus", capability(&server, "poet").await);
    let latin = STANDARD.encode(b"caf\xe9 au lait");
    let body = json!({"texts": [{"text": "a fine text"}, {"content_base64": latin}, {"text": ""}]});
    let answer = server.post(&corpus, body).await.is(422);
    let expected = [json!(["body", "texts", 1, "content_base64"]), json!(["body", "texts", 2, "text"])];
    assert_eq!(locations(&answer), expected);
    assert!(answer.to_string().contains("not UTF-8 from byte 3"), "{answer}");
    // A body that is no UTF-8 itself is no JSON.
    let raw = server.request(reqwest::Method::POST, &corpus).header("content-type", "application/json");
    let answer = server.answer(raw.body(b"{\"texts\": [{\"text\": \"caf\xe9\"}]}".to_vec())).await;
    assert!(answer.status.is_client_error(), "{}", answer.text);
    // Four texts of 64 KiB and one more word.
    let large = |at: usize| json!({"text": format!("{at}{}", "x".repeat((64 << 10) - 1))});
    let body = json!({"texts": [large(0), large(1), large(2), large(3), {"text": "more"}]});
    assert_eq!(locations(&server.post(&corpus, body).await.is(422)), [json!(["body", "texts"])]);
    assert_eq!(text_of(&server, "SELECT count(*) || '' FROM am_creative_works").await, "0");
}
