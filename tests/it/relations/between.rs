//! Contacts, blocks, authorizations, reputation and templates over HTTP, and what they do to messages.

use serde_json::{Value, json};

use super::{get, post, told, try_send};
use crate::{
    harness::{Answer, ApiClient, TestApp},
    kit::{AGENTS, JsonDocument, locations, sql},
    redact::redacted,
};

/// Why a message is refused.
fn reason(answer: Answer) -> String {
    let refused = answer.is(403);
    assert_eq!(refused["code"], "message_refused", "{refused}");
    refused.text("reason").to_owned()
}

async fn verdict(server: &ApiClient, sender: &str, recipient: &str) -> Value {
    get(server, sender, &format!("authorizations?recipient={recipient}")).await.ok()["may_write"].clone()
}

#[tokio::test]
async fn blocks_and_authorizations_apply_to_the_next_message() {
    let server = TestApp::start().await;
    try_send(&server, "a", "b", json!({})).await.ok();
    let block = post(&server, "b", "blocks", json!({"blocked_id": "a", "reason": "spam"})).await.is(201);
    assert_eq!((&block["reason"], &block["blocked_id"]), (&json!("spam"), &json!("a")));
    assert_eq!(reason(try_send(&server, "a", "b", json!({})).await), "blocked");
    assert_eq!(reason(try_send(&server, "b", "a", json!({})).await), "blocked", "the other way too");
    let known = verdict(&server, "a", "b").await;
    assert_eq!((&known["allowed"], &known["refusal"]["reason"]), (&json!(false), &json!("blocked")));
    assert!(!known.to_string().contains("spam"), "why is told to whom it concerns alone");
    post(&server, "b", "blocks", json!({"blocked_id": "a", "reason": "noise"})).await.is(201);
    let listed = get(&server, "b", "blocks").await;
    assert_eq!((listed.header("x-total-count"), &listed.body[0]["reason"]), ("1", &json!("noise")));
    server.delete(&format!("{AGENTS}/b/blocks/a")).await.ok();
    server.delete(&format!("{AGENTS}/b/blocks/a")).await.is(404);
    try_send(&server, "a", "b", json!({})).await.ok();

    assert_eq!(get(&server, "a", "authorizations").await.ok()["authorised"], true);
    let revoked = server.delete(&format!("{AGENTS}/a/authorizations?reason=left")).await.ok();
    assert_eq!(
        (&revoked["authorised"], &revoked["state"], &revoked["reason"]),
        (&json!(false), &json!("revoked"), &json!("left"))
    );
    assert_eq!(reason(try_send(&server, "a", "b", json!({})).await), "not_authorised");
    assert_eq!(reason(try_send(&server, "b", "a", json!({})).await), "not_authorised");
    post(&server, "a", "authorizations", json!({"reason": "is back"})).await.is(201);
    try_send(&server, "a", "b", json!({})).await.ok();
    assert_eq!(told(&server, "block").await, ["removed", "added", "added"]);
    assert_eq!(told(&server, "authorization").await, ["granted", "revoked"]);

    let server = server.restart_with(&[("MESSAGES_REQUIRE_AUTHORIZATION", "true")]).await;
    assert_eq!(reason(try_send(&server, "a", "b", json!({})).await), "not_authorised", "nobody has spoken for b");
    assert_eq!(get(&server, "b", "authorizations").await.ok()["state"], Value::Null);
    server.post(&format!("{AGENTS}/b/authorizations"), json!({})).await.is(201);
    try_send(&server, "a", "b", json!({})).await.ok();
}

#[tokio::test]
async fn messages_from_strangers_need_reputation() {
    let server = TestApp::start().await;
    let found = get(&server, "a", "reputation").await.ok();
    assert_eq!((&found["reputation"], &found["source"]), (&json!(5000.0), &json!("initial")));
    // Ten violations leave 50 + 20/100 - 2 each of what trust gives.
    for _ in 0..25 {
        let path =
            format!("{AGENTS}/security/trust-scores/agent/a/update?execution_success=false&security_violation=true");
        server.post(&path, json!({})).await.ok();
    }
    let low = get(&server, "a", "reputation").await.ok();
    assert_eq!(low["source"], "trust");
    assert!(low["reputation"].as_f64().unwrap() < 1000.0, "{low}");
    let refused = try_send(&server, "a", "b", json!({})).await.is(403);
    assert_eq!(
        (&refused["reason"], &refused["needed"], &refused["reputation"]),
        (&json!("reputation"), &json!(1000.0), &low["reputation"])
    );
    try_send(&server, "b", "a", json!({})).await.ok();
    let contact = post(&server, "b", "contacts", json!({"contact_id": "a", "note": "a friend"})).await.is(201);
    assert_eq!(contact["note"], "a friend");
    try_send(&server, "a", "b", json!({})).await.ok();
    assert_eq!(get(&server, "b", "contacts").await.ok()[0]["contact_id"], "a");
    server.delete(&format!("{AGENTS}/b/contacts/a")).await.ok();
    server.delete(&format!("{AGENTS}/b/contacts/a")).await.is(404);
    assert_eq!(reason(try_send(&server, "a", "b", json!({})).await), "reputation");
    assert_eq!(told(&server, "contact").await, ["removed", "added"]);
    // The coordinator's record counts before trust; of several the newest.
    let record = |id: &str, score: f64, at: &str| {
        format!(
            "PRAGMA foreign_keys = OFF;
             INSERT INTO agent_reputation (id, agent_id, trust_score, reputation_level, performance_rating, reliability_score,
                 community_rating, total_earnings, transaction_count, success_rate, dispute_count, dispute_won_count,
                 jobs_completed, jobs_failed, average_response_time, uptime_percentage, geographic_region, created_at,
                 updated_at, last_activity)
             VALUES ('{id}', 'a', {score}, 'BEGINNER', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '', '{at}', '{at}', '{at}')"
        )
    };
    sql(&server.database(), &record("r1", 50.0, "2026-05-12 14:00:00.000000")).await;
    assert_eq!(reason(try_send(&server, "a", "b", json!({})).await), "reputation");
    sql(&server.database(), &record("r2", 712.5, "2026-05-13 14:00:00.000000")).await;
    let high = get(&server, "a", "reputation").await.ok();
    assert_eq!((&high["reputation"], &high["source"]), (&json!(7125.0), &json!("coordinator")));
    assert_eq!(high["trust"], low["reputation"]);
    try_send(&server, "a", "b", json!({})).await.ok();
}

#[tokio::test]
async fn contact_and_block_validation_reports_faults() {
    let server = TestApp::start().await;
    for (what, body, loc) in [
        ("contacts", json!({"contact_id": "a"}), "contact_id"),
        ("contacts", json!({"contact_id": " b"}), "contact_id"),
        ("contacts", json!({"contact_id": ""}), "contact_id"),
        ("contacts", json!({"contact_id": "b", "note": "x".repeat(501)}), "note"),
        ("contacts", json!({}), "contact_id"),
        ("blocks", json!({"blocked_id": "a"}), "blocked_id"),
        ("blocks", json!({"blocked_id": "b", "reason": "x".repeat(501)}), "reason"),
        ("authorizations", json!({"reason": "x".repeat(501)}), "reason"),
    ] {
        let refused = post(&server, "a", what, body).await.is(422);
        assert_eq!(locations(&refused), [json!(["body", loc])], "{what}");
    }
    for n in 0..5 {
        post(&server, "a", "contacts", json!({"contact_id": format!("c{n}")})).await.is(201);
    }
    let first = get(&server, "a", "contacts?limit=3").await;
    assert_eq!((first.header("x-total-count"), first.body.as_array().unwrap().len()), ("5", 3));
    let next = first.header("link").split("<").nth(2).unwrap().split('>').next().unwrap().to_owned();
    let rest = server.get(&next).await.ok();
    let names: Vec<&str> =
        first.body.as_array().unwrap().iter().chain(rest.as_array().unwrap()).map(|c| c.text("contact_id")).collect();
    assert_eq!(names, ["c4", "c3", "c2", "c1", "c0"]);
}

#[tokio::test]
async fn message_templates_are_created_rendered_and_deleted() {
    let server = TestApp::start().await;
    let everybodys = get(&server, "a", "templates").await;
    let names: Vec<&str> = everybodys.body.as_array().unwrap().iter().map(|t| t.text("template_id")).collect();
    assert_eq!(
        (names, everybodys.header("x-total-count")),
        (vec!["task_request_default", "collaboration_invite", "notification_update"], "0")
    );
    let variables = json!({"task_description": "count", "budget": 1.5});
    let refused =
        post(&server, "a", "templates/task_request_default/render", json!({"variables": variables})).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "variables", "deadline"])]);
    let variables = json!({"task_description": "count", "budget": 1.5, "deadline": null, "more": 1});
    post(&server, "a", "templates/task_request_default/render", json!({"variables": variables})).await.is(422);
    let variables = json!({"task_description": "count", "budget": 1.5, "deadline": "friday"});
    let filled =
        post(&server, "a", "templates/task_request_default/render", json!({"variables": variables})).await.ok();
    assert_eq!(filled["content"], json!({"task_description": "count", "budget": 1.5, "deadline": "friday"}));
    assert_eq!(
        (&filled["price"], &filled["message_price"], &filled["message_type"]),
        (&json!(0.002), &json!(0.002), &json!("task_request"))
    );

    let own = json!({"name": "greeting", "content": {"text": "Dear {{name}}, {{n}} things", "n": "{{n}}"}, "message_type": "notification"});
    let made = post(&server, "a", "templates", own.clone()).await.is(201);
    insta::assert_json_snapshot!("template", redacted(&made));
    post(&server, "a", "templates", own.clone()).await.is(409);
    post(&server, "b", "templates", own).await.is(201);
    let id = made.text("template_id");
    let filled =
        post(&server, "a", &format!("templates/{id}/render"), json!({"variables": {"name": "Bob", "n": 2}})).await.ok();
    assert_eq!(filled["content"], json!({"text": "Dear Bob, 2 things", "n": 2}));
    let sent =
        try_send(&server, "a", "b", json!({"content": filled["content"], "message_type": filled["message_type"]}))
            .await
            .ok();
    assert_eq!(sent["price"], filled["message_price"]);
    let huge = json!({"variables": {"name": "x".repeat(100_000), "n": 1}});
    post(&server, "a", &format!("templates/{id}/render"), huge).await.is(422);
    get(&server, "b", &format!("templates/{id}")).await.is(404);
    assert_eq!(get(&server, "a", "templates").await.body.as_array().unwrap().len(), 4);
    server.delete(&format!("{AGENTS}/a/templates/task_request_default")).await.is(400);
    server.delete(&format!("{AGENTS}/a/templates/{id}")).await.ok();
    server.delete(&format!("{AGENTS}/a/templates/{id}")).await.is(404);
    for (body, loc) in [
        (json!({"name": "", "content": {}}), "name"),
        (json!({"name": "task_request_default", "content": {}}), "name"),
        (json!({"name": "x", "content": {}, "price": -1}), "price"),
        (json!({"name": "x", "content": {}, "description": "x".repeat(1001)}), "description"),
        (json!({"name": "x", "content": {"x": "y".repeat(100_000)}}), "content"),
        (json!({"name": "x", "content": []}), "content"),
    ] {
        let refused = post(&server, "a", "templates", body).await.is(422);
        assert_eq!(locations(&refused)[0], json!(["body", loc]));
    }
    assert_eq!(told(&server, "message_template").await, ["deleted", "created", "created"]);
}
