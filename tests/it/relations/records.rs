//! What is counted and recorded of messages, and messages as files.

use reqwest::Method;
use serde_json::{Value, json};

use super::{get, keyed, opened, post, told, try_send};
use crate::{
    harness::{Answer, ApiClient, TestApp},
    kit::{AGENTS, locations, sql},
    messages::{MESSAGES, inbox, send},
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
    let ids = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| Some(serde_json::from_str::<Value>(line).unwrap()["message_id"].as_str()?.to_owned()))
            .collect()
    };
    let again = get(&other, "alice", "messages/export").await.text;
    assert_eq!(ids(&again)[1..], ids(&export.text)[..], "the same messages in the same order, after what was there");
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
    // Another message under an id that is there.
    let mut first: Value = serde_json::from_str(lines[1]).unwrap();
    let body = json!({"sender": "a", "recipient": "c", "content": {}, "message_id": first["message_id"]});
    other.post(&format!("{MESSAGES}/send"), body).await.ok();
    let refused = import(&other, "a", &export).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", 2, "message_id"])]);
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
