//! Keys that are bound to an agent: what they may do, for whom, and what other keys may no more.

use std::time::Instant;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agents::{
        plans::{PLANS, execute, has, plan},
        registry::{REGISTRY, register},
    },
    harness::{ADMIN, Answer, ApiClient, PATIENCE, TestApp},
    keys::{create, revoke},
    kit::{AGENTS, JsonDocument, ask, filled, get_as, operations, post_as},
    marketplace::MARKET,
    messages::{MESSAGES, Socket, each, inbox, send},
};

/// What a key that is bound to an agent may call.
const ALLOWED: [(&str, &str); 26] = [
    ("GET", "/messages/history"),
    ("GET", "/messages/id/{message_id}"),
    ("DELETE", "/messages/id/{message_id}"),
    ("POST", "/messages/id/{message_id}/read"),
    ("GET", "/messages/inbox"),
    ("POST", "/messages/broadcast"),
    ("POST", "/messages/send"),
    ("GET", "/messages/stream"),
    ("POST", "/messages/subscribe"),
    ("GET", "/messages/subscriptions/{agent_id}"),
    ("POST", "/messages/unsubscribe"),
    ("GET", "/{agent_id}/channels"),
    ("GET", "/{agent_id}/channels/{channel_id}"),
    ("GET", "/{agent_id}/channels/{channel_id}/messages"),
    ("POST", "/{agent_id}/channels/{channel_id}/messages"),
    ("GET", "/registry/{agent_id}/assignments"),
    ("POST", "/registry/{agent_id}/heartbeat"),
    ("POST", "/{agent_id}/heartbeat"),
    ("PUT", "/{agent_id}/status"),
    ("POST", "/registry/{agent_id}/offline"),
    ("POST", "/registry/{agent_id}/online"),
    ("GET", "/plans/assignments/{assignment_id}"),
    ("POST", "/plans/assignments/{assignment_id}/accept"),
    ("POST", "/plans/assignments/{assignment_id}/fail"),
    ("POST", "/plans/assignments/{assignment_id}/progress"),
    ("POST", "/plans/assignments/{assignment_id}/result"),
];

/// A key that is bound to `agent`, known to the server.
pub async fn key_of(server: &ApiClient, agent: &str) -> String {
    let key = create(server, &format!("{agent}-key"), "agent", &["--agent", agent]);
    // The first use makes the server look for it.
    get_as(server, &key, &format!("{MESSAGES}/inbox?agent_id={agent}")).await.ok();
    key
}

fn is_refused(answer: Answer, code: &str, member: &str) -> Value {
    let body = answer.is(403);
    assert_eq!(body["code"], code, "{body}");
    assert!(body.text("detail").contains(member), "{member} is not named: {body}");
    body
}

#[tokio::test]
async fn agent_key_calls_the_listed_operations_and_no_others() {
    let server = TestApp::start().await;
    let key = key_of(&server, "x").await;
    let document = server.get("/openapi.json").await.ok();
    let mut met = 0;
    for (method, template) in operations(&document) {
        let operation = &document["paths"][&template][method.as_str().to_lowercase()];
        let Some(roles) = operation["security"][0]["ApiKey"].as_array() else { continue };
        let listed = ALLOWED.iter().any(|(verb, path)| method == *verb && template == format!("{AGENTS}{path}"));
        met += usize::from(listed);
        // An agent trades in its own name.
        let allowed = listed || template.starts_with(MARKET);
        assert_eq!(roles.contains(&json!("agent")), allowed, "{method} {template} is documented otherwise");
        let body = (method != Method::GET).then(|| json!({}));
        let answer = ask(&server, Some(&key), method.clone(), &filled(&template, "x"), body).await;
        let refused = (answer.status.as_u16(), &answer.body["code"]) == (403, &json!("insufficient_role"));
        assert_eq!(refused, !allowed, "{method} {template}: {} {}", answer.status, answer.text);
        assert!(!answer.status.is_server_error(), "{method} {template}: {}", answer.text);
    }
    assert_eq!(met, ALLOWED.len(), "operations are no longer there");
}

#[tokio::test]
async fn agent_key_acts_for_its_agent_only() {
    let server = TestApp::start().await;
    let bob = key_of(&server, "bob").await;
    let letter = json!({"sender": "alice", "recipient": "bob", "content": {"x": 1}});
    let body = |change: &str| {
        let mut body = letter.clone();
        body["sender"] = change.into();
        body["recipient"] = "carol".into();
        body
    };
    let path = |rest: &str| format!("{MESSAGES}/{rest}");
    is_refused(post_as(&server, &bob, &path("send"), body("alice")).await, "forbidden", "sender");
    is_refused(post_as(&server, &bob, &path("broadcast"), body("alice")).await, "forbidden", "sender");
    for (rest, member) in [
        ("inbox?agent_id=alice", "agent_id"),
        ("history", "sender_id"),
        ("history?sender_id=alice", "receiver_id"),
        ("history?sender_id=alice&receiver_id=carol", "receiver_id"),
        ("subscriptions/alice", "agent_id"),
    ] {
        is_refused(get_as(&server, &bob, &path(rest)).await, "forbidden", member);
    }
    for rest in ["subscribe", "unsubscribe"] {
        let topic = json!({"agent_id": "alice", "topic": "t"});
        is_refused(post_as(&server, &bob, &path(rest), topic).await, "forbidden", "agent_id");
    }
    for rest in ["channels", "channels/c", "channels/c/messages"] {
        is_refused(get_as(&server, &bob, &format!("{AGENTS}/alice/{rest}")).await, "forbidden", "agent_id");
    }
    for rest in ["heartbeat", "offline", "online"] {
        is_refused(post_as(&server, &bob, &format!("{REGISTRY}/a/{rest}"), json!({})).await, "forbidden", "agent_id");
    }
    is_refused(get_as(&server, &bob, &format!("{REGISTRY}/a/assignments")).await, "forbidden", "agent_id");

    // Its own.
    let own = post_as(&server, &bob, &path("send"), body("bob")).await.ok();
    let received = send(&server, "alice", "bob", json!({"x": 2})).await;
    let strange = send(&server, "alice", "carol", json!({"x": 3})).await;
    let found = get_as(&server, &bob, &path("inbox?agent_id=bob")).await.ok();
    assert_eq!(each(found["messages"].as_array().unwrap(), "message_id"), [&received["message_id"]]);
    assert_eq!(get_as(&server, &bob, &path("history?sender_id=bob")).await.ok()[0]["message_id"], own["message_id"]);
    get_as(&server, &bob, &path("history?receiver_id=bob&sender_id=alice")).await.ok();
    let id = |message: &Value, rest: &str| path(&format!("id/{}{rest}", message.text("message_id")));
    get_as(&server, &bob, &id(&own, "")).await.ok();
    get_as(&server, &bob, &id(&received, "")).await.ok();
    // Others' messages are answered like messages that never were.
    let mut other = get_as(&server, &bob, &id(&strange, "")).await.is(404);
    let mut never = get_as(&server, &bob, &path("id/msg_none")).await.is(404);
    for body in [&mut other, &mut never] {
        body.as_object_mut().unwrap().remove("request_id");
    }
    assert_eq!(other, never);
    post_as(&server, &bob, &id(&strange, "/read"), json!({})).await.is(404);
    is_refused(
        post_as(&server, &bob, &id(&received, "/read"), json!({"agent_id": "carol"})).await,
        "forbidden",
        "agent_id",
    );
    post_as(&server, &bob, &id(&received, "/read"), json!({})).await.ok();
    post_as(&server, &bob, &path("subscribe"), json!({"agent_id": "bob", "topic": "t"})).await.ok();
    let broadcast = json!({"sender": "bob", "content": {"x": 4}, "topic": "t"});
    post_as(&server, &bob, &path("broadcast"), broadcast).await.ok();
    let channel = own.text("channel_id");
    let channel = format!("{AGENTS}/bob/channels/{channel}/messages");
    post_as(&server, &bob, &channel, json!({"content": {}})).await.ok();
    get_as(&server, &bob, &channel).await.ok();
}

#[tokio::test]
async fn other_keys_do_not_send_in_the_name_of_an_agent_with_a_key() {
    let server = TestApp::start().await;
    let mut admins = Socket::open(&server, "bob").await;
    admins.say("alice", json!({"x": 0})).await;
    let key = key_of(&server, "bob").await;
    let letter = json!({"sender": "bob", "recipient": "alice", "content": {"x": 1}});
    is_refused(post_as(&server, ADMIN, &format!("{MESSAGES}/send"), letter.clone()).await, "sender_has_key", "sender");
    is_refused(
        post_as(&server, ADMIN, &format!("{MESSAGES}/broadcast"), json!({"sender": "bob", "content": {}})).await,
        "sender_has_key",
        "sender",
    );
    let mine = post_as(&server, &key, &format!("{MESSAGES}/send"), letter.clone()).await.ok();
    let written = format!("{AGENTS}/bob/channels/{}/messages", mine.text("channel_id"));
    is_refused(post_as(&server, ADMIN, &written, json!({"content": {}})).await, "sender_has_key", "agent_id");
    // A socket that an admin opened before still receives, and sends no more.
    let refused = admins.say("alice", json!({"x": 2})).await;
    assert_eq!((&refused["status"], &refused["code"]), (&json!("error"), &json!("sender_has_key")), "{refused}");
    send(&server, "alice", "bob", json!({"x": 3})).await;
    assert_eq!(admins.message().await["content"], json!({"x": 3}));
    assert_eq!(inbox(&server, "alice", "").await.len(), 2, "admins still read");

    let mut own = Socket::connect(&server, "bob", &key).await;
    assert_eq!(own.next().await["type"], "connection_established");
    let mut wrong = Socket::connect(&server, "alice", &key).await;
    let closed = wrong.closed().await.unwrap();
    assert_eq!(u16::from(closed.code), 1008);
    assert!(closed.reason.contains("agent_id"), "{closed}");
    loop {
        // What waits for bob comes as well.
        own.send(json!({"type": "message", "payload": {"content": {"x": 5}, "recipient_id": "alice"}})).await;
        let answer = own.next().await;
        if answer["type"] == "handler_acknowledgment" {
            assert_eq!(answer["status"], "success", "{answer}");
            break;
        }
    }

    // Without a valid key of its own the agent is spoken for by admins again.
    revoke(&server, "bob-key");
    let began = Instant::now();
    while post_as(&server, ADMIN, &format!("{MESSAGES}/send"), letter.clone()).await.status != 200 {
        assert!(began.elapsed() < PATIENCE, "its key still counts");
        crate::harness::poll_interval().await;
    }
    let frame = own.closed().await.expect("the socket is closed with the key");
    assert_eq!(u16::from(frame.code), 1008);
}

#[tokio::test]
async fn agent_key_works_off_its_assignments_and_no_others() {
    let server = TestApp::start().await;
    let (worker, other) = (key_of(&server, "worker").await, key_of(&server, "other").await);
    post_as(&server, &worker, &format!("{REGISTRY}/worker/heartbeat"), json!({})).await.is(404);
    register(&server, "worker", json!({})).await;
    post_as(&server, &worker, &format!("{REGISTRY}/worker/heartbeat"), json!({"load": 0.1})).await.ok();
    post_as(&server, &worker, &format!("{REGISTRY}/worker/offline"), json!({})).await.ok();
    post_as(&server, &worker, &format!("{REGISTRY}/worker/online"), json!({})).await.ok();
    let made = plan(&server, json!({"sub_tasks": [{"key": "s", "task_type": "text_processing"}]})).await;
    execute(&server, &made).await;
    has(&server, "worker", 1).await;
    let listed = get_as(&server, &worker, &format!("{REGISTRY}/worker/assignments")).await.ok();
    let path = format!("{PLANS}/assignments/{}", listed[0].text("assignment_id"));
    get_as(&server, &worker, &path).await.ok();
    get_as(&server, &other, &path).await.is(404);
    let attempt = listed[0]["attempt"].clone();
    for (what, more) in [
        ("accept", json!({})),
        ("progress", json!({"progress": 50})),
        ("fail", json!({"error": "x"})),
        ("result", json!({"result": 1})),
    ] {
        let mut body = json!({"attempt": attempt});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post_as(&server, &other, &format!("{path}/{what}"), body.clone()).await.is(404);
        if what != "fail" {
            post_as(&server, &worker, &format!("{path}/{what}"), body).await.ok();
        }
    }
}
