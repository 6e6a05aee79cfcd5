//! Messages that their senders sign.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{MESSAGES, Socket, inbox};
use crate::{
    harness::{Answer, ApiClient, TestApp},
    kit::{AGENTS, JsonDocument, ask, locations},
    operation::run_with,
};

/// What `agent-key` prints.
fn agent_key(server: &ApiClient, arguments: &[&str], stdin: &Value) -> Value {
    let output = run_with(server.dir(), &[&["agent-key"], arguments].concat(), &[], &stdin.to_string());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Register a new signing key of an agent, whose private half is the file `name`. Answers its id.
async fn signing_key(server: &ApiClient, agent: &str, name: &str) -> String {
    let public = agent_key(server, &["new", name, "--kind", "ed25519"], &Value::Null);
    assert_eq!(agent_key(server, &["public", name, "--kind", "ed25519"], &Value::Null), public);
    let made = server.post(&format!("{AGENTS}/{agent}/keys"), public.clone()).await.is(201);
    assert_eq!((&made["kind"], &made["key_id"]), (&json!("ed25519"), &public["key_id"]));
    made.text("key_id").to_owned()
}

async fn try_send(server: &ApiClient, message: &Value) -> Answer {
    server.post(&format!("{MESSAGES}/send"), message.clone()).await
}

#[track_caller]
fn is_refused(answer: Answer, said: &str) {
    let refused = answer.is(422);
    assert_eq!(locations(&refused), [json!(["body", "signature"])]);
    assert!(refused["detail"][0].text("msg").contains(said), "{refused}");
}

#[tokio::test]
async fn signed_message_is_shown_with_its_signature() {
    let server = TestApp::start().await;
    let key_id = signing_key(&server, "alice", "alice").await;
    let draft =
        json!({"sender": "alice", "recipient": "bob", "content": {"x": 1.5, "n": null}, "message_type": "text"});
    let signed = agent_key(&server, &["sign", "alice"], &draft);
    let mut socket = Socket::open(&server, "bob").await;
    let receipt = try_send(&server, &signed).await.ok();
    assert_eq!(receipt["message_id"], signed["message_id"]);
    let mut shown = signed["signature"].clone();
    shown["verified"] = true.into();
    assert_eq!(shown["key_id"], json!(key_id));
    assert_eq!(socket.message().await["signature"], shown);
    assert_eq!(inbox(&server, "bob", "").await[0]["signature"], shown);
    let path = format!("{MESSAGES}/id/{}", receipt.text("message_id"));
    assert_eq!(server.get(&path).await.ok()["signature"], shown);
    let export = server.get(&format!("{AGENTS}/bob/messages/export")).await.text;
    let line: Value = serde_json::from_str(export.lines().nth(1).unwrap()).unwrap();
    assert_eq!(line["signature"], shown);

    // Again is the same message, signed anew or not; without its signature it is another.
    assert_eq!(try_send(&server, &signed).await.ok()["repeated"], true);
    assert_eq!(try_send(&server, &agent_key(&server, &["sign", "alice"], &signed)).await.ok()["repeated"], true);
    let mut bare = signed.clone();
    bare.as_object_mut().unwrap().remove("signature");
    try_send(&server, &bare).await.is(409);
    bare["message_id"] = "unsigned".into();
    try_send(&server, &bare).await.ok();
    assert_eq!(server.get(&format!("{MESSAGES}/id/unsigned")).await.ok()["signature"], Value::Null);

    // Over a socket, to a channel, and to a key of the recipient's.
    let mut alice = Socket::open(&server, "alice").await;
    let by_socket = agent_key(&server, &["sign", "alice"], &draft);
    let mut payload = by_socket.clone();
    payload.as_object_mut().unwrap().remove("sender");
    alice.send(json!({"type": "message", "payload": payload})).await;
    assert_eq!(alice.next().await["status"], "success");
    let channel = receipt.text("channel_id");
    let to_channel =
        agent_key(&server, &["sign", "alice"], &json!({"sender": "alice", "channel_id": channel, "content": {}}));
    let mut body = to_channel.clone();
    for member in ["sender", "channel_id"] {
        body.as_object_mut().unwrap().remove(member);
    }
    server.post(&format!("{AGENTS}/alice/channels/{channel}/messages"), body).await.ok();
    let copy = inbox(&server, "bob", "&limit=1").await.remove(0);
    assert_eq!(
        (&copy["signature"]["value"], &copy["broadcast_id"]),
        (&to_channel["signature"]["value"], &to_channel["message_id"])
    );
    let bobs = agent_key(&server, &["new", "bob"], &Value::Null);
    server.post(&format!("{AGENTS}/bob/keys"), bobs.clone()).await.is(201);
    let to = ["seal", "--to", bobs.text("public_key"), "--sender", "alice", "--recipient", "bob"];
    let sealed = agent_key(&server, &["sign", "alice"], &agent_key(&server, &to, &json!({"secret": 1})));
    assert_eq!(try_send(&server, &sealed).await.ok()["scope"], "end_to_end");
}

#[tokio::test]
async fn wrong_signatures_are_refused() {
    let server = TestApp::start().await;
    let key_id = signing_key(&server, "alice", "alice").await;
    let other = signing_key(&server, "mallory", "mallory").await;
    let draft = json!({"sender": "alice", "recipient": "bob", "content": {"x": 1}});
    let signed = agent_key(&server, &["sign", "alice"], &draft);
    let changed = |member: &str, value: Value| {
        let mut message = signed.clone();
        message[member] = value;
        message
    };
    for (member, value) in [
        ("recipient", json!("carol")),
        ("content", json!({"x": 2})),
        ("content", json!({"x": 1, "y": null})),
        ("message_id", json!("another")),
        ("message_type", json!("urgent")),
        ("reply_to", json!("m")),
    ] {
        is_refused(try_send(&server, &changed(member, value)).await, "not that of this message");
    }
    // Another agent's key is none of the sender's, and an encryption key signs nothing.
    is_refused(try_send(&server, &agent_key(&server, &["sign", "mallory"], &draft)).await, "no ed25519 key");
    let mut forged = signed.clone();
    forged["signature"]["key_id"] = other.into();
    is_refused(try_send(&server, &forged).await, "no ed25519 key");
    let x25519 = agent_key(&server, &["new", "x"], &Value::Null);
    server.post(&format!("{AGENTS}/alice/keys"), x25519.clone()).await.is(201);
    forged["signature"]["key_id"] = x25519["key_id"].clone();
    is_refused(try_send(&server, &forged).await, "no ed25519 key");
    let mut nameless = signed.clone();
    nameless["message_id"] = Value::Null;
    assert_eq!(locations(&try_send(&server, &nameless).await.is(422)), [json!(["body", "message_id"])]);
    let weak = json!({"kind": "ed25519", "public_key": "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="});
    let refused = server.post(&format!("{AGENTS}/alice/keys"), weak).await.is(422);
    assert_eq!(locations(&refused), [json!(["body", "public_key"])]);

    // What was signed long ago may have been kept back. A repeated request is answered as before nevertheless.
    let once = |message: &Value| {
        let request = server.request(Method::POST, &format!("{MESSAGES}/send"));
        server.answer(request.header("idempotency-key", "once").json(message))
    };
    let first = once(&signed).await.ok();
    server.clock().advance(Duration::from_secs(301));
    is_refused(try_send(&server, &signed).await, "5 minutes");
    assert_eq!(once(&signed).await.ok(), first);
    let path = format!("{AGENTS}/alice/keys/{key_id}");
    ask(&server, Some(server.key()), Method::DELETE, &path, None).await.ok();
    let shown = server.get(&format!("{MESSAGES}/id/{}", first.text("message_id"))).await.ok();
    assert_eq!(shown["signature"]["verified"], true, "it was good when it arrived");
}

#[tokio::test]
async fn revoked_key_signs_nothing_more() {
    let server = TestApp::start().await;
    let key_id = signing_key(&server, "alice", "alice").await;
    let draft = json!({"sender": "alice", "recipient": "bob", "content": {}});
    let signed = agent_key(&server, &["sign", "alice"], &draft);
    server.delete(&format!("{AGENTS}/alice/keys/{key_id}")).await.ok();
    is_refused(try_send(&server, &signed).await, "revoked");
    // A signing key is never encrypted to.
    signing_key(&server, "bob", "bob").await;
    assert_eq!(super::send(&server, "alice", "bob", json!({})).await["scope"], "at_rest");
}
