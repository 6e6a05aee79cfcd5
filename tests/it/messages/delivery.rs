//! Delivery over sockets: at least once, in order, and to whom it belongs.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{MESSAGES, Socket, each, inbox, send, server};
use crate::{
    harness::{Answer, ApiClient, CLIENT, PATIENCE, Server},
    kit::ask,
};

/// Until a message has this status.
async fn until(server: &ApiClient, id: &Value, status: &str) {
    let path = format!("{MESSAGES}/id/{}", id.as_str().unwrap());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = server.get(&path).await.ok();
        if found["status"] == status {
            return;
        }
        assert!(Instant::now() < deadline, "{found}");
        crate::harness::poll_interval().await;
    }
}

#[tokio::test]
async fn socket_receives_new_and_stored_messages() {
    let server = server().start().await;
    send(&server, "alice", "bob", json!({"n": 0})).await;
    let mut bob = Socket::open(&server, "bob").await;
    let first = bob.message().await;
    assert_eq!((&first["content"], &first["seq"], &first["sender"]), (&json!({"n": 0}), &json!(1), &json!("alice")));
    let sent = send(&server, "alice", "bob", json!({"n": 1})).await;
    assert_eq!((&sent["ws_delivered"], &sent["message_status"]), (&json!(true), &json!("pending")));
    let second = bob.message().await;
    assert_eq!((&second["message_id"], &second["seq"]), (&sent["message_id"], &json!(2)));
    bob.ack(&second).await;
    until(&server, &second["message_id"], "delivered").await;
    drop(bob);
    // What was not acknowledged comes again under its id, what was does not.
    let mut bob = Socket::open(&server, "bob").await;
    assert_eq!(bob.message().await["message_id"], first["message_id"]);
    assert!(bob.is_silent().await);
    bob.send(json!({"type": "ack", "message_ids": [first["message_id"], "nonsense"]})).await;
    until(&server, &first["message_id"], "delivered").await;
    assert_eq!(
        each(&inbox(&server, "bob", "&unread_only=true").await, "seq"),
        [1, 2],
        "it is in the inbox until it is read"
    );
}

#[tokio::test]
async fn agents_exchange_messages_over_sockets() {
    let server = server().start().await;
    let (mut alice, mut bob) = (Socket::open(&server, "alice").await, Socket::open(&server, "bob").await);
    let answer = alice.say("bob", json!({"text": "hello"})).await;
    assert_eq!((&answer["status"], &answer["ws_delivered"]), (&json!("success"), &json!(true)));
    let got = bob.message().await;
    assert_eq!((&got["sender"], &got["message_id"]), (&json!("alice"), &answer["message_id"]));
    alice.send(json!({"type": "message", "payload": {"content": "PING", "recipient_id": "bob"}})).await;
    let pong = alice.next().await;
    assert_eq!((&pong["type"], &pong["content"]), (&json!("PONG"), &json!("PING")));
    assert!(pong["sender"].is_string() && pong["timestamp"].is_string());
    // Everything that is wrong is answered, and ends nothing.
    let payload = json!({"content": {"x": 1}, "recipient_id": "alice", "message_id": "m"});
    alice.send(json!({"type": "message", "ref": 7, "payload": payload})).await;
    let refused = alice.next().await;
    assert_eq!(
        (&refused["status"], &refused["code"], &refused["ref"]),
        (&json!("error"), &json!("validation_error"), &json!(7))
    );
    alice.send(json!({"type": "message", "payload": {"content": {}}})).await;
    assert_eq!(alice.next().await["code"], "validation_error");
    // What HTTP refuses is refused here: content is an object.
    for content in [json!("hello"), json!(["hello"]), json!(7), Value::Null] {
        assert_eq!(alice.say("bob", content).await["detail"][0]["loc"], json!(["body", "content"]));
    }
    alice.send(json!({"type": "sing"})).await;
    assert_eq!(alice.next().await["type"], "error");
    alice.send_raw(Message::text("{")).await;
    assert_eq!(alice.next().await["type"], "error");
    alice.send_raw(Message::binary(vec![1, 2, 3])).await;
    assert_eq!(alice.next().await["type"], "error");
    assert!(bob.is_silent().await);
    // Many at once are stored in the order in which they were sent.
    for n in 0..200 {
        alice.send(json!({"type": "message", "ref": n, "payload": {"content": {"n": n}, "recipient_id": "bob"}})).await;
    }
    for n in 0..200 {
        assert_eq!(alice.next().await["status"], "success");
        let got = bob.message().await;
        assert_eq!((&got["content"]["n"], &got["seq"]), (&json!(n), &json!(n + 2)));
    }
}

#[tokio::test]
async fn socket_messages_count_for_the_rate_limit() {
    let server = server().env("RATE_LIMIT_REQUESTS", 3).env("RATE_LIMIT_WINDOW_SECONDS", 3600).start().await;
    let mut alice = Socket::open(&server, "alice").await;
    for _ in 0..3 {
        assert_eq!(alice.say("bob", json!({"n": 1})).await["status"], "success");
    }
    let refused = alice.say("bob", json!({"n": 1})).await;
    assert_eq!((&refused["status"], &refused["code"]), (&json!("error"), &json!("rate_limited")));
    assert_eq!(server.get(&format!("{MESSAGES}/inbox?agent_id=bob")).await.status, 429, "they are the same caller's");
}

#[tokio::test]
async fn socket_with_bad_key_is_closed() {
    let server = server().start().await;
    for token in ["", "wrong-key-0123456789abcdef", CLIENT] {
        let mut socket = Socket::connect(&server, "bob", token).await;
        let closed = socket.closed().await.unwrap();
        assert_eq!(u16::from(closed.code), 1008, "{token}");
    }
    let path = format!("{MESSAGES}/stream?agent_id=bob");
    assert_eq!(ask(&server, None, Method::GET, &path, None).await.status, 401);
    let plain = server.get(&path).await;
    assert_eq!((plain.status.as_u16(), plain.header("upgrade")), (426, "websocket"));
}

#[tokio::test]
async fn slow_socket_delays_nobody_and_gets_everything_later() {
    let server = server().start().await;
    let (mut slow, mut quick) = (Socket::open(&server, "bob").await, Socket::open(&server, "bob").await);
    let mut alice = Socket::open(&server, "alice").await;
    // More than a queue and the kernel's buffers hold.
    let (count, text) = (1500, "x".repeat(20_000));
    let sending = async {
        for n in 0..count {
            alice
                .send(json!({"type": "message", "payload": {"content": {"n": n, "t": text}, "recipient_id": "bob"}}))
                .await;
            if n % 50 == 49 {
                for _ in 0..50 {
                    assert_eq!(alice.next().await["status"], "success");
                }
            }
        }
    };
    let reading = async {
        for n in 0..count {
            assert_eq!(quick.message().await["content"]["n"], n);
        }
    };
    tokio::join!(sending, reading);
    let metrics = Answer::of(server.request(Method::GET, "/metrics")).await.text;
    let behind = metrics.lines().find(|line| line.starts_with("message_sockets_behind_total")).unwrap();
    assert_ne!(behind.split(' ').next_back(), Some("0"), "the slow one fell behind");
    for n in 0..count {
        assert_eq!(slow.message().await["content"]["n"], n, "nothing is left out, nothing comes twice");
    }
    assert!(slow.is_silent().await);
}

#[tokio::test]
async fn messages_reach_sockets_of_another_process() {
    let first = Server::builder().start().await;
    let second = Server::builder().beside(&first).start().await;
    let mut bob = Socket::open(&second, "bob").await;
    let mut alice = Socket::open(&second, "alice").await;
    // In turns, so that each process finds the other's messages between its own.
    for n in 0..40 {
        if n % 2 == 0 {
            let sent = send(&first, "alice", "bob", json!({"n": n})).await;
            assert_eq!(sent["ws_delivered"], false, "not by this process");
        } else {
            assert_eq!(alice.say("bob", json!({"n": n})).await["ws_delivered"], true);
        }
    }
    for n in 0..40 {
        let got = bob.message().await;
        assert_eq!((&got["content"]["n"], &got["seq"]), (&json!(n), &json!(n + 1)));
    }
    assert!(bob.is_silent().await);
    let seen = first.get(&format!("{MESSAGES}/presence/bob")).await.ok();
    assert_eq!(seen["online"], true);
}

#[tokio::test]
async fn shutdown_closes_sockets_and_keeps_their_messages() {
    let mut server = Server::builder().env("MESSAGE_SOCKETS_MAX", 2).start().await;
    let mut bob = Socket::open(&server, "bob").await;
    let mut alice = Socket::open(&server, "alice").await;
    let mut third = Socket::connect(&server, "carol", server.key()).await;
    assert_eq!(third.closed().await.map(|frame| u16::from(frame.code)), Some(1013));
    alice.say("bob", json!({"n": 1})).await;
    let got = bob.message().await;
    bob.ack(&got).await;
    until(&server, &got["message_id"], "delivered").await;
    alice.say("bob", json!({"n": 2})).await;
    server.signal("TERM");
    let unheard = bob.message().await;
    assert_eq!(bob.closed().await.map(|frame| u16::from(frame.code)), Some(1001));
    assert_eq!(alice.closed().await.map(|frame| u16::from(frame.code)), Some(1001));
    drop((bob, alice));
    assert!(server.wait().success());
    let server = server.restart().await;
    assert_eq!(server.get(&format!("{MESSAGES}/presence/bob")).await.ok()["online"], false);
    let mut bob = Socket::open(&server, "bob").await;
    assert_eq!(bob.message().await["message_id"], unheard["message_id"]);
    assert!(bob.is_silent().await);
}

#[tokio::test]
async fn socket_without_pong_is_closed() {
    let server = server().env("MESSAGE_PING_SECONDS", 1).start().await;
    // Reads nothing, so it answers no ping either.
    let silent = Socket::open(&server, "bob").await;
    let deadline = Instant::now() + PATIENCE;
    while server.get(&format!("{MESSAGES}/presence")).await.ok()[0]["online"] != false {
        assert!(Instant::now() < deadline, "it was never closed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(silent);
}
