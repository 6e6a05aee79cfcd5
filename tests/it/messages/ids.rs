//! Ids that senders give their messages: what repeats one, what another message is, and whose it is.

use serde_json::{Value, json};

use super::{MESSAGES, Socket, each, inbox, server};
use crate::{harness::TestApp, kit::AGENTS};

async fn send(server: &TestApp, sender: &str, recipient: &str, id: &str, more: Value) -> crate::harness::Answer {
    let mut body = json!({"sender": sender, "recipient": recipient, "content": {"from": sender}, "message_id": id});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post(&format!("{MESSAGES}/send"), body).await
}

#[tokio::test]
async fn another_message_under_a_used_id_is_refused_and_not_swallowed() {
    let server = server().start().await;
    let first = send(&server, "alice", "bob", "x", json!({})).await.ok();
    for (recipient, more) in [
        ("carol", json!({})),
        ("bob", json!({"content": {"from": "bob"}})),
        ("bob", json!({"content": {"from": "alice", "n": null}})),
        ("bob", json!({"ttl": 20})),
        ("bob", json!({"priority": "urgent"})),
        ("bob", json!({"message_type": "urgent"})),
        ("bob", json!({"encryption": "aes256"})),
        ("bob", json!({"reply_to": "y"})),
    ] {
        let refused = send(&server, "alice", recipient, "x", more.clone()).await.is(409);
        assert_eq!(refused["code"], "conflict", "{more}");
    }
    let to_all = json!({"sender": "alice", "content": {"from": "alice"}, "message_id": "x"});
    server.post(&format!("{MESSAGES}/broadcast"), to_all).await.is(409);
    let again = send(&server, "alice", "bob", "x", json!({"ttl": 300, "encrypt": true})).await.ok();
    assert_eq!((&again["repeated"], &again["seq"]), (&json!(true), &first["seq"]));
    assert_eq!((inbox(&server, "bob", "").await.len(), inbox(&server, "carol", "").await.len()), (1, 0));
}

#[tokio::test]
async fn agents_use_the_same_id_without_hindering_each_other() {
    let server = server().start().await;
    let mut bob = Socket::open(&server, "bob").await;
    let senders = ["mallory", "alice", "carol"];
    for sender in senders {
        assert_eq!(send(&server, sender, "bob", "x", json!({})).await.ok()["repeated"], false);
        assert_eq!(send(&server, sender, "bob", "x", json!({})).await.ok()["repeated"], true);
    }
    for sender in senders {
        let got = bob.message().await;
        assert_eq!((&got["sender"], &got["content"]), (&json!(sender), &json!({"from": sender})));
    }
    let path = format!("{MESSAGES}/id/x");
    server.get(&path).await.is(409);
    server.post(&format!("{path}/read"), json!({"agent_id": "bob"})).await.is(409);
    server.get(&format!("{path}?sender_id=erin")).await.is(404);
    let read = json!({"agent_id": "bob", "sender_id": "carol"});
    server.post(&format!("{path}/read"), read).await.ok();
    for (sender, status) in [("mallory", "pending"), ("alice", "pending"), ("carol", "read")] {
        assert_eq!(server.get(&format!("{path}?sender_id={sender}")).await.ok()["status"], status, "{sender}");
    }
    // One acknowledgement is for one message.
    bob.send(json!({"type": "ack", "message_id": "x"})).await;
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while server.get(&format!("{path}?sender_id=mallory")).await.ok()["status"] != "delivered" {
        assert!(std::time::Instant::now() < deadline, "it was never recorded");
        crate::harness::poll_interval().await;
    }
    assert_eq!(server.get(&format!("{path}?sender_id=alice")).await.ok()["status"], "pending");
    // What one pays for is one's own.
    let paid = json!({"message_ids": ["x"], "payment_status": "paid"});
    server.post(&format!("{AGENTS}/alice/payments"), paid).await.ok();
    for (sender, status) in [("mallory", "unpaid"), ("alice", "paid"), ("carol", "unpaid")] {
        assert_eq!(server.get(&format!("{path}?sender_id={sender}")).await.ok()["payment_status"], status, "{sender}");
    }
}

#[tokio::test]
async fn copies_have_ids_that_no_client_gives() {
    let server = server().start().await;
    for agent in ["bob", "carol"] {
        let body = json!({"agent_id": agent, "topic": "t"});
        server.post(&format!("{MESSAGES}/subscribe"), body).await.ok();
    }
    let broadcast = async |sender: &str, text: &str| {
        let body = json!({"sender": sender, "content": {"x": text}, "message_id": "y", "topic": "t"});
        server.post(&format!("{MESSAGES}/broadcast"), body).await
    };
    for id in ["y.1", "y.2"] {
        send(&server, "alice", "bob", id, json!({})).await.ok();
    }
    assert_eq!(broadcast("alice", "one").await.ok()["recipients"], 2);
    send(&server, "alice", "carol", "y.3", json!({})).await.ok();
    assert_eq!(broadcast("alice", "one").await.ok()["repeated"], true);
    broadcast("alice", "two").await.is(409);
    assert_eq!(broadcast("dave", "one").await.ok()["repeated"], false, "it is another's id");
    send(&server, "alice", "bob", "y", json!({})).await.is(409);
    let found = inbox(&server, "carol", "").await;
    let copies: Vec<&Value> = found.iter().filter(|message| message["broadcast_id"] == "y").collect();
    assert_eq!(copies.len(), 2);
    for copy in copies {
        let id = copy["message_id"].as_str().unwrap();
        assert!(id.starts_with("copy_"), "{id}");
        assert_eq!(server.get(&format!("{MESSAGES}/id/{id}")).await.ok()["recipient"], "carol");
        send(&server, "alice", "bob", id, json!({})).await.is(422);
    }
    assert_eq!(each(&found, "sender").len(), 3);
}
