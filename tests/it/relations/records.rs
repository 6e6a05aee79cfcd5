//! What is counted and recorded of messages, and messages as files.

use reqwest::Method;
use serde_json::{Value, json};

use super::{get, keyed, opened, post, told, try_send};
use crate::{
    harness::{Answer, ApiClient, TestApp},
    kit::{AGENTS, JsonDocument, locations, sql},
    messages::{MESSAGES, each, inbox, send},
};

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

#[tokio::test]
async fn message_statistics_count_stored_messages() {
    let server = TestApp::start().await;
    let nothing = get(&server, "a", "communication-stats").await.ok();
    assert_eq!(
        (&nothing["sent"]["messages"], &nothing["response_time"], &nothing["sent"]["delivery_rate"]),
        (&json!(0), &Value::Null, &Value::Null)
    );
    assert_eq!(nothing["sent"]["cost"], Value::Null);
    let first = send(&server, "a", "b", json!({"x": 1})).await;
    try_send(&server, "a", "b", json!({"message_type": "urgent"})).await.ok();
    send(&server, "a", "c", json!({"x": 3})).await;
    inbox(&server, "b", "").await;
    let reply = json!({"reply_to": first["message_id"], "message_type": "task_response"});
    let reply = try_send(&server, "b", "a", reply).await.ok();
    // The times of what was stored are all that counts.
    let at = |id: &Value, second: u32| {
        format!(
            "UPDATE am_messages SET created_at = '2026-05-12 14:00:{second:02}.000000' WHERE message_id = '{}';",
            id.as_str().unwrap()
        )
    };
    sql(&server.database(), &(at(&first["message_id"], 10) + &at(&reply["message_id"], 22))).await;
    let b = get(&server, "b", "communication-stats").await.ok();
    assert_eq!((&b["response_time"]["answers"], number(&b["response_time"]["mean_seconds"])), (&json!(1), 12.0), "{b}");
    assert_eq!((&b["received"]["messages"], &b["sent"]["messages"]), (&json!(2), &json!(1)));
    let a = get(&server, "a", "communication-stats").await.ok();
    assert_eq!(a["sent"]["by_status"], json!({"delivered": 2, "pending": 1}));
    assert_eq!(number(&a["sent"]["delivery_rate"]), 1.0);
    assert!((number(&a["sent"]["cost"]) - 0.007).abs() < 1e-9, "{a}");
    assert_eq!(a["by_type"]["urgent"], json!({"sent": 1, "received": 0}));
    assert_eq!(a["by_type"]["task_response"], json!({"sent": 0, "received": 1}));
    assert_eq!((&a["complete"], &a["response_time"]["waiting"]), (&json!(true), &json!(1)), "a has not answered b yet");
}

#[tokio::test]
async fn message_payments_are_recorded_atomically() {
    let server = TestApp::start().await;
    let ids = [send(&server, "a", "b", json!({})).await, send(&server, "a", "b", json!({})).await];
    let ids: Vec<Value> = ids.iter().map(|receipt| receipt["message_id"].clone()).collect();
    let pay = async |body: Value| post(&server, "a", "payments", body).await;
    let refused = pay(json!({"message_ids": [ids[0], "none"], "payment_status": "paid"})).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "message_ids"])]);
    assert_eq!(
        get(&server, "a", "communication-stats").await.ok()["sent"]["cost_by_payment"],
        json!({"unpaid": 0.002})
    );
    let paid = pay(json!({"message_ids": [ids[0]], "payment_status": "paid", "reference": "tx 7"})).await.ok();
    assert_eq!((&paid["changed"], &paid["amount"]), (&json!(1), &json!(0.001)));
    let more = pay(json!({"message_ids": ids, "payment_status": "paid"})).await.ok();
    assert_eq!((&more["changed"], &more["unchanged"]), (&json!(1), &json!(1)));
    pay(json!({"message_ids": [ids[1]], "payment_status": "waived"})).await.ok();
    assert_eq!(
        get(&server, "a", "communication-stats").await.ok()["sent"]["cost_by_payment"],
        json!({"paid": 0.001, "waived": 0.001})
    );
    let shown = server.get(&format!("{MESSAGES}/id/{}", ids[0].as_str().unwrap())).await.ok();
    assert_eq!(shown["payment_status"], "paid");
    // They are not b's to pay.
    post(&server, "b", "payments", json!({"message_ids": ids, "payment_status": "paid"})).await.is(422);
    assert_eq!(told(&server, "payment").await, ["waived", "paid", "paid"]);
}

async fn import(server: &ApiClient, agent: &str, text: &str) -> Answer {
    let request = server.request(Method::POST, &format!("{AGENTS}/{agent}/messages/import"));
    Answer::of(request.header("content-type", "application/x-ndjson").body(text.to_owned())).await
}

#[tokio::test]
async fn message_export_is_imported_once_elsewhere() {
    let server = TestApp::start().await;
    keyed(&server, "bob").await;
    send(&server, "alice", "carol", json!({"n": 1})).await;
    send(&server, "carol", "alice", json!({"n": 2})).await;
    send(&server, "alice", "bob", json!({"n": 3})).await;
    send(&server, "bob", "carol", json!({"not": "of alice"})).await;
    inbox(&server, "alice", "").await;
    let export = get(&server, "alice", "messages/export").await;
    assert_eq!(export.header("content-type"), "application/x-ndjson");
    let lines: Vec<Value> = export.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (lines.len(), &lines[0]["agent_id"], &lines[4]),
        (5, &json!("alice"), &json!({"end": true, "messages": 3}))
    );
    assert_eq!((&lines[1]["content"], &lines[2]["content"]), (&json!({"n": 1}), &json!({"n": 2})));

    let other = TestApp::start().await;
    // Something is there already.
    send(&other, "carol", "alice", json!({"n": 0})).await;
    assert_eq!(import(&other, "alice", &export.text).await.ok(), json!({"imported": 3, "skipped": 0}));
    assert_eq!(import(&other, "alice", &export.text).await.ok(), json!({"imported": 0, "skipped": 3}));
    let history = other.get(&format!("{MESSAGES}/history?sender_id=alice&receiver_id=carol")).await.ok();
    assert_eq!(
        (&history[0]["content"], &history[0]["status"], &history[0]["scope"]),
        (&json!({"n": 1}), &json!("expired"), &json!("at_rest"))
    );
    let history = other.get(&format!("{MESSAGES}/history?sender_id=alice&receiver_id=bob")).await.ok();
    assert_eq!(history[0]["scope"], "sealed_on_arrival");
    assert_eq!(opened(&server, "bob", &history[0]), json!({"n": 3}), "bob's key opens it there too");
    let messages = |text: &str| -> Vec<Value> {
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["message_id"].is_string()).collect()
    };
    let again = messages(&get(&other, "alice", "messages/export").await.text);
    let former: Vec<&Value> = again[1..].iter().map(|message| &message["imported"]["message_id"]).collect();
    let exported = messages(&export.text);
    assert_eq!(former, each(&exported, "message_id"), "the same messages in the same order, after what was there");
    send(&other, "alice", "carol", json!({"n": 9})).await;
    assert_eq!(inbox(&other, "carol", "").await.len(), 1, "an import delivers nothing");
    assert_eq!(told(&other, "message").await.iter().filter(|action| *action == "imported").count(), 4);
}

#[tokio::test]
async fn invalid_import_is_refused_with_its_line() {
    let server = TestApp::start().await;
    for n in 0..3 {
        send(&server, "a", "b", json!({"n": n})).await;
    }
    let export = get(&server, "a", "messages/export").await.text;
    let other = TestApp::start().await;
    let lines: Vec<&str> = export.lines().collect();
    let broken =
        [lines[0], lines[1], &lines[2].replace("\"sender\":\"a\"", "\"sender\":\"z\""), lines[3], lines[4]].join("\n");
    let refused = import(&other, "a", &broken).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", 3, "sender"])]);
    let cut = import(&other, "a", &lines[..4].join("\n")).await.is(422);
    assert_eq!(locations(&cut), [json!(["body", 4])]);
    import(&other, "b", &export).await.is(422);
    import(&other, "a", "\u{0}").await.is(422);
    assert_eq!(get(&other, "a", "communication-stats").await.ok()["sent"]["messages"], 0);
    // Another message under an id that is there hinders none: imported ones have ids of their own.
    let mut first: Value = serde_json::from_str(lines[1]).unwrap();
    let body = json!({"sender": "a", "recipient": "c", "content": {}, "message_id": first["message_id"]});
    other.post(&format!("{MESSAGES}/send"), body).await.ok();
    assert_eq!(import(&other, "a", &export).await.ok(), json!({"imported": 3, "skipped": 0}));
    // A key of an import is that import's.
    first["message_id"] = json!("fresh");
    let one = [lines[0], &first.to_string(), &lines[4].replace('3', "1")].join("\n");
    let ask = || {
        let request = other.request(Method::POST, &format!("{AGENTS}/a/messages/import"));
        Answer::of(request.header("idempotency-key", "k").body(one.clone()))
    };
    let (fresh, again) = (ask().await, ask().await);
    assert_eq!((fresh.header("idempotency-replayed"), again.header("idempotency-replayed")), ("", "true"));
    assert_eq!((fresh.body.clone(), again.body), (json!({"imported": 1, "skipped": 0}), fresh.body));
}

#[tokio::test]
async fn imported_messages_are_marked_and_prove_nothing() {
    let server = TestApp::start().await;
    send(&server, "alice", "bob", json!({"n": 1})).await;
    let stats = get(&server, "alice", "communication-stats").await.ok();
    let export = get(&server, "alice", "messages/export").await.text;
    let mut lines: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let taken = lines[1]["message_id"].clone();
    let mut forged = lines[1].clone();
    for (member, value) in [
        ("sender", json!("mallory")),
        ("recipient", json!("alice")),
        ("status", json!("read")),
        ("payment_status", json!("paid")),
        ("price", json!(1000)),
        ("sent_at", json!("2001-01-01T00:00:00.000000Z")),
        ("read_at", json!("2001-01-01T00:00:01.000000Z")),
        ("reply_to", taken.clone()),
    ] {
        forged[member] = value;
    }
    let mut fresh = lines[1].clone();
    fresh["message_id"] = json!("fresh");
    lines.splice(2..2, [forged, fresh]);
    lines[4]["messages"] = json!(3);
    let text = lines.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert_eq!(import(&server, "alice", &text).await.ok(), json!({"imported": 2, "skipped": 1}));
    assert_eq!(import(&server, "alice", &text).await.ok(), json!({"imported": 0, "skipped": 3}));
    let shown = inbox(&server, "alice", "").await;
    let (id, origin) = (shown[0].text("message_id"), &shown[0]["imported"]);
    assert!(id.starts_with("import_"), "{id}");
    assert_eq!(origin["message_id"], taken, "its id here is its own");
    assert!(origin.text("source").starts_with("export of alice at 20"), "{origin}");
    let trail = server.get(&format!("{AGENTS}/security/audit-logs?event_type=workflow_updated&limit=50")).await.ok();
    let entry = trail.as_array().unwrap().iter().find(|entry| entry["event_data"]["action"] == "imported").unwrap();
    assert_eq!(origin["imported_by"], entry["user_id"]);
    assert_eq!((&shown[0]["price"], &shown[0]["payment_status"]), (&json!(0.0), &json!("waived")));
    // Everywhere the same.
    let one = server.get(&format!("{MESSAGES}/id/{id}")).await.ok();
    let listed = server.get(&format!("{MESSAGES}/history?sender_id=mallory")).await.ok().as_array().unwrap().clone();
    let exported = get(&server, "alice", "messages/export").await.text;
    let exported: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let exported = exported.iter().find(|line| line["message_id"] == id).unwrap();
    for place in [&one, &listed[0], exported] {
        assert_eq!(&place["imported"], origin, "{place}");
    }
    assert!(server.get(&format!("{MESSAGES}/id/{}", taken.as_str().unwrap())).await.ok().get("imported").is_none());
    // Nothing is counted or paid, and no id is taken.
    assert_eq!(get(&server, "alice", "communication-stats").await.ok()["sent"], stats["sent"]);
    assert_eq!(get(&server, "alice", "communication-stats").await.ok()["received"], stats["received"]);
    let paid = json!({"message_ids": [id], "payment_status": "paid"});
    assert_ne!(post(&server, "mallory", "payments", paid).await.status, 200);
    let body = json!({"sender": "alice", "recipient": "bob", "content": {}, "message_id": "fresh"});
    assert_eq!(server.post(&format!("{MESSAGES}/send"), body).await.ok()["repeated"], false);
}

#[tokio::test]
async fn exported_copies_are_imported_and_opened_elsewhere() {
    let server = TestApp::start().await;
    keyed(&server, "bob").await;
    let group = post(&server, "alice", "channels", json!({"type": "group", "members": ["bob", "carol"]})).await.is(201);
    let content = json!({"text": "tomatoes ".repeat(300)});
    let path = format!("channels/{}/messages", group.text("channel_id"));
    post(&server, "alice", &path, json!({"content": content})).await.ok();
    let export = get(&server, "bob", "messages/export").await.text;
    let other = TestApp::start().await;
    assert_eq!(import(&other, "bob", &export).await.ok(), json!({"imported": 1, "skipped": 0}));
    let history = other.get(&format!("{MESSAGES}/history?receiver_id=bob")).await.ok();
    assert_eq!(history[0]["scope"], "sealed_on_arrival");
    assert_eq!(opened(&server, "bob", &history[0]), content);
}
