//! Messages to several: topics and everybody.

use serde_json::{Value, json};

use super::{MESSAGES, Socket, each, inbox, server};
use crate::harness::ApiClient;

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
