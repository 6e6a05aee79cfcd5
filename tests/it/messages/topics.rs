//! Messages to several: topics and everybody.

use serde_json::{Value, json};

use super::{MESSAGES, Socket, each, inbox, server};
use crate::{
    harness::{ApiClient, PATIENCE, poll_interval},
    jobs::open,
};

async fn subscribe(server: &ApiClient, agent: &str, topic: &str, filter: Value) -> Value {
    let body = json!({"agent_id": agent, "topic": topic, "filter": filter});
    server.post(&format!("{MESSAGES}/subscribe"), body).await.ok()
}

async fn broadcast(server: &ApiClient, rest: Value) -> Value {
    let mut body = json!({"sender": "alice", "content": {"zone": "eu", "n": 1}});
    body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    server.post(&format!("{MESSAGES}/broadcast"), body).await.ok()
}

#[tokio::test]
async fn topic_message_reaches_matching_subscribers() {
    let server = server().start().await;
    subscribe(&server, "bob", "offers", json!({})).await;
    subscribe(&server, "carol", "offers", json!({"zone": "eu"})).await;
    subscribe(&server, "dave", "offers", json!({"zone": "us"})).await;
    subscribe(&server, "erin", "other", json!({})).await;
    let mut carol = Socket::open(&server, "carol").await;
    let sent = broadcast(&server, json!({"topic": "offers", "message_id": "b1"})).await;
    assert_eq!((&sent["recipients"], &sent["pushed"], &sent["message_id"]), (&json!(2), &json!(1), &json!("b1")));
    let got = carol.message().await;
    assert_eq!((&got["topic"], &got["broadcast_id"]), (&json!("offers"), &json!("b1")));
    assert_eq!(each(&inbox(&server, "bob", "").await, "content"), [&json!({"zone": "eu", "n": 1})]);
    for nobody in ["dave", "erin", "alice"] {
        assert!(inbox(&server, nobody, "").await.is_empty(), "{nobody}");
    }
    let again = broadcast(&server, json!({"topic": "offers", "message_id": "b1"})).await;
    assert_eq!((&again["repeated"], &again["recipients"]), (&json!(true), &json!(2)));
    // Another filter in place of the first, and none.
    let changed = subscribe(&server, "dave", "offers", json!({"n": 1})).await;
    assert_eq!((&changed["subscribed"], &changed["filter"]), (&json!(true), &json!({"n": 1})));
    let ended = json!({"agent_id": "bob", "topic": "offers"});
    assert_eq!(server.post(&format!("{MESSAGES}/unsubscribe"), ended.clone()).await.ok()["removed"], true);
    assert_eq!(server.post(&format!("{MESSAGES}/unsubscribe"), ended).await.ok()["removed"], false);
    assert_eq!(broadcast(&server, json!({"topic": "offers"})).await["recipients"], 2);
    assert_eq!((inbox(&server, "bob", "").await.len(), inbox(&server, "dave", "").await.len()), (1, 1));
    let listed = server.get(&format!("{MESSAGES}/subscriptions/dave")).await.ok();
    assert_eq!((&listed["count"], &listed["subscriptions"][0]["topic"]), (&json!(1), &json!("offers")));
    let got = carol.message().await;
    assert!(got["seq"].as_i64().unwrap() > 2, "the topic's numbers rise");
}

#[tokio::test]
async fn broadcast_reaches_every_agent_seen() {
    let server = server().start().await;
    let (mut bob, mut carol) = (Socket::open(&server, "bob").await, Socket::open(&server, "carol").await);
    subscribe(&server, "dave", "any", json!({})).await;
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while server.get(&format!("{MESSAGES}/presence?online=true")).await.ok().as_array().unwrap().len() < 2 {
        assert!(std::time::Instant::now() < deadline);
        crate::harness::poll_interval().await;
    }
    let sent = broadcast(&server, json!({"message_type": "notification"})).await;
    assert_eq!((&sent["recipients"], &sent["pushed"], &sent["price"]), (&json!(3), &json!(2), &json!(0.0015)));
    let ids = [bob.message().await["message_id"].clone(), carol.message().await["message_id"].clone()];
    assert_ne!(ids[0], ids[1], "each copy is a message of its own");
    assert_eq!(inbox(&server, "dave", "").await.len(), 1);
}

/// Say that agents `old-1` to `old-COUNT` were seen, each a second before the one after it, and the last at `last`.
async fn see(server: &ApiClient, count: i64, last: &str) {
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
         INSERT INTO am_presence (agent_id, process, online, seen_at)
         SELECT 'old-' || i, 'gone', 1, strftime('%Y-%m-%d %H:%M:%S.000000', $2, (i - $1) || ' seconds') FROM n",
    )
    .bind(count)
    .bind(last)
    .execute(&mut open(&server.database()).await)
    .await
    .unwrap();
}

#[tokio::test]
async fn broadcast_to_all_goes_to_those_seen_last() {
    let server = server().start().await;
    let now = am_core::ambient::Clock::system().now().format("%Y-%m-%d %H:%M:%S").to_string();
    see(&server, 10_150, &now).await;
    let sent = broadcast(&server, json!({})).await;
    assert_eq!(sent["recipients"], 10_000);
    assert_eq!(sent["refused"].as_array().unwrap().len(), 100);
    assert_eq!(sent["refused"][0]["agent_id"], "old-150", "{sent}");
    assert!(sent["refused"][0]["reason"].as_str().unwrap().contains("10000"));
    assert_eq!(inbox(&server, "old-151", "").await.len(), 1);
    assert!(inbox(&server, "old-150", "").await.is_empty());
}

#[tokio::test]
async fn agents_and_processes_that_are_gone_are_forgotten() {
    let server = server().env("MESSAGE_PRESENCE_DAYS", 10).start().await;
    see(&server, 1200, "2026-01-01").await;
    let dead = "INSERT INTO am_socket_processes (id, beat_at) VALUES ('gone', '2026-01-01 00:00:00.000000')";
    sqlx::query(dead).execute(&mut open(&server.database()).await).await.unwrap();
    subscribe(&server, "dave", "any", json!({})).await;
    assert_eq!(broadcast(&server, json!({})).await["recipients"], 1, "they were not seen for too long");
    let server = server.restart().await;
    let mut bob = Socket::open(&server, "bob").await;
    let left = async |table: &str| -> i64 {
        let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table} WHERE agent = 'gone'"));
        sqlx::query_scalar(count).fetch_one(&mut open(&server.database()).await).await.unwrap()
    };
    let (agents, processes) =
        ("(SELECT process AS agent FROM am_presence)", "(SELECT id AS agent FROM am_socket_processes)");
    let deadline = std::time::Instant::now() + PATIENCE;
    while left(agents).await + left(processes).await > 0 {
        assert!(std::time::Instant::now() < deadline, "they are still there");
        poll_interval().await;
    }
    let sent = broadcast(&server, json!({"message_id": "later"})).await;
    assert_eq!((&sent["recipients"], &bob.message().await["broadcast_id"]), (&json!(2), &json!("later")));
    server.get(&format!("{MESSAGES}/presence/old-7")).await.is(404);
}

#[tokio::test]
async fn names_and_ids_are_as_long_as_their_texts_say() {
    let server = server().start().await;
    let (name, topic, id) = ("漢".repeat(128), "ü".repeat(200), "\u{1f600}".repeat(128));
    subscribe(&server, &name, &topic, json!({})).await;
    let sent = broadcast(&server, json!({"topic": topic, "message_id": id})).await;
    assert_eq!((&sent["recipients"], &sent["message_id"]), (&json!(1), &json!(id)));
    let body =
        |recipient: &str, id: &str| json!({"sender": "a", "recipient": recipient, "content": {}, "message_id": id});
    server.post(&format!("{MESSAGES}/send"), body(&name, &id)).await.ok();
    for (recipient, id) in [(format!("{name}x"), id.clone()), (name, format!("{id}x"))] {
        server.post(&format!("{MESSAGES}/send"), body(&recipient, &id)).await.is(422);
    }
    let long = json!({"agent_id": "b", "topic": format!("{topic}x")});
    server.post(&format!("{MESSAGES}/subscribe"), long).await.is(422);
}
