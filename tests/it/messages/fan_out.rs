//! One message to many: what is written of it, for how long nobody else writes meanwhile, and how its copies are opened.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use am_communication::encryption::{
    AgentPrivateKey, ContentEnvelope, EnvelopeBinding, HPKE_SHARED_SUITE, HYBRID_SHARED_SUITE, SharedEnvelope,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};

use super::{MESSAGES, Socket, inbox, server};
use crate::{
    harness::TestApp,
    jobs::open,
    kit::{AGENTS, JsonDocument},
};

/// Subscribers with keys of their own.
const SUBSCRIBERS: usize = 400;

/// Longest time for which the database could not be written to until `done`.
async fn longest_lock(path: std::path::PathBuf, done: Arc<AtomicBool>) -> Duration {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).busy_timeout(Duration::ZERO);
    let mut conn = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let (mut longest, mut since) = (Duration::ZERO, None::<Instant>);
    while !done.load(Ordering::Acquire) {
        match conn.execute("BEGIN IMMEDIATE; ROLLBACK").await {
            Ok(_) => since = None,
            Err(_) => longest = longest.max(since.get_or_insert_with(Instant::now).elapsed()),
        }
        tokio::task::yield_now().await;
    }
    longest
}

async fn subscribe(server: &TestApp, count: usize) -> Vec<AgentPrivateKey> {
    let mut keys = Vec::new();
    for at in 0..count {
        let key = AgentPrivateKey::generate().unwrap();
        let public = key.public_key().unwrap();
        let body = json!({"kind": "x25519", "public_key": public.text()});
        server.post(&format!("{AGENTS}/agent-{at}/keys"), body).await.is(201);
        let body = json!({"agent_id": format!("agent-{at}"), "topic": "t"});
        server.post(&format!("{MESSAGES}/subscribe"), body).await.ok();
        keys.push(key);
    }
    keys
}

/// What `work` makes of the data that a message is bound to.
fn bound<T>(message: &Value, work: impl FnOnce(&EnvelopeBinding<'_>) -> T) -> T {
    let [message_id, sender, recipient] = ["message_id", "sender", "recipient"].map(|name| message.text(name));
    let (message_id, sender, recipient) = (&message_id.into(), &sender.into(), &recipient.into());
    work(&EnvelopeBinding { message_id, sender, recipient })
}

/// The content of a copy whose ciphertext others share, if this key opens it.
fn opened_shared(key: &AgentPrivateKey, message: &Value) -> Option<Value> {
    let envelope = SharedEnvelope::from_content(&message["content"]).unwrap().unwrap();
    bound(message, |bound| envelope.open(key, bound)).ok()
}

async fn size(server: &TestApp) -> i64 {
    let pages = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    sqlx::query_scalar(pages).fetch_one(&mut open(&server.database()).await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_message_to_many_is_stored_once() {
    let server = server().start().await;
    let keys = subscribe(&server, SUBSCRIBERS).await;
    let body = |text: &str| json!({"sender": "alice", "topic": "t", "content": {"text": text}});
    server.post(&format!("{MESSAGES}/broadcast"), body("short")).await.ok();
    let before = size(&server).await;
    let done = Arc::new(AtomicBool::new(false));
    let lock = tokio::spawn(longest_lock(server.database(), done.clone()));
    let text = "x".repeat(90_000);
    let started = Instant::now();
    let sent = server.post(&format!("{MESSAGES}/broadcast"), body(&text)).await.ok();
    let took = started.elapsed();
    done.store(true, Ordering::Release);
    let locked = lock.await.unwrap();
    let written = size(&server).await - before;
    println!("{SUBSCRIBERS} subscribers: {written} bytes written, locked for {locked:?}, answered after {took:?}");
    assert_eq!(sent["recipients"], SUBSCRIBERS);
    // The content once in base64, and little for each copy.
    let most = text.len() * 3 / 2 + SUBSCRIBERS * 1800;
    assert!(written < most as i64, "{written} bytes are over {most}");
    for at in [0, 199, SUBSCRIBERS - 1] {
        let found = inbox(&server, &format!("agent-{at}"), "").await;
        let (long, short) = (&found[0], &found[1]);
        assert_eq!((&long["scope"], &long["encryption"]), (&json!("sealed_on_arrival"), &json!("hpke")));
        assert_eq!(long["content"]["hpke"]["suite"], HPKE_SHARED_SUITE);
        assert_eq!(opened_shared(&keys[at], long), Some(json!({"text": text})));
        assert_eq!(opened_shared(&keys[(at + 1) % SUBSCRIBERS], long), None, "it is for its recipient");
        // Short content has an envelope of its own, as ever.
        let envelope = ContentEnvelope::from_content(&short["content"]).unwrap().unwrap();
        assert_eq!(bound(short, |bound| keys[at].open(&envelope, bound)).unwrap(), json!({"text": "short"}));
    }
}

#[tokio::test]
async fn copies_for_all_kinds_of_recipients_share_their_content() {
    let server = server().start().await;
    let rsa = crate::kit::json_fixture("envelopes/envelopes.json");
    server.post(&format!("{AGENTS}/old/keys"), json!({"kind": "rsa", "public_key": rsa["rsa"]["pem"]})).await.is(201);
    let key = AgentPrivateKey::generate().unwrap();
    let public = json!({"kind": "x25519", "public_key": key.public_key().unwrap().text()});
    server.post(&format!("{AGENTS}/keyed/keys"), public).await.is(201);
    let members = json!({"type": "group", "members": ["keyed", "old", "plain"]});
    let group = server.post(&format!("{AGENTS}/alice/channels"), members).await.is(201);
    let path = format!("{AGENTS}/alice/channels/{}/messages", group.text("channel_id"));
    let mut sockets = Vec::new();
    for agent in ["keyed", "old", "plain"] {
        sockets.push(Socket::open(&server, agent).await);
    }
    let content = json!({"text": "tomatoes ".repeat(500)});
    server.post(&path, json!({"content": content})).await.ok();
    let mut got = Vec::new();
    for (agent, socket) in ["keyed", "old", "plain"].into_iter().zip(&mut sockets) {
        let (frame, stored) = (socket.message().await, inbox(&server, agent, "").await.remove(0));
        assert_eq!((&frame["content"], &frame["key_id"]), (&stored["content"], &stored["key_id"]), "{agent}");
        got.push(stored);
    }
    assert_eq!(opened_shared(&key, &got[0]), Some(content.clone()));
    assert_eq!(got[1]["content"]["hybrid"]["suite"], HYBRID_SHARED_SUITE);
    assert_eq!((&got[2]["scope"], &got[2]["content"]), (&json!("at_rest"), &content));
    assert_eq!(got[0]["content"]["hpke"]["ciphertext"], got[1]["content"]["hybrid"]["ciphertext"]);
    let mut conn = open(&server.database()).await;
    let stored: Vec<String> =
        sqlx::query_scalar("SELECT content FROM am_message_contents").fetch_all(&mut conn).await.unwrap();
    assert!(stored.len() == 1 && !stored[0].contains("tomatoes"));
    // A copy does not open with another's key to the content, nor when the content is changed.
    let read = async || {
        let id = got[2].text("message_id");
        server.get(&format!("{MESSAGES}/id/{id}")).await.ok()
    };
    server.post(&path, json!({"content": {"text": "cucumbers ".repeat(500)}})).await.ok();
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT id FROM am_message_contents ORDER BY rowid").fetch_all(&mut conn).await.unwrap();
    let set = async |first: Option<&str>, second: Option<&str>| {
        let set = sqlx::query("UPDATE am_messages SET content_id = CASE WHEN id <= 3 THEN $1 ELSE $2 END");
        set.bind(first).bind(second).execute(&mut open(&server.database()).await).await.unwrap();
    };
    let (first, second) = (Some(ids[0].as_str()), Some(ids[1].as_str()));
    for (one, two) in [(second, first), (Some("content_0"), second), (None, None)] {
        assert_eq!(read().await["content"], content);
        set(one, two).await;
        let changed = read().await;
        assert!(changed["content"].is_null() && changed.text("failure").contains("altered"), "{changed}");
        set(first, second).await;
    }
}

#[tokio::test]
async fn unencrypted_copies_share_their_content_too() {
    let server = server().env("MESSAGES_ALLOW_PLAINTEXT", true).start().await;
    let group = json!({"type": "group", "members": ["bob", "carol"]});
    let group = server.post(&format!("{AGENTS}/alice/channels"), group).await.is(201);
    let path = format!("{AGENTS}/alice/channels/{}/messages", group.text("channel_id"));
    let content = json!({"text": "x".repeat(3000)});
    let sent = server.post(&path, json!({"content": content, "encryption": "none"})).await.ok();
    assert_eq!((&sent["encrypted"], &sent["recipients"]), (&json!(false), &json!(2)));
    for agent in ["bob", "carol"] {
        let got = inbox(&server, agent, "").await.remove(0);
        assert_eq!((&got["content"], &got["scope"]), (&content, &json!("none")));
    }
}
