//! Messages and frames that present clients send.

use serde_json::{Value, json};

use crate::{
    harness::{OTHER_ADMIN, TestApp},
    kit::{JsonDocument, locations},
    messages::{MESSAGES, Socket, inbox, send},
};

#[tokio::test]
async fn message_has_any_type_and_names_its_agents_twice() {
    let server = TestApp::start().await;
    for (number, kind) in ["coordination", "task_assignment", "status_update", "a2a.v1:hello"].iter().enumerate() {
        let body = json!({"sender_id": "alice", "recipient_id": "bob", "content": {"n": number}, "message_type": kind,
            "priority": "critical", "encrypt": false, "ttl": 300});
        let sent = server.post(&format!("{MESSAGES}/send"), body).await.is(200);
        assert_eq!(
            (&sent["status"], &sent["sender"], &sent["price"]),
            (&json!("success"), &json!("alice"), &json!(0.001))
        );
        let message = server.get(&format!("{MESSAGES}/id/{}", sent.text("message_id"))).await.ok();
        assert_eq!((&message["message_type"], &message["priority"]), (&json!(kind), &json!("critical")));
        assert_eq!((&message["sender_id"], &message["recipient_id"]), (&json!("alice"), &json!("bob")));
        assert_eq!((&message["sender"], &message["recipient"]), (&json!("alice"), &json!("bob")));
    }
    let stats = server.get("/api/v1/agents/alice/communication-stats").await.ok();
    assert_eq!(stats["by_type"]["task_assignment"]["sent"], 1, "{stats}");
    for bad in ["", "two words", &"x".repeat(65)] {
        let body = json!({"sender": "alice", "recipient": "bob", "content": {}, "message_type": bad});
        let refused = server.post(&format!("{MESSAGES}/send"), body).await.is(422);
        assert_eq!(locations(&refused), [json!(["body", "message_type"])], "{refused}");
    }
    // The same id with another type is another message.
    let again = |kind: &str| json!({"sender": "alice", "recipient": "bob", "content": {}, "message_type": kind, "message_id": "m1"});
    server.post(&format!("{MESSAGES}/send"), again("one")).await.is(200);
    assert_eq!(server.post(&format!("{MESSAGES}/send"), again("one")).await.is(200)["repeated"], true);
    server.post(&format!("{MESSAGES}/send"), again("two")).await.is(409);
}

#[tokio::test]
async fn frames_of_present_clients_are_understood() {
    let server = TestApp::start().await;
    let (mut alice, mut bob) = (Socket::open(&server, "alice").await, Socket::open(&server, "bob").await);
    alice.send(json!({"type": "heartbeat"})).await;
    let beat = alice.next().await;
    assert_eq!(beat["type"], "heartbeat_ack");
    assert!(beat["timestamp"].is_string());
    bob.send(json!({"type": "subscribe", "payload": {"topic": "news"}})).await;
    let confirmed = bob.next().await;
    assert_eq!((&confirmed["type"], &confirmed["topic"]), (&json!("subscription_confirmed"), &json!("news")));
    alice.send(json!({"type": "broadcast", "payload": {"content": {"n": 1}, "topic": "news"}, "ref": 7})).await;
    let sent = alice.next().await;
    assert_eq!(
        (&sent["type"], &sent["recipients"], &sent["ref"]),
        (&json!("handler_acknowledgment"), &json!(1), &json!(7))
    );
    let got = bob.message().await;
    assert_eq!((&got["content"], &got["topic"]), (&json!({"n": 1}), &json!("news")));
    assert_eq!((&got["sender_id"], &got["recipient_id"]), (&json!("alice"), &json!("bob")));
    bob.ack(&got).await;
    bob.send(json!({"type": "unsubscribe", "payload": {"topic": "news"}})).await;
    assert_eq!(bob.next().await["type"], "unsubscription_confirmed");
    // Without a topic: to everybody who was ever seen.
    alice.send(json!({"type": "broadcast", "payload": {"content": {"n": 2}}})).await;
    assert_eq!(alice.next().await["status"], "success");
    let got = bob.message().await;
    assert_eq!(got["content"], json!({"n": 2}));
    bob.ack(&got).await;
    for (frame, member) in [
        (json!({"type": "subscribe", "payload": {"topic": ""}}), "topic"),
        (json!({"type": "message", "payload": {"content": {"x": 1}}}), "recipient_id"),
    ] {
        alice.send(frame).await;
        let refused = alice.next().await;
        assert_eq!((&refused["type"], &refused["status"]), (&json!("handler_acknowledgment"), &json!("error")));
        assert!(refused["detail"].to_string().contains(member), "{refused}");
    }
    for frame in [json!({"type": "subscribe"}), json!({"type": "unknown"}), json!({"type": "broadcast"})] {
        alice.send(frame).await;
        assert_eq!(alice.next().await["type"], "error");
    }
}

#[tokio::test]
async fn pong_comes_in_the_name_of_the_agent_that_was_asked() {
    let server = TestApp::start().await;
    let mut socket = Socket::open(&server, "follower").await;
    let ping = |recipient: Value| json!({"type": "message", "payload": {"content": "PING", "recipient_id": recipient}});
    socket.send(ping(json!("hub-coordinator"))).await;
    let pong = socket.next().await;
    assert_eq!((&pong["type"], &pong["content"]), (&json!("PONG"), &json!("PING")));
    assert_eq!((&pong["sender"], &pong["recipient"]), (&json!("hub-coordinator"), &json!("follower")));
    assert!(pong["timestamp"].is_string());
    socket.send(ping(Value::Null)).await;
    assert_eq!(socket.next().await["sender"], "agent-management");
    socket.send(ping(json!(OTHER_ADMIN))).await;
    let pong = socket.next().await.to_string();
    assert!(pong.contains("key_") && !pong.contains(OTHER_ADMIN), "{pong}");
    assert!(inbox(&server, "hub-coordinator", "").await.is_empty(), "a ping is no message");
}

#[tokio::test]
async fn subscriptions_have_the_command_lines_path() {
    let server = TestApp::start().await;
    let body = json!({"agent_id": "bob", "topic": "news", "filter": {}});
    let made = server.post("/api/v1/agent/subscribe", body.clone()).await.is(200);
    assert_eq!((&made["status"], &made["topic"]), (&json!("success"), &json!("news")));
    server.post("/api/v1/agent/unsubscribe", body).await.is(200);
    send(&server, "alice", "bob", json!({"x": 1})).await;
}
