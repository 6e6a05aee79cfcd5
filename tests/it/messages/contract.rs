//! Shapes and rules of the contract.

use reqwest::Method;
use serde_json::{Value, json};

use super::{MESSAGES, Socket, each, inbox, send, server};
use crate::{
    harness::{CLIENT, TestApp},
    kit::{JsonDocument, ask, post_as},
    redact::redacted,
};

#[tokio::test]
async fn message_is_sent_found_and_read() {
    let server = server().start().await;
    let sent = send(&server, "alice", "bob", json!({"text": "hello"})).await;
    insta::assert_json_snapshot!("answer_to_send", redacted(&sent));
    let id = sent.text("message_id");
    insta::assert_json_snapshot!("message_sent", redacted(&server.get(&format!("{MESSAGES}/id/{id}")).await.ok()));
    let answer = server.get(&format!("{MESSAGES}/inbox?agent_id=bob")).await.ok();
    // What is fetched is delivered.
    insta::assert_json_snapshot!("inbox", redacted(&answer));
    let read = server.post(&format!("{MESSAGES}/id/{id}/read"), json!({})).await.ok();
    insta::assert_json_snapshot!("answer_to_read", redacted(&read));
    assert!(inbox(&server, "bob", "&unread_only=true").await.is_empty());
    assert_eq!(inbox(&server, "bob", "").await.len(), 1);
    let other = server.post(&format!("{MESSAGES}/id/{id}/read"), json!({"agent_id": "alice"})).await;
    other.is(404);
    insta::assert_json_snapshot!("message_read", redacted(&server.get(&format!("{MESSAGES}/id/{id}")).await.ok()));
    server.get(&format!("{MESSAGES}/id/none")).await.is(404);
    let trail = server.get("/api/v1/agents/security/audit-logs?limit=20").await.ok();
    let told = each(trail.as_array().unwrap(), "event_data");
    let told: Vec<(&Value, &Value)> = told.iter().map(|data| (&data["resource"], &data["action"])).collect();
    assert!(told.contains(&(&json!("message"), &json!("sent"))) && told.contains(&(&json!("message"), &json!("read"))));
    assert!(!trail.to_string().contains("hello"), "the log says nothing of what was written");
}

#[tokio::test]
async fn repeated_message_id_sends_nothing() {
    let server = server().start().await;
    let body = |text: &str, sender: &str| json!({"sender": sender, "recipient": "bob", "content": {"text": text}, "message_id": "mine-1"});
    let first = server.post(&format!("{MESSAGES}/send"), body("one", "alice")).await.ok();
    assert_eq!((&first["message_id"], &first["repeated"]), (&json!("mine-1"), &json!(false)));
    let mut again = server.post(&format!("{MESSAGES}/send"), body("one", "alice")).await.ok();
    assert_eq!(again["repeated"], true);
    again["repeated"] = json!(false);
    assert_eq!(again, first);
    // Also when both come at once.
    let same = async || {
        let body = json!({"sender": "carol", "recipient": "bob", "content": {}, "message_id": "mine-2"});
        server.post(&format!("{MESSAGES}/send"), body).await.ok()
    };
    let all = futures_util::future::join_all((0..8).map(|_| same())).await;
    assert_eq!(all.iter().filter(|answer| answer["repeated"] == false).count(), 1, "{all:?}");
    let found = inbox(&server, "bob", "").await;
    assert_eq!(each(&found, "message_id"), ["mine-2", "mine-1"]);
    assert_eq!(found[1]["content"], json!({"text": "one"}));
}

#[tokio::test]
async fn message_validation_reports_each_fault() {
    let server = server().start().await;
    let good = json!({"sender": "a", "recipient": "b", "content": {"x": 1}});
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let cases = [
        ("sender", with("sender", json!(""))),
        ("recipient", with("recipient", json!("a"))),
        ("content", with("content", json!("text"))),
        ("content", with("content", json!({"x": "y".repeat(100_000)}))),
        ("ttl", with("ttl", json!(0))),
        ("ttl", with("ttl", json!(86_401))),
        ("priority", with("priority", json!("soon"))),
        ("message_type", with("message_type", json!("two words"))),
        ("message_id", with("message_id", json!("x".repeat(129)))),
        ("encryption", with("encryption", json!("rsa"))),
    ];
    for (field, body) in cases {
        let refused = server.post(&format!("{MESSAGES}/send"), body).await.is(422);
        assert!(refused["detail"][0]["loc"].as_array().unwrap().contains(&json!(field)), "{field}: {refused}");
    }
    let none = server.post(&format!("{MESSAGES}/send"), with("encryption", json!("none"))).await;
    assert_eq!(none.is(403)["code"], "plaintext_not_allowed");
    let both = json!({"sender": "a", "content": {}, "topic": "t", "channel_id": "c"});
    server.post(&format!("{MESSAGES}/broadcast"), both).await.is(422);
    server.get(&format!("{MESSAGES}/inbox")).await.is(422);
    server.get(&format!("{MESSAGES}/inbox?agent_id=b&limit=0")).await.is(422);
    let direct = server.post(&format!("{MESSAGES}/send"), with("message_type", json!("direct"))).await.ok();
    assert_eq!(direct["message_status"], "pending");
    assert_eq!(post_as(&server, CLIENT, &format!("{MESSAGES}/send"), good.clone()).await.status, 403);
    assert_eq!(ask(&server, None, Method::POST, &format!("{MESSAGES}/send"), Some(good)).await.status, 401);
}

#[tokio::test]
async fn api_key_as_agent_id_becomes_its_principal() {
    let server = server().start().await;
    let sent = send(&server, server.key(), "bob", json!({"x": 1})).await;
    assert!(sent.text("sender").starts_with("key_"), "{sent}");
    let mut socket = Socket::connect(&server, server.key(), server.key()).await;
    let first = socket.next().await;
    assert_eq!(first["agent_id"], sent["sender"]);
    let seen = server.get(&format!("{MESSAGES}/presence")).await.text;
    assert!(!seen.contains(server.key()) && !server.log().contains(server.key()));
}

#[tokio::test]
async fn message_history_pages_and_filters() {
    let server = server().start().await;
    for n in 0..7 {
        send(&server, "alice", "bob", json!({"n": n})).await;
        send(&server, "bob", "alice", json!({"n": n})).await;
    }
    let path = format!("{MESSAGES}/history?sender_id=alice&receiver_id=bob&limit=3");
    let first = server.get(&path).await;
    assert_eq!(first.header("x-total-count"), "7");
    let link = first.header("link").to_owned();
    let first = first.ok();
    let n = |page: &Value| {
        each(page.as_array().unwrap(), "content")
            .iter()
            .map(|content| content["n"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(n(&first), [6, 5, 4]);
    assert_eq!(each(first.as_array().unwrap(), "status"), ["pending"; 3], "looking changes nothing");
    let next = link.split(',').find(|link| link.contains("rel=\"next\"")).unwrap();
    let next = next.trim().trim_start_matches('<').split('>').next().unwrap();
    assert_eq!(n(&server.get(next).await.ok()), [3, 2, 1]);
    assert_eq!(n(&server.get(&format!("{path}&offset=6")).await.ok()), [0]);
    let all = server.get(&format!("{MESSAGES}/history")).await;
    assert_eq!(all.header("x-total-count"), "14");
}

#[tokio::test]
async fn a_long_content_is_left_out_of_the_history() {
    let server = server().start().await;
    let content = json!({"text": "x".repeat(20_000)});
    let sent = send(&server, "alice", "bob", content.clone()).await;
    send(&server, "alice", "bob", json!({"n": 1})).await;
    let page = server.get(&format!("{MESSAGES}/history?sender_id=alice&order=asc")).await.ok();
    assert_eq!((&page[0]["content"], &page[0]["omitted"]), (&json!({}), &json!(["content"])));
    assert_eq!((&page[1]["content"], page[1].get("omitted")), (&json!({"n": 1}), None));
    let whole = server.get(&format!("{MESSAGES}/id/{}", sent.text("message_id"))).await.ok();
    assert_eq!((&whole["content"], whole.get("omitted")), (&content, None));
}

#[tokio::test]
async fn inbox_is_paged_in_order() {
    let server = server().start().await;
    for n in 0..5 {
        send(&server, "alice", "bob", json!({"n": n})).await;
    }
    let page = inbox(&server, "bob", "&unread_only=true&limit=2").await;
    let numbers = |messages: &[Value]| {
        messages.iter().map(|message| message["content"]["n"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&page), [0, 1]);
    let rest = inbox(&server, "bob", &format!("&unread_only=true&from={}", page[1]["id"])).await;
    assert_eq!(numbers(&rest), [2, 3, 4]);
    assert_eq!(each(&rest, "seq"), [3, 4, 5]);
    assert_eq!(numbers(&inbox(&server, "bob", "&limit=2").await), [4, 3]);
}

#[tokio::test]
async fn unfetched_message_expires() {
    let server = server().start().await;
    let body = json!({"sender": "alice", "recipient": "bob", "content": {"x": 1}, "ttl": 1});
    let sent = server.post(&format!("{MESSAGES}/send"), body).await.ok();
    let path = format!("{MESSAGES}/id/{}", sent.text("message_id"));
    server.clock().advance(std::time::Duration::from_secs(2));
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while server.get(&path).await.ok()["status"] != "expired" {
        assert!(std::time::Instant::now() < deadline, "it never expired");
        crate::harness::poll_interval().await;
    }
    assert!(inbox(&server, "bob", "").await.is_empty());
    let refused = server.post(&format!("{path}/read"), json!({})).await.is(400);
    assert_eq!(refused["code"], "invalid_state");
    let mut socket = Socket::open(&server, "bob").await;
    assert!(socket.is_silent().await);
}

#[tokio::test]
async fn agent_discovery_lists_agents_seen() {
    let server = TestApp::start().await;
    let discover = async |query: &str| server.get(&format!("{MESSAGES}/discover?{query}")).await.ok();
    assert_eq!(discover("").await["count"], 0);
    let bob = Socket::open(&server, "bob").await;
    let until = async |online: bool| {
        let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
        loop {
            let seen = server.get(&format!("{MESSAGES}/presence/bob")).await;
            if seen.status == 200 && seen.body["online"] == online {
                return seen.body;
            }
            assert!(std::time::Instant::now() < deadline, "{seen:?}");
            crate::harness::poll_interval().await;
        }
    };
    until(true).await;
    let found = discover("min_health_score=0.5&limit=5").await;
    assert_eq!((&found["count"], &found["agents"][0]["agent_id"]), (&json!(1), &json!("bob")));
    assert_eq!(found["query"]["min_health_score"], 0.5);
    assert_eq!(discover("capability=flying").await["count"], 0, "nothing is known of what it can do");
    drop(bob);
    let gone = until(false).await;
    assert!(gone["last_seen"].is_string());
    assert_eq!(discover("min_health_score=0.5").await["count"], 0);
    assert_eq!(discover("").await["count"], 1);
    assert!(server.get(&format!("{MESSAGES}/presence?online=true")).await.ok().as_array().unwrap().is_empty());
    server.get(&format!("{MESSAGES}/presence/nobody")).await.is(404);
}
