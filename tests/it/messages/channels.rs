//! Channels: who is in them, who writes, and their end.

use serde_json::{Value, json};

use super::{MESSAGES, Socket, each, inbox, send, server};
use crate::{
    harness::{ApiClient, PATIENCE},
    jobs::open,
    kit::{AGENTS, JsonDocument},
};

async fn make(server: &ApiClient, maker: &str, body: Value) -> Value {
    server.post(&format!("{AGENTS}/{maker}/channels"), body).await.is(201)
}

#[tokio::test]
async fn two_agents_share_one_direct_channel() {
    let server = server().start().await;
    let sent = send(&server, "alice", "bob", json!({"n": 1})).await;
    let back = send(&server, "bob", "alice", json!({"n": 2})).await;
    assert_eq!((&back["channel_id"], &back["seq"]), (&sent["channel_id"], &json!(2)));
    let made = make(&server, "bob", json!({"members": ["alice"]})).await;
    assert_eq!(
        (&made["channel_id"], &made["type"], &made["last_seq"]),
        (&sent["channel_id"], &json!("direct"), &json!(2))
    );
    let listed = server.get(&format!("{AGENTS}/alice/channels")).await;
    assert_eq!(listed.header("x-total-count"), "1");
    let id = made.text("channel_id");
    let past = server.get(&format!("{AGENTS}/bob/channels/{id}/messages")).await.ok();
    assert_eq!(each(past.as_array().unwrap(), "seq"), [2, 1]);
    server.get(&format!("{AGENTS}/carol/channels/{id}/messages")).await.is(404);
    let closed = server.delete(&format!("{AGENTS}/bob/channels/{id}?reason=enough")).await.ok();
    assert_eq!((&closed["status"], &closed["closed_reason"]), (&json!("closed"), &json!("enough")));
    server.delete(&format!("{AGENTS}/bob/channels/{id}")).await.is(400);
    let next = send(&server, "alice", "bob", json!({"n": 3})).await;
    assert_ne!(next["channel_id"], sent["channel_id"], "another is opened");
    assert_eq!(next["seq"], 1);
}

#[tokio::test]
async fn group_channel_is_limited_to_its_members() {
    let server = server().start().await;
    let group =
        make(&server, "alice", json!({"type": "group", "name": "team", "members": ["bob", "carol", "bob"]})).await;
    assert_eq!(group["members"], json!(["alice", "bob", "carol"]));
    let path = |agent: &str| format!("{AGENTS}/{agent}/channels/{}", group.text("channel_id"));
    let mut carol = Socket::open(&server, "carol").await;
    let sent = server.post(&format!("{}/messages", path("bob")), json!({"content": {"x": 1}})).await.ok();
    assert_eq!((&sent["recipients"], &sent["pushed"]), (&json!(2), &json!(1)));
    assert_eq!(carol.message().await["sender"], "bob");
    assert_eq!(inbox(&server, "alice", "").await.len(), 1);
    server.post(&format!("{}/messages", path("mallory")), json!({"content": {}})).await.is(404);
    // Any member brings another, its maker takes one out, and each leaves.
    let more = server.post(&format!("{}/members", path("bob")), json!({"agent_id": "dave"})).await.ok();
    assert_eq!(more["members"].as_array().unwrap().len(), 4);
    server.delete(&format!("{}/members/carol", path("bob"))).await.is(403);
    server.delete(&format!("{}/members/alice", path("alice"))).await.is(400);
    server.delete(&format!("{}/members/carol", path("alice"))).await.ok();
    server.delete(&format!("{}/members/dave", path("dave"))).await.ok();
    server.delete(&format!("{}/members/dave", path("alice"))).await.is(404);
    let sent = server.post(&format!("{}/messages", path("alice")), json!({"content": {"x": 2}})).await.ok();
    assert_eq!(sent["recipients"], 1);
    server.delete(&path("bob")).await.is(403);
    server.delete(&path("alice")).await.ok();
    let late = server.post(&format!("{}/messages", path("alice")), json!({"content": {}})).await.is(400);
    assert_eq!(late["code"], "invalid_state");
}

#[tokio::test]
async fn channel_kinds_have_their_rules() {
    let server = server().start().await;
    for (body, field) in [
        (json!({"members": []}), "members"),
        (json!({"members": ["bob", "carol"]}), "members"),
        (json!({"type": "salon"}), "type"),
        (json!({"type": "group", "name": "x".repeat(201)}), "name"),
    ] {
        let refused = server.post(&format!("{AGENTS}/alice/channels"), body).await.is(422);
        assert_eq!(refused["detail"][0]["loc"][1], field, "{refused}");
    }
    let of = async |kind: &str| {
        let made = make(&server, "alice", json!({"type": kind, "members": ["bob"]})).await;
        made.text("channel_id").to_owned()
    };
    let (news, private) = (of("broadcast").await, of("private").await);
    server.post(&format!("{AGENTS}/bob/channels/{news}/messages"), json!({"content": {}})).await.is(403);
    server.post(&format!("{AGENTS}/alice/channels/{news}/messages"), json!({"content": {}})).await.ok();
    server.post(&format!("{AGENTS}/bob/channels/{private}/messages"), json!({"content": {}})).await.ok();
    for channel in [&news, &private] {
        server.post(&format!("{AGENTS}/bob/channels/{channel}/members"), json!({"agent_id": "carol"})).await.is(403);
        server.get(&format!("{AGENTS}/carol/channels/{channel}")).await.is(404);
    }
}

#[tokio::test]
async fn idle_channel_is_closed() {
    let server = server().start().await;
    let sent = send(&server, "alice", "bob", json!({"n": 1})).await;
    let id = sent.text("channel_id");
    sqlx::query("UPDATE am_channels SET active_at = '2020-01-01 00:00:00.000000'")
        .execute(&mut open(&server.database()).await)
        .await
        .unwrap();
    let server = server.restart().await;
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let channel = server.get(&format!("{AGENTS}/bob/channels/{id}")).await.ok();
        if channel["status"] == "closed" {
            assert_eq!(channel["closed_reason"], "no message for 30 days");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{channel}");
        crate::harness::poll_interval().await;
    }
    let past = server.get(&format!("{MESSAGES}/history?channel_id={id}")).await.ok();
    assert_eq!(past.as_array().unwrap().len(), 1, "what was written stays");
}
