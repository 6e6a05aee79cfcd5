//! Callers with `Authorization: Bearer`: keys, and tokens of the coordinator.

use std::time::Duration;

use am_core::ambient::Clock;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{
    harness::{ADMIN, Answer, ApiClient, AppBuilder, CLIENT, TestApp},
    kit::{AGENTS, JsonDocument, get_as, jq, post_as, sql, waiting},
    messages::Socket,
};

const SECRET: &str = "a secret that the coordinator signs with";

/// A token with these claims beside `exp`, which is so many seconds from now.
fn signed(header: Value, mut claims: Value, seconds: i64) -> String {
    claims["exp"] = json!(Clock::system().now().timestamp() + seconds);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&header), part(&claims));
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap().chain_update(&text);
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

pub fn token(subject: &str, role: &str) -> String {
    signed(json!({"alg": "HS256", "typ": "JWT"}), json!({"sub": subject, "role": role, "type": "access"}), 3600)
}

/// A service that accepts tokens.
pub fn accepting() -> AppBuilder {
    TestApp::builder().env("JWT_SECRET", SECRET)
}

/// A request with `Authorization: Bearer`.
pub async fn bearing(server: &ApiClient, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    let mut request = server.client().request(method, server.url(path)).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    server.answer(request).await
}

async fn get(server: &ApiClient, token: &str, path: &str) -> Answer {
    bearing(server, token, Method::GET, path, None).await
}

fn workflow() -> Value {
    json!({"name": "n", "steps": {"a": jq("1")}})
}

#[tokio::test]
async fn key_is_accepted_in_either_header() {
    let server = TestApp::start().await;
    let path = format!("{AGENTS}/workflows");
    let made = bearing(&server, ADMIN, Method::POST, &path, Some(workflow())).await.ok();
    let shown = get_as(&server, ADMIN, &format!("{path}/{}", made.text("id"))).await.is(200);
    assert_eq!(shown["owner_id"], made["owner_id"], "one caller, whatever the header");
    get(&server, "wrong-key-0123456789", &path).await.is(401);
    get(&server, CLIENT, &path).await.is(403);
    let both = server.client().get(server.url(&path)).header("x-api-key", ADMIN).bearer_auth("wrong-key-0123456789");
    server.answer(both).await.is(200);
    let other_scheme = server.client().get(server.url(&path)).basic_auth("a", Some(ADMIN));
    server.answer(other_scheme).await.is(401);
    let created = crate::keys::create(&server, "ci", "admin", &[]);
    get(&server, &created, &path).await.is(200);
}

#[tokio::test]
async fn token_is_accepted_only_where_its_secret_is_configured() {
    let server = TestApp::start().await;
    let path = format!("{AGENTS}/workflows");
    get(&server, &token("alice", "admin"), &path).await.is(401);
    let server = server.restart_with(&[("JWT_SECRET", SECRET)]).await;
    get(&server, &token("alice", "admin"), &path).await.is(200);
    get(&server, &token("alice", "client"), &path).await.is(403);
    get(&server, &token("alice", "client"), "/api/v1/services/jobs").await.is(200);
    get(&server, ADMIN, &path).await.is(200);
    let (plain, rest) = (json!({"alg": "HS256"}), json!({"sub": "alice", "role": "admin"}));
    for (why, refused) in [
        ("expired", signed(plain.clone(), rest.clone(), -1)),
        ("HS256", signed(json!({"alg": "none"}), rest.clone(), 60)),
        ("HS256", signed(json!({"alg": "RS256"}), rest.clone(), 60)),
        ("role", signed(plain.clone(), json!({"sub": "alice", "role": "owner"}), 60)),
        ("sub", signed(plain.clone(), json!({"role": "admin"}), 60)),
        ("type", signed(plain.clone(), json!({"sub": "alice", "role": "admin", "type": "refresh"}), 60)),
        ("signature", token("alice", "admin").replace("eyJzdW", "eyJzdX")),
    ] {
        let answer = get(&server, &refused, &path).await.is(401);
        assert!(answer.text("detail").contains(why), "{why}: {answer}");
        assert_eq!(answer["code"], "unauthorized");
    }
}

#[tokio::test]
async fn token_owns_what_its_subject_made() {
    let server = accepting().start().await;
    let (alice, bob) = (token("alice", "admin"), token("bob", "admin"));
    let made = bearing(&server, &alice, Method::POST, &format!("{AGENTS}/workflows"), Some(workflow())).await.ok();
    let owner = made.text("owner_id");
    assert!(owner.starts_with("jwt_") && owner.len() == 24, "{owner}");
    let path = format!("{AGENTS}/workflows/{}", made.text("id"));
    // Another token of the same subject is the same caller.
    let later = signed(json!({"alg": "HS256"}), json!({"sub": "alice", "role": "admin"}), 7200);
    get(&server, &later, &path).await.is(200);
    let other = get(&server, &bob, &path).await.status.as_u16();
    assert!(matches!(other, 403 | 404), "{other}");
    let entries = get(&server, &alice, &format!("{AGENTS}/security/audit-logs?limit=50")).await.ok();
    assert!(entries.as_array().unwrap().iter().any(|entry| entry["user_id"] == owner), "{entries}");
    assert!(!entries.to_string().contains("alice"), "the subject is not shown");
    // A row of the coordinator's names the subject itself.
    sql(&server.database(), "UPDATE ai_agent_workflows SET owner_id = 'alice'").await;
    let shown = get(&server, &alice, &path).await.is(200);
    assert_ne!(shown["owner_id"], "alice");
    let other = get(&server, &bob, &path).await.status.as_u16();
    assert!(matches!(other, 403 | 404), "{other}");
    // A key of the subject's text, or of its principal's, is another caller.
    let log = server.log();
    assert!(log.contains(owner) && !log.contains(&alice), "the log names the principal");
    let refused = TestApp::builder().env("CLIENT_API_KEYS", owner).refusal();
    assert!(refused.contains("CLIENT_API_KEYS"), "{refused}");
}

#[tokio::test]
async fn token_in_a_path_is_refused_and_not_shown() {
    let server = accepting().start().await;
    let token = token("alice", "admin");
    let answer = get(&server, ADMIN, &format!("{AGENTS}/workflows/{token}")).await;
    assert!(answer.status.is_client_error() && !answer.text.contains(&token), "{}", answer.text);
    assert!(!server.log().contains(&token));
}

#[tokio::test]
async fn stream_and_socket_end_with_their_token() {
    let server = accepting().start().await;
    let claims = || json!({"sub": "alice", "role": "admin"});
    let short = signed(json!({"alg": "HS256"}), claims(), 3);
    let made = json!({"name": "n", "steps": {"a": waiting()}});
    let made = bearing(&server, &short, Method::POST, &format!("{AGENTS}/workflows"), Some(made)).await.ok();
    let run = format!("{AGENTS}/workflows/{}/execute", made.text("id"));
    let run = bearing(&server, &short, Method::POST, &run, Some(json!({}))).await.ok();
    let mut socket = Socket::connect(&server, "amy", &short).await;
    assert_eq!(socket.next().await["type"], "connection_established");
    // The answer is whole when the stream has ended.
    let path = format!("{AGENTS}/executions/{}/events", run.text("id"));
    let streamed = get(&server, &short, &path);
    let streamed = tokio::time::timeout(crate::harness::PATIENCE, streamed).await.expect("the stream goes on");
    assert!(streamed.status.is_success() || streamed.status == 401, "{}", streamed.text);
    assert_eq!(socket.closed().await.map(|frame| u16::from(frame.code)), Some(1008));
    let mut late = Socket::connect(&server, "amy", &signed(json!({"alg": "HS256"}), claims(), -1)).await;
    assert_eq!(late.closed().await.map(|frame| u16::from(frame.code)), Some(1008));
}

#[tokio::test]
async fn rate_limit_and_idempotency_are_by_the_subject() {
    let server = accepting().env("RATE_LIMIT_REQUESTS", 4).env("RATE_LIMIT_WINDOW_SECONDS", 3600).start().await;
    let (alice, again) =
        (token("alice", "admin"), signed(json!({"alg": "HS256"}), json!({"sub": "alice", "role": "admin"}), 99));
    let create = async |token: &str, key: &str| {
        let request = server.client().post(server.url(&format!("{AGENTS}/workflows"))).bearer_auth(token);
        server.answer(request.header("idempotency-key", key).json(&workflow())).await
    };
    let first = create(&alice, "k1").await.ok();
    assert_eq!(create(&again, "k1").await.ok()["id"], first["id"], "one subject, one key");
    assert_ne!(create(&token("bob", "admin"), "k1").await.ok()["id"], first["id"]);
    create(&alice, "k2").await.ok();
    create(&again, "k3").await.ok();
    create(&alice, "k4").await.is(429);
    create(&token("bob", "admin"), "k2").await.ok();
    post_as(&server, ADMIN, &format!("{AGENTS}/workflows"), workflow()).await.ok();
}

#[tokio::test]
async fn weak_secrets_refuse_the_start_by_name() {
    for secret in ["tiny-secret", "change-me-in-production-and-make-it-long", "$JWT_SECRET_OF_THE_COORDINATOR_HERE"] {
        let refused = TestApp::builder().env("JWT_SECRET", secret).refusal();
        assert!(refused.contains("JWT_SECRET") && !refused.contains(secret), "{refused}");
    }
    let server = TestApp::builder().env("JWT_SECRET", "").start().await;
    assert!(tokio::time::timeout(Duration::from_secs(30), get(&server, ADMIN, "/health")).await.is_ok());
}
