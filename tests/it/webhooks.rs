//! Webhooks from outside: a real receiver that checks each signature with the standard's own library.

mod own;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::{sync::watch, time::timeout};

use crate::harness::{ApiClient, AppBuilder, Builder, PATIENCE, Server, TestApp};
use crate::kit::JsonDocument;

const WEBHOOKS: &str = "/api/v1/agents/security/webhooks";
pub const SECRET: &str = "whsec_dGhlIHNlY3JldCBvZiB0aGUgd2ViaG9vayB0ZXN0cw==";
const NEXT_SECRET: &str = "whsec_YW5vdGhlciBzZWNyZXQgb2YgdGhlIHdlYmhvb2sgdGVzdA==";
/// What of a secret must be nowhere.
const INSIDE: &str = "dGhlIHNlY3JldCBvZiB0aGUgd2ViaG9vay";

/// How a call is answered.
#[derive(Clone, Copy)]
pub enum Say {
    Status(u16),
    /// Never.
    Nothing,
    /// 200, and a body without end.
    Endless,
}

struct Call {
    headers: HeaderMap,
    body: Bytes,
}

impl Call {
    fn id(&self) -> &str {
        self.headers["webhook-id"].to_str().unwrap()
    }
}

#[derive(Default)]
struct Book {
    calls: Mutex<Vec<Call>>,
    script: Mutex<VecDeque<Say>>,
    count: watch::Sender<usize>,
}

/// An endpoint on a thread of its own. It answers by its script, and 200 when that is at its end.
pub struct Receiver {
    port: u16,
    book: Arc<Book>,
}

/// An interval in which no head is signed while a test runs: each would be a delivery too.
const NO_HEAD_SECONDS: u32 = 3600;

impl Receiver {
    pub fn start(script: impl IntoIterator<Item = Say>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let book = Arc::new(Book { script: Mutex::new(script.into_iter().collect()), ..Book::default() });
        let router = axum::Router::new().fallback(answer).with_state(book.clone());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), router).await.unwrap();
            });
        });
        Self { port, book }
    }

    /// The configuration of an endpoint `ops` that leads here, with these members besides.
    fn config(&self, more: &Value) -> String {
        let mut endpoint = json!({
            "url": format!("http://127.0.0.1:{}/hook?token=t0ken", self.port), "secret": SECRET, "allow_private": true,
        });
        endpoint.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"ops": endpoint}).to_string()
    }

    /// An application that calls it.
    pub fn app(&self, more: &Value) -> AppBuilder {
        TestApp::builder().env("WEBHOOKS", self.config(more)).env("AUDIT_SEAL_SECONDS", NO_HEAD_SECONDS)
    }

    /// A server in a process of its own that calls it.
    pub fn server(&self, more: &Value) -> Builder {
        Server::builder().env("WEBHOOKS", self.config(more)).env("AUDIT_SEAL_SECONDS", NO_HEAD_SECONDS)
    }

    fn calls(&self) -> usize {
        self.book.calls.lock().unwrap().len()
    }

    pub async fn called(&self, times: usize) {
        let mut count = self.book.count.subscribe();
        let came = timeout(PATIENCE, count.wait_for(|count| *count >= times)).await;
        assert!(came.is_ok(), "{times} calls were expected, {} came", self.calls());
    }

    /// The bodies of the calls in order.
    pub fn bodies(&self) -> Vec<Value> {
        let calls = self.book.calls.lock().unwrap();
        calls.iter().map(|call| serde_json::from_slice(&call.body).unwrap()).collect()
    }

    /// The ids of the calls in order; each is checked to be signed, with either secret if there are two.
    pub fn ids(&self, secrets: &[&str]) -> Vec<String> {
        let calls = self.book.calls.lock().unwrap();
        for call in calls.iter() {
            for secret in secrets {
                Webhook::new(secret).unwrap().verify(&call.body, &call.headers).unwrap();
            }
            let forged = [&call.body[..], b" "].concat();
            assert!(Webhook::new(SECRET).unwrap().verify(&forged, &call.headers).is_err());
        }
        calls.iter().map(|call| call.id().to_owned()).collect()
    }
}

async fn answer(State(book): State<Arc<Book>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let say = book.script.lock().unwrap().pop_front().unwrap_or(Say::Status(200));
    book.calls.lock().unwrap().push(Call { headers: parts.headers, body });
    book.count.send_modify(|count| *count += 1);
    match say {
        Say::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap();
            (status, [(header::LOCATION, "/elsewhere")], "what it says").into_response()
        }
        Say::Nothing => std::future::pending().await,
        Say::Endless => {
            let more = Ok::<_, std::convert::Infallible>(Bytes::from_static(&[b'x'; 4096]));
            Body::from_stream(stream::repeat_with(move || more.clone())).into_response()
        }
    }
}

/// Owe `ops` a test event; its delivery.
async fn test_event(server: &ApiClient) -> Value {
    server.post(&format!("{WEBHOOKS}/ops/test"), json!({})).await.is(201)
}

/// The delivery of this id, once `done` holds of it.
async fn until(server: &ApiClient, id: &Value, done: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let delivery = server.get(&format!("{WEBHOOKS}/deliveries/{}", id.as_str().unwrap())).await.ok();
        if done(&delivery) {
            return delivery;
        }
        assert!(Instant::now() < deadline, "it never came: {delivery}");
        crate::harness::poll_interval().await;
    }
}

async fn ended(server: &ApiClient, id: &Value) -> Value {
    until(server, id, |delivery| delivery["state"] != "pending").await
}

#[tokio::test]
async fn audit_heads_and_alerts_are_sent_by_webhook() {
    let receiver = Receiver::start([]);
    let events = json!({"events": ["audit.head", "security.alert"]});
    let server = receiver.app(&events).env("AUDIT_SEAL_SECONDS", 1).start().await;
    let denied = json!({"event_type": "security_violation", "execution_id": "exec_1"});
    let denied = server.post("/api/v1/agents/security/audit-logs", denied).await.is(201);
    let sent = |kind: &str| {
        let calls = receiver.book.calls.lock().unwrap();
        let bodies = calls.iter().map(|call| serde_json::from_slice::<Value>(&call.body).unwrap());
        bodies.filter(|body| body["type"] == kind).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + PATIENCE;
    while sent("audit.head").is_empty() || sent("security.alert").is_empty() {
        assert!(Instant::now() < deadline, "they never came");
        crate::harness::poll_interval().await;
    }
    let alert = sent("security.alert").remove(0);
    assert_eq!((&alert["data"]["id"], &alert["data"]["risk_score"]), (&denied["id"], &json!(100)));
    let head = sent("audit.head").pop().unwrap();
    let kept = server.get("/api/v1/agents/security/audit-tree/heads").await.ok();
    let same = |kept: &&Value| kept["checkpoint"] == head["data"]["checkpoint"];
    assert!(kept.as_array().unwrap().iter().find(same).is_some(), "{head} is none of {kept}");
    let ids = receiver.ids(&[SECRET]);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "each is sent once");
}

#[tokio::test]
async fn webhook_event_is_signed_delivered_and_audited() {
    let receiver = Receiver::start([]);
    let server = receiver.server(&json!({"secret": [SECRET, NEXT_SECRET], "events": ["x"]})).start().await;
    let made = test_event(&server).await;
    assert_eq!((&made["state"], &made["kind"], &made["endpoint"]), (&json!("pending"), &json!("test"), &json!("ops")));
    let delivery = ended(&server, &made["id"]).await;
    assert_eq!(
        (&delivery["state"], &delivery["attempts"], &delivery["last_status"]),
        (&json!("delivered"), &json!(1), &json!(200))
    );
    assert!(delivery["delivered_at"].is_string() && delivery["next_attempt_at"].is_null(), "{delivery}");
    assert_eq!(receiver.ids(&[SECRET, NEXT_SECRET]), [made.text("id")]);
    {
        let calls = receiver.book.calls.lock().unwrap();
        let sent: Value = serde_json::from_slice(&calls[0].body).unwrap();
        assert_eq!((&sent, &sent["type"]), (&delivery["payload"], &json!("test")));
        assert_eq!((&sent["timestamp"], &sent["data"]["endpoint"]), (&made["created_at"], &json!("ops")));
        assert_eq!(calls[0].headers["content-type"], "application/json");
    }
    let endpoints = server.get(WEBHOOKS).await;
    let expected = json!([{
        "name": "ops", "url": format!("http://127.0.0.1:{}/hook", receiver.port), "events": ["x"], "allow_private": true,
        "owner_id": null, "scope": null, "created_at": null,
        "timeout_seconds": 15.0, "active": true, "disabled_at": null, "failures": 0, "paused_until": null,
        "last_sequence": 1, "pending": 0, "delivered": 1, "dead": 0,
    }]);
    assert_eq!(endpoints.body, expected);
    let entries = server.get("/api/v1/agents/security/audit-logs").await;
    assert_eq!(entries.status, 200);
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("webhook_attempts_total{result=\"delivered\"} 1"), "{metrics}");
    server.logged("webhook delivered").await;
    for shown in [endpoints.text, entries.text, metrics, server.log(), made.to_string(), delivery.to_string()] {
        assert!(!shown.contains(INSIDE) && !shown.contains("t0ken"), "{shown}");
    }
    let audited: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM agent_audit_logs WHERE event_data ->> 'resource' = 'webhook' AND event_data ->> 'action' = 'tested'",
    )
    .fetch_one(&mut crate::jobs::open(&server.database()).await)
    .await
    .unwrap();
    assert_eq!(audited, 1);
    for file in std::fs::read_dir(server.dir()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(INSIDE.len()).any(|window| window == INSIDE.as_bytes()));
    }
    // The same key is the same event.
    let keyed =
        || server.request(reqwest::Method::POST, &format!("{WEBHOOKS}/ops/test")).header("idempotency-key", "k");
    let first = crate::harness::Answer::of(keyed()).await.is(201);
    assert_eq!(crate::harness::Answer::of(keyed()).await.is(201)["id"], first["id"]);
    server.post(&format!("{WEBHOOKS}/nobody/test"), json!({})).await.is(404);
    server.get(&format!("{WEBHOOKS}/deliveries/msg_x")).await.is(404);
    server.post(&format!("{WEBHOOKS}/deliveries/msg_x/redeliver"), json!({})).await.is(404);
    server.get(&format!("{WEBHOOKS}/deliveries?state=lost")).await.is(422);
}

#[tokio::test]
async fn failed_webhook_is_retried_with_the_same_id() {
    let receiver = Receiver::start([Say::Status(500), Say::Nothing, Say::Status(307), Say::Endless]);
    let server = receiver.app(&json!({"timeout_seconds": 0.2})).env("WEBHOOK_RETRY_SCALE", "0.0001").start().await;
    let made = test_event(&server).await;
    let delivery = ended(&server, &made["id"]).await;
    assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("delivered"), &json!(4)), "{delivery}");
    assert_eq!(receiver.ids(&[SECRET]), vec![made.text("id"); 4]);
    let log = server.log();
    for part in ["it answered 500", "timed out", "it answered 307; redirects are not followed"] {
        assert!(log.contains(part), "{part} in {log}");
    }
    let metrics = server.get("/metrics").await.text;
    assert!(metrics.contains("webhook_attempts_total{result=\"failed\"} 3"), "{metrics}");
}

#[tokio::test]
async fn dead_webhook_delivery_can_be_redelivered() {
    let receiver = Receiver::start([Say::Status(503); 10]);
    let server = receiver.app(&json!({})).env("WEBHOOK_RETRY_SCALE", "0").start().await;
    let made = test_event(&server).await;
    let dead = ended(&server, &made["id"]).await;
    assert_eq!(
        (&dead["state"], &dead["attempts"], &dead["last_status"], &dead["last_error"]),
        (&json!("dead"), &json!(10), &json!(503), &json!("it answered 503"))
    );
    let good = test_event(&server).await;
    ended(&server, &good["id"]).await;
    let of = async |query: &str| server.get(&format!("{WEBHOOKS}/deliveries?{query}")).await;
    let found = of("state=dead&endpoint=ops&kind=test").await;
    assert_eq!((found.body[0]["id"].clone(), found.header("x-total-count")), (made["id"].clone(), "1"));
    let first = of("limit=1").await;
    assert_eq!((first.body[0]["id"].clone(), first.header("x-total-count")), (good["id"].clone(), "2"));
    assert!(first.body[0].get("payload").is_none() && first.header("link").contains("rel=\"next\""));
    assert_eq!(of("endpoint=other").await.ok(), json!([]));
    let path = format!("{WEBHOOKS}/deliveries/{}/redeliver", made.text("id"));
    let again = server.post(&path, json!({})).await.is(200);
    assert_eq!((&again["state"], &again["attempts"]), (&json!("pending"), &json!(0)));
    let taken = ended(&server, &made["id"]).await;
    assert_eq!((&taken["state"], &taken["attempts"]), (&json!("delivered"), &json!(1)));
    assert_eq!(receiver.ids(&[SECRET]).iter().filter(|id| made["id"] == id.as_str()).count(), 11);
    let endpoints = server.get(WEBHOOKS).await.ok();
    assert_eq!((&endpoints[0]["delivered"], &endpoints[0]["dead"]), (&json!(2), &json!(0)));
}

#[tokio::test]
async fn webhook_endpoint_answering_410_is_disabled_until_an_operator_tests_it() {
    let receiver = Receiver::start([Say::Status(410)]);
    let builder = receiver.app(&json!({"events": ["security.alert"]}));
    let server = builder.env("AUDIT_SEAL_SECONDS", 1).start().await;
    let made = test_event(&server).await;
    let dead = ended(&server, &made["id"]).await;
    assert_eq!((&dead["state"], &dead["attempts"], &dead["last_status"]), (&json!("dead"), &json!(1), &json!(410)));
    let shown = server.get(WEBHOOKS).await.ok();
    assert!(shown[0]["active"] == false && shown[0]["disabled_at"].is_string(), "{shown}");
    // It outlives the process.
    let server = server.restart().await;
    let alert = json!({"event_type": "security_violation", "execution_id": "exec_1"});
    server.post("/api/v1/agents/security/audit-logs", alert).await.is(201);
    let deadline = Instant::now() + PATIENCE;
    let alert = loop {
        let alerts = server.get(&format!("{WEBHOOKS}/deliveries?kind=security.alert")).await.ok();
        if let Some(alert) = alerts.get(0) {
            break alert.clone();
        }
        assert!(Instant::now() < deadline, "there was no alert");
        crate::harness::poll_interval().await;
    };
    let buried = ended(&server, &alert["id"]).await;
    assert_eq!((&buried["state"], &buried["attempts"], receiver.calls()), (&json!("dead"), &json!(0), 1));
    assert!(buried.text("last_error").contains("410"));
    assert_eq!(server.get(WEBHOOKS).await.ok()[0]["active"], false);
    let again = test_event(&server).await;
    assert_eq!(ended(&server, &again["id"]).await["state"], "delivered");
    assert_eq!(server.get(WEBHOOKS).await.ok()[0]["active"], true);
    let path = format!("{WEBHOOKS}/deliveries/{}/redeliver", buried.text("id"));
    server.post(&path, json!({})).await.is(200);
    assert_eq!(ended(&server, &buried["id"]).await["state"], "delivered");
    // An endpoint that is no longer configured keeps its deliveries, and gets none.
    let server = server.restart_with(&[("WEBHOOKS", "{}")]).await;
    let endpoints = server.get(WEBHOOKS).await.ok();
    assert_eq!(
        (&endpoints[0]["name"], &endpoints[0]["active"], &endpoints[0]["url"]),
        (&json!("ops"), &json!(false), &json!(null))
    );
    assert_eq!(server.post(&path, json!({})).await.is(400)["code"], "invalid_state");
}

#[tokio::test]
async fn deliveries_of_a_failing_endpoint_wait_together_and_come_in_order() {
    let receiver = Receiver::start([Say::Status(503), Say::Status(422)]);
    let server = receiver.app(&json!({"events": ["none"]})).env("WEBHOOK_RETRY_SCALE", "0.5").start().await;
    let first = test_event(&server).await;
    let failed = until(&server, &first["id"], |delivery| delivery["last_error"].is_string()).await;
    let shown = server.get(WEBHOOKS).await.ok();
    assert_eq!((&shown[0]["failures"], &shown[0]["paused_until"]), (&json!(1), &failed["next_attempt_at"]));
    // An operator's call is made now, and a refusal of one delivery says that the endpoint works.
    let second = test_event(&server).await;
    let refused = until(&server, &second["id"], |delivery| delivery["last_status"].is_number()).await;
    assert_eq!((&refused["sequence"], &refused["last_status"]), (&json!(2), &json!(422)));
    let done = ended(&server, &first["id"]).await;
    assert_eq!((&done["state"], &done["sequence"]), (&json!("delivered"), &json!(1)));
    let calls = receiver.book.calls.lock().unwrap();
    let sequences: Vec<Value> =
        calls.iter().map(|call| serde_json::from_slice::<Value>(&call.body).unwrap()["sequence"].clone()).collect();
    assert_eq!(sequences[..2], [json!(1), json!(2)]);
}

#[tokio::test]
async fn heads_are_delivered_one_after_the_other() {
    let receiver = Receiver::start([Say::Status(500), Say::Status(500)]);
    let builder = receiver.app(&json!({"events": ["audit.head"]})).env("AUDIT_SEAL_SECONDS", 1);
    let server = builder.env("WEBHOOK_RETRY_SCALE", "0.002").start().await;
    let deadline = Instant::now() + PATIENCE;
    let sizes = || {
        let calls = receiver.book.calls.lock().unwrap();
        let bodies = calls.iter().map(|call| serde_json::from_slice::<Value>(&call.body).unwrap());
        bodies.map(|body| (body["sequence"].as_i64().unwrap(), body["data"]["tree_size"].as_i64())).collect::<Vec<_>>()
    };
    let mut n = 0;
    while sizes().len() < 6 {
        assert!(Instant::now() < deadline, "they never came: {:?}", sizes());
        n += 1;
        let entry = json!({"event_type": "security_violation", "execution_id": format!("exec_{n}")});
        server.post("/api/v1/agents/security/audit-logs", entry).await.is(201);
        crate::harness::poll_interval().await;
    }
    let calls = sizes();
    assert_eq!(calls[0], calls[1], "the first is repeated until it is taken: {calls:?}");
    assert_eq!(calls[1], calls[2]);
    assert!(calls[2..].windows(2).all(|two| two[0].0 + 1 == two[1].0 && two[0].1 <= two[1].1), "{calls:?}");
}

#[tokio::test]
async fn webhooks_call_public_addresses_only() {
    let receiver = Receiver::start([]);
    for (url, why) in [
        (format!("http://127.0.0.1:{}/", receiver.port), "https"),
        (format!("https://127.0.0.1:{}/", receiver.port), "127.0.0.1 is not a public address"),
        (format!("https://[::ffff:7f00:1]:{}/", receiver.port), "not a public address"),
        ("https://169.254.169.254/latest/meta-data".to_owned(), "not a public address"),
    ] {
        let config = receiver.config(&json!({"url": url, "allow_private": false}));
        let (status, log) = Server::builder().env("WEBHOOKS", config).start_and_fail();
        assert!(!status.success() && log.contains(why) && log.contains("ops"), "{url}: {log}");
        assert!(!log.contains(INSIDE), "{log}");
    }
    // A name is looked up when it is called, and its private addresses are not taken.
    let config = json!({"url": format!("https://localhost:{}/", receiver.port), "allow_private": false});
    let server = receiver.app(&config).start().await;
    let made = test_event(&server).await;
    let failed = until(&server, &made["id"], |delivery| delivery["last_error"].is_string()).await;
    assert!(failed.text("last_error").contains("localhost is not a public address"), "{failed}");
    assert_eq!((&failed["state"], receiver.calls()), (&json!("pending"), 0));
    // The wait is the schedule's: five seconds, and a little by chance.
    let (made_at, next) = (made.text("created_at"), failed.text("next_attempt_at"));
    let at = |text: &str| chrono::DateTime::parse_from_rfc3339(text).unwrap();
    let wait = (at(next) - at(made_at)).as_seconds_f64();
    assert!((5.0..10.0).contains(&wait), "{wait}");
}

#[tokio::test]
async fn two_processes_deliver_each_webhook_once() {
    let receiver = Receiver::start([]);
    // Heads of the audit log, which are signed every few seconds, are not counted.
    let events = json!({"events": ["test"]});
    let first = receiver.server(&events).start().await;
    let second = receiver.server(&events).beside(&first).start().await;
    let mut made = BTreeSet::new();
    for _ in 0..20 {
        let (a, b) = tokio::join!(test_event(&first), test_event(&second));
        made.extend([a, b].map(|delivery| delivery.text("id").to_owned()));
    }
    for id in &made {
        assert_eq!(ended(&first, &json!(id)).await["attempts"], 1);
    }
    let ids = receiver.ids(&[SECRET]);
    assert_eq!(ids.len(), 40);
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), made);
}

#[tokio::test]
async fn shutdown_waits_for_webhook_calls() {
    let receiver = Receiver::start([Say::Nothing]);
    let mut server = receiver.server(&json!({"timeout_seconds": 0.5})).start().await;
    let made = test_event(&server).await;
    receiver.called(1).await;
    assert!(server.terminate().success());
    let log = server.log();
    assert!(log.contains("timed out") && log.contains("stopped"), "{log}");
    let server = server.restart_with(&[("WEBHOOKS", "{}")]).await;
    let kept = until(&server, &made["id"], |_| true).await;
    assert_eq!((&kept["state"], &kept["attempts"]), (&json!("pending"), &json!(1)));
}

/// One event, whose process dies at `point`; what the receiver heard before and in all.
#[cfg(feature = "failpoints")]
async fn death(point: &str) -> (usize, Vec<String>, Value) {
    let receiver = Receiver::start([]);
    let builder = receiver.server(&json!({"timeout_seconds": 0.1})).env("FAILPOINTS", format!("{point}=return"));
    let mut server = builder.start().await;
    // The answer may come or not.
    let _ = server.request(reqwest::Method::POST, &format!("{WEBHOOKS}/ops/test")).json(&json!({})).send().await;
    server.wait();
    let before = receiver.calls();
    let server = server.again().env("FAILPOINTS", "").start().await;
    let all = server.get(&format!("{WEBHOOKS}/deliveries")).await.ok();
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    let delivery = ended(&server, &all[0]["id"]).await;
    (before, receiver.ids(&[SECRET]), delivery)
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn crash_during_webhook_delivery_repeats_it_with_the_same_id() {
    let (claimed, called) = tokio::join!(death("webhooks.after_claim"), death("webhooks.after_call"));
    for ((before, ids, delivery), calls_before) in [(claimed, 0), (called, 1)] {
        assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("delivered"), &json!(2)));
        assert_eq!(before, calls_before);
        assert_eq!(ids, vec![delivery.text("id"); calls_before + 1]);
    }
}
